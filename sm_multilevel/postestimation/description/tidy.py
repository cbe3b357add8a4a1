"""Results as tidy data frames: R's verbs tidy, glance and augment (Robinson 2014; Bolker and Robinson, broom.mixed)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sm_multilevel.checks import check_alpha, check_flag
from sm_multilevel.design.frame import as_frame, missing_mask
from sm_multilevel.postestimation.components.ranef import by_group
from sm_multilevel.postestimation.prediction.predict import prediction_variance
from sm_multilevel.wording import suggest

__all__ = ["augment", "glance", "tidy"]

_ORDER = (
    "effect", "group", "level", "term", "estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high",
)  # fmt: skip
_ABSENT = ("group", "level")  # of rows that belong to no group


def tidy(
    res: Any,
    effects: str | list[str] = "fixed",
    conf_int: bool = False,
    conf_level: float = 0.95,
    exponentiate: bool = False,
) -> pd.DataFrame:
    """Estimates as a data frame, one row each, as R's ``broom.mixed::tidy``.

    Parameters
    ----------
    res : result
        Of `fit`, or of `with_df` or another method that changes its standard errors.
    effects : {"fixed", "response", "ran_pars", "ran_vals", "ran_coefs"} or list of them
        ``"fixed"``: coefficients. ``"response"``: the response's own parameters (alpha,
        dispersion, cut-points). ``"ran_pars"``: standard deviations and correlations of the
        random effects, and the residual standard deviation. ``"ran_vals"``: predicted random
        effects. ``"ran_coefs"``: coefficients of each level, fixed plus random.
    conf_int : bool
        Add intervals.
    conf_level : float
        Their level.
    exponentiate : bool
        Coefficients (``"fixed"`` only) as ratios, with log and logit links.

    Returns
    -------
    DataFrame
        Of the columns below those that what is asked for has, in this order.

        ========= =========== ==========================================================
        here      broom.mixed
        ========= =========== ==========================================================
        effect    effect      as in `effects`
        group     group       grouping factor, as in ``varcorr()``; None for fixed effects
        level     level       its level
        term      term        see below
        estimate  estimate
        std_error std.error
        statistic statistic   estimate / std_error
        df        df          degrees of freedom, infinite for the normal distribution
        p_value   p.value
        conf_low  conf.low
        conf_high conf.high
        ========= =========== ==========================================================

        Terms of ``"ran_pars"`` are ``sd__Intercept``, ``cor__Intercept.x`` and
        ``sd__Observation`` (group ``Residual``); in R ``sd__(Intercept)``. Whether a level has
        a row, and a parameter a standard error, is as in the result's own methods.

    Raises
    ------
    TypeError
        If `res` is no result of this package.
    ValueError
        For an unknown effect; a level that is not between 0 and 1; `exponentiate` with a link
        that gives no ratios.

    Notes
    -----
    Rows of ``"fixed"`` are `params`, `bse`, `tvalues`, `df_coef`, `pvalues` and ``conf_int()`` of
    the result. ``"ran_pars"`` are ``varcorr(conf_int=True)``. Standard errors of ``"ran_vals"``
    and ``"ran_coefs"`` include the uncertainty of the fixed effects, are those of the model, whatever
    the covariance of `params` is, and their intervals are normal; broom.mixed's are given the fixed
    effects (``res.ranef(conditional_se=True, given_beta=True)``), and it has none for coefficients.
    Those of coefficients are NaN after ``remove_data()``.

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()
    >>> smm.tidy(res, conf_int=True)[["term", "estimate", "std_error", "conf_low", "conf_high"]].round(2)
            term  estimate  std_error  conf_low  conf_high
    0  Intercept    251.41       6.82    238.03     264.78
    1       Days     10.47       1.55      7.44      13.50
    >>> smm.tidy(res, effects="ran_pars").round(1)
         effect     group                 term  estimate  std_error
    0  ran_pars   Subject        sd__Intercept      24.7        5.8
    1  ran_pars   Subject             sd__Days       5.9        1.2
    2  ran_pars   Subject  cor__Intercept.Days       0.1        0.3
    3  ran_pars  Residual      sd__Observation      25.6        1.5
    """
    result = _inner(res, "tidy")
    wanted = _check_effects(effects)
    if check_flag("exponentiate", exponentiate):
        _check_ratios(result)
    alpha = 1.0 - check_alpha(conf_level, "conf_level", 0.95) if check_flag("conf_int", conf_int) else None
    pieces = [_EFFECTS[name](result, alpha, exponentiate).assign(effect=name) for name in wanted]
    out = pd.concat([piece for piece in pieces if len(piece)] or pieces[:1], ignore_index=True)
    for name in _ABSENT:
        if name in out:
            values = out[name].astype(object)
            out[name] = values.where(values.notna(), None) if values.isna().any() else values.infer_objects()
    return out[[name for name in _ORDER if name in out]]


def glance(res: Any) -> pd.DataFrame:
    """A fit in one row, as R's ``broom.mixed::glance``; rows of several fits can be stacked.

    Parameters
    ----------
    res : result

    Returns
    -------
    DataFrame
        ``nobs`` rows, or the sum of freq_weights; ``sigma``, the residual standard deviation;
        ``logLik``, restricted under REML; ``AIC, BIC``; ``deviance``, -2 log-likelihood of an ML fit;
        ``REMLcrit``, the same of a REML fit; ``df_residual``, `nobs` less the number of all parameters,
        variances included, as lme4 counts them (`df_resid` is less the fixed effects only, as in
        statsmodels); ``converged, singular``; ``r2_marginal, r2_conditional``. What a model does
        not have is NaN: `sigma` without a residual variance, R-squared with a link that has no
        residual variance, or after ``remove_data()`` where it was not computed before.

    Raises
    ------
    TypeError
        If `res` is no result of this package.

    Notes
    -----
    In R `deviance` of a ``glmer`` fit is the sum of squared deviance residuals at the predicted random
    effects, not -2 log-likelihood, and `sigma` is 1 there. R-squared is ``r_squared()``.

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()
    >>> smm.glance(res)[["nobs", "sigma", "logLik", "AIC", "BIC", "REMLcrit", "df_residual"]].round(2)
       nobs  sigma  logLik      AIC      BIC  REMLcrit  df_residual
    0   180  25.59 -871.81  1755.63  1774.79   1743.63          174
    """
    result = _inner(res, "glance")
    variance = result.residual_variance
    restricted = result.method == "REML"
    try:
        explained = result.r_squared()
    except ValueError:
        explained = {}
    return pd.DataFrame(
        {
            "nobs": [round(result.nobs)],
            "sigma": [np.nan if variance is None else float(np.sqrt(variance))],
            "logLik": [float(result.llf)],
            "AIC": [float(result.aic)],
            "BIC": [float(result.bic)],
            "deviance": [np.nan if restricted else float(result.deviance)],
            "REMLcrit": [float(result.deviance) if restricted else np.nan],
            "df_residual": [round(result.nobs) - result.k_params],
            "converged": [bool(result.converged)],
            "singular": [bool(result.is_singular)],
            "r2_marginal": [explained.get("marginal", np.nan)],
            "r2_conditional": [explained.get("conditional", np.nan)],
        }
    )


def augment(res: Any, data: Any = None) -> pd.DataFrame:
    """The data of a fit with fitted values and residuals, as R's ``broom.mixed::augment``.

    Parameters
    ----------
    res : result
    data : DataFrame, polars.DataFrame or dict, optional
        The rows of the fit, with whatever columns; default the data of the formula, or endog and exog
        of a model from arrays. Rows are found by their labels; of a model from arrays without labels
        they are taken in their order. For other rows there are ``predict()`` and ``get_prediction()``.

    Returns
    -------
    DataFrame
        The rows and labels of `data`; NaN in rows that the fit left out. Columns of these names are
        replaced, others are added:

        * ``.fitted``: `fittedvalues`, the conditional mean, random effects included. In R that of a
          ``glmer`` fit is on the scale of the link, and this is ``.mu``.
        * ``.resid``: `resid`, the response minus that.
        * ``.fixed``: the mean at a random effect of zero.
        * ``.eta``: of generalised models, the linear predictor with random effects and offset.
        * ``.offset``: where there is one; of an exposure its logarithm.
        * ``.weights``: precision weights, where there are any.
        * ``.class`` and ``.prob_<category>``: of ordinal models the most probable category and the
          probability of each, random effects included. ``.fitted``, ``.resid`` and ``.fixed`` are of the
          category's number, 0 .. K-1.

        A binomial response with trials is a proportion in ``.fitted`` and ``.resid``.

    Raises
    ------
    TypeError
        If `res` is no result of this package, or `data` no table.
    ValueError
        If the data are gone; if `data` are not the rows of the fit: other labels, another number of
        rows, or another response.

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()
    >>> smm.augment(res)[["Reaction", "Days", ".fitted", ".resid", ".fixed"]].head(2).round(2)
       Reaction  Days  .fitted  .resid  .fixed
    0    249.56     0   253.66   -4.10  251.41
    1    258.70     1   273.33  -14.63  261.87
    """
    result = _inner(res, "augment")
    model = result.model
    model.require_data("augment()")
    frame = _own_rows(model) if data is None else as_frame(data)
    where = _rows_in(frame, model)
    _check_same_response(frame, where, model)
    out = frame.copy()
    for name, values in _row_values(result).items():
        out[name] = _spread(np.asarray(values), where, len(frame))
    return out


# -- what is asked for ------------------------------------------------------------------------


def _inner(res, what):
    inner = getattr(res, "_results", res)
    if hasattr(inner, "record") and hasattr(inner, "theta"):
        return inner
    hint = " Call its fit() first." if hasattr(res, "fit") else ""
    raise TypeError(f"{what}() takes a fitted model of this package, not a {type(res).__name__}.{hint}")


def _check_effects(effects) -> list[str]:
    names = [effects] if isinstance(effects, str) else effects
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError(f"effects={effects!r}: give one of {_known()}, or a list of them.")
    for name in names:
        if not isinstance(name, str) or name not in _EFFECTS:
            hint = suggest(name, _EFFECTS) if isinstance(name, str) else ""
            raise ValueError(f"effects={effects!r}: {name!r} is not known.{hint} Choose of {_known()}.")
    return list(dict.fromkeys(names))


def _known():
    return ", ".join(map(repr, _EFFECTS))


def _check_ratios(result) -> None:
    family = result.family
    if family is None or not (family.log_link or family.logit_link):
        link = "identity" if family is None else family.link_name
        raise ValueError(
            f"exponentiate=True needs a log or a logit link: with the {link} link exponentiated coefficients are no "
            "ratios."
        )


# -- estimates ----------------------------------------------------------------------------------


def _params(result, alpha) -> pd.DataFrame:
    out = pd.DataFrame(
        {
            "term": list(result.model.data.param_names),
            "estimate": np.asarray(result.params, dtype=float),
            "std_error": np.asarray(result.bse, dtype=float),
            "statistic": np.asarray(result.tvalues, dtype=float),
            "df": np.asarray(result.df_coef, dtype=float),
            "p_value": np.asarray(result.pvalues, dtype=float),
        }
    )
    if alpha is not None:
        out["conf_low"], out["conf_high"] = np.asarray(result.conf_int(alpha), dtype=float).reshape(-1, 2).T
    return out


def _fixed(result, alpha, exponentiate) -> pd.DataFrame:
    out = _params(result, alpha).iloc[: result.model.k_fixed].copy()
    if exponentiate:
        with np.errstate(over="ignore"):
            out["estimate"] = np.exp(out["estimate"])
            out["std_error"] = out["std_error"] * out["estimate"]
            for name in ("conf_low", "conf_high"):
                if name in out:
                    out[name] = np.exp(out[name])
    return out


def _response(result, alpha, _) -> pd.DataFrame:
    # That a dispersion, or a cut-point, is zero is no hypothesis: as in the summary.
    return _params(result, alpha).iloc[result.model.k_fixed :].assign(statistic=np.nan, p_value=np.nan)


def _ran_pars(result, alpha, _) -> pd.DataFrame:
    table = result.varcorr() if alpha is None else result.varcorr(conf_int=True, alpha=alpha)
    terms = [
        "sd__Observation" if first is None else f"sd__{first}" if second is None else f"cor__{first}.{second}"
        for first, second in zip(table["var1"], table["var2"], strict=True)
    ]
    error = result.component_table().sdcor_se if alpha is None else table["sdcor_se"]
    out = pd.DataFrame({"group": table["grp"], "term": terms, "estimate": table["sdcor"], "std_error": error})
    if alpha is not None:
        out["conf_low"], out["conf_high"] = table["sdcor_lower"], table["sdcor_upper"]
    return out


def _ran_vals(result, alpha, _) -> pd.DataFrame:
    effects, errors = (_by_name(result, frames) for frames in result.ranef(conditional_se=True))
    return _stacked({name: (frame, errors[name].to_numpy()) for name, frame in effects.items()}, alpha)


def _ran_coefs(result, alpha, _) -> pd.DataFrame:
    frames = _by_name(result, result.group_coef())
    return _stacked({name: (frame, _coef_errors(result, name, frame.columns)) for name, frame in frames.items()}, alpha)


_EFFECTS = {
    "fixed": _fixed,
    "response": _response,
    "ran_pars": _ran_pars,
    "ran_vals": _ran_vals,
    "ran_coefs": _ran_coefs,
}


def _by_name(result, frames) -> dict[str, pd.DataFrame]:
    """Frames by grouping factor, where a single one comes without its name."""
    return frames if isinstance(frames, dict) else {result.model.group_names[0]: frames}


def _stacked(frames, alpha) -> pd.DataFrame:
    """Tables of levels by columns as one long one, a column after the other."""
    pieces = []
    for name, (frame, errors) in frames.items():
        m, q = frame.shape
        piece = pd.DataFrame(
            {
                "group": np.repeat(np.array([name], dtype=object), m * q),
                "level": np.tile(np.asarray(frame.index, dtype=object), q),
                "term": np.repeat(np.asarray(frame.columns, dtype=object), m),
                "estimate": frame.to_numpy(dtype=float).ravel(order="F"),
                "std_error": np.asarray(errors, dtype=float).ravel(order="F"),
            }
        )
        pieces.append(piece)
    out = pd.concat(pieces, ignore_index=True)
    if alpha is not None:
        half = stats.norm.ppf(1.0 - alpha / 2.0) * out["std_error"]
        out["conf_low"], out["conf_high"] = out["estimate"] - half, out["estimate"] + half
    return out


def _coef_errors(result, name, columns) -> np.ndarray:
    """Standard errors of each level's coefficients: of beta and the prediction of b jointly; shape (m, columns)."""
    model, terms = result.model, result.term_solutions
    members = by_group(terms)[name]
    m, width, names = len(terms[members[0]].levels), len(columns), list(model.exog_names)
    if result._state is None:
        return np.full((m, width), np.nan)
    fixed = np.array([[float(column == other) for other in names] for column in columns]).reshape(width, len(names))
    home = {i for factor in model.effects.factors if set(factor.terms) & set(members) for i in factor.terms}
    level = np.tile(np.arange(m), width)  # a column after the other
    random = []
    for i, term in enumerate(terms):
        z = np.zeros((width, len(term.columns)))
        if i in members:
            z[:] = [[float(column == other) for other in term.columns] for column in columns]
        random.append((level if i in home else np.zeros_like(level), np.repeat(z, m, axis=0)))
    exog = np.repeat(fixed, m, axis=0)
    variance = prediction_variance(exog, random, terms, model.effects, result._state, np.asarray(result.cov_params()))
    lost = np.isnan(np.asarray(result.bse)[: len(names)])
    out = np.sqrt(variance).reshape(width, m).T
    out[:, (fixed[:, lost] != 0).any(axis=1)] = np.nan
    return out


# -- rows ---------------------------------------------------------------------------------------


def _row_values(result) -> dict[str, Any]:
    """What a fit says of each of its rows, by the name of the column."""
    model, family = result.model, result.family
    if family is None:
        fixed = result.predict(include_random=False)
    else:
        fixed = result.predict(include_random=False, which="mean")
    out = {".fitted": result.fittedvalues, ".resid": result.resid, ".fixed": fixed}
    if family is not None:
        out[".eta"] = result.predict(which="linear")
        if not family.has_intercept:
            probabilities = np.asarray(result.predict(which="prob"))
            out[".class"] = result.predict(which="class")
            out.update({f".prob_{c}": p for c, p in zip(result.categories, probabilities.T, strict=True)})
    if model.offset is not None:
        out[".offset"] = model.offset
    if model.var_weights is not None:
        out[".weights"] = model.var_weights
    return out


def _own_rows(model) -> pd.DataFrame:
    if model.source is not None:
        return model.source
    design = model.design
    out = pd.DataFrame(design.exog, columns=list(design.exog_names), index=design.index)
    if model.endog_names not in out:
        out.insert(0, model.endog_names, design.endog)
    return out


def _rows_in(frame, model) -> np.ndarray:
    """Where the rows of the fit are in a frame."""
    kept, n = model.design.index, len(model.design.endog)
    if len(frame) == n and (kept is None or frame.index.equals(kept)):
        return np.arange(n)
    if kept is not None and frame.index.is_unique:
        where = frame.index.get_indexer(kept)
        if n <= len(frame) and (where >= 0).all() and kept.is_unique:
            return where
    elif kept is not None and len(frame) > n:
        where = np.flatnonzero(_complete(frame, model))
        if frame.index[where].equals(kept):
            return where
    reason = "their labels are not those of the fit" if kept is not None and len(frame) >= n else f"the fit has {n}"
    raise ValueError(
        f"augment(): the data have {len(frame)} rows, and {reason}, so that its rows cannot be found among them. Give "
        "the data of the fit with their index; for other rows there is predict()."
    )


def _complete(frame, model) -> np.ndarray:
    """Which rows have all that the formula needs; for labels that occur more than once."""
    recipe, gone = model.recipe, np.zeros(len(frame), dtype=bool)
    if recipe is None:
        return gone
    weights = [model._settings.get(name) for name in ("var_weights", "freq_weights")]
    parts = [part.values(frame) for term, _ in recipe.random for part in term.parts]
    options = [e.values(frame) for e in (recipe.response, *recipe.offsets, recipe.exposure, recipe.n_trials) if e]
    columns = [frame[name] for name in (recipe.offset_name, *weights) if isinstance(name, str) and name in frame]
    for values in (*parts, *options, *columns, recipe.fixed.matrix(frame), *recipe.random_columns(frame)):
        gone |= missing_mask(values)
    return ~gone


def _check_same_response(frame, where, model) -> None:
    """Raise where a column with the name of the response has other numbers than the fit had."""
    name, design = model.endog_names, model.design
    coded = design.categories is not None or design.n_trials is not None
    if coded or name not in frame or not pd.api.types.is_numeric_dtype(frame[name]):
        return
    values = frame[name].to_numpy(dtype=float, na_value=np.nan)[where]
    other = np.flatnonzero(~np.isclose(values, design.endog, rtol=1e-9, atol=0.0))
    if len(other):
        row, value = frame.index[where[other[0]]], values[other[0]]
        raise ValueError(
            f"augment(): the column {name!r} is not the response of this fit (row {row!r} has {value:g}, the fit "
            f"{design.endog[other[0]]:g}). Give the data in the order and with the labels of the fit; of refit() those "
            "with its response."
        )


def _spread(values, where, n):
    """Values at their rows, missing elsewhere."""
    if len(where) == n and np.array_equal(where, np.arange(n)):
        return values
    kind = float if values.dtype.kind in "biuf" else object
    out = np.full(n, np.nan if kind is float else None, dtype=kind)
    out[where] = values
    return out
