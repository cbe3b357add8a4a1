"""What a summary says: records in, words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from sm_multilevel.postestimation.comparison.no_random import NoRandomTest
from sm_multilevel.postestimation.components.varcorr import component_rows, display_order
from sm_multilevel.postestimation.description.facts import Facts
from sm_multilevel.postestimation.description.intervals import wald_intervals
from sm_multilevel.summary.layout import NO_NUMBER, Pairs, Rows, count, number_column, short, shortened

__all__ = ["Ratios", "components", "groups", "head", "notes", "overview", "random_part", "ratios", "title"]

_WEIGHT_WORDS = {
    "var_weights": "Precision weights:",
    "freq_weights": "Frequency weights:",
    "exposure": "Exposure:",
    "offset": "Offset:",
}


@dataclass(frozen=True)
class Ratios:
    """What an exponentiated coefficient is, and what an exponentiated intercept is."""

    label: str
    baseline: str


def ratios(family: Any) -> Ratios:
    """Words for exponentiated coefficients.

    Raises
    ------
    ValueError
        Where the link gives them no meaning.
    """
    if family is not None and family.logit_link:
        return Ratios("Odds Ratio", "odds")
    if family is not None and family.log_link:
        counts = family.is_discrete and not family.has_trials
        return Ratios("IRR", "incidence rate") if counts else Ratios("exp(coef)", "mean")
    link = "identity" if family is None else family.link_name
    raise ValueError(
        f"eform=True needs a log or a logit link: with the {link} link exponentiated coefficients are no ratios."
    )


def title(result: Any) -> str:
    """The heading."""
    if result.family is None:
        return "Mixed Linear Model Regression Results"
    if not result.family.has_intercept:
        return "Mixed Ordinal Model Regression Results"
    return "Generalized Linear Mixed Model Regression Results"


def overview(result: Any, facts: Facts, yname: str | None) -> tuple[Pairs, Pairs]:
    """Labels and values of the left and of the right half."""
    restricted = "Restricted " if result.method == "REML" else ""
    response = short(str(result.model.endog_names if yname is None else yname))
    if facts.outcome is not None:
        response = f"P({response} = {short(facts.outcome)})"
    left = [
        ("Dep. Variable:", response),
        ("Model:", type(result.model).__name__),
        *_family(result),
        ("Method:", result.method),
        *_integration(result),
        ("Converged:", "Yes" if result.converged else "NO"),
        ("Singular fit:", "Yes" if result.is_singular else "No"),
    ]
    right = [
        ("No. Observations:", count(result.nobs)),
        (f"{restricted}Log-Likelihood:", f"{result.llf:.3f}"),
        ("AIC:", f"{result.aic:.3f}"),
        ("BIC:", f"{result.bic:.3f}"),
        *((f"R2 {kind}:", f"{facts.r_squared[kind]:.4f}") for kind in ("marginal", "conditional") if facts.r_squared),
    ]
    if facts.n_trials is not None:
        right.insert(1, ("No. Trials:", count(facts.n_trials)))
    covariance = result.cov_kwds.get("label", result.cov_type)
    (left if result.family is None else right).append(("Covariance Type:", covariance))
    right += _quadrature_error(result)
    more = [(_WEIGHT_WORDS[kind], short(name) or "yes") for kind, name in facts.weights]
    if result.reference is not None:
        more.append(("Degrees of freedom:", result.reference.label))
    elif result.use_t:
        more.append(("Df Residuals:", count(result.df_resid)))
    if facts.n_dropped:
        more.append(("Rows dropped (NaN):", str(facts.n_dropped)))
    for item in more:
        (left if len(left) <= len(right) else right).append(item)
    return left, right


def _family(result) -> Pairs:
    if result.family is None:
        return []
    return [("Family:", result.family.name), ("Link:", result.family.link_name)]


def _integration(result) -> Pairs:
    if result.family is None:
        return []
    if result.nAGQ <= 1:
        return [("Integration:", ("nAGQ=0 (approximate)", "Laplace")[result.nAGQ])]
    return [("Integration:", f"Adaptive Gauss-Hermite, {result.nAGQ} points")]


def _quadrature_error(result) -> Pairs:
    if result.family is None or result.quadrature_error is None:
        return []
    return [("Quadrature error:", f"{result.quadrature_error:.1g}")]


def head(result: Any) -> list[str]:
    """What must be read before the numbers, and the formula."""
    out: list[str] = []
    if not result.converged:
        out.append(f"NOT CONVERGED: {result.record.reason}. Do not use these estimates.")
    limit = "" if result.family is None else result.family.zero_limit
    for text in result.record.singular:
        at_limit = limit and text in [f"{name} is zero" for name in result.family.psi_names]
        out.append(f"Singular fit: {text}: {limit}." if at_limit else f"Singular fit: {text}.")
    if result.model.dropped_exog:
        dropped = ", ".join(result.model.dropped_exog)
        others = "" if result.family is None or result.family.has_intercept else "cut-points or "
        out.append(f"Dropped, because {others}the columns before contain them: {dropped}.")
    if result.model.full_formula:
        out.append(f"Formula: {' '.join(result.model.full_formula.split())}")
    return out


def groups(facts: Facts) -> Rows:
    """Sizes and intraclass correlations of the grouping factors."""
    header = ["Levels", "Rows: min", "mean", "max", "ICC"]
    rows = [
        [
            short(g.name), str(g.levels), count(g.smallest), f"{g.mean:.1f}", count(g.largest),
            NO_NUMBER if g.icc is None else f"{g.icc:.4f}",
        ]
        for g in facts.groups
    ]  # fmt: skip
    return header, rows


def random_part(result: Any, facts: Facts, alpha: float) -> Rows:
    """Variances with standard errors and intervals, standard deviations, and correlations as lme4 prints them."""
    terms = result.term_covariances
    rows = component_rows(terms, result.residual_variance)  # those of result.varcorr(), without its frame
    table, interval = facts.components, wald_intervals(facts.components, alpha)[0]
    at = 0
    lines: list[_Line] = []
    for i in display_order(terms):
        q = len(terms[i].columns)
        own = rows[at : at + q]
        covariances = list(takewhile(lambda row: row[2] is not None, rows[at + q :]))
        corr = np.zeros((q, q))
        if covariances:
            corr[np.triu_indices(q, 1)] = [row[4] for row in covariances]
        group, corr = own[0][0], corr.T
        if facts.term_parameters[i] <= 2 < q:  # one variance and at most one correlation for all
            lines.append(_Line(group, f"each of {q} columns", at, corr[1, :1] if covariances else []))
        else:
            for j, row in enumerate(own):
                lines.append(_Line(group if j == 0 else "", row[1], at + j, corr[j, :j] if covariances else []))
        at += q + len(covariances)
    lines += [_Line(row[0], "", at + j, []) for j, row in enumerate(rows[at:])]  # the residual
    names = shortened([line.name for line in lines])
    here = [line.row for line in lines]
    variances = [rows[k][3] for k in here]
    numbers = number_column([x for k in here for x in (rows[k][3], table.se[k], *interval[k])], variances)
    sd = number_column([rows[k][4] for k in here])
    width = max(len(line.before) for line in lines)
    ends = (f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]")
    header = ["", "Variance", "Std.Err.", *ends, "Std.Dev.", *["Corr", *[""] * width][:width]]
    out = []
    for k, line in enumerate(lines):
        corr_text = [f"{c:.3f}" if np.isfinite(c) else NO_NUMBER for c in line.before]
        blank = [""] * (width - len(line.before))
        out.append([short(line.group), names[k], *numbers[4 * k : 4 * k + 4], sd[k], *corr_text, *blank])
    return header, out


def components(result: Any) -> Rows:
    """Variances and covariances, standard deviations and correlations, without standard errors."""
    rows = component_rows(result.term_covariances, result.residual_variance)
    numbers = (number_column([row[k] for row in rows]) for k in (3, 4))
    texts = [[short(text or "") for text in row[:3]] for row in rows]
    return ["", "", "Variance", "Std.Dev./Corr"], [[*t, *n] for t, *n in zip(texts, *numbers, strict=True)]


@dataclass(frozen=True)
class _Line:
    """A line of the table of random effects: its row in `varcorr()`, and correlations with the columns before."""

    group: str
    name: str
    row: int
    before: Sequence[float] | np.ndarray


def notes(result: Any, facts: Facts, eform: bool) -> list[str]:
    """What stands below the tables."""
    out: list[str] = []
    if eform and result.model.data.const_idx is not None:
        name = result.model.exog_names[result.model.data.const_idx]
        out.append(f"{name}: baseline {ratios(result.family).baseline} (covariates and random effects at zero).")
    if eform:
        out.append("Ratios: standard errors by the delta method, intervals exponentiated.")
    if "note" in result.cov_kwds:
        out.append(result.cov_kwds["note"])
    if result.converged:
        out += _lr_test(facts.no_random, "linear regression" if result.family is None else "no random effects")
    table = facts.components
    if (table.is_variance & (table.se > table.values)).any():
        out.append(
            "A variance has a standard error larger than itself: its interval is rough. Use "
            "varcorr(conf_int=True, method='profile')."
        )
    if facts.slopes and facts.icc:
        out.append("ICC: for rows where the covariates of random slopes are zero.")
    if result.family is not None:
        out += [text for applies, text in _CAUTIONS if applies(result, facts)]
        out += result.fit_warnings
    return out


# Of generalised models.
_CAUTIONS: list[tuple[Callable[[Any, Facts], bool], str]] = [
    (
        lambda result, facts: result.nAGQ == 0,
        "nAGQ=0: fixed effects are taken at their mode, together with the random effects. They are biased, and their "
        "standard errors take the other parameters as known.",
    ),
    (
        lambda result, facts: "var_weights" in dict(facts.weights) and "dispersion" not in result.family.psi_names,
        "Precision weights without a dispersion multiply the log-likelihood: a pseudo-likelihood. Its standard errors, "
        "tests and information criteria depend on the size of the weights.",
    ),
]


def _lr_test(test: NoRandomTest, other: str) -> list[str]:
    if not np.isfinite(test.statistic):
        return []
    words, p = f"LR test vs. {other}:", f"{test.p_value:.4f}"
    if test.kind == "chibar2":
        mixed = "01" if test.df == 1 else f"0:{test.df}"
        return [f"{words} chibar2({mixed}) = {test.statistic:.2f}  Prob >= chibar2 = {p}"]
    return [
        f"{words} chi2({test.df}) = {test.statistic:.2f}  Prob > chi2 = {p}",
        "The LR test is conservative, since variances cannot be negative.",
    ]
