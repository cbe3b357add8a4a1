"""University lecture evaluations by students at ETH Zurich."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Anonymised survey data made public in R's lme4 (GPL >= 2), which states no separate terms for the
data."""

SOURCE = """R package lme4 1.1-31, data set InstEval (lecture evaluations at ETH Zurich, anonymised and slightly
simplified by the authors of lme4)."""

DESCRSHORT = """73,421 ratings of 1,128 lecturers by 2,972 students: large, crossed, unbalanced."""

DESCRLONG = """Each row is one student's rating of one lecture. Students and lecturers are crossed and partially
nested in departments, which makes this the usual medium-sized test of software for crossed random effects."""

NOTE = """::

    Number of observations - 73,421
    Number of variables - 7

    Variable name definitions::

        s       - student, 1 to 2972 (factor)
        d       - lecturer, 1,128 levels from 1 to 2160 (factor)
        studage - semester the student was enrolled in: 2 < 4 < 6 < 8 (ordered factor)
        lectage - semesters since the lecture: 1 < 2 < ... < 6 (ordered factor)
        service - 1 if the lecture was held for a department other than the lecturer's own, else 0 (factor)
        dept    - department of the lecture, coded at random; 14 levels, in R's order (factor)
        y       - rating, 1 (poor) to 5 (very good)

    studage and lectage are coded by polynomials in R but by treatments in patsy.
"""

load_pandas = load = loader(
    "insteval.csv.gz",
    endog="y",
    exog=["service", "studage", "lectage"],
    groups=["s", "d", "dept"],
    factors={
        "s": None,
        "d": None,
        "studage": None,
        "lectage": None,
        "service": None,
        "dept": [15, 5, 10, 12, 6, 7, 4, 8, 9, 14, 1, 3, 11, 2],
    },
    ordered=["studage", "lectage"],
)
