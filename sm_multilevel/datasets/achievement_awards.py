"""Awards for the Israeli matriculation certificate: a cluster-randomised trial in schools."""

from sm_multilevel.datasets._loader import loader

TITLE = __doc__

COPYRIGHT = """Anonymised records, made public by the authors of the article named in SOURCE (Angrist Data Archive).
The copy comes from R's clubSandwich (GPL-3), which states no separate terms for the data."""

SOURCE = """R package clubSandwich 0.5.8, data set AchievementAwardsRCT (school_id, Bagrut_status and qrtl are school,
bagrut and quartile here; student_id, half and the subjects are left out).

Angrist, J. and Lavy, V. (2009). The effects of high stakes high school achievement awards: evidence from a randomized
trial. American Economic Review 99, 1384-1414."""

DESCRSHORT = """Certificates of 16,526 pupils of four years in 39 schools, randomised in pairs of schools."""

DESCRLONG = """In 20 of 39 schools with low achievement the pupils of the last year were promised money if they got the
Bagrut, the certificate that Israeli universities ask for. Schools were matched in pairs and the treatment was drawn
within each pair. It was given in 2001 only: 1999, 2000 and 2002 are years without it."""

NOTE = """::

    Number of observations - 16,526
    Number of variables - 13

    Variable name definitions::

        school      - the school (factor)
        school_type - Arab, Religious (Jewish), Secular (Jewish) (factor)
        pair        - matched pair that treatment was randomised in; pair 7 is a triple (factor)
        treated     - 1 if the school was drawn for treatment (which took place in 2001), else 0
        year        - year of the examination, 1999 to 2002
        sex         - Boy, Girl (factor)
        siblings    - number of siblings
        immigrant   - 1 for recent immigrants, else 0
        father_ed   - father's schooling, in years
        mother_ed   - mother's schooling, in years
        bagrut      - 1 if the certificate was obtained, else 0
        lagscore    - mean score, weighted by credits, in the parts taken earlier; 0 if none
        quartile    - quarter of lagscore among those of the same year and sex, 1 to 4; missing in 1999
"""

load_pandas = load = loader(
    "achievement_awards.csv.gz",
    endog="bagrut",
    exog=["treated", "school_type", "quartile", "siblings", "immigrant", "father_ed", "mother_ed"],
    groups=["pair", "school"],
    factors=["school", "school_type", "pair", "sex"],
)
