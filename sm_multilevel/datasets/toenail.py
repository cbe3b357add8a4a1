"""Toenail infections under two treatments."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Data of the trial reported in the article named in SOURCE. The copy comes from R's HSAUR3 (GPL-2),
which states no separate terms for the data."""

SOURCE = """R package HSAUR3 1.0-13, data set toenail.

De Backer, M., De Vroey, C., Lesaffre, E., Scheys, I. and De Keyser, P. (1998). Twelve weeks of continuous oral therapy
for toenail onychomycosis caused by dermatophytes: a double-blind comparative trial of terbinafine 250 mg/day versus
itraconazole 200 mg/day. Journal of the American Academy of Dermatology 38, S57-S63."""

DESCRSHORT = """294 patients at up to seven visits: binary, with a very large variance between patients."""

DESCRLONG = """A randomised double-blind trial of two oral antifungals. At each visit the separation of the nail from
its bed (onycholysis) was judged as none or mild, or as moderate or severe. Visits were planned at weeks 0, 4, 8, 12,
24, 36 and 48. Most patients have the same outcome at all their visits, which makes this the example on which
approximations of the likelihood differ (Lesaffre and Spiessens 2001, Applied Statistics 50, 325-335)."""

NOTE = """::

    Number of observations - 1908 (294 patients, up to 7 visits each)
    Number of variables - 5

    Variable name definitions::

        patientID - the patient (factor)
        outcome   - separation of the nail: none or mild, moderate or severe (factor)
        treatment - itraconazole, terbinafine (factor)
        time      - time of the visit, in months
        visit     - number of the visit, 1 to 7
"""

load_pandas = load = loader(
    "toenail.csv",
    endog="outcome",
    exog=["treatment", "time"],
    groups=["patientID"],
    factors={"patientID": None, "outcome": ["none or mild", "moderate or severe"], "treatment": None},
)
