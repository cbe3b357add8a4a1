"""Degrees of freedom of t and F tests in linear mixed models: Satterthwaite's, Kenward and Roger's.

Both take the variance of a combination l'beta, v = l' C l, as an estimate whose own variance is g' A g, with
g_i = l' (dC / d gamma_i) l and A the covariance of the variance parameters gamma; then 2 v^2 / g' A g degrees of
freedom (Satterthwaite 1946). They differ in gamma and A, and Kenward and Roger's C is adjusted:

* Satterthwaite: gamma = (theta, log sigma), A = 2 H^-1 with H the observed Hessian of the deviance. At a variance of
  zero C does not depend on theta, so that such a component takes no part.
* Kenward-Roger: gamma = the elements of each term's covariance and sigma^2, A = 2 I^-1 with I the expected
  information of the restricted likelihood. A variance of zero takes part with the uncertainty that it has there.

References
----------
Satterthwaite (1946), Biometrics Bulletin 2, 110-114. Fai and Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378,
for F tests. Kenward and Roger (1997), Biometrics 53, 983-997, for adjusted covariance and F tests.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_flag, users_level
from sm_multilevel.linalg.layout import MemoryBudgetError
from sm_multilevel.objectives.gaussian import GaussianState
from sm_multilevel.postestimation.components.second_order import (
    Equations,
    cov_slopes,
    first_order,
    level_pairs,
    pair_elements,
    second_order,
    theta_directions,
    theta_hessian,
)
from sm_multilevel.postestimation.wald.joint import DERIVED, orthogonal, whitened
from sm_multilevel.postestimation.wald.reference import Reference
from sm_multilevel.random_effects import RandomEffects

__all__ = ["MODEL_BASED", "KenwardRoger", "Satterthwaite", "check_df", "df_option", "kenward_roger", "satterthwaite"]
__all__ += ["with_df"]

# What the covariance of the fixed effects is without any adjustment, in words.
MODEL_BASED = "sigma^2 (X'V^-1 X)^-1 at the estimated components."
_ADJUSTED = "Kenward and Roger (1997): model-based, adjusted for the uncertainty of the components."
# Numbers of Z'V^-1 Z that may be made, 1 GiB of them: all columns times those of the largest set of levels that meet
# each other, directly or through others. About 11,500 columns if all do.
PAIR_BUDGET = 2**27
# So near to m = 2 the factor is taken as its limit in balanced designs, 1, as pbkrtest does: 0 / 0 means nothing there.
_NEAR_TWO = 1e-2
_FLAT = 1e-9  # eigenvalues of a scaled Hessian that count as zero
_SINGULAR = 1e-12  # and of a scaled expected information
_NAMES = {
    "satterthwaite": "satterthwaite", "kenward-roger": "kenward-roger", "kenwardroger": "kenward-roger",
    "kr": "kenward-roger", "residual": "residual", "normal": "normal",
}  # fmt: skip
_UNKNOWN = "is not known. Choose 'satterthwaite', 'kenward-roger', 'residual' or 'normal'."


# -- the two references --------------------------------------------------------------------------------------


class _ByVariance(Reference):
    """Degrees of freedom from the variance of an estimated variance.

    Parameters
    ----------
    cov : ndarray, shape (p, p)
        Covariance C of `params`, not adjusted.
    slopes : ndarray, shape (k, p, p)
        Its derivatives in the variance parameters.
    cov_variances : ndarray, shape (k, k)
        Covariance A of their estimates.
    """

    def __init__(self, cov: np.ndarray, slopes: np.ndarray, cov_variances: np.ndarray):
        self.cov, self.slopes, self.cov_variances = cov, slopes, cov_variances

    def t_df(self, rows):
        rows = np.asarray(rows, dtype=float)
        variance = np.einsum("ki,ij,kj->k", rows, self.cov, rows)
        slopes = np.stack([np.einsum("ki,ki->k", rows @ slope, rows) for slope in self.slopes], axis=1)
        of_variance = np.einsum("kg,gh,kh->k", slopes, self.cov_variances, slopes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2.0 * variance**2 / of_variance


class Satterthwaite(_ByVariance):
    """Satterthwaite's degrees of freedom; joint tests as Fai and Cornelius (1996).

    Notes
    -----
    A joint test is taken apart into independent t tests along the eigenvectors of L C L', with their degrees of
    freedom nu_m; that of F are chosen so that its mean is right: 2 E / (E - q), E = sum nu_m / (nu_m - 2). The
    eigenvectors depend on how a hypothesis is written (as in lmerTest): coefficients in other units, or another
    coding of a factor, can change the degrees of freedom of a joint test a little. Those of t tests do not change.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> import numpy as np
    >>> res.with_df("satterthwaite").reference.t_df(np.eye(2)).round(2).tolist()
    [17.0, 17.0]
    """

    name = "satterthwaite"
    label = "Satterthwaite"

    def f_df(self, rows):
        rows = np.asarray(rows, dtype=float)
        nu = self.t_df(orthogonal(rows, self.cov))
        if len(nu) == 1:
            return 1.0, float(nu[0])
        if (nu <= 2.0).any():
            return 1.0, 2.0
        excess = float(np.sum(2.0 / (nu - 2.0)))  # E - q, which is zero for infinite nu
        with np.errstate(divide="ignore"):
            return 1.0, float(2.0 + np.divide(2.0 * len(nu), excess))


class KenwardRoger(_ByVariance):
    """Kenward and Roger's (1997) degrees of freedom, and their factor of F.

    Notes
    -----
    With Theta = L'(L C L')^-1 L and D_i = C P_i C, the derivative of C:
    A1 = sum A_ij tr(Theta D_i) tr(Theta D_j), A2 = sum A_ij tr(Theta D_i Theta D_j), and from these two the factor
    and the denominator degrees of freedom m that match mean and variance of F in their section 4. For a single
    constraint m = 2 / A2 and the factor is 1.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> import numpy as np
    >>> res.with_df("kenward-roger").reference.t_df(np.eye(2)).round(2).tolist()
    [17.0, 17.0]
    """

    name = "kenward-roger"
    label = "Kenward-Roger"

    def f_df(self, rows):
        rows = np.asarray(rows, dtype=float)
        rows = whitened(rows, self.cov, DERIVED) @ rows  # L C L' = I
        q = len(rows)
        if q == 1:
            return 1.0, float(self.t_df(rows)[0])
        moved = np.einsum("ai,gij,bj->gab", rows, self.slopes, rows)
        traces = np.trace(moved, axis1=1, axis2=2)
        a1 = float(traces @ self.cov_variances @ traces)
        a2 = float(np.einsum("gh,gab,hba->", self.cov_variances, moved, moved))
        return _scaled_f(q, a1, a2)


def _scaled_f(q: int, a1: float, a2: float) -> tuple[float, float]:
    """Factor and denominator degrees of freedom of an F statistic of q constraints (Kenward and Roger 1997, p. 987)."""
    if a2 <= 0.0:
        return 1.0, np.inf
    b = (a1 + 6.0 * a2) / (2.0 * q)
    g = ((q + 1.0) * a1 - (q + 4.0) * a2) / ((q + 2.0) * a2)
    below = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2.0 - g) / below
    # E = 1 / d, V = 2 (1 + c1 b) / (q (1 - c2 b)^2 (1 - c3 b)), rho = V / (2 E^2) = (1 + c1 b) r^2 / (q (1 - c3 b)).
    d, v = 1.0 - a2 / q, 1.0 - c2 * b
    # In balanced designs with 2 degrees of freedom both vanish, and so do both sides of the factor's m d / (m - 2).
    with np.errstate(divide="ignore", invalid="ignore"):
        r = 1.0 if max(abs(d), abs(v)) < 1e-10 else np.divide(d, v)
        top, bottom = (1.0 + c1 * b) * r**2, 1.0 - c3 * b
        m = float(4.0 + (q + 2.0) * np.divide(bottom, top - bottom))
        factor = 1.0 if abs(m - 2.0) < _NEAR_TWO else d if np.isinf(m) else m * d / (m - 2.0)
    if m > 0.0 and 0.5 < factor < 2.0:
        return float(factor), m
    exists = m > 0.0 and factor > 0.0
    warnings.warn(
        f"Kenward and Roger's approximation breaks down for a joint test of {q} constraints (denominator degrees of "
        f"freedom {m:.3g}, factor of F {factor:.3g}): there is too little information about the variances behind them. "
        f"{'Do not rely on the test' if exists else 'It is NaN'}; test fewer at a time, or use bootstrap().",
        RuntimeWarning,
        stacklevel=users_level(),
    )
    return (float(factor), m) if exists else (np.nan, np.nan)


# -- from a fit ------------------------------------------------------------------------------------------------


def satterthwaite(state: GaussianState, effects: RandomEffects, theta: np.ndarray) -> Satterthwaite:
    """Satterthwaite's degrees of freedom at an optimum.

    Parameters
    ----------
    state : GaussianState
        The mixed-model equations solved there.
    effects : RandomEffects
    theta : ndarray, shape (k,)
        In standardised columns.
    """
    pairs = level_pairs(Equations.of(state)) if pair_elements(effects.layout) <= PAIR_BUDGET else None
    hessian = theta_hessian(state, effects, theta, pairs)
    cov = state.cov_beta()
    slopes = cov_slopes(state, first_order(state, theta_directions(state, effects)))
    return Satterthwaite(cov, np.concatenate([slopes, 2.0 * cov[None]]), 2.0 * _pseudo_inverse(hessian))


def _pseudo_inverse(hessian):
    """Inverse of the Hessian outside its null space: what moves no likelihood moves no covariance of beta."""
    # Where a variance is zero and the deviance flat in it, the diagonal is rounding of either sign.
    diagonal = np.abs(np.diag(hessian))
    size = np.sqrt(np.maximum(diagonal, 1e-8 * diagonal.max()))
    values, vectors = np.linalg.eigh(hessian / np.outer(size, size))
    if values[0] < -1e-3:
        warnings.warn(
            "The deviance is not at a minimum in all variance parameters, so that degrees of freedom are those of the "
            "others. Look at result.record.",
            ConvergenceWarning,
            stacklevel=users_level(),
        )
    keep = values > _FLAT
    half = vectors[:, keep] / np.sqrt(values[keep]) / size[:, None]
    return half @ half.T


def kenward_roger(state: GaussianState, effects: RandomEffects, theta: np.ndarray) -> tuple[KenwardRoger, np.ndarray]:
    """Kenward and Roger's degrees of freedom, and their covariance of the fixed effects, shape (p, p).

    Parameters
    ----------
    state, effects, theta
        As in `satterthwaite`; the state of a restricted likelihood.

    Notes
    -----
    In units of sigma^2, in which V = sum g_i V_i + W^-1 with sigma^2 = 1: V is linear in its parameters, so that
    what belongs to the last one, W^-1 = V - sum g_i V_i, follows from the others.
    """
    p, directions, g = state.data.p, [], []
    for term, (f, start), part in zip(effects.terms, effects.home, effects.per_term(theta), strict=True):
        here = slice(start, start + term.q)
        lam = term.covariance.factor(part, term.q)
        for d in term.covariance.span(term.q):
            full = np.zeros_like(state.lams[f])
            full[here, here] = d
            directions.append((f, full))
            g.append(np.sum(d * (lam @ lam.T)))
    weights = np.array(g)
    parts = second_order(state, directions, level_pairs(Equations.of(state)))

    def with_residual(values, total):
        """Append what belongs to W^-1 along the first axis."""
        return np.concatenate([values, [total - np.tensordot(weights, values, axes=1)]])

    traces = with_residual(parts.traces, state.data.nobs)
    pair_traces = with_residual(parts.pair_traces, parts.traces).T
    pair_traces = with_residual(pair_traces, traces)
    first = with_residual(parts.first[:, :p, :p], state.xvx)
    second = with_residual(parts.second[:, :, :p, :p], parts.first[:, :p, :p]).swapaxes(0, 1)
    second = with_residual(second, first).swapaxes(0, 1)
    cov = state.inv_chol_x.T @ state.inv_chol_x
    inside = first @ cov
    info = pair_traces - 2.0 * np.einsum("ijab,ba->ij", second, cov) + np.einsum("iab,jba->ij", inside, inside)
    cov_variances = 2.0 * _inverse(0.5 * (info + info.T))
    excess = np.einsum("ij,ijab->ab", cov_variances, second - np.einsum("iab,jbc->ijac", inside, first))
    excess = 0.5 * (excess + excess.T)
    back = state.data.scaling.map
    adjusted = state.sigma2 * (back @ (cov + 2.0 * cov @ excess @ cov) @ back.T)
    slopes = cov_slopes(state, first)
    return KenwardRoger(state.cov_beta(), slopes, cov_variances), adjusted


def _inverse(info):
    size = np.sqrt(np.maximum(np.diag(info), 0.0))
    if not (np.isfinite(info).all() and (size > 0.0).all()):
        raise ValueError(_NO_INFORMATION)
    values, vectors = np.linalg.eigh(info / np.outer(size, size))
    if values[0] <= _SINGULAR * values[-1]:
        raise ValueError(_NO_INFORMATION)
    half = vectors / np.sqrt(values) / size[:, None]
    return half @ half.T


_NO_INFORMATION = (
    "df='kenward-roger' needs the expected information of all variances and covariances, and it is singular: the data "
    "cannot tell some of them apart. Simplify the random terms, or use df='satterthwaite'."
)


def with_df(result: Any, method: Any) -> Any:
    """The same fit with other degrees of freedom; see `InferenceMethods.with_df`."""
    if method is None:
        raise ValueError(f"df=None {_UNKNOWN}")
    linear, effects = result.residual_variance is not None, result.model.effects
    name, use_t = check_df(
        method, linear=linear, reml=getattr(result, "reml", False), cov_type=result.cov_type,
        layout=None if effects is None else effects.layout,
    )  # fmt: skip
    robust = result.cov_type != "nonrobust"
    plain = None if robust or not linear else np.asarray(result.normalized_cov_params) * result.scale
    words = None if plain is None else {"description": MODEL_BASED}
    if name is None:
        return result.derived(cov=plain, cov_kwds=words, use_t=use_t)
    if result._state is None:
        raise ValueError(
            f"df={name!r} needs the cross-products of the data, and remove_data() has dropped them. Call with_df() "
            "before remove_data(), or fit(df=...)."
        )
    fit = result._state, effects, result.record.theta_standard
    with one_blas_thread():
        if name == Satterthwaite.name:
            return result.derived(reference=satterthwaite(*fit), cov=plain, cov_kwds=words)
        reference, adjusted = kenward_roger(*fit)
    return result.derived(reference=reference, cov=adjusted, cov_kwds={"description": _ADJUSTED})


def df_option(reference: Reference | None) -> str | None:
    """What `fit(df=)` takes to have this reference again; None where it is not made by it."""
    return reference.name if isinstance(reference, _ByVariance) else None


# -- options -----------------------------------------------------------------------------------------------------


def check_df(df, use_t=None, *, linear=True, reml=True, cov_type="nonrobust", layout=None):
    """The options ``df`` and ``use_t`` of `fit`, before anything is computed.

    Parameters
    ----------
    df : str or None
    use_t : bool or None
    linear, reml : bool
        Of the model and of the fit.
    cov_type : str
    layout : Layout, optional
        Structure of the random effects.

    Returns
    -------
    str or None
        ``"satterthwaite"`` or ``"kenward-roger"``, where degrees of freedom have to be computed.
    bool or None
        `use_t`.

    Raises
    ------
    ValueError
        For an unknown name, and where the method does not exist.
    """
    use_t = None if use_t is None else check_flag("use_t", use_t)
    if df is None:
        return None, use_t
    name = _NAMES.get(df.strip().lower().replace("_", "-").replace(" ", "-")) if isinstance(df, str) else None
    if name is None:
        raise ValueError(f"df={df!r} {_UNKNOWN}")
    wanted = name != "normal"
    if use_t is not None and use_t != wanted:
        raise ValueError(f"df={df!r} and use_t={use_t} contradict each other. Leave use_t out.")
    if name in ("normal", "residual"):
        return None, wanted
    if not linear:
        raise ValueError(
            f"df={df!r} is for linear mixed models: tests and intervals of generalised and ordinal ones refer to "
            "the normal distribution. Use df='normal', or for small samples bootstrap() or profile()."
        )
    if cov_type != "nonrobust":
        raise ValueError(
            f"df={df!r} belongs to the model-based covariance of the fixed effects, not to cov_type={cov_type!r}. "
            "Leave one of them out."
        )
    if name == KenwardRoger.name:
        if not reml:
            raise ValueError(
                f"df={df!r} is defined for restricted maximum likelihood, and this is a fit by ML. Use reml=True, or "
                "df='satterthwaite'."
            )
        if layout is not None and pair_elements(layout) > PAIR_BUDGET:
            need, budget = (numbers * 8 / 2**30 for numbers in (pair_elements(layout), PAIR_BUDGET))
            raise MemoryBudgetError(
                f"df={df!r} needs Z'V^-1 Z of {layout.n_columns} random effects that depend on each other, {need:.3g} "
                f"GiB of numbers; the budget is {budget:.3g} GiB. Use df='satterthwaite', which takes differences of "
                "the gradient here, or df='normal': with so many levels they hardly differ."
            )
    return name, None
