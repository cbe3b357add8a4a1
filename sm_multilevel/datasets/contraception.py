"""Contraceptive use in Bangladesh."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """A subsample of the 1988 Bangladesh Fertility Survey, distributed for teaching by the Centre for
Multilevel Modelling, University of Bristol. The copy comes from R's mlmRev (GPL >= 2), which states no separate
terms for the data."""

SOURCE = """R package mlmRev 1.0-8, data set Contraception.

Steele, F., Diamond, I. and Amin, S. (1996). Immunization uptake in rural Bangladesh: a multilevel analysis. Journal
of the Royal Statistical Society, Series A 159, 289-299."""

DESCRSHORT = """Contraceptive use of 1,934 women in 60 districts: a binary response."""

DESCRLONG = """Use of contraception by women in urban and rural areas, from the 1988 Bangladesh Fertility Survey."""

NOTE = """::

    Number of observations - 1,934 women in 60 districts
    Number of variables - 6

    Variable name definitions::

        woman    - the woman, 1 to 1934 (factor)
        district - the district, 60 levels from 1 to 61 (factor)
        use      - contraceptive use at the time of the survey: N, Y (factor)
        livch    - number of living children: 0, 1, 2, 3+ (factor)
        age      - age in years, centred
        urban    - urban region of residence: N, Y (factor)

    ``endog`` holds the factor use; a model needs it as 0 and 1, ``data["use"] == "Y"``.
"""

load_pandas = load = loader(
    "contraception.csv",
    endog="use",
    exog=["age", "livch", "urban"],
    groups=["district"],
    factors=["woman", "district", "use", "livch", "urban"],
)
