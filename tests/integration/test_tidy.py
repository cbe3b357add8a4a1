"""Tidy data frames of results, and results in HTML, Markdown and LaTeX."""

import pickle
import re
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as sm
from numpy.testing import assert_allclose, assert_array_equal

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, owls, pastes, penicillin, sleepstudy, wine

try:
    import polars as pl
except ImportError:  # an optional dependency, absent from the oldest set
    pl = None
needs_polars = pytest.mark.skipif(pl is None, reason="polars is not installed")


def _weighted(data):
    rng = np.random.default_rng(3)
    return data.assign(w=rng.uniform(0.5, 2, len(data)), k=rng.integers(1, 4, len(data)), o=rng.normal(size=len(data)))


def _flat():
    """Data whose groups are all alike, so that the variance is estimated as zero."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20, 5))
    y = y - y.mean(axis=1, keepdims=True)
    return pd.DataFrame({"y": y.ravel(), "x": rng.normal(size=100), "g": np.repeat(np.arange(20), 5)})


def _positive():
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(30), 8)
    x = rng.normal(size=240)
    mean = np.exp(1 + 0.3 * x + 0.5 * rng.normal(size=30)[g])
    return pd.DataFrame({"y": rng.gamma(2.0, mean / 2.0), "x": x, "g": g})


SLEEP = sleepstudy.load_pandas().data
FITS = {
    "slope": lambda: smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP).fit(),
    "ml": lambda: smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP).fit(reml=False),
    "uncorrelated": lambda: smf.mixedlm("Reaction ~ Days + (Days || Subject)", SLEEP).fit(),
    "crossed": lambda: smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin.load_pandas().data).fit(),
    "nested": lambda: smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data).fit(),
    "no_fixed": lambda: smf.mixedlm("strength ~ 0 + (1 | batch)", pastes.load_pandas().data).fit(),
    "groups": lambda: smf.mixedlm("Reaction ~ Days", SLEEP, groups="Subject", re_formula="~Days").fit(),
    "components": lambda: smf.mixedlm(
        "strength ~ 1", pastes.load_pandas().data, groups="batch", vc_formula={"cask": "0 + C(cask)"}, re_formula="1"
    ).fit(),
    "singular": lambda: smf.mixedlm("y ~ x + (1 | g)", _flat()).fit(),
    "var_weights": lambda: smf.mixedlm(
        "Reaction ~ Days + (1 | Subject)", _weighted(SLEEP), var_weights="w", offset="o"
    ).fit(),
    "freq_weights": lambda: smf.mixedlm("Reaction ~ Days + (1 | Subject)", _weighted(SLEEP), freq_weights="k").fit(),
    "trials": lambda: smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size").fit(),
    "binary": lambda: smf.melogit("use ~ urban + age + (1 | district)", contraception.load_pandas().data).fit(),
    "exposure": lambda: smf.mepoisson(
        "SiblingNegotiation ~ FoodTreatment + (1 | Nest)", owls.load_pandas().data, exposure="BroodSize"
    ).fit(),
    "gamma": lambda: smf.megamma("y ~ x + (1 | g)", _positive()).fit(),
    "negbin": lambda: smf.menbreg("y ~ trt + (1 | subject)", epil.load_pandas().data).fit(),
    "ordinal": lambda: smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit(),
    "arrays": lambda: smm.MixedLM(
        SLEEP["Reaction"].to_numpy(),
        np.column_stack([np.ones(180), SLEEP["Days"]]),
        groups=SLEEP["Subject"].to_numpy(),
    ).fit(),
}


_done = {}


@pytest.fixture(params=list(FITS))
def res(request):
    return fitted(request.param)


def fitted(name):
    if name not in _done:
        _done[name] = FITS[name]()
    return _done[name]


# -- tidy ---------------------------------------------------------------------------------------


def test_fixed_and_response_are_params(res):
    p = res.model.k_fixed
    table = smm.tidy(res, ["fixed", "response"], conf_int=True, conf_level=0.9)
    assert table["effect"].tolist() == ["fixed"] * p + ["response"] * (len(res.params) - p)
    assert table["term"].tolist() == list(res.model.data.param_names)
    for name, own in (("estimate", res.params), ("std_error", res.bse), ("df", res.df_coef)):
        assert_array_equal(table[name], np.asarray(own))
    assert_array_equal(table["statistic"][:p], np.asarray(res.tvalues)[:p])
    assert_array_equal(table["p_value"][:p], np.asarray(res.pvalues)[:p])
    assert table[["statistic", "p_value"]][p:].isna().all(axis=None)
    assert_allclose(table[["conf_low", "conf_high"]], np.asarray(res.conf_int(0.1)).reshape(-1, 2), rtol=1e-12)


def test_ran_pars_are_varcorr(res):
    own = res.varcorr(conf_int=True, alpha=0.2)
    table = smm.tidy(res, effects="ran_pars", conf_int=True, conf_level=0.8)
    assert table["group"].tolist() == own["grp"].tolist()
    assert_array_equal(table["estimate"], own["sdcor"])
    assert_array_equal(table["std_error"], own["sdcor_se"])
    assert_allclose(table[["conf_low", "conf_high"]], own[["sdcor_lower", "sdcor_upper"]], rtol=1e-12)
    for term, (first, second) in zip(table["term"], own[["var1", "var2"]].itertuples(index=False), strict=True):
        assert term == ("sd__Observation" if first is None else f"{'cor' if second else 'sd'}__{first}" + (
            f".{second}" if second else ""
        ))  # fmt: skip
    without = smm.tidy(res, "ran_pars")
    assert without.columns.tolist() == ["effect", "group", "term", "estimate", "std_error"]
    pd.testing.assert_frame_equal(without, table[without.columns])


def test_ran_vals_and_ran_coefs_are_ranef_and_group_coef(res):
    effects, errors = res.ranef(conditional_se=True)
    for name, own in (("ran_vals", effects), ("ran_coefs", res.group_coef())):
        frames = own if isinstance(own, dict) else {res.model.group_names[0]: own}
        table = smm.tidy(res, name, conf_int=True)
        assert table.columns.tolist() == [
            "effect", "group", "level", "term", "estimate", "std_error", "conf_low", "conf_high",
        ]  # fmt: skip
        assert len(table) == sum(frame.size for frame in frames.values())
        for group, frame in frames.items():
            wide = table[table["group"] == group].pivot(index="level", columns="term", values="estimate")
            assert_array_equal(wide.loc[list(frame.index), list(frame.columns)], frame)
        assert_allclose(table["conf_high"] - table["estimate"], 1.959963984540054 * table["std_error"], rtol=1e-9)
    own = errors if isinstance(errors, dict) else {res.model.group_names[0]: errors}
    table = smm.tidy(res, "ran_vals")
    for group, frame in own.items():
        wide = table[table["group"] == group].pivot(index="level", columns="term", values="std_error")
        assert_array_equal(wide.loc[list(frame.index), list(frame.columns)], frame)


def _dense(res):
    """Covariance of beta_hat and b_hat - b by Henderson's equations, every matrix in full."""
    x = res.model.design.exog
    blocks, precision = [x], []
    for term, known in zip(res.model.random, res.term_covariances, strict=True):
        m, q = term.n_levels, len(term.columns)
        z = np.zeros((len(x), m * q))
        for j in range(q):
            z[np.arange(len(x)), term.codes * q + j] = term.exog[:, j]
        blocks.append(z)
        precision.append(np.kron(np.eye(m), np.linalg.inv(known.cov)))
    w = np.hstack(blocks)
    weights = np.ones(len(x)) if res.model.var_weights is None else res.model.var_weights
    out, at = w.T @ (w * weights[:, None]) / res.scale, x.shape[1]
    for block in precision:
        here = slice(at, at + len(block))
        out[here, here] += block
        at += len(block)
    return np.linalg.inv(out)


@pytest.mark.parametrize("name", ["slope", "uncorrelated", "crossed", "nested", "var_weights", "components"])
def test_errors_of_coefficients_by_hendersons_equations(name):
    res = fitted(name)
    cov, p = _dense(res), res.model.k_fixed
    table = smm.tidy(res, "ran_coefs").set_index(["group", "term", "level"])["std_error"]
    start, seen = p, 0
    for term in res.model.random:
        q = len(term.columns)
        for j, column in enumerate(term.columns):
            for k, level in enumerate(term.levels):
                unit = np.zeros(len(cov))
                unit[start + k * q + j] = 1.0
                if column in res.model.exog_names:
                    unit[res.model.exog_names.index(column)] = 1.0
                assert_allclose(table[term.name or term.group, column, level], np.sqrt(unit @ cov @ unit), rtol=1e-6)
                seen += 1
        start += term.n_levels * q
    assert seen
    for column in set(res.model.exog_names) - {c for term in res.model.random for c in term.columns}:
        assert_allclose(table.xs(column, level="term"), res.bse[column], rtol=1e-6)


@pytest.mark.parametrize("name", ["trials", "negbin", "ordinal"])
def test_errors_of_coefficients_of_generalised_models_are_of_linear_predictors(name):
    """The intercept of a level is the linear predictor where all columns are zero; of ordinal models, b itself."""
    res = fitted(name)
    table = smm.tidy(res, "ran_coefs")
    own = table[table["term"] == "Intercept"]
    if name == "ordinal":
        expected = smm.tidy(res, "ran_vals")["std_error"].to_numpy()
    else:
        first = {"trials": {"period": 1, "size": 1}, "negbin": {"trt": "placebo"}}[name]
        group = res.model.group_names[0]
        new = pd.DataFrame({group: own["level"].tolist()}).assign(**first)
        rows = res.get_prediction(new, which="linear").summary_frame()
        if name == "trials":
            assert_allclose(own["estimate"], rows["mean"], rtol=1e-9)
        expected = rows["mean_se"].to_numpy()
    assert_allclose(own["std_error"], expected, rtol=1e-6)


def test_degrees_of_freedom_and_robust_covariances_show():
    base = fitted("slope")
    for other in (base.with_df("satterthwaite"), base.derived(cov=4 * np.asarray(base.cov_params()), cov_type="x")):
        table = smm.tidy(other, conf_int=True)
        assert_array_equal(table["df"], other.df_coef)
        assert_array_equal(table["std_error"], other.bse)
        assert_array_equal(table["p_value"], other.pvalues)
        assert_array_equal(table[["conf_low", "conf_high"]], other.conf_int())
    assert_allclose(table["std_error"], 2 * base.bse, rtol=1e-12)
    assert_allclose(smm.tidy(base.with_df("satterthwaite"))["df"], 17, rtol=1e-6)
    assert smm.tidy(base)["df"].tolist() == [np.inf, np.inf]
    assert smm.tidy(base.with_df("residual"))["df"].tolist() == [178, 178]


def test_exponentiate():
    res = fitted("binary")
    ratios = res.odds_ratios(alpha=0.1)
    table = smm.tidy(res, ["fixed", "ran_pars"], conf_int=True, conf_level=0.9, exponentiate=True)
    fixed = table[table["effect"] == "fixed"]
    assert_allclose(fixed[["estimate", "conf_low", "conf_high", "p_value"]], ratios, rtol=1e-12)
    assert_allclose(fixed["std_error"], ratios["OR"] * res.bse_fe, rtol=1e-12)
    assert_array_equal(fixed["statistic"], res.tvalues)
    assert table["estimate"].iloc[-1] == res.varcorr()["sdcor"][0]
    with_psi = smm.tidy(fitted("negbin"), ["fixed", "response"], exponentiate=True)
    assert with_psi["estimate"].iloc[-1] == fitted("negbin").params["alpha"]


def test_several_effects_in_one_frame():
    res = fitted("slope")
    table = smm.tidy(res, ("ran_vals", "fixed", "ran_pars", "fixed"))
    assert table["effect"].drop_duplicates().tolist() == ["ran_vals", "fixed", "ran_pars"]
    assert table["level"].tolist()[:2] == [308, 309]
    assert table["level"].isna().sum() == 6
    assert all(value is None for value in table.loc[table["effect"] == "fixed", "group"])
    assert smm.tidy(res, "ran_vals")["level"].dtype == np.int64
    assert smm.tidy(fitted("no_fixed")).empty
    assert smm.tidy(res, "response").empty
    assert smm.tidy(res, ["response", "fixed"]).shape[0] == 2


def test_the_same_after_remove_data_and_pickling():
    for name in ("crossed", "trials"):
        res = pickle.loads(pickle.dumps(fitted(name)))
        kinds = ["fixed", "response", "ran_pars", "ran_vals"]
        tables = [smm.tidy(res, kind, conf_int=True) for kind in kinds] + [smm.glance(res)]
        coefficients = smm.tidy(res, "ran_coefs")
        res.remove_data()
        for kind, table in zip(kinds, tables, strict=False):
            if kind != "ran_pars":
                pd.testing.assert_frame_equal(smm.tidy(res, kind, conf_int=True), table)
        pd.testing.assert_frame_equal(smm.tidy(res, "ran_pars"), tables[2].drop(columns=["conf_low", "conf_high"]))
        pd.testing.assert_frame_equal(smm.glance(res), tables[-1])
        after = smm.tidy(res, "ran_coefs")
        assert_array_equal(after["estimate"], coefficients["estimate"])
        assert after["std_error"].isna().all()
        with pytest.raises(ValueError, match=r"augment\(\) needs the data"):
            smm.augment(res)


# -- glance -------------------------------------------------------------------------------------


def test_glance_is_as_in_lme4():
    """lme4 1.1: sigma, logLik, AIC, BIC, REMLcrit, df.residual of (Days | Subject), and the ML deviance."""
    row = smm.glance(fitted("slope")).iloc[0]
    names = ["nobs", "sigma", "logLik", "AIC", "BIC", "REMLcrit", "df_residual"]
    expected = [180, 25.59179572, -871.814136, 1755.628272, 1774.786013, 1743.628272, 174]
    assert_allclose(row[names].astype(float), expected, rtol=2e-6)
    assert np.isnan(row["deviance"])
    ml = smm.glance(smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP).fit(reml=False)).iloc[0]
    assert_allclose(ml["deviance"], 1751.939344, rtol=1e-9)
    assert np.isnan(ml["REMLcrit"])


def test_glance_is_the_results_own(res):
    frame = smm.glance(res)
    assert frame.shape == (1, 12)
    row = frame.iloc[0]
    assert (row["logLik"], row["AIC"], row["BIC"]) == (res.llf, res.aic, res.bic)
    assert row["df_residual"] == res.nobs - res.k_params
    assert frame["nobs"].dtype.kind == "i"
    assert row["converged"]
    assert row["singular"] == res.is_singular
    assert_allclose([row["r2_marginal"], row["r2_conditional"]], list(res.r_squared().values())[:2])
    variance = res.residual_variance
    assert np.isnan(row["sigma"]) if variance is None else row["sigma"] == np.sqrt(variance)
    assert np.isnan(row["deviance"]) == (res.method == "REML")


def test_glance_stacks():
    table = pd.concat([smm.glance(fitted(name)) for name in ("slope", "trials", "ordinal")], ignore_index=True)
    assert table["nobs"].tolist() == [180, 56, 72]
    assert table["converged"].tolist() == [True] * 3
    assert fitted("singular").is_singular
    assert smm.glance(fitted("singular"))["singular"].tolist() == [True]


# -- augment ------------------------------------------------------------------------------------


def test_augment_is_the_results_own(res):
    table = smm.augment(res)
    assert_array_equal(table[".fitted"], res.fittedvalues)
    assert_array_equal(table[".resid"], res.resid)
    which = {} if res.family is None else {"which": "mean"}
    assert_array_equal(table[".fixed"], res.predict(include_random=False, **which))
    if res.family is not None:
        assert_array_equal(table[".eta"], res.predict(which="linear"))
    assert (".eta" in table) == (res.family is not None)
    assert (".weights" in table) == (res.model.var_weights is not None)
    assert (".offset" in table) == (res.model.offset is not None)
    assert_allclose(table[".fitted"] + table[".resid"], res.model.endog, rtol=1e-12, atol=1e-12)
    again = smm.augment(res, table)  # its own columns are replaced
    pd.testing.assert_frame_equal(again, table)


def test_augment_ordinal_has_categories():
    res = fitted("ordinal")
    table = smm.augment(res)
    p = table[[f".prob_{c}" for c in res.categories]].to_numpy()
    assert_array_equal(p, res.predict())
    assert_allclose(p @ np.arange(5), table[".fitted"], rtol=1e-12)
    assert_array_equal(table[".class"], np.array(res.categories)[p.argmax(axis=1)])


def test_augment_keeps_rows_that_the_fit_left_out():
    data = SLEEP.assign(z=1).set_index(np.arange(500, 680))
    data.loc[[503, 510], "Reaction"] = np.nan
    data.loc[507, "Days"] = np.nan
    before = data.copy()
    res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data).fit()
    table = smm.augment(res)
    pd.testing.assert_frame_equal(table[data.columns], before)
    gone = [503, 507, 510]
    assert table.index[table[".fitted"].isna()].tolist() == gone
    assert_array_equal(table[".fitted"].drop(gone), res.fittedvalues)
    assert_allclose((table["Reaction"] - table[".resid"]).drop(gone), res.fittedvalues)
    shuffled = data.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(smm.augment(res, shuffled).sort_index(), table)
    with_more = pd.concat([data.assign(extra=2), data.assign(extra=3).set_index(np.arange(900, 1080))])
    assert smm.augment(res, with_more)[".fitted"].notna().sum() == 177


@pytest.mark.parametrize("where", ["Reaction", "Days", "Subject", "w", "o", "f"])
def test_augment_finds_rows_whose_labels_occur_twice(where):
    data = _weighted(SLEEP).assign(f=np.tile(list("abcde"), 36), Subject=SLEEP["Subject"].astype(str))
    data.index = np.tile(np.arange(90), 2)
    data[where] = data[where].astype(object if data[where].dtype.kind not in "f" else float)
    column = data.columns.get_loc(where)
    data.iloc[[3, 95], column] = np.nan if data[where].dtype.kind == "f" else None
    if where == "Days":
        data["Days"] = data["Days"].astype(float)
    res = smf.mixedlm("Reaction ~ Days + f + (Days | Subject)", data, var_weights="w", offset="o").fit()
    table = smm.augment(res)
    assert np.flatnonzero(table[".fitted"].isna()).tolist() == [3, 95]
    assert_array_equal(table[".fitted"].dropna(), res.fittedvalues)
    assert_array_equal(table[".weights"].dropna(), res.model.var_weights)


def test_augment_with_a_subset():
    res = smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP, subset=SLEEP["Days"] > 1).fit()
    assert len(smm.augment(res)) == 144
    table = smm.augment(res, SLEEP)
    assert len(table) == 180
    assert_array_equal(table[".fitted"].isna(), SLEEP["Days"] <= 1)
    assert_array_equal(table[".fitted"].dropna(), res.fittedvalues)


def test_augment_of_arrays():
    res = fitted("arrays")
    table = smm.augment(res)
    assert table.columns.tolist() == ["y", "const", "x1", ".fitted", ".resid", ".fixed"]
    assert_array_equal(table["y"], SLEEP["Reaction"])
    assert_array_equal(smm.augment(res, SLEEP)[".fitted"], table[".fitted"])


@needs_polars
def test_augment_of_polars():
    res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", pl.DataFrame(SLEEP.to_dict("list"))).fit()
    table = smm.augment(res)
    assert isinstance(table, pd.DataFrame)
    assert_allclose(table[".fitted"], fitted("slope").fittedvalues, rtol=1e-9)
    assert_array_equal(smm.augment(res, pl.DataFrame(SLEEP.to_dict("list")))[".fitted"], table[".fitted"])
    assert_allclose(smm.tidy(res)["estimate"], fitted("slope").params, rtol=1e-9)


def test_augment_of_transformed_responses():
    res = smf.mixedlm("np.log(Reaction) ~ Days + (1 | Subject)", SLEEP).fit()
    table = smm.augment(res)
    assert_allclose(table[".fitted"] + table[".resid"], np.log(SLEEP["Reaction"]))


def test_augment_of_refits():
    res = fitted("ml")
    other = res.refit(SLEEP["Reaction"].to_numpy()[::-1])
    with pytest.raises(ValueError, match=r"'Reaction' is not the response of this fit .* of refit\(\)"):
        smm.augment(other)
    table = smm.augment(other, SLEEP.assign(Reaction=SLEEP["Reaction"].to_numpy()[::-1]))
    assert_array_equal(table[".resid"], other.resid)


# -- what is refused ----------------------------------------------------------------------------

OTHER = SLEEP.assign(Reaction=SLEEP["Reaction"] + 1)
REFUSED = {
    "other result": (lambda r: smm.tidy(sm.ols("Reaction ~ Days", SLEEP).fit()), TypeError, r"tidy\(\) takes a fitted"),
    "no result": (lambda r: smm.glance("m"), TypeError, r"glance\(\) takes a fitted model of this package, not a str"),
    "model": (lambda r: smm.augment(r.model), TypeError, r"not a MixedLM\. Call its fit\(\) first"),
    "effect": (lambda r: smm.tidy(r, "ran_par"), ValueError, r"'ran_par' is not known. Did you mean 'ran_pars'"),
    "effects in a list": (lambda r: smm.tidy(r, ["fixed", "random"]), ValueError, "'random' is not known"),
    "no effects": (lambda r: smm.tidy(r, []), ValueError, r"effects=\[\]: give one of 'fixed'"),
    "effects no name": (lambda r: smm.tidy(r, 1), ValueError, "effects=1: give one of"),
    "effects no names": (lambda r: smm.tidy(r, [1]), ValueError, "1 is not known"),
    "level of 95": (lambda r: smm.tidy(r, conf_int=True, conf_level=95), ValueError, "conf_level=95 must lie between"),
    "level text": (lambda r: smm.tidy(r, conf_int=True, conf_level="high"), ValueError, "conf_level='high' must lie"),
    "conf_int": (lambda r: smm.tidy(r, conf_int="yes"), ValueError, "conf_int='yes' must be True or False"),
    "exponentiate": (lambda r: smm.tidy(r, exponentiate="OR"), ValueError, "exponentiate='OR' must be True or False"),
    "no ratios": (lambda r: smm.tidy(r, exponentiate=True), ValueError, "with the identity link exponentiated"),
    "fewer rows": (lambda r: smm.augment(r, SLEEP.head(20)), ValueError, "have 20 rows, and the fit has 180"),
    "labels": (lambda r: smm.augment(r, SLEEP.set_index(SLEEP.index + 1)), ValueError, "their labels are not those"),
    "response": (lambda r: smm.augment(r, OTHER), ValueError, r"'Reaction' is not the response of this fit \(row 0"),
    "no table": (lambda r: smm.augment(r, [1, 2]), TypeError, "data is of type list"),
    "doubled labels": (
        lambda r: smm.augment(r, pd.concat([SLEEP, SLEEP])), ValueError, "their labels are not those of the fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(what):
    call, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        call(fitted("slope"))


def test_ratios_are_refused_by_link():
    res = smf.meprobit("use ~ urban + (1 | district)", contraception.load_pandas().data).fit()
    with pytest.raises(ValueError, match="with the probit link"):
        smm.tidy(res, exponentiate=True)


def test_labels_that_arrays_do_not_have():
    y = SLEEP["Reaction"].to_numpy().copy()
    y[5] = np.nan
    res = smm.MixedLM(y, np.ones((180, 1)), groups=SLEEP["Subject"].to_numpy(), missing="drop").fit()
    assert len(smm.augment(res)) == 179
    with pytest.raises(ValueError, match="have 180 rows, and the fit has 179"):
        smm.augment(res, SLEEP)


# -- HTML, Markdown, LaTeX ----------------------------------------------------------------------


def _cells(line):
    return re.split(r"(?<!\\)\|", line.strip().strip("|"))


def test_markdown(res):
    text = res.to_markdown()
    tables = [part.split("\n") for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == len(res.summary().tables)
    for table, own in zip(tables, res.summary().tables, strict=True):
        assert len({len(_cells(line)) for line in table}) == 1
        assert set(re.sub(r"[\s|]", "", table[1])) <= set(":-")
        header = own[0].datatype == "header"
        assert len(table) == len(own) + (1 if header else 2)
    for value in (f"{res.llf:.3f}", f"{res.aic:.3f}"):
        assert value in text
    for line in res.summary().extra_txt.split("\n"):
        assert line.split(":")[0] in text.replace("\\", "")


def test_markdown_escapes():
    data = SLEEP.rename(columns={"Days": "_d_", "Reaction": "y_1"}).assign(s=np.arange(180) % 3)
    res = smf.mixedlm("y_1 ~ _d_ * I(s < 2) + (1|Subject)", data).fit()
    text = res.to_markdown(title="a|b")
    assert text.startswith("**a\\|b**\n\nFormula: y_1 ~ \\_d\\_ \\* I(s \\< 2) + (1\\|Subject)\n")
    assert "| \\_d\\_:I(s \\< 2)[T.True] |" in text
    assert "| y_1 " in text


def test_options_are_those_of_summary():
    res = fitted("binary")
    text = res.to_markdown(eform=True, alpha=0.2)
    assert "Odds Ratio" in text
    assert "[0.1 " in text
    assert res.to_latex(eform=True, title="T") == res.summary(eform=True, title="T").as_latex()
    assert fitted("slope").to_latex() == fitted("slope").summary().as_latex()
    with pytest.raises(TypeError, match="digits"):
        res.to_markdown(digits=3)


def test_html(res):
    assert res._repr_html_() == res.summary()._repr_html_()


def test_html_escapes():
    data = SLEEP.assign(c=np.where(np.arange(180) % 2, "<lod", "a & b"))
    page = smf.mixedlm("Reaction ~ Days + C(c, Treatment('a & b')) + (1 | Subject)", data).fit()._repr_html_()
    assert "[T.&lt;lod]" in page
    assert "<lod" not in page
    assert "<th>P&gt;|z|</th>" in page
    assert list(pd.Series(re.findall("<(caption|table)", page))).count("table") == 4


def test_html_after_remove_data():
    model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP)
    first, second = model.fit(), model.fit(reml=False)
    first.remove_data()
    assert first._repr_html_() == first.summary().as_html()
    with pytest.raises(ValueError, match="remove_data"):
        second.summary()
    page = second._repr_html_()
    assert "251.4051" in page
    assert "The data are gone" in page
    assert "log-likelihood" in page
    assert "251.4051" in pickle.loads(pickle.dumps(second))._repr_html_()


@pytest.mark.parametrize("function", ["mixedlm", "mepoisson"])
def test_html_of_many_rows_takes_no_time(function):
    rng = np.random.default_rng(0)
    g = rng.integers(0, 200, 150_000)
    data = pd.DataFrame({"y": rng.poisson(np.exp(0.3 * rng.normal(size=200))[g]), "g": g})
    res = getattr(smf, function)("y ~ 1 + (1 | g)", data).fit()
    start = time.perf_counter()
    page = res._repr_html_()
    assert time.perf_counter() - start < 0.2
    assert res._results._facts is None
    assert "150000 observations" in page
    assert "Intercept" in page
    res.summary()
    assert "ICC" in res._repr_html_()


def test_html_of_fits_that_did_not_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP).fit(maxiter=0)
    assert not res.converged
    assert "NOT CONVERGED" in res._repr_html_()
    assert "NOT CONVERGED" in res.to_markdown()
    assert not smm.glance(res)["converged"][0]
