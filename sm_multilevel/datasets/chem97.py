"""A-level Chemistry examination in Britain, 1997: pupils in schools in local education authorities."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Anonymised examination records, made public by the Centre for Multilevel Modelling, Bristol. The copy
comes from R's mlmRev (GPL >= 2), which states no separate terms for the data."""

SOURCE = """R package mlmRev 1.0-8, data set Chem97 (without its column student).

Yang, M., Fielding, A. and Goldstein, H. (2002). Multilevel ordinal models for examination grades. Statistical
Modelling 3, 127-153 (2003)."""

DESCRSHORT = """Grades of 31,022 pupils in 2,410 schools of 131 local education authorities: three levels."""

DESCRLONG = """All entries to the A-level examination in Chemistry of one year, with the pupil's mean grade at the GCSE
examination two years before. How much do schools and districts differ once intake is taken into account?"""

NOTE = """::

    Number of observations - 31,022 pupils
    Number of variables - 7

    Variable name definitions::

        lea       - local education authority (factor)
        school    - the school; numbers are not reused in another authority (factor)
        score     - points in A-level Chemistry: 0, 2, 4, 6, 8 or 10 for the grades F, E, D, C, B and A
        gender    - M, F (factor)
        age       - age in months, less 222 (18.5 years)
        gcsescore - mean of the points in all GCSE examinations, 0 to 8
        gcsecnt   - gcsescore less its mean
"""

load_pandas = load = loader(
    "chem97.csv.gz",
    endog="score",
    exog=["gcsecnt", "gender", "age"],
    groups=["lea", "school"],
    factors={"lea": None, "school": None, "gender": ["M", "F"]},
)
