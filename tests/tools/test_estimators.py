"""Mixed models as estimators of scikit-learn; results in copies, pickles and other processes."""

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, cross_val_score

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, sleepstudy

PAGE = Path(__file__).parents[2] / "docs" / "tables_and_tools.md"
SLEEP = sleepstudy.load_pandas().data
X, Y = SLEEP[["Days", "Subject"]], SLEEP["Reaction"]
FORMULA = "Reaction ~ Days + (Days | Subject)"


def _estimator():
    """The class that the guide shows."""
    text = PAGE.read_text()
    start = text.index("class MixedRegressor")
    space = {"smf": smf, "np": np}
    exec(
        "from sklearn.base import BaseEstimator, RegressorMixin\n" + text[start : text.index("X, y = sleep", start)],
        space,
    )
    return space["MixedRegressor"]


MixedRegressor = _estimator()


def test_leave_one_group_out_is_what_a_loop_gives():
    scores = cross_val_score(
        MixedRegressor(FORMULA), X, Y, groups=SLEEP["Subject"], cv=LeaveOneGroupOut(), scoring="neg_mean_squared_error",
        error_score="raise",
    )  # fmt: skip
    for score, subject in zip(scores, sorted(SLEEP["Subject"].unique()), strict=True):
        rest, own = SLEEP[SLEEP["Subject"] != subject], SLEEP[SLEEP["Subject"] == subject]
        fit = smf.mixedlm(FORMULA, rest).fit()
        fixed = fit.params["Intercept"] + fit.params["Days"] * own["Days"]
        assert -score == pytest.approx(((own["Reaction"] - fixed) ** 2).mean(), rel=1e-8)


def test_clone_and_search():
    search = GridSearchCV(
        MixedRegressor(FORMULA), {"formula": ["Reaction ~ 1 + (1 | Subject)", FORMULA]}, cv=GroupKFold(3)
    )
    search.fit(X, Y, groups=SLEEP["Subject"])
    assert search.best_params_ == {"formula": FORMULA}
    assert clone(search.best_estimator_).get_params()["formula"] == FORMULA


def test_other_models():
    women = contraception.load_pandas().data
    model = MixedRegressor("use ~ urban + age + (1 | district)", smf.melogit, include_random="marginal")
    p = model.fit(women.drop(columns="use"), women["use"]).predict(women)
    fit = smf.melogit("use ~ urban + age + (1 | district)", women).fit()
    np.testing.assert_allclose(p, fit.predict(women, include_random="marginal"), rtol=1e-10)


def test_unseen_levels_are_clean():
    known = SLEEP[SLEEP["Subject"] != 308]
    fit = smf.mixedlm(FORMULA, known).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        population = fit.predict(SLEEP, include_random=False)
        fit.get_prediction(SLEEP, include_random=False).summary_frame()
        warnings.simplefilter("ignore", smm.NewLevelWarning)
        conditional = fit.predict(SLEEP)
    new = SLEEP["Subject"] == 308
    np.testing.assert_allclose(conditional[new], population[new])
    assert not np.allclose(conditional[~new], population[~new])
    with pytest.warns(smm.NewLevelWarning) as record:
        fit.predict(SLEEP)
    assert len(record) == 1
    with pytest.raises(ValueError, match="levels that the fit has not seen"):
        fit.predict(SLEEP, new_levels="raise")


@pytest.mark.parametrize("send", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
@pytest.mark.parametrize("removed", [False, True])
def test_copies(send, removed):
    for fit in (
        smf.mixedlm(FORMULA, SLEEP).fit(),
        smf.melogit("use ~ urban + (1 | district)", contraception.load_pandas().data).fit(),
    ):
        if removed:
            fit.remove_data()
        got = send(fit)
        assert got.llf == fit.llf
        assert got.summary().as_text() == fit.summary().as_text()
        new = SLEEP.head(3) if "Days" in fit.params else contraception.load_pandas().data.head(3)
        np.testing.assert_array_equal(got.predict(new), fit.predict(new))
        assert got.model.formula == fit.model.formula
        assert got.model.full_formula == fit.model.full_formula


def test_processes():
    formulas = ["Reaction ~ 1 + (1 | Subject)", FORMULA]
    models = [smf.mixedlm(formula, SLEEP) for formula in formulas]
    fits = Parallel(n_jobs=2)(delayed(model.fit)() for model in models)
    assert [fit.llf for fit in fits] == pytest.approx([model.fit().llf for model in models])
