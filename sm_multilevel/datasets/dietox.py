"""Weights of growing pigs under diets with vitamin E and copper."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Measurements published in the article named in SOURCE. The copy comes from R's geepack (GPL >= 3), which
states no separate terms for the data."""

SOURCE = """R package geepack 1.3.9, data set dietox.

Lauridsen, C., Hoejsgaard, S. and Soerensen, M. T. (1999). Influence of dietary rapeseed oil, vitamin E, and copper on
the performance and the antioxidative and oxidative status of pigs. Journal of Animal Science 77, 906-916."""

DESCRSHORT = """Weekly weights of 72 pigs over twelve weeks, in 21 litters."""

DESCRLONG = """Pigs were weighed once a week, under three doses of vitamin E and three of copper in the food; litter
mates got different diets. The growth curves of statsmodels' documentation of MixedLM, which fetches them as
``sm.datasets.get_rdataset("dietox", "geepack")``. Three pigs lack a week."""

NOTE = """::

    Number of observations - 861 (72 pigs, up to 12 weeks each)
    Number of variables - 8

    Variable name definitions::

        Pig    - the pig (factor)
        Evit   - dose of vitamin E (factor, mg per kg of food: Evit000, Evit100, Evit200)
        Cu     - dose of copper (factor, mg per kg of food: Cu000, Cu035, Cu175)
        Litter - the litter (factor)
        Start  - weight at the start of the experiment (kg)
        Weight - weight (kg)
        Feed   - food eaten so far (kg); missing in the first week
        Time   - week, 1 to 12
"""

load_pandas = load = loader(
    "dietox.csv", endog="Weight", exog=["Time"], groups=["Litter", "Pig"], factors=["Pig", "Evit", "Cu", "Litter"]
)
