"""Bootstrap: the same replicates however they are computed, intervals, whole groups, failures, bad inputs."""

import functools
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_series_equal
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, pastes, penicillin, sleepstudy, wine
from sm_multilevel.postestimation.resampling import replicates
from sm_multilevel.postestimation.resampling.bootstrap import BootstrapResults
from sm_multilevel.postestimation.resampling.resample import group_refits, refit_to, refitted, top_level

SLEEP = sleepstudy.load_pandas().data


def _slopes(**options):
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP, **options).fit()


def _panel(seed=0, groups=10):
    """An unbalanced panel with weights, counts, classes in schools, and no effect of `nothing`."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rng.integers(4, 9, groups))
    n = len(g)
    data = pd.DataFrame(
        {
            "g": np.array(list("abcdefghijklmnop"))[g],
            "k": rng.integers(0, 3, n),
            "item": rng.integers(0, 5, n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
            "t": rng.integers(1, 4, n),
            "o": rng.normal(size=n),
        }
    )
    eta = 0.5 * data.x + 0.8 * rng.normal(size=groups)[g]
    data["y"] = 2 + eta + data.o + rng.normal(size=n)
    noise = rng.normal(size=n)
    data["flat"] = noise - (np.bincount(g, noise) / np.bincount(g))[g]
    data["count"] = rng.negative_binomial(4, 4 / (4 + np.exp(1 + eta)))
    data["grade"] = pd.Categorical.from_codes(np.searchsorted([-1, 0.7], eta + rng.logistic(size=n)), list("lmh"), True)
    return data


DATA = _panel()
FITS = {
    "intercepts": lambda: smf.mixedlm("y ~ x + (1 | g)", DATA).fit(),
    "slopes, ML": lambda: smf.mixedlm("y ~ x + (x | g)", DATA).fit(reml=False),
    "weighted": lambda: smf.mixedlm("y ~ x + (x || g)", DATA, var_weights="w", offset="o").fit(),
    "nested": lambda: smf.mixedlm("y ~ x + (1 | g/k)", DATA).fit(),
    "crossed": lambda: smf.mixedlm("y ~ x + (1 | g) + (1 | item)", DATA).fit(),
    "singular": lambda: smf.mixedlm("flat ~ x + (1 | g)", DATA).fit(),
    "negbin": lambda: smf.menbreg("count ~ x + (1 | g)", DATA).fit(),
    "ordinal": lambda: smf.meologit("grade ~ x + (1 | g)", DATA).fit(),
    "trials": lambda: smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size").fit(),
}
FITS = {name: functools.cache(fit) for name, fit in FITS.items()}


def _count(name):
    return 60 if name in ("intercepts", "slopes, ML", "weighted", "singular") else 7


@pytest.mark.parametrize("name", FITS)
def test_replicates_do_not_depend_on_how_they_are_computed(name):
    """To the last bit: jobs, tasks, resuming."""
    result, n = FITS[name](), _count(name)
    whole = result.bootstrap(n, seed=5)
    assert whole.n == n == len(whole.estimates) + whole.failed
    again = result.bootstrap(n, seed=5, n_jobs=2, batch=3)
    assert_frame_equal(whole.estimates, again.estimates, check_exact=True)
    assert_series_equal(whole.failures, again.failures)
    first = result.bootstrap(n // 3, seed=5)
    more = first.extend(n - n // 3, batch=2)
    assert_frame_equal(whole.estimates, more.estimates, check_exact=True)
    assert (more.n, more.failed, more.n_singular) == (whole.n, whole.failed, whole.n_singular)
    assert len(first.estimates) + first.failed == n // 3  # the first one stays as it is


@pytest.mark.parametrize("kind", ["parametric", "cluster"])
@pytest.mark.parametrize("name", ["intercepts", "weighted", "nested", "negbin"])
def test_named_statistics_are_those_of_results(name, kind):
    """The fast path against result objects, refitted one by one."""
    result = FITS[name]()

    def estimates(r):
        sd = {key.replace("var(", "sd("): np.sqrt(v) for key, v in r.variance_components.items()}
        return pd.concat([r.params, pd.Series({**r.variance_components, **sd})])

    ours, theirs = (result.bootstrap(8, seed=2, kind=kind, statistic=s) for s in (None, estimates))
    assert list(ours.estimates.columns) == list(theirs.estimates.columns)
    assert_allclose(ours.estimates, theirs.estimates, rtol=2e-4, atol=2e-4)
    assert_array_equal(ours.estimates.index, theirs.estimates.index)
    assert_allclose(ours.observed, theirs.observed)
    assert ours.n_singular == theirs.n_singular


def test_names_of_the_estimates():
    result = _slopes()
    boot = result.bootstrap(3, seed=1)
    assert list(boot.observed.index) == [
        "Intercept", "Days", "var(Intercept)", "cov(Intercept,Days)", "var(Days)", "var(Residual)", "sd(Intercept)",
        "cor(Intercept,Days)", "sd(Days)", "sd(Residual)",
    ]  # fmt: skip
    table = result.varcorr()
    assert_allclose(boot.observed[["sd(Intercept)", "sd(Days)", "cor(Intercept,Days)", "sd(Residual)"]], table["sdcor"])
    assert_allclose(boot.observed[["var(Intercept)", "var(Days)", "var(Residual)"]], table["vcov"].iloc[[0, 1, 3]])
    assert list(result.bootstrap(2, seed=1, statistic="params").observed.index) == ["Intercept", "Days"]
    assert list(result.bootstrap(2, seed=1, statistic="components").observed.index) == list(boot.observed.index[2:])
    nested = FITS["nested"]().bootstrap(2, seed=1).observed
    assert {"var(Intercept|g)", "var(Intercept|k)", "sd(Intercept|k)"} <= set(nested.index)


def test_the_replicates_are_those_of_earlier_versions():
    """Replicate k: `simulate` with the k-th child of the seed, then `refit`."""
    result = _slopes()
    boot = result.bootstrap(5, seed=3)
    for k, child in enumerate(np.random.SeedSequence(3).spawn(5)):
        single = result.refit(result.simulate(1, seed=child)[0])
        assert_allclose(boot.estimates.iloc[k, :2], single.params, rtol=1e-6)
        assert_allclose(boot.estimates.iloc[k, 5], single.scale, rtol=1e-6)


def test_simulate_draws_the_same_one_by_one():
    for name in ("weighted", "crossed", "negbin"):
        result = FITS[name]()
        rng = np.random.default_rng(1)
        assert_array_equal(result.simulate(3, seed=1), np.vstack([result.simulate(1, seed=rng) for _ in range(3)]))


# -- whole groups -----------------------------------------------------------------------------------------


def _drawn_frame(data, column, labels, drawn):
    """The rows of some groups, each draw under a name of its own."""
    parts = [data[data[column] == labels[g]].assign(**{column: f"draw {j}"}) for j, g in enumerate(drawn)]
    return pd.concat(parts, ignore_index=True)


CLUSTERED = {
    "intercepts": ("y ~ x + (1 | g)", {}),
    "slopes": ("y ~ x + (x | g)", {"offset": "o"}),
    "var_weights": ("y ~ x + (1 | g)", {"var_weights": "w"}),
    "freq_weights": ("y ~ x + (x || g)", {"freq_weights": "t"}),
    "nested": ("y ~ x + (1 | g/k)", {}),
    "components": ("y ~ x", {"groups": "g", "vc_formula": {"k": "0 + C(k)"}}),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CLUSTERED)
def test_drawn_groups_against_the_frame_that_they_make(name, reml):
    formula, options = CLUSTERED[name]
    result = smf.mixedlm(formula, DATA, **options).fit(reml=reml)
    clusters = top_level(result.model, "a test")
    assert clusters.size == 10
    labels = sorted(DATA.g.unique())
    rng = np.random.default_rng(4)
    draws = [rng.integers(0, 10, 10) for _ in range(4)] + [np.delete(np.arange(10), 3)]
    for drawn, ours in zip(draws, group_refits(result, clusters, draws), strict=True):
        theirs = smf.mixedlm(formula, _drawn_frame(DATA, "g", labels, drawn), **options).fit(reml=reml)
        assert (ours.reason == "") == theirs.converged
        assert ours.llf == pytest.approx(theirs.llf, rel=1e-7)
        assert_allclose(ours.params, theirs.params, rtol=1e-5, atol=1e-6)
        assert ours.scale == pytest.approx(theirs.scale, rel=1e-5)
        assert_allclose(np.abs(ours.theta), np.abs(theirs.theta), rtol=1e-3, atol=1e-4)
        assert ours.singular == theirs.is_singular
        alone = refitted(refit_to(result, clusters, drawn))
        assert_allclose(alone.params, ours.params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["negbin", "ordinal"])
def test_drawn_groups_of_a_generalised_model(name):
    result = FITS[name]()
    clusters = top_level(result.model, "a test")
    drawn = np.array([0, 0, 1, 2, 4, 4, 6, 7, 8, 9])
    frame = _drawn_frame(DATA, "g", sorted(DATA.g.unique()), drawn)
    build = {"negbin": lambda: smf.menbreg("count ~ x + (1 | g)", frame)}.get(
        name, lambda: smf.meologit("grade ~ x + (1 | g)", frame)
    )
    ours, theirs = refit_to(result, clusters, drawn), build().fit()
    assert ours.llf == pytest.approx(theirs.llf, rel=1e-7)
    assert_allclose(ours.params, theirs.params, rtol=1e-3, atol=1e-4)
    boot = result.bootstrap(4, seed=1, kind="cluster")
    assert len(boot.estimates) + boot.failed == 4


def test_cluster_standard_errors_are_robust():
    """Residual variances that differ by group: the model's standard error of a slope is wrong, the bootstrap's not."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(60), 10)
    x = rng.normal(size=600)
    data = pd.DataFrame({"g": g, "x": x, "y": x * np.where(g % 2, 2.0, -2.0) + rng.normal(size=600)})
    result = smf.mixedlm("y ~ x + (1 | g)", data).fit()
    boot = result.bootstrap(400, seed=1, kind="cluster")
    slopes = np.array([np.polyfit(d.x, d.y, 1)[0] for _, d in data.groupby("g")])
    assert boot.bse["x"] == pytest.approx(slopes.std() / np.sqrt(60), rel=0.2)
    assert boot.bse["x"] > 2 * result.bse["x"]


# -- intervals ------------------------------------------------------------------------------------------------


def test_intervals_against_their_formulas():
    boot = FITS["slopes, ML"]().bootstrap(200, seed=1)
    column, value = boot.estimates["x"], boot.observed["x"]
    ends = np.quantile(column, [0.05, 0.95])
    assert_allclose(boot.conf_int(alpha=0.1).loc["x"], ends)
    assert_allclose(boot.conf_int(alpha=0.1, method="basic").loc["x"], [2 * value - ends[1], 2 * value - ends[0]])
    half = 1.6448536269514722 * column.std(ddof=1)
    centre = 2 * value - column.mean()
    assert_allclose(boot.conf_int(alpha=0.1, method="normal").loc["x"], [centre - half, centre + half])
    assert np.isnan(boot.observed["cor(Intercept,x)"])  # a variance is zero
    with pytest.warns(ConvergenceWarning, match=r"BCa intervals of cor\(Intercept,x\) do not exist"):
        assert np.isnan(boot.conf_int(method="bca").loc["cor(Intercept,x)"]).all()
    assert boot.pvalue("x", null=float(np.quantile(column, 0.95))) == pytest.approx(0.1, abs=0.02)
    assert boot.pvalue("x", null=100.0) == pytest.approx(2 / 201)
    assert_allclose(boot.bias["x"], column.mean() - value)


@pytest.mark.parametrize("name", ["intercepts", "nested", "negbin"])
def test_bca_against_a_plain_implementation(name):
    """Efron (1987), with the jackknife from frames without each group."""
    result = FITS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        boot = result.bootstrap(30 if name != "intercepts" else 400, seed=1, statistic="params")
        ours = boot.conf_int(alpha=0.2, method="bca")
    left_out = []
    for group in sorted(DATA.g.unique()):
        part = DATA[DATA.g != group]
        left_out.append({
            "intercepts": lambda d: smf.mixedlm("y ~ x + (1 | g)", d).fit(),
            "nested": lambda d: smf.mixedlm("y ~ x + (1 | g/k)", d).fit(),
            "negbin": lambda d: smf.menbreg("count ~ x + (1 | g)", d).fit(),
        }[name](part).params.to_numpy())  # fmt: skip
    left_out = np.array(left_out)
    for j, label in enumerate(boot.observed.index):
        gap = left_out[:, j].mean() - left_out[:, j]
        a = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
        assert boot.acceleration[label] == pytest.approx(a, abs=2e-4)
        values = boot.estimates[label].to_numpy()
        z0 = stats.norm.ppf((values < boot.observed[label]).mean())
        levels = []
        for p in (0.1, 0.9):
            z = z0 + stats.norm.ppf(p)
            levels.append(stats.norm.cdf(z0 + z / (1 - a * z)))
        assert_allclose(ours.loc[label], np.quantile(values, levels), rtol=1e-3, atol=1e-3)


def test_bca_of_a_mean_against_scipy():
    """In a balanced design with an intercept only the estimate is the mean of the groups' means."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 4)})
    data["y"] = rng.exponential(size=12)[data.g] + 0.05 * rng.normal(size=48)
    boot = smf.mixedlm("y ~ 1 + (1 | g)", data).fit().bootstrap(4000, seed=1, statistic="params", kind="cluster")
    means = data.groupby("g")["y"].mean().to_numpy()
    theirs = stats.bootstrap((means,), np.mean, n_resamples=4000, method="BCa", random_state=2, vectorized=True)
    interval = theirs.confidence_interval
    assert_allclose(boot.conf_int(method="bca").loc["Intercept"], [interval.low, interval.high], rtol=0.03)
    assert_allclose(boot.bse["Intercept"], theirs.standard_error, rtol=0.04)


def test_monte_carlo_error_of_the_ends():
    """Against the spread of the ends over independent runs."""
    result = FITS["intercepts"]()
    runs = [result.bootstrap(120, seed=s, statistic="params") for s in range(40)]
    spread = np.std([r.conf_int(alpha=0.2).loc["x"] for r in runs], axis=0, ddof=1)
    errors = np.mean([r.interval_error(alpha=0.2).loc["x"] for r in runs], axis=0)
    assert_allclose(errors, spread, rtol=0.35)
    assert runs[0].interval_error(alpha=1e-6).isna().all(axis=None)


def test_conf_int_of_results_by_bootstrap():
    for name in ("slopes, ML", "negbin"):
        result = FITS[name]()
        ours = result.conf_int(alpha=0.1, method="boot", n=9, seed=3)
        boot = result.bootstrap(9, seed=3, statistic="params")
        assert_allclose(ours, boot.conf_int(alpha=0.1))
        assert list(ours.index) == list(result.params.index)
        basic = result.conf_int(method="boot", n=9, seed=3, interval="basic")
        assert_allclose(basic, boot.conf_int(method="basic"))


def test_the_fit_at_the_boundary():
    """Replicates of a singular fit leave the boundary; its interval begins at zero."""
    result = FITS["singular"]()
    assert result.is_singular
    boot = result.bootstrap(200, seed=1)
    assert 60 < boot.n_singular < 160
    assert boot.conf_int().loc["var(Intercept)", "lower"] == 0.0
    assert boot.failed == 0


def test_correlations_without_a_value_are_counted():
    result = smf.mixedlm("flat ~ x + (x | g)", DATA).fit()
    boot = result.bootstrap(100, seed=1)
    lost = boot.estimates["cor(Intercept,x)"].isna()
    least = boot.estimates[["sd(Intercept)", "sd(x)"]].min(axis=1)
    assert boot.undefined["cor(Intercept,x)"] == lost.sum() > 5
    assert_array_equal(lost, least < 1e-4)
    assert boot.conf_int().loc["cor(Intercept,x)"].between(-1, 1).all()


# -- failures ----------------------------------------------------------------------------------------------------


def test_failures_are_counted_with_their_reasons():
    result = FITS["intercepts"]()
    slope = result.params["x"]

    def picky(r):
        if r.params["x"] > slope + 1e-9:
            raise RuntimeError("too large")
        return {"slope": r.params["x"], "half": r.params["x"] / 2}

    with pytest.warns(ConvergenceWarning, match=r"of 30 replicates failed: the statistic raised RuntimeError: too"):
        boot = result.bootstrap(30, seed=1, statistic=picky)
    assert list(boot.failures.index) == ["the statistic raised RuntimeError: too large"]
    assert boot.failed == boot.failures.iloc[0] == 30 - len(boot.estimates)
    assert 5 < boot.failed < 25
    assert (boot.estimates["slope"] <= slope).all()
    whole = result.bootstrap(30, seed=1)
    assert_allclose(boot.estimates["slope"], whole.estimates.loc[boot.estimates.index, "x"], rtol=1e-5)


def test_a_statistic_of_another_length_is_a_failure():
    result = FITS["intercepts"]()
    seen = []

    def growing(r):
        seen.append(1)
        return np.zeros(min(len(seen), 2))

    with pytest.warns(ConvergenceWarning, match="gave 2 values where the data give 1"):
        boot = result.bootstrap(3, seed=1, statistic=growing)
    with pytest.raises(ValueError, match="None of the 3 replicates succeeded: the statistic gave 2 values"):
        boot.conf_int()


def test_responses_without_a_fit_are_counted():
    """Few trials: some replicates are failures only, or separated."""
    data = pd.DataFrame({"g": np.repeat(np.arange(5), 3), "y": [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = smf.melogit("y ~ 1 + (1 | g)", data).fit()
    with pytest.warns(ConvergenceWarning, match=r"constant \("):
        boot = result.bootstrap(60, seed=1)
    assert boot.failed >= 4
    assert boot.failures.index.str.contains("constant").any()
    assert len(boot.estimates) == 60 - boot.failed


def test_numbers_are_matched_by_their_labels():
    """A Series or dict in another order is put in order; other labels are a failure."""
    result = FITS["intercepts"]()
    plain = result.bootstrap(6, seed=1, statistic="params").estimates
    for kind in (pd.Series, dict):
        calls = []

        def turned(r, kind=kind, calls=calls):
            calls.append(1)
            return kind(dict(list(r.params.items())[:: (-1) ** len(calls)]))

        boot = result.bootstrap(6, seed=1, statistic=turned)
        assert boot.failed == 0
        assert_allclose(boot.estimates[["Intercept", "x"]], plain, rtol=1e-5, atol=1e-6)
    calls = []

    def other(r):
        calls.append(1)
        return {"a": 1.0, "b" if len(calls) % 2 else "c": 2.0}

    with pytest.warns(ConvergenceWarning, match="3 of 6 replicates failed: the statistic gave the labels a, c where"):
        boot = result.bootstrap(6, seed=1, statistic=other)
    assert list(boot.failures.index) == ["the statistic gave the labels a, c where the data give a, b"]


def test_replicates_without_a_value_are_told():
    result = FITS["intercepts"]()
    slope = result.params["x"]

    def half(r):
        return {"slope": r.params["x"], "root": np.nan if r.params["x"] > slope + 1e-9 else 1.0}

    with pytest.warns(ConvergenceWarning, match=r"undefined \(NaN\) in more than 5% of the 20 .* succeeded: root \("):
        boot = result.bootstrap(20, seed=1, statistic=half)
    assert boot.failed == 0
    assert f"undefined: root {boot.undefined['root']}>" in repr(boot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "undefined" not in repr(result.bootstrap(5, seed=1, statistic="params"))


def test_a_statistic_of_a_replicate_that_is_no_real_number_is_a_failure():
    result = FITS["intercepts"]()
    for odd, reason in ((1j, "gave complex numbers"), ("none", "gave a str that is no real numbers")):
        calls = []

        def first_good(r, odd=odd, calls=calls):
            calls.append(1)
            return 1.0 if len(calls) == 1 else odd

        with pytest.warns(ConvergenceWarning, match=f"the statistic {reason}"):
            assert result.bootstrap(2, seed=1, statistic=first_good).failed == 2


def test_a_model_without_fixed_effects():
    result = smf.mixedlm("flat ~ 0 + (1 | g)", DATA).fit()
    for kind in ("parametric", "cluster"):
        boot = result.bootstrap(5, seed=1, statistic="params", kind=kind).extend(2)
        assert boot.estimates.shape == (7, 0)
        for method in ("percentile", "basic", "normal", "bca"):
            assert boot.conf_int(method=method).shape == (0, 2)
        assert boot.interval_error().shape == (0, 2)
    assert result.conf_int(method="boot", n=5, seed=1).shape == (0, 2)


@pytest.mark.parametrize("statistic", ["params", lambda r: r.params])
def test_a_level_that_is_not_drawn_is_a_failure(statistic):
    """Diets whose rats are all lost: as many failures as resamples without full rank, and no other warning."""
    data = pd.read_csv(Path(__file__).parents[1] / "data" / "bodyweight.csv")
    result = smf.mixedlm("weight ~ Time + C(Diet) + (1 | Rat)", data).fit()
    clusters = top_level(result.model, "a test")
    n = 100 if statistic == "params" else 30
    exog, deficient = result.model.exog, 0
    for k in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(k,)))
        rows = np.concatenate([clusters.rows[g] for g in rng.integers(0, clusters.size, clusters.size)])
        deficient += np.linalg.matrix_rank(exog[rows]) < exog.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        boot = result.bootstrap(n, seed=1, kind="cluster", statistic=statistic)
    assert boot.failed == deficient >= 1
    assert boot.failures.index.str.contains(r"the groups drawn cannot tell C\(Diet\)\[T\.[23]\]").all()


def _divided(r):
    return 1 / 0


BAD_ON_THE_DATA = {
    "raises": (_divided, "statistic=_divided raised ZeroDivisionError on the data"),
    "KeyError": (lambda r: r.params["nothing"], "raised KeyError on the data: 'nothing'"),
    "complex": (lambda r: 1j, "gave complex numbers on the data"),
    "complex array": (lambda r: np.array([1.0, 1j]), "gave complex numbers"),
    "complex dict": (lambda r: {"a": 1j}, "gave complex numbers"),
    "empty": (lambda r: [], "gave no values on the data"),
    "empty dict": (lambda r: {}, "gave no values"),
    "text": (lambda r: "none", "gave a str that is no real numbers"),
    "None": (lambda r: None, "gave nan on the data, where nothing is finite"),
    "NaN": (lambda r: {"a": np.nan}, "gave nan"),
    "inf": (lambda r: [np.inf, np.nan], "gave inf, nan"),
}


@pytest.mark.parametrize("name", BAD_ON_THE_DATA)
def test_a_statistic_that_fails_on_the_data_says_so(name):
    statistic, words = BAD_ON_THE_DATA[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        FITS["intercepts"]().bootstrap(3, statistic=statistic)
    assert words in str(error.value)
    assert str(error.value).startswith("statistic=")


# -- saving, progress, backends ----------------------------------------------------------------------------------


def test_save_and_resume(tmp_path):
    result = FITS["slopes, ML"]()
    for statistic in (None, lambda r: r.params["x"] ** 2):
        path = tmp_path / "boot.pickle"
        result.bootstrap(4, seed=9, statistic=statistic).save(path)
        more = BootstrapResults.load(path).extend(6)
        assert_frame_equal(more.estimates, result.bootstrap(10, seed=9, statistic=statistic).estimates)
    fitted = tmp_path / "fit.pickle"
    result.save(fitted)
    with pytest.raises(ValueError, match="MixedLMResultsWrapper, not the replicates"):
        BootstrapResults.load(fitted)


def test_a_seed_is_drawn_and_kept():
    result = FITS["intercepts"]()
    first, second = result.bootstrap(3), result.bootstrap(3)
    assert not first.estimates.equals(second.estimates)
    assert_frame_equal(result.bootstrap(3, seed=first.seed).estimates, first.estimates)
    assert f"seed {first.seed}" in repr(first)


def test_progress(capsys):
    result = FITS["intercepts"]()
    result.bootstrap(40, seed=1, batch=10)
    assert capsys.readouterr().err == ""  # no terminal
    result.bootstrap(40, seed=1, batch=10, disp=True)
    assert capsys.readouterr().err.endswith("parametric bootstrap: 40 of 40 replicates, 0:00\n")
    result.bootstrap(40, seed=1, batch=10, disp=True, n_jobs=2)
    assert "parametric bootstrap: 40 of 40 replicates" in capsys.readouterr().err


def test_joblib_backends():
    result = FITS["intercepts"]()
    plain = result.bootstrap(20, seed=1)
    with joblib.parallel_backend("threading", n_jobs=2):
        assert joblib.effective_n_jobs(None) == 2
        assert_frame_equal(result.bootstrap(20, seed=1, batch=4).estimates, plain.estimates)


def test_tasks_are_small_where_there_are_many_rows(monkeypatch):
    result = FITS["intercepts"]()
    seen = []
    draw = replicates.Simulator.draw
    monkeypatch.setattr(replicates.Simulator, "draw", lambda self, rngs: seen.append(len(rngs)) or draw(self, rngs))
    monkeypatch.setattr(replicates, "_ENTRIES", 4 * len(DATA))
    result.bootstrap(10, seed=1)
    assert seen == [4, 4, 2]


# -- what is refused --------------------------------------------------------------------------------------------------


def _boot(*args, **kwargs):
    return FITS["intercepts"]().bootstrap(*args, **kwargs)


BAD = {
    "n: none": (lambda: _boot(0), "n=0", "at least one"),
    "n: negative": (lambda: _boot(-1), "n=-1", "at least one"),
    "n: True": (lambda: _boot(True), "n=True", "at least one"),
    "n: a fraction": (lambda: _boot(2.5), "n=2.5", "at least one"),
    "seed: text": (lambda: _boot(2, seed="one"), "seed='one'", "whole number"),
    "seed: negative": (lambda: _boot(2, seed=-1), "seed=-1", "whole number"),
    "seed: a fraction": (lambda: _boot(2, seed=1.5), "seed=1.5", "whole number"),
    "n_jobs: zero": (lambda: _boot(2, n_jobs=0), "n_jobs=0", "None"),
    "n_jobs: text": (lambda: _boot(2, n_jobs="all"), "n_jobs='all'", "-1"),
    "n_jobs: True": (lambda: _boot(2, n_jobs=True), "n_jobs=True", "-1"),
    "batch: none": (lambda: _boot(2, batch=0), "batch=0", "at least one"),
    "disp: text": (lambda: _boot(2, disp="yes"), "disp='yes'", "True or False"),
    "statistic: unknown": (lambda: _boot(2, statistic="icc"), "statistic='icc'", "'components'", "function"),
    "statistic: a number": (lambda: _boot(2, statistic=3), "statistic=3", "function"),
    "kind: unknown": (lambda: _boot(2, kind="rows"), "kind='rows'", "'parametric', 'cluster'"),
    "kind: a private one": (lambda: _boot(2, kind="jackknife"), "kind='jackknife'", "'cluster'"),
    "kind: None": (lambda: _boot(2, kind=None), "kind=None", "'cluster'"),
    "conf_int: alpha": (lambda: _boot(3, seed=1).conf_int(alpha=0), "alpha=0", "between 0 and 1"),
    "conf_int: alpha above one": (lambda: _boot(3, seed=1).conf_int(alpha=1.5), "alpha=1.5", "between 0 and 1"),
    "conf_int: method": (lambda: _boot(3, seed=1).conf_int(method="perc"), "method='perc'", "'percentile'"),
    "interval_error: alpha": (lambda: _boot(3, seed=1).interval_error(alpha=2), "alpha=2", "between 0 and 1"),
    "extend: none": (lambda: _boot(2, seed=1).extend(0), "n_more=0", "at least one"),
    "extend: n_jobs": (lambda: _boot(2, seed=1).extend(1, n_jobs=0), "n_jobs=0"),
    "pvalue: name": (lambda: _boot(2, seed=1).pvalue("z"), "'z'", "Intercept, x"),
    "result: method": (lambda: FITS["intercepts"]().conf_int(method="jack"), "method='jack'", "'boot'"),
    "result: interval": (
        lambda: FITS["intercepts"]().conf_int(method="boot", n=3, interval="t"), "method='t'", "'percentile'"),
    "result: n": (lambda: FITS["intercepts"]().conf_int(method="boot", n=0), "n=0", "at least one"),
    "freq_weights": (
        lambda: smf.mixedlm("y ~ x + (1 | g)", DATA, freq_weights="t").fit().bootstrap(3), "freq_weights", "cluster"),
    "cluster: crossed": (
        lambda: FITS["crossed"]().bootstrap(3, kind="cluster"), "kind='cluster'", "g, item", "crossed"),
    "bca: crossed": (
        lambda: FITS["crossed"]().bootstrap(3, seed=1).conf_int(method="bca"), "method='bca'", "g, item", "crossed"),
    "cluster: one group": (
        lambda: smf.mixedlm("y ~ x", DATA, groups=np.ones(len(DATA)), vc_formula={"g": "0 + C(g)"}).fit().bootstrap(
            3, kind="cluster"), "kind='cluster'", "at least two groups"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_are_named(name):
    call, *words = BAD[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    for word in words:
        assert word in str(error.value)


def test_data_that_are_gone():
    result = _slopes()
    boot = result.bootstrap(3, seed=1)
    cluster = result.bootstrap(3, seed=1, kind="cluster")
    result.remove_data()
    for call in (lambda: boot.extend(2), lambda: cluster.extend(2), lambda: boot.acceleration, result.bootstrap):
        with pytest.raises(ValueError, match=r"remove_data\(\) has dropped"):
            call()
    assert boot.conf_int().notna().all(axis=None)


def test_real_designs_run():
    """Crossed, nested, ordinal: percentile intervals hold the estimate."""
    fits = [
        smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin.load_pandas().data).fit(),
        smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data).fit(),
        smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit(),
    ]
    for result in fits:
        boot = result.bootstrap(20, seed=1)
        assert boot.failed <= 1
        interval = boot.conf_int(alpha=0.01)
        inside = (interval["lower"] <= boot.observed) & (boot.observed <= interval["upper"])
        assert inside.mean() > 0.8
