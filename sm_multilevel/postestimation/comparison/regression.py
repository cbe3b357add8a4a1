"""The regression without random effects: the same response, weights and offset, in a mixed model's own likelihood.

All constants are included, a response's own parameters are estimated, and under REML the likelihood is restricted: it
is the mixed model's at Lambda = 0, whatever the integration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg

from sm_multilevel.estimation.minimize import newton
from sm_multilevel.families.response import Response
from sm_multilevel.objectives.crossprod import GaussianData
from sm_multilevel.objectives.point import Point
from sm_multilevel.objectives.rows import Rows

__all__ = ["Regression", "regression", "regression_deviance", "response_regression"]


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted regression.

    Attributes
    ----------
    model : MultilevelModel
        Whose rows and response it has.
    reml : bool
    change : ndarray, shape (p, r)
        Its columns: ``change`` times those of the model, standardised.
    beta : ndarray, shape (p,)
        Coefficients of the model's standardised columns.
    psi : ndarray
        Internal.
    deviance : float
        -2 log-likelihood; NaN where Newton's method did not converge.
    """

    model: Any
    reml: bool
    change: np.ndarray
    beta: np.ndarray
    psi: np.ndarray
    deviance: float

    @property
    def llf(self) -> float:
        return -0.5 * self.deviance

    @property
    def k_params(self) -> int:
        """Number of coefficients, with the residual variance or the response's own parameters."""
        return self.change.shape[1] + (1 if getattr(self.model, "family", None) is None else len(self.psi))

    def linear(self) -> np.ndarray:
        """Linear predictor of each row, offset included."""
        model = self.model
        if getattr(model, "family", None) is None:
            eta = model.design.exog @ model.cross_products().scaling.beta(self.beta)
            return eta if model.offset is None else eta + model.offset
        bound = model.bound()
        eta = bound.rows.fixed(self.beta)
        if bound.order is None:
            return eta
        out = np.empty_like(eta)
        out[bound.order] = eta
        return out

    def simulate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Responses drawn from the regression, shape (n, rows)."""
        model, eta = self.model, self.linear()
        if getattr(model, "family", None) is not None:
            data, psi = model.design.response_data(), model.family.natural(self.psi)
            return np.stack([model.family.simulate(data, eta, psi, rng) for _ in range(n)])
        data = model.cross_products()
        df = data.nobs - self.change.shape[1] if self.reml else data.nobs
        rss = _rss(data, self.change)[0]
        weights = 1.0 if model.var_weights is None else model.var_weights
        return eta + np.sqrt(rss / df / weights) * rng.standard_normal((n, len(eta)))

    def deviances(self, responses: np.ndarray) -> np.ndarray:
        """Its deviance for other responses, shape (B,); NaN where it has no maximum."""
        model = self.model
        if getattr(model, "family", None) is None:
            return self._linear_deviances(responses)
        bound = model.bound()
        rows = _reduced(bound.rows, self.change)
        first = np.linalg.lstsq(self.change, self.beta, rcond=None)[0]
        out = np.empty(len(responses))
        for b, y in enumerate(responses):
            try:
                response = model.family.bind(replace(model.design.response_data(), endog=y))
                response = response if bound.order is None else response.take(bound.order)
                out[b] = response_regression(rows, response, [first, np.zeros_like(first)])[0]
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):  # a response that has no fit
                out[b] = np.nan
        return out

    def _linear_deviances(self, responses):
        model, data = self.model, self.model.cross_products()
        x = model.design.exog @ data.scaling.map @ self.change
        y = responses if model.offset is None else responses - model.offset
        weights = [w for w in (model.var_weights, model.freq_weights) if w is not None]
        root = np.sqrt(np.prod(weights, axis=0)) if weights else np.ones(len(x))
        q = np.linalg.qr(x * root[:, None])[0]
        y = y * root
        rss = ((y - (y @ q) @ q.T) ** 2).sum(axis=1)
        return _gaussian(data, self.change, rss, self.reml)


def regression(result: Any, reml: bool = False, exog: np.ndarray | None = None) -> Regression:
    """Fit the regression without random effects.

    Parameters
    ----------
    result : MultilevelResults
    reml : bool
        Restricted likelihood, of a linear model.
    exog : ndarray, shape (n, r), optional
        Its columns, in the span of the model's; default these. Not under REML.

    Returns
    -------
    Regression
    """
    model = result.model
    linear = result.family is None
    scale = model.cross_products().scaling.map if linear else model.bound().change
    p = scale.shape[0]
    change = np.eye(p)
    if exog is not None and p:
        inside = np.linalg.lstsq(model.design.exog @ scale, exog, rcond=None)[0]
        # Orthonormal, so that no column is much longer than another; columns that others contain add nothing.
        left, sizes, _ = np.linalg.svd(inside, full_matrices=False)
        change = left[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))]
    if linear:
        data = model.cross_products()
        rss, beta = _rss(data, change)
        deviance = float(_gaussian(data, change, np.array([rss]), reml)[0])
        return Regression(model, reml, change, beta, np.empty(0), deviance)
    bound = model.bound()
    starts = (change.T @ beta for beta in _starts(result, p))
    deviance, beta, psi = response_regression(_reduced(bound.rows, change), bound.response, starts)
    return Regression(model, False, change, change @ beta, psi, deviance)


def _starts(result, p) -> Iterator[np.ndarray]:
    """The mixed model's beta, and where its own fit starts."""
    yield result.z_standard[:p]
    yield result.model.objective().start()[:p]


def _reduced(rows: Rows, change: np.ndarray) -> Rows:
    return replace(rows, xt=change.T @ rows.xt)


def _rss(data: GaussianData, change: np.ndarray) -> tuple[float, np.ndarray]:
    """Residual sum of squares, and the coefficients of the model's standardised columns."""
    p = data.p
    xx, xy, yy = data.xxy[:p, :p], data.xxy[:p, p], float(data.xxy[p, p])
    # y is there less a first regression on all columns: what of it is outside of these ones is added again.
    first = np.linalg.solve(data.scaling.map, data.scaling.start) if p else data.scaling.start
    outside = first - change @ (change.T @ first)
    moved = xx @ outside
    yy += 2.0 * float(outside @ xy) + float(outside @ moved)
    if not change.shape[1]:
        return yy, -outside
    chol = linalg.cholesky(change.T @ xx @ change, lower=True)
    half = linalg.solve_triangular(chol, change.T @ (xy + moved), lower=True)
    inside = change @ linalg.solve_triangular(chol.T, half)
    return yy - float(half @ half), inside - outside


def _gaussian(data, change, rss, reml):
    """Deviances of linear regressions from their residual sums of squares."""
    p = change.shape[1]
    df, logdet = (data.nobs - p, 0.0) if reml else (data.nobs, 0.0)
    if reml and p:
        xx = change.T @ data.xxy[: data.p, : data.p] @ change
        logdet = float(np.linalg.slogdet(xx)[1]) - 2.0 * data.scaling.logdet
    return df * (1.0 + np.log(2.0 * np.pi * rss / df)) + logdet - data.log_weights


def regression_deviance(data: GaussianData, reml: bool) -> float:
    """-2 times the (restricted) log-likelihood of the linear regression without random effects.

    Parameters
    ----------
    data : GaussianData
        Cross-products of the mixed model.
    reml : bool

    Returns
    -------
    float
    """
    eye = np.eye(data.p)
    return float(_gaussian(data, eye, np.array([_rss(data, eye)[0]]), reml)[0])


def response_regression(rows: Rows, response: Response, starts) -> tuple[float, np.ndarray, np.ndarray]:
    """A generalised regression without random effects, at its maximum over beta and psi.

    Parameters
    ----------
    rows : Rows
    response : Response
        Of these rows.
    starts : iterable of ndarray, shape (p,)
        Values of beta, tried in turn until Newton's method converges from one.

    Returns
    -------
    deviance : float
        NaN if it converges from none.
    beta, psi : ndarray
    """
    p, x = rows.p, rows.xt

    def at(z: np.ndarray) -> Point:
        local = response.at(rows.fixed(z[:p]), z[p:])
        value = -2.0 * float(np.sum(local.logf))

        def gradient():
            return -2.0 * np.concatenate([x @ local.score, local.psi_score.sum(axis=1)])

        def curvature():
            cross = -x @ local.score_psi.T
            return 2.0 * np.block([[(x * local.info) @ x.T, cross], [cross.T, local.psi_info]])

        return Point(value if np.isfinite(value) else np.inf, gradient, curvature)

    nothing = np.full(p, np.nan), np.full(response.n_psi, np.nan)
    for beta in starts:
        # Never from the mixed model's psi: an alpha of zero is stationary whether or not it is optimal.
        found = newton(at, np.concatenate([beta, response.start_psi(rows.fixed(beta))]))
        if found.success:
            return found.value, found.theta[:p], found.theta[p:]
    return (np.nan, *nothing)
