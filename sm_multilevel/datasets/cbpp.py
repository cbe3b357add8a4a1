"""Contagious bovine pleuropneumonia."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Counts published with the article named in SOURCE. The copy comes from R's lme4 (GPL >= 2), which
states no separate terms for the data."""

SOURCE = """R package lme4 1.1-31, data set cbpp.

Lesnoff, M., Laval, G., Bonnet, P., Abdicho, S., Workalemahu, A., Kifle, D., Peyraud, A., Lancelot, R. and
Thiaucourt, F. (2004). Within-herd spread of contagious bovine pleuropneumonia in Ethiopian highlands. Preventive
Veterinary Medicine 64, 27-40."""

DESCRSHORT = """New cases of a cattle disease in 15 herds over four periods: binomial counts."""

DESCRLONG = """Blood samples were taken every quarter from the zebu cattle of 15 commercial herds in the Boji
district of Ethiopia to determine how many animals had newly caught contagious bovine pleuropneumonia. Some animals
were lost to follow-up."""

NOTE = """::

    Number of observations - 56 (15 herds, up to 4 periods each)
    Number of variables - 4

    Variable name definitions::

        herd      - the herd, 1 to 15 (factor)
        incidence - number of new cases in the period
        size      - size of the herd at the beginning of the period
        period    - 1 to 4 (factor)

    The binomial response is ``incidence`` out of ``size``; ``endog`` holds incidence alone.
"""

load_pandas = load = loader(
    "cbpp.csv", endog="incidence", exog=["period", "size"], groups=["herd"], factors=["herd", "period"]
)
