"""Paste strength by batch and cask."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Measurements published in the book named in SOURCE. The copy comes from R's lme4 (GPL >= 2), which
states no separate terms for the data."""

SOURCE = """R package lme4 1.1-31, data set Pastes.

Davies, O. L. and Goldsmith, P. L. (eds) (1972). Statistical Methods in Research and Production, 4th ed., section
6.5. Oliver and Boyd."""

DESCRSHORT = """Strength of a chemical paste in three casks of each of ten batches."""

DESCRLONG = """Ten delivery batches of a chemical paste were sampled at random, three casks from each, and two tests
were made on each of the 30 samples. Casks are nested in batches: cask a of batch A is not cask a of batch B, so
write ``(1 | batch/cask)``; the column sample names the 30 casks uniquely."""

NOTE = """::

    Number of observations - 60 (10 batches x 3 casks x 2 tests)
    Number of variables - 4

    Variable name definitions::

        strength - paste strength
        batch    - delivery batch, A to J (factor)
        cask     - cask within the batch, a to c (factor)
        sample   - batch and cask, A:a to J:c (factor)
"""

load_pandas = load = loader(
    "pastes.csv", endog="strength", groups=["batch", "cask"], factors=["batch", "cask", "sample"]
)
