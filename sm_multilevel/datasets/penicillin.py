"""Variation in penicillin testing."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Measurements published in the book named in SOURCE. The copy comes from R's lme4 (GPL >= 2), which
states no separate terms for the data."""

SOURCE = """R package lme4 1.1-31, data set Penicillin.

Davies, O. L. and Goldsmith, P. L. (eds) (1972). Statistical Methods in Research and Production, 4th ed., section
6.6. Oliver and Boyd."""

DESCRSHORT = """Inhibition zones of six penicillin samples on each of 24 plates."""

DESCRLONG = """Six samples of penicillin were tested by the B. subtilis plate method on each of 24 plates. The
response is the diameter of the zone in which the organism does not grow. Plates and samples are completely crossed."""

NOTE = """::

    Number of observations - 144 (24 plates x 6 samples)
    Number of variables - 3

    Variable name definitions::

        diameter - diameter of the zone of inhibition (mm)
        plate    - assay plate, a to x (factor)
        sample   - penicillin sample, A to F (factor)
"""

load_pandas = load = loader("penicillin.csv", endog="diameter", groups=["plate", "sample"], factors=["plate", "sample"])
