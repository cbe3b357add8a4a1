"""Deaths from malignant melanoma in Europe."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Counts published with the article named in SOURCE. The copy comes from R's mlmRev (GPL >= 2), which
states no separate terms for the data."""

SOURCE = """R package mlmRev 1.0-8, data set Mmmec.

Langford, I. H., Bentham, G. and McDonald, A.-L. (1998). Multi-level modelling of geographically aggregated health
data: a case study on malignant melanoma mortality and UV exposure in the European Community. Statistics in Medicine
17, 41-57."""

DESCRSHORT = """Deaths in 354 counties of 78 regions of 9 nations, with the deaths expected: counts with an offset."""

DESCRLONG = """Deaths of men from malignant melanoma between 1971 and 1980 in the European Community of that time, the
number expected from the age structure at the mean rate of the nine nations, and the dose of ultraviolet B radiation at
the Earth's surface. log(expected) serves as the offset, so that a rate ratio is a standardised mortality ratio."""

NOTE = """::

    Number of observations - 354 counties in 78 regions in 9 nations
    Number of variables - 6

    Variable name definitions::

        nation   - the nation (factor)
        region   - the region, 1 to 79 without 26; a number stands in one nation only (factor)
        county   - the county (factor)
        deaths   - number of deaths of men from malignant melanoma
        expected - number of deaths expected
        uvb      - epidermal dose of ultraviolet B radiation, centred at its mean
"""

load_pandas = load = loader(
    "mmmec.csv",
    endog="deaths",
    exog=["uvb", "expected"],
    groups=["nation", "region"],
    factors={
        "nation": ["Belgium", "W.Germany", "Denmark", "France", "UK", "Italy", "Ireland", "Luxembourg", "Netherlands"],
        "region": None,
        "county": None,
    },
)
