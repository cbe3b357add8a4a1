"""Seizure counts for epileptics."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Counts published in the article named in SOURCE. The copy comes from R's MASS (GPL-2 or GPL-3), which
states no separate terms for the data."""

SOURCE = """R package MASS 7.3-58.2, data set epil.

Thall, P. F. and Vail, S. C. (1990). Some covariance models for longitudinal count data with over-dispersion.
Biometrics 46, 657-671."""

DESCRSHORT = """Two-week seizure counts of 59 epileptics in a clinical trial: overdispersed counts."""

DESCRLONG = """Seizures were counted over a baseline of eight weeks, after which patients were randomly given
progabide or a placebo, and counted again in four successive two-week periods."""

NOTE = """::

    Number of observations - 236 (59 subjects, 4 periods each)
    Number of variables - 9

    Variable name definitions::

        y       - seizures in the two-week period
        trt     - placebo, progabide (factor)
        base    - seizures in the eight-week baseline
        age     - age in years
        V4      - 1 in period 4, else 0
        subject - the subject, 1 to 59 (an integer in R, and here)
        period  - 1 to 4
        lbase   - log of base, centred
        lage    - log of age, centred
"""

load_pandas = load = loader(
    "epil.csv", endog="y", exog=["lbase", "trt", "lage", "V4"], groups=["subject"], factors=["trt"]
)
