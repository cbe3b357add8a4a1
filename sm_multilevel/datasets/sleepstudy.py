"""Reaction times in a sleep deprivation study."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Measurements published in the article named in SOURCE. The copy comes from R's lme4 (GPL >= 2), which
states no separate terms for the data."""

SOURCE = """R package lme4 1.1-31, data set sleepstudy.

Belenky, G., Wesensten, N. J., Thorne, D. R., Thomas, M. L., Sing, H. C., Redmond, D. P., Russo, M. B. and Balkin, T.
J. (2003). Patterns of performance degradation and restoration during sleep restriction and subsequent recovery: a
sleep dose-response study. Journal of Sleep Research 12, 1-12."""

DESCRSHORT = """Average reaction time per day of 18 subjects allowed three hours in bed a night."""

DESCRLONG = """The average reaction time per day, over ten days, of the 18 subjects of the most sleep-deprived group.
Days 0 and 1 were adaptation and training, day 2 was the baseline; sleep deprivation started after day 2. The
standard first example of a random intercept and slope."""

NOTE = """::

    Number of observations - 180 (18 subjects, 10 days each)
    Number of variables - 3

    Variable name definitions::

        Reaction - average reaction time (ms)
        Days     - day of the study, 0 to 9
        Subject  - the subject (factor)
"""

load_pandas = load = loader("sleepstudy.csv", endog="Reaction", exog=["Days"], groups=["Subject"], factors=["Subject"])
