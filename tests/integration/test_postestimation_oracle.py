"""What a fit reports, from random effects to prediction intervals, against dense algebra at the fitted theta."""

import warnings
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FACTORS, DenseMixedModel, Term
from scipy import stats

import sm_multilevel.formula.api as smf
from sm_multilevel.postestimation.prediction.predict import NewLevelWarning


def make_data():
    rng = np.random.default_rng(7)
    n = 72
    a = rng.integers(0, 6, n)
    a[:6] = np.arange(6)
    b = 3 * a + rng.integers(0, 3, n)
    h = rng.integers(0, 5, n)
    seen = ~((a == 0) & (h == 1)) & ~((a == 3) & (h == 4))  # two pairs of levels that never meet
    data = pd.DataFrame({"a": a, "b": b % 3, "h": h})[seen].reset_index(drop=True)
    n = len(data)
    data["x"] = rng.normal(size=n) + 1.0
    data["k"] = rng.choice(["u", "v", "w"], n)
    data["w"] = rng.uniform(0.5, 2.0, n)
    data["f"] = rng.integers(1, 3, n)
    data["o"] = rng.normal(size=n)
    inner = 3 * data["a"] + data["b"]
    slopes = rng.normal(size=(6, 2)) @ [[1.2, 0.4], [0.0, 0.7]]
    b_eff, h_eff = rng.normal(size=18) * 0.6, rng.normal(size=5) * 0.9
    data["y"] = (
        1.0 + 0.5 * data["x"] + slopes[data["a"], 0] + slopes[data["a"], 1] * data["x"]
        + b_eff[inner] + h_eff[data["h"]] + rng.normal(size=n)
    )  # fmt: skip
    data["flat"] = rng.normal(size=n) + 0.3 * data["x"]  # no variance between groups
    data["a"] = np.array([f"a{i}" for i in range(6)])[data["a"]]
    data["h"] = data["h"] + 10
    data.index = 100 + np.arange(n)
    return data


DATA = make_data()
ONE, SLOPE = (lambda d: np.ones((len(d), 1))), (lambda d: np.column_stack([np.ones(len(d)), d["x"]]))
ONLY_X = lambda d: d[["x"]].to_numpy()  # noqa: E731


def cells(d):
    return np.column_stack([d["k"] == level for level in "uvw"]).astype(float)


def label(*columns):
    """Level of each row of a crossing, as text joined by colons."""
    return lambda d: d[columns[0]] if len(columns) == 1 else d[list(columns)].astype(str).agg(":".join, axis=1)


@dataclass(frozen=True)
class Case:
    """A formula, and its random part written out: label of each row, columns, structure, names."""

    name: str
    formula: str
    random: list
    kwargs: dict = field(default_factory=dict)
    reml: bool = True

    def __str__(self):
        return self.name

    __hash__ = object.__hash__

    @lru_cache  # noqa: B019
    def fit(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return smf.mixedlm(self.formula, DATA, **self.kwargs).fit(reml=self.reml)

    def x(self, d):
        return np.column_stack([np.ones(len(d)), d["x"]])

    def offset(self, d):
        return d[self.kwargs["offset"]].to_numpy() if "offset" in self.kwargs else np.zeros(len(d))

    def parts(self, d):
        """(codes, z) of each term, -1 for an unknown level."""
        levels = [t.levels for t in self.fit().term_solutions]
        return [
            (pd.Index(lv).get_indexer(pd.Index(of(d))), z(d))
            for (of, z, *_), lv in zip(self.random, levels, strict=True)
        ]

    @lru_cache  # noqa: B019
    def dense(self):
        """The dense model solved at the fitted theta."""
        weights = {w: DATA[self.kwargs[w]].to_numpy() for w in ("var_weights", "freq_weights") if w in self.kwargs}
        terms = [Term(codes, z) for codes, z in self.parts(DATA)]
        response = self.formula.split("~")[0].strip()
        model = DenseMixedModel(
            DATA[response].to_numpy(), self.x(DATA), terms, offset=self.offset(DATA), reml=self.reml, **weights
        )
        lams, at, theta = [], 0, self.fit().theta
        for _, z, structure, *_ in self.random:
            q = z(DATA.iloc[:2]).shape[1]
            k = {"unstructured": q * (q + 1) // 2, "diagonal": q, "identity": 1, "exchangeable": min(q, 2)}[structure]
            lams.append(FACTORS[structure](theta[at : at + k], q))
            at += k
        assert at == len(theta)
        return model.at(lams)


A, H, BA = label("a"), label("h"), label("b", "a")
CASES = [
    Case("slopes", "y ~ x + (x | a)", [(A, SLOPE, "unstructured")]),
    Case("ML", "y ~ x + (x | a)", [(A, SLOPE, "unstructured")], reml=False),
    Case("no intercept", "y ~ x + (0 + x | a)", [(A, ONLY_X, "diagonal")]),
    Case("uncorrelated", "y ~ x + (x || a)", [(A, ONE, "diagonal"), (A, ONLY_X, "diagonal")]),
    Case("nested", "y ~ x + (1 | a/b)", [(BA, ONE, "diagonal"), (A, ONE, "diagonal")], {"freq_weights": "f"}),
    Case("crossed", "y ~ x + (x | a) + (1 | h)", [(A, SLOPE, "unstructured"), (H, ONE, "diagonal")],
         {"offset": "o", "var_weights": "w"}),
    Case("crossed and nested", "y ~ x + (1 | a/b) + (x || h)",
         [(BA, ONE, "diagonal"), (A, ONE, "diagonal"), (H, ONE, "diagonal"), (H, ONLY_X, "diagonal")],
         {"var_weights": "w", "freq_weights": "f"}, reml=False),
    Case("exchangeable", "y ~ x + (0 + k | a)", [(A, cells, "exchangeable")], {"covariance": "exchangeable"}),
    Case("identity", "y ~ x + (0 + k | a)", [(A, cells, "identity")], {"covariance": "identity"}),
    Case("component", "y ~ x", [(A, ONE, "diagonal"), (label("h", "a"), ONE, "diagonal")],
         {"groups": "a", "re_formula": "1", "vc_formula": {"h": "0 + C(h)"}}),
    Case("singular", "flat ~ x + (x | a) + (1 | h)", [(A, SLOPE, "unstructured"), (H, ONE, "diagonal")]),
]  # fmt: skip
every = pytest.mark.parametrize("case", CASES, ids=str)


def by_term(case, value):
    """The piece of each term in what is returned by group."""
    solutions, seen = case.fit().term_solutions, {}
    for t in solutions:
        frame = value[t.name or t.group] if isinstance(value, dict) else value
        start = seen.get(t.name or t.group, 0)
        seen[t.name or t.group] = start + len(t.columns)
        yield frame.iloc[:, start : start + len(t.columns)]


@every
def test_estimates(case):
    result, dense = case.fit(), case.dense()
    assert result.converged
    assert_allclose(result.params, dense.beta.astype(float), rtol=1e-8)
    assert_allclose(result.cov_params(), dense.cov_beta, rtol=1e-8)
    assert_allclose(result.bse, np.sqrt(np.diag(dense.cov_beta)), rtol=1e-8)
    assert_allclose(result.scale, float(dense.sigma2), rtol=1e-9)
    assert_allclose(result.llf, -0.5 * float(dense.deviance), rtol=1e-11)
    assert_array_equal(result.cov_params(), result.cov_params().T)


def test_the_singular_case_is_singular_and_the_others_are_not():
    singular = {case.name: case.fit().is_singular for case in CASES}
    assert singular.pop("singular")
    assert sum(singular.values()) <= 2, singular


@every
def test_variance_components(case):
    result, dense = case.fit(), case.dense()
    want = []
    order = sorted(range(len(case.random)), key=lambda k: -len(result.term_solutions[k].levels))
    for k in order:
        cov = dense.covariance(k)
        q = len(cov)
        sd = np.sqrt(np.diag(cov))
        want += list(zip(np.diag(cov), sd, strict=True))
        with np.errstate(invalid="ignore"):
            if case.random[k][2] in ("unstructured", "exchangeable"):
                want += [(cov[i, j], cov[i, j] / sd[i] / sd[j]) for i in range(q) for j in range(i + 1, q)]
    want.append((float(dense.sigma2), np.sqrt(float(dense.sigma2))))
    table = result.varcorr()
    assert_allclose(table[["vcov", "sdcor"]].to_numpy(dtype=float), want, rtol=1e-7, atol=1e-12)
    assert table["grp"].iloc[-1] == "Residual"
    assert table["var1"].iloc[-1] is None
    assert set(result.variance_components.values()) == set(table["vcov"])
    for k, t in enumerate(result.term_solutions):
        assert_allclose(t.cov, dense.covariance(k), rtol=1e-8, atol=1e-14)


@every
def test_random_effects_and_their_standard_errors(case):
    result, dense = case.fit(), case.dense()
    effects, posterior = result.ranef(conditional_se=True)
    given = result.ranef(conditional_se=True, given_beta=True)[1]
    pieces = [by_term(case, value) for value in (effects, posterior, given)]
    for k, (b, se, se_given) in enumerate(zip(*pieces, strict=True)):
        t = result.term_solutions[k]
        assert b.index.tolist() == se.index.tolist() == t.levels.tolist()
        assert_allclose(b, dense.effects(k), rtol=1e-7, atol=1e-9)
        for got, given_beta in ((se, False), (se_given, True)):
            variances = np.einsum("mii->mi", dense.effect_covs(k, given_beta))
            assert_allclose(got, np.sqrt(np.maximum(variances, 0)), rtol=1e-7, atol=1e-8)
        assert (se_given.to_numpy() <= se.to_numpy() + 1e-12).all()
        assert_allclose(t.cov_given_beta, dense.effect_covs(k, True), rtol=1e-7, atol=1e-10)
        assert_allclose(t.cov_posterior, dense.effect_covs(k, False), rtol=1e-7, atol=1e-10)


def positions(case, group):
    """Where the effects of each level of a grouping factor stand in the dense vector of all effects."""
    out = {}
    for k, t in enumerate(case.fit().term_solutions):
        if (t.name or t.group) == group:
            start, q = case.dense().place(k).start, len(t.columns)
            for i, level in enumerate(t.levels):
                out.setdefault(level, []).extend(range(start + i * q, start + (i + 1) * q))
    return out


@pytest.mark.parametrize("case", [c for c in CASES if "vc_formula" not in c.kwargs], ids=str)
def test_statsmodels_names_of_the_random_effects(case):
    result, dense = case.fit(), case.dense()
    effects, covs, coef = result.random_effects, result.random_effects_cov, result.group_coef()
    table = result.ranef()
    if not isinstance(table, dict):
        group = result.term_solutions[0].group
        table, effects, covs, coef = {group: table}, {group: effects}, {group: covs}, {group: coef}
    for group, frame in table.items():
        assert list(effects[group]) == list(covs[group]) == frame.index.tolist()
        for level, at in positions(case, group).items():
            assert_array_equal(effects[group][level], frame.loc[level])
            assert list(covs[group][level].columns) == list(frame.columns)
            # Of a level's effects jointly, those of independent terms too: given the data they are correlated.
            assert_allclose(covs[group][level], dense.cov_given_beta[np.ix_(at, at)], rtol=1e-6, atol=1e-10)
        for column in coef[group].columns:
            want = result.params.get(column, 0.0) + frame.get(column, 0.0)
            assert_allclose(coef[group][column], want, rtol=1e-12)
        assert set(coef[group].columns) == set(result.params.index) | set(frame.columns)


def test_statsmodels_names_with_variance_components():
    """As in MixedLM: for each group its effects, then those of the components within it."""
    case = next(c for c in CASES if "vc_formula" in c.kwargs)
    result, dense = case.fit(), case.dense()
    effects, covs = result.random_effects, result.random_effects_cov
    assert list(effects) == list(covs) == sorted(set(DATA["a"]))
    own, within = positions(case, "a"), positions(case, "h")
    for level, values in effects.items():
        at = own[level] + [i for cell, places in within.items() if cell.endswith(f":{level}") for i in places]
        assert_allclose(values, dense.b[at].astype(float), rtol=1e-7, atol=1e-9)
        assert_allclose(covs[level], dense.cov_given_beta[np.ix_(at, at)], rtol=1e-6, atol=1e-10)
        assert list(covs[level].columns) == list(values.index)


def expected(case, data):
    mean, variance = case.dense().predict(case.x(data), case.parts(data))
    return mean + case.offset(data), np.sqrt(variance)


@every
def test_fitted_values(case):
    result = case.fit()
    mean, _ = expected(case, DATA)
    assert_allclose(result.fittedvalues, mean, rtol=1e-7, atol=1e-8)
    assert result.fittedvalues.index.equals(DATA.index)
    y = DATA[case.formula.split("~")[0].strip()]
    assert_allclose(result.resid, y - mean, atol=1e-7)
    assert_allclose(result.predict(), result.fittedvalues, rtol=1e-12)
    predicted = result.predict(DATA)
    assert_allclose(predicted, result.fittedvalues, rtol=1e-9, atol=1e-10)
    assert predicted.index.equals(DATA.index)
    population = case.x(DATA) @ result.params.to_numpy() + case.offset(DATA)
    assert_allclose(result.predict(include_random=False), population, rtol=1e-10)
    assert_allclose(result.predict(DATA.drop(columns=["a", "h", "b"]), include_random=False), population, rtol=1e-10)


NEW = pd.DataFrame(
    {
        # Pairs of known levels: seen, never seen together (two rows), then a new level of one, of the other, of both.
        "a": ["a1", "a0", "a3", "zz", "a2", "zz", "a5"],
        "h": [10, 11, 14, 12, 99, 99, 13],
        "b": [0, 1, 2, 0, 1, 2, 7],
        "x": [0.5, -1.0, 2.0, 0.0, 3.0, 1.0, 0.2],
        "k": list("uvwuvwu"),
        "o": [0.0, 1.0, -1.0, 2.0, 0.5, 0.0, 3.0],
    },
    index=list("ABCDEFG"),
)


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewLevelWarning)
        return function(*args, **kwargs)


@every
def test_prediction_of_new_rows(case):
    result = case.fit()
    mean, se = expected(case, NEW)
    assert_allclose(quiet(result.predict, NEW), mean, rtol=1e-7, atol=1e-9)
    table = quiet(result.get_prediction, NEW).summary_frame()
    assert table.index.tolist() == NEW.index.tolist()
    q = stats.norm.ppf(0.975)
    se_obs = np.sqrt(se**2 + result.scale)
    want = {"mean": mean, "mean_se": se, "mean_ci_lower": mean - q * se, "mean_ci_upper": mean + q * se,
            "obs_ci_lower": mean - q * se_obs, "obs_ci_upper": mean + q * se_obs}  # fmt: skip
    assert list(table.columns) == list(want)
    for name, values in want.items():
        assert_allclose(table[name], values, rtol=1e-6, atol=1e-8, err_msg=name)
    # Rows come one by one and in any order.
    for i in (6, 3, 1):
        row = NEW.iloc[[i]]
        assert_allclose(quiet(result.predict, row), mean[[i]], rtol=1e-7, atol=1e-9)
        assert_allclose(quiet(result.get_prediction, row).summary_frame()["mean_se"], se[[i]], rtol=1e-6, atol=1e-8)


@every
def test_prediction_of_the_training_rows(case):
    result = case.fit()
    mean, se = expected(case, DATA)
    table = result.get_prediction().summary_frame(alpha=0.2)
    q = stats.norm.ppf(0.9)
    weights = DATA[case.kwargs["var_weights"]] if "var_weights" in case.kwargs else 1.0
    assert_allclose(table["mean_se"], se, rtol=1e-6, atol=1e-9)
    assert_allclose(table["mean_ci_upper"], mean + q * se, rtol=1e-6, atol=1e-8)
    assert_allclose(table["obs_ci_lower"], mean - q * np.sqrt(se**2 + result.scale / weights), rtol=1e-6, atol=1e-8)
    again = result.get_prediction(DATA).summary_frame()
    assert_allclose(again["mean"], mean, rtol=1e-7, atol=1e-8)
    assert_allclose(again["mean_se"], se, rtol=1e-6, atol=1e-9)


@every
def test_population_prediction(case):
    result, dense = case.fit(), case.dense()
    x = case.x(NEW)
    fixed = np.einsum("ni,ij,nj->n", x, dense.cov_beta, x)
    random = sum(np.einsum("ni,ij,nj->n", z, dense.covariance(k), z) for k, (_, z) in enumerate(case.parts(NEW)))
    data = NEW.drop(columns=["a", "h", "b"] if case.name != "component" else ["a", "b"])
    prediction = result.get_prediction(data, include_random=False, weights=np.full(len(NEW), 4.0))
    table = prediction.summary_frame()
    mean = x @ result.params.to_numpy() + case.offset(NEW)
    q = stats.norm.ppf(0.975)
    assert_allclose(table["mean"], mean, rtol=1e-9)
    assert_allclose(table["mean_se"], np.sqrt(fixed), rtol=1e-7)
    assert_allclose(table["obs_ci_upper"], mean + q * np.sqrt(fixed + random + result.scale / 4), rtol=1e-7)
    # Rows of a new level everywhere have the same uncertainty of an observation.
    strangers = quiet(result.get_prediction, NEW.assign(a="??", h=-1), weights=4.0).summary_frame()
    assert_allclose(strangers["obs_ci_upper"], table["obs_ci_upper"], rtol=1e-7)


def test_t_intervals():
    result = smf.mixedlm("y ~ x + (x | a)", DATA).fit(use_t=True)
    q = stats.t.ppf(0.975, result.df_resid)
    table = result.get_prediction(DATA[:3]).summary_frame()
    assert_allclose(table["mean_ci_upper"], table["mean"] + q * table["mean_se"], rtol=1e-10)
    assert_allclose(result.conf_int()[1], result.params + q * result.bse, rtol=1e-10)


def test_new_and_missing_levels_warn_once_and_name_the_factor():
    result = CASES[5].fit()
    with pytest.warns(NewLevelWarning, match=r"3 rows of 'h'|rows of 'a'") as record:
        result.predict(NEW)
    assert len(record) == 1
    assert "2 rows of 'a'" in str(record[0].message)
    assert "2 rows of 'h'" in str(record[0].message)
    assert record[0].filename == __file__  # the user's line, not ours
    with pytest.warns(NewLevelWarning, match="1 rows of 'a'"):
        missing = result.predict(DATA[:2].assign(a=["a1", None]))
    fixed = result.predict(DATA[:2], include_random=False)
    h = result.ranef()["h"]["Intercept"]
    assert_allclose(missing.iloc[1], fixed.iloc[1] + h[DATA["h"].iloc[1]], rtol=1e-10)
    with pytest.raises(ValueError, match="2 rows of 'a'"):
        result.predict(NEW, new_levels="raise")
    with pytest.raises(ValueError, match="2 rows of 'a'"):
        result.get_prediction(NEW, new_levels="raise")


@pytest.mark.parametrize("name", ["slopes", "crossed", "crossed and nested"])
def test_a_missing_value_is_a_missing_prediction(name):
    """In the row that has it, whose levels never met in the data, and in no other."""
    result = next(c for c in CASES if c.name == name).fit()
    data = NEW.copy()
    data.loc["B", "x"] = np.nan
    table = quiet(result.get_prediction, data).summary_frame()
    assert table.isna().all(axis=1).tolist() == [i == "B" for i in NEW.index]
    assert quiet(result.predict, data).isna().tolist() == [i == "B" for i in NEW.index]
    whole = quiet(result.get_prediction, data.drop(index="B")).summary_frame()
    pd.testing.assert_frame_equal(table.drop(index="B"), whole)


@every
def test_simulated_responses_have_the_model_s_moments(case):
    """Whitened by the dense V they are independent standard normal."""
    if "freq_weights" in case.kwargs:
        case = Case(case.name, case.formula, case.random, {k: v for k, v in case.kwargs.items() if k != "freq_weights"})
    result, dense = case.fit(), case.dense()
    draws = result.simulate(3000, seed=1)
    assert draws.shape == (3000, len(DATA))
    mean = case.x(DATA) @ result.params.to_numpy() + case.offset(DATA)
    white = np.linalg.solve(dense.low.astype(float), (draws - mean).T) / np.sqrt(result.scale)
    assert np.abs(white.mean(axis=1)).max() < 5 / np.sqrt(3000)
    assert np.abs(np.cov(white) - np.eye(len(DATA))).max() < 6 / np.sqrt(3000)
    assert_array_equal(result.simulate(2, seed=5), result.simulate(2, seed=5))
    assert not np.array_equal(result.simulate(2, seed=5), result.simulate(2, seed=6))


@every
def test_r_squared(case):
    """Nakagawa, Schielzeth (2013) and Johnson (2014), row by row."""
    result, dense = case.fit(), case.dense()
    times = DATA["f"] if "freq_weights" in case.kwargs else pd.Series(1, index=DATA.index)
    rows = np.repeat(np.arange(len(DATA)), times)
    fixed = np.var((case.x(DATA) @ result.params.to_numpy())[rows], ddof=1)
    random = sum(
        np.einsum("ni,ij,nj->n", z[rows], dense.covariance(k), z[rows]).mean()
        for k, (_, z) in enumerate(case.parts(DATA))
    )
    got = result.r_squared()
    total = fixed + random + result.scale
    want = {"marginal": fixed / total, "conditional": (fixed + random) / total, "var_fixed": fixed,
            "var_random": random, "var_residual": result.scale}  # fmt: skip
    assert list(got) == list(want)
    for name, value in want.items():
        assert_allclose(got[name], value, rtol=1e-7, err_msg=name)


@every
def test_refit_gives_the_same_model(case):
    result = case.fit()
    y = DATA[case.formula.split("~")[0].strip()].to_numpy()
    again = result.refit(y)
    assert_allclose(again.llf, result.llf, rtol=1e-9)
    assert_allclose(again.params, result.params, rtol=1e-4, atol=1e-5)
    assert_allclose(quiet(again.predict, NEW), quiet(result.predict, NEW), rtol=1e-3, atol=1e-3)


def test_icc():
    result = CASES[4].fit()
    v = {t.group: t.cov[0, 0] for t in result.term_solutions}
    total = v["a"] + v["b:a"] + result.scale
    got = result.icc()
    assert_allclose([got["a"], got["b:a"]], [v["a"] / total, (v["a"] + v["b:a"]) / total], rtol=1e-10)


def test_a_dropped_column_stays_dropped_in_refits_and_predictions():
    """A column in the middle that others contain: refit and bootstrap models map new data as the fit does."""
    data = DATA.assign(twice=2 * DATA["x"], z=np.cos(np.arange(len(DATA))))
    with pytest.warns(UserWarning, match="dropped twice"):
        result = smf.mixedlm("y ~ x + twice + z + (1 | a)", data).fit()
    assert result.params.index.tolist() == ["Intercept", "x", "z"]
    direct = smf.mixedlm("y ~ x + z + (1 | a)", data).fit()
    assert_allclose(result.predict(data[:5]), direct.predict(data[:5]), rtol=1e-8)
    again = result.refit(data["y"])
    assert again.model.dropped_exog == ["twice"]
    assert_allclose(again.predict(data[:5]), direct.predict(data[:5]), rtol=1e-4)
    assert_allclose(again.predict(), direct.predict(), rtol=1e-4)
