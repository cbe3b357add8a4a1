"""Begging by owl nestlings."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Data of the article named in SOURCE, made public with the book of A. F. Zuur et al. The copy comes
from R's glmmTMB (AGPL-3), which states no separate terms for the data."""

SOURCE = """R package glmmTMB 1.1.5, data set Owls.

Roulin, A. and Bersier, L.-F. (2007). Nestling barn owls beg more intensely in the presence of their mother than in
the presence of their father. Animal Behaviour 74, 1099-1106.

Zuur, A. F., Ieno, E. N., Walker, N. J., Saveliev, A. A. and Smith, G. M. (2009). Mixed Effects Models and Extensions
in Ecology with R. Springer."""

DESCRSHORT = """Calls of barn owl nestlings in 27 nests: counts with an exposure and many zeros."""

DESCRLONG = """How often the nestlings of 27 nests called in the absence of the parents, by food treatment, sex of
the parent and time of the parent's arrival. log(BroodSize) serves as the offset."""

NOTE = """::

    Number of observations - 599 visits to 27 nests
    Number of variables - 8

    Variable name definitions::

        Nest               - the nest (factor)
        FoodTreatment      - Deprived, Satiated (factor)
        SexParent          - sex of the provisioning parent: Female, Male (factor)
        ArrivalTime        - hour at which the parent arrived
        SiblingNegotiation - number of calls
        BroodSize          - number of nestlings
        NegPerChick        - SiblingNegotiation / BroodSize
        logBroodSize       - log of BroodSize
"""

load_pandas = load = loader(
    "owls.csv",
    endog="SiblingNegotiation",
    exog=["FoodTreatment", "SexParent", "ArrivalTime", "logBroodSize"],
    groups=["Nest"],
    factors=["Nest", "FoodTreatment", "SexParent"],
)
