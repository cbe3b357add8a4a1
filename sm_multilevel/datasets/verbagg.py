"""Verbal aggression item responses."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Data of the book named in SOURCE, made public by the UC Berkeley BEAR Center. The copy comes from R's
lme4 (GPL >= 2), which states no separate terms for the data."""

SOURCE = """R package lme4 1.1-31, data set VerbAgg.

De Boeck, P. and Wilson, M. (2004). Explanatory Item Response Models: A Generalized Linear and Nonlinear Approach.
Springer."""

DESCRSHORT = """Answers of 316 persons to 24 items: crossed, binary or ordinal."""

DESCRLONG = """Answers to a questionnaire on verbal aggression. Each item states a frustrating situation (another's
fault or one's own) and a reaction (cursing, scolding or shouting) that one would want to show or would show."""

NOTE = """::

    Number of observations - 7,584 (316 persons x 24 items)
    Number of variables - 9

    Variable name definitions::

        Anger  - trait anger score (STAXI)
        Gender - F, M (factor)
        item   - the item (factor)
        resp   - the answer: no < perhaps < yes (ordered factor)
        id     - the person (factor)
        btype  - behaviour: curse, scold, shout (factor)
        situ   - situation: other (to blame), self (to blame) (factor)
        mode   - want, do (factor)
        r2     - the answer in two classes: N, Y (factor)

    The level S4wantCurse of item is spelled so in R.
"""

load_pandas = load = loader(
    "verbagg.csv.gz",
    endog="resp",
    exog=["Anger", "Gender", "btype", "situ", "mode"],
    groups=["id", "item"],
    factors={
        "Gender": None,
        "item": [
            *("S1WantCurse", "S1WantScold", "S1WantShout", "S2WantCurse", "S2WantScold", "S2WantShout"),
            *("S3WantCurse", "S3WantScold", "S3WantShout", "S4wantCurse", "S4WantScold", "S4WantShout"),
            *("S1DoCurse", "S1DoScold", "S1DoShout", "S2DoCurse", "S2DoScold", "S2DoShout"),
            *("S3DoCurse", "S3DoScold", "S3DoShout", "S4DoCurse", "S4DoScold", "S4DoShout"),
        ],
        "resp": None,
        "id": None,
        "btype": None,
        "situ": None,
        "mode": ["want", "do"],
        "r2": None,
    },
    ordered=["resp"],
)
