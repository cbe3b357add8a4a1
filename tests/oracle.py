"""A linear mixed model by brute force: every matrix dense, every formula as in the textbook.

Written from the definition y = o + X beta + Z b + e, b ~ N(0, sigma^2 G), e ~ N(0, sigma^2 / w), and
sharing no code with the package. V = Z G Z' + diag(1/w) is formed in full, in extended precision; rows
with a frequency weight are repeated. Covariances G are given as they are or by a factor Lambda; nothing
is inverted but V and X'V^-1 X, so zero variances need no care.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

LONG = np.longdouble


def cholesky(a: np.ndarray) -> np.ndarray:
    """Lower factor L with L L' = A; also of a complex symmetric A (no conjugate), for complex steps."""
    n = len(a)
    low = np.zeros_like(a)
    for j in range(n):
        column = a[j:, j] - low[j:, :j] @ low[j, :j]
        if not column[0].real > 0:
            raise np.linalg.LinAlgError("not positive definite")
        low[j:, j] = column / np.sqrt(column[0])
    return low


def forward(low: np.ndarray, b: np.ndarray) -> np.ndarray:
    """L^-1 B."""
    x = np.array(b, dtype=np.result_type(low, b))
    for i in range(len(low)):
        x[i] = (x[i] - low[i, :i] @ x[:i]) / low[i, i]
    return x


def lower_triangle(theta: Sequence, q: int) -> np.ndarray:
    """Lambda of an unstructured term from theta, column by column."""
    lam = np.zeros((q, q), dtype=np.asarray(theta).dtype)
    places = [(i, j) for j in range(q) for i in range(j, q)]
    for value, place in zip(theta, places, strict=True):
        lam[place] = value
    return lam


# What the package's documentation says of each structure, theta -> Lambda.
FACTORS: dict[str, Callable] = {
    "unstructured": lower_triangle,
    "diagonal": lambda theta, q: np.diag(np.asarray(theta)),
    "identity": lambda theta, q: theta[0] * np.eye(q),
    "exchangeable": lambda theta, q: (
        theta[0] * np.ones((q, q)) / q + (theta[1] * (np.eye(q) - np.ones((q, q)) / q) if q > 1 else 0)
    ),
}


@dataclass(frozen=True)
class Term:
    """One random term: the level of each row and the columns that vary by level."""

    codes: np.ndarray
    z: np.ndarray

    @property
    def levels(self) -> int:
        return int(self.codes.max()) + 1

    @property
    def q(self) -> int:
        return self.z.shape[1]

    def matrix(self) -> np.ndarray:
        """Dense Z, the columns of a level side by side."""
        out = np.zeros((len(self.codes), self.levels * self.q))
        for i, level in enumerate(self.codes):
            out[i, level * self.q : (level + 1) * self.q] = self.z[i]
        return out


class DenseMixedModel:
    """Data of the model; `at` solves it for given factors of the covariances."""

    def __init__(self, y, x, terms, *, offset=None, var_weights=None, freq_weights=None, reml=True, dtype=LONG):
        n = len(y)
        self._arguments = y, x, terms, offset, var_weights, freq_weights
        times = np.ones(n, int) if freq_weights is None else np.asarray(freq_weights).astype(int)
        keep = np.repeat(np.arange(n), times)
        self.y = (np.asarray(y, dtype) - (0 if offset is None else np.asarray(offset, dtype)))[keep]
        self.x = np.asarray(x, dtype).reshape(n, -1)[keep]
        self.w = (np.ones(n) if var_weights is None else np.asarray(var_weights)).astype(dtype)[keep]
        self.terms = [Term(np.asarray(t.codes)[keep], np.asarray(t.z)[keep]) for t in terms]
        self.z = np.hstack([t.matrix() for t in self.terms]).astype(dtype)
        self.reml, self.dtype = reml, dtype
        self.n, self.p = self.x.shape

    @cached_property
    def _double(self) -> DenseMixedModel:
        """The same model in double precision, many times faster and enough for complex steps."""
        y, x, terms, offset, var_weights, freq_weights = self._arguments
        return DenseMixedModel(
            y, x, terms, offset=offset, var_weights=var_weights, freq_weights=freq_weights, reml=self.reml, dtype=float
        )

    def at(self, lams: Sequence[np.ndarray]) -> DenseSolution:
        """Solve for relative covariances G = Lambda Lambda' of each term."""
        return DenseSolution(self, lams)

    def deviance(self, lams) -> float:
        return self.at(lams).deviance

    def gradient(self, function: Callable, theta) -> np.ndarray:
        """Derivative of the deviance in theta by complex steps: no subtraction, so no step to choose.

        ``function`` takes theta, possibly complex, to the factors of all terms.
        """
        moved = np.asarray(theta, float) + 1e-60j * np.eye(len(theta))
        return np.array([self._double.at(function(row)).deviance.imag / 1e-60 for row in moved])

    def minimise(self, function: Callable, k: int, starts=(1.0, 0.2, 3.0)) -> np.ndarray:
        """theta of the least deviance from several starts."""
        best = None
        for start in starts:
            found = optimize.minimize(
                lambda t: self._double.at(function(t)).deviance, np.full(k, start),
                jac=lambda t: self.gradient(function, t), method="BFGS", options={"gtol": 1e-9},
            )  # fmt: skip
            if best is None or found.fun < best.fun:
                best = found
        return best.x

    def loglike(self, beta, sigma2, lams) -> np.longdouble:
        """Log-likelihood at any beta and sigma^2; the restricted one does not depend on beta."""
        if self.reml:
            return self._restricted(sigma2, lams)
        solution = self.at(lams)
        r = forward(solution.low, self.y - self.x @ np.asarray(beta, LONG))
        logdet = 2 * np.log(np.diag(solution.low)).sum()
        return -0.5 * (self.n * np.log(2 * np.pi * LONG(sigma2)) + logdet + r @ r / sigma2)

    def _restricted(self, sigma2, lams):
        s = self.at(lams)
        df = self.n - self.p
        value = df * np.log(2 * np.pi * LONG(sigma2)) + 2 * np.log(np.diag(s.low)).sum()
        value += 2 * np.log(np.diag(s.low_x)).sum() + s.rss / sigma2
        return -0.5 * value


class DenseSolution:
    """Everything that follows from one G. Matrices over beta and all b stand in this order."""

    def __init__(self, model: DenseMixedModel, lams):
        self.model = model
        self.lams = [np.asarray(lam) for lam in lams]
        kind = np.result_type(model.dtype, *self.lams)
        blocks = [np.kron(np.eye(t.levels), lam @ lam.T) for t, lam in zip(model.terms, self.lams, strict=True)]
        self.g = np.zeros((model.z.shape[1],) * 2, dtype=kind)
        at = 0
        for block in blocks:
            self.g[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        self.v = model.z @ self.g @ model.z.T + np.diag(1 / model.w)
        self.low = cholesky(self.v)
        half = forward(self.low, np.column_stack([model.x, model.y]))
        hx, hy = half[:, : model.p], half[:, model.p]
        self.m = hx.T @ hx
        self.low_x = cholesky(self.m)
        c = forward(self.low_x, hx.T @ hy)
        self.rss = hy @ hy - c @ c
        df = model.n - model.p if model.reml else model.n
        self.sigma2 = self.rss / df
        self.deviance = 2 * np.log(np.diag(self.low)).sum() + df * (1 + np.log(2 * np.pi * self.sigma2))
        if model.reml:
            self.deviance = self.deviance + 2 * np.log(np.diag(self.low_x)).sum()
        self._c = c

    @cached_property
    def beta(self) -> np.ndarray:
        return forward(self.low_x[::-1, ::-1].T, self._c[::-1])[::-1] if self.model.p else self._c

    @cached_property
    def _m_inverse(self):
        half = forward(self.low_x, np.eye(self.model.p, dtype=self.m.dtype))
        return half.T @ half

    @property
    def cov_beta(self) -> np.ndarray:
        return (self.sigma2 * self._m_inverse).astype(float)

    @cached_property
    def _half_zg(self):
        return forward(self.low, self.model.z @ self.g)

    @cached_property
    def _half_x(self):
        return forward(self.low, self.model.x)

    @cached_property
    def b(self) -> np.ndarray:
        """Best linear unbiased predictions of b, all terms in one vector."""
        r = forward(self.low, self.model.y - self.model.x @ self.beta)
        return self._half_zg.T @ r

    @cached_property
    def cov_given_beta(self) -> np.ndarray:
        """Covariance of b - b_hat if beta were known."""
        return (self.sigma2 * (self.g - self._half_zg.T @ self._half_zg)).astype(float)

    @cached_property
    def prediction_error(self) -> np.ndarray:
        """Covariance of (beta_hat - beta, b_hat - b), Henderson (1975)."""
        cross = self._half_x.T @ self._half_zg  # X'V^-1 Z G
        minv = self._m_inverse
        top = np.hstack([minv, -minv @ cross])
        bottom = np.hstack([-cross.T @ minv, self.g - self._half_zg.T @ self._half_zg + cross.T @ minv @ cross])
        return (self.sigma2 * np.vstack([top, bottom])).astype(float)

    # -- by term ---------------------------------------------------------------------------

    def place(self, k: int) -> slice:
        """Where the effects of term k stand in b."""
        sizes = [t.levels * t.q for t in self.model.terms]
        return slice(sum(sizes[:k]), sum(sizes[: k + 1]))

    def effects(self, k: int) -> np.ndarray:
        """Predictions of term k, shape (levels, q)."""
        return self.b[self.place(k)].astype(float).reshape(-1, self.model.terms[k].q)

    def effect_covs(self, k: int, given_beta: bool) -> np.ndarray:
        """Covariance of each level's prediction error, shape (levels, q, q)."""
        at, q = self.place(k), self.model.terms[k].q
        p = self.model.p
        whole = self.cov_given_beta[at, at] if given_beta else self.prediction_error[p:, p:][at, at]
        return np.array([whole[i : i + q, i : i + q] for i in range(0, len(whole), q)])

    def covariance(self, k: int) -> np.ndarray:
        """sigma^2 G of term k."""
        lam = self.lams[k]
        return (self.sigma2 * lam @ lam.T).astype(float)

    # -- new rows ---------------------------------------------------------------------------

    def predict(self, x, random) -> tuple[np.ndarray, np.ndarray]:
        """Mean of new rows and the variance of its error; ``random`` has (codes, z) a term, -1 for a new level."""
        m, p = len(x), self.model.p
        design = np.zeros((m, p + self.model.z.shape[1]))
        design[:, :p] = x
        extra = np.zeros(m)
        for k, (codes, z) in enumerate(random):
            at, q = self.place(k).start + p, self.model.terms[k].q
            for i, level in enumerate(codes):
                if level < 0:
                    extra[i] += z[i] @ self.covariance(k) @ z[i]
                else:
                    design[i, at + level * q : at + (level + 1) * q] = z[i]
        whole = np.concatenate([self.beta, self.b]).astype(float)
        variance = np.einsum("ni,ij,nj->n", design, self.prediction_error, design)
        return design @ whole, variance + extra
