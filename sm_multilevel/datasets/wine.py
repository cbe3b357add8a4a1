"""Bitterness of wine."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Measurements published in the article named in SOURCE. The copy comes from R's ordinal (GPL >= 2),
which states no separate terms for the data."""

SOURCE = """R package ordinal 2022.11-16, data set wine.

Randall, J. H. (1989). The analysis of sensory data by generalized linear model. Biometrical Journal 31, 781-793."""

DESCRSHORT = """Nine judges rate the bitterness of eight bottles on a five-point scale: ordinal."""

DESCRLONG = """A factorial experiment on what makes wine bitter: temperature and contact between juice and skins
while crushing the grapes. Each of nine judges assessed two bottles from each of the four treatments."""

NOTE = """::

    Number of observations - 72 (9 judges x 8 bottles)
    Number of variables - 6

    Variable name definitions::

        response - bitterness on a scale from 0 to 100
        rating   - response in five classes: 1 < 2 < 3 < 4 < 5 (ordered factor)
        temp     - temperature: cold, warm (factor)
        contact  - contact between juice and skins: no, yes (factor)
        bottle   - the bottle, 1 to 8 (factor)
        judge    - the judge, 1 to 9 (factor)
"""

load_pandas = load = loader(
    "wine.csv",
    endog="rating",
    exog=["temp", "contact"],
    groups=["judge"],
    factors=["rating", "temp", "contact", "bottle", "judge"],
    ordered=["rating"],
)
