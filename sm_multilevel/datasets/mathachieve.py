"""High School and Beyond: mathematics achievement and socio-economic status."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """A subsample of the High School and Beyond survey of the US National Center for Education Statistics.
The copy comes from R's nlme (GPL >= 2), which states no separate terms for the data."""

SOURCE = """R package nlme 3.1-162, data sets MathAchieve (pupils) and MathAchSchool (schools), merged.

Raudenbush, S. W. and Bryk, A. S. (2002). Hierarchical Linear Models: Applications and Data Analysis Methods, 2nd
ed., chapter 4. Sage."""

DESCRSHORT = """Mathematics achievement of 7,185 pupils in 160 US schools, public and Catholic."""

DESCRLONG = """The 1982 High School and Beyond data, the classic example of pupils in schools: how does achievement
depend on socio-economic status, and does that dependence differ between schools and sectors?"""

NOTE = """::

    Number of observations - 7,185 pupils in 160 schools
    Number of variables - 11

    Variable name definitions (R's names are School, Minority, Sex, SES, MathAch, MEANSES, Size, Sector, PRACAD,
    DISCLIM, HIMINTY)::

        school   - the school's number (factor)
        minority - member of a racial minority: No, Yes (factor)
        sex      - Male, Female (factor)
        ses      - the pupil's socio-economic status
        mathach  - mathematics achievement score
        meanses  - mean socio-economic status of the school, as published with the data: it lies 0.006 above the
                   mean of ses over the pupils who are in these data
        size     - number of pupils in the school
        sector   - Public, Catholic (factor)
        pracad   - share of pupils on the academic track
        disclim  - disciplinary climate
        himinty  - 1 if more than 40 % of the pupils are from minorities, else 0 (factor)

    R orders MathAchieve$School by mean achievement; here the levels are in order of the school's number.
"""

load_pandas = load = loader(
    "mathachieve.csv.gz",
    endog="mathach",
    exog=["ses", "sex", "minority", "meanses", "sector"],
    groups=["school"],
    factors={
        "school": None,
        "minority": None,
        "sex": ["Male", "Female"],
        "sector": ["Public", "Catholic"],
        "himinty": None,
    },
)
