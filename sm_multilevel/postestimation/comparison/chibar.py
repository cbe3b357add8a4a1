"""Chi-bar-square distributions: likelihood ratios where parameters may not be negative.

With Z ~ N(0, A^-1) and a closed convex cone C, the squared length (in the metric A) of Z's projection onto C is a
mixture of chi-squared distributions with 0 .. d degrees of freedom (Shapiro 1988, Int. Stat. Rev. 56, 49-62). Its
weights are here

* for one variance (1/2, 1/2), for two from their correlation (Self and Liang 1987, J. Am. Stat. Assoc. 82, 605-610,
  case 7), for three from orthant probabilities (Kudo 1963, Biometrika 50, 403-418);
* for the covariance matrix of two columns from the length of the curve in which its cone, and that of its polar,
  meets the sphere;
* for everything else by simulation: Z is projected, and the eigenvalues l_i of the projection's derivative say how
  much the draw adds to each weight, the coefficient of t^k in prod_i (1 - l_i + l_i t). At a flat face the l_i are 0
  or 1 and the draw counts for the face's dimension; at a curved one this is the expansion of Kuriki and Takemura
  (1997, Ann. Stat. 25, 2368-2387) of volumes in the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["ChiBarSquare", "chi_bar_square", "closed_weights", "has_closed_weights", "svec_basis"]

_CLOSED: tuple[list[int], ...] = (
    [],
    [1],
    [1, 1],
    [1, 1, 1],
    [2],
)  # orders of the matrices of cones whose weights need no simulation

_CURVE = 4096  # points on the boundary curve of a cone of 2 x 2 matrices; the integrands are periodic
_CHUNK = 20_000  # draws projected at once
_SETTLED, _STEPS = 1e-7, 5000  # of the projections
_BALANCE = 20  # steps towards a basis in which they are easy


@dataclass(frozen=True, eq=False)
class ChiBarSquare:
    """A mixture of chi-squared distributions.

    Attributes
    ----------
    df : tuple of int
        Degrees of freedom of the parts; 0 is a mass at zero.
    weights : tuple of float
        They sum to one.
    spread : ndarray, shape (k, k), or None
        Covariance of the weights, where they are simulated.
    draws : int
        Number of them; 0 where weights are exact.

    Examples
    --------
    >>> from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare
    >>> round(float(ChiBarSquare((0, 1), (0.5, 0.5)).sf(2.705543)), 4)
    0.05
    """

    df: tuple[int, ...]
    weights: tuple[float, ...]
    spread: np.ndarray | None = None
    draws: int = 0

    def _tails(self, x: float) -> np.ndarray:
        return np.array([float(x <= 0) if k == 0 else stats.chi2.sf(x, k) for k in self.df])

    def sf(self, x: float) -> float:
        """P(X >= x).

        Parameters
        ----------
        x : float

        Returns
        -------
        float

        Examples
        --------
        >>> from sm_multilevel.postestimation.comparison.chibar import chi_bar_square
        >>> round(chi_bar_square(None, [1]).sf(2.71), 3)
        0.05
        """
        return 1.0 if x <= 0 else float(self._tails(x) @ np.array(self.weights))

    def error(self, x: float) -> float:
        """Monte-Carlo standard error of ``sf(x)``; 0 where weights are exact.

        Parameters
        ----------
        x : float

        Returns
        -------
        float

        Examples
        --------
        >>> from sm_multilevel.postestimation.comparison.chibar import chi_bar_square
        >>> float(chi_bar_square(None, [1]).error(2.71))
        0.0
        """
        if self.spread is None or x <= 0:
            return 0.0
        tails = self._tails(x)
        return float(np.sqrt(max(tails @ self.spread @ tails, 0.0)))

    def __str__(self) -> str:
        if len(self.df) == 1:
            return f"chi2({self.df[0]})"
        parts = " + ".join(f"{w:.3f} chi2({k})" for k, w in zip(self.df, self.weights, strict=True))
        return f"{parts} (weights from {self.draws} draws)" if self.draws else parts


def chi_bar_square(cov: np.ndarray | None, sizes: Sequence[int], shift: int = 0, n: int = 10_000, seed=None):
    """Distribution of a likelihood ratio with `shift` free parameters and a cone.

    Parameters
    ----------
    cov : ndarray, shape (d, d), or None
        Covariance of Z, a multiple will do; None where d is 0 or 1. Positive semidefinite matrices stand in it by
        their elements in the basis `svec_basis`.
    sizes : sequence of int
        Orders of the matrices that the cone is made of, 1 for a variance; d = sum of k (k + 1) / 2.
    shift : int
        Free parameters beside it.
    n : int
        Draws, where weights are simulated.
    seed : int, optional

    Returns
    -------
    ChiBarSquare

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.postestimation.comparison.chibar import chi_bar_square
    >>> print(chi_bar_square(np.eye(2), [1, 1]))
    0.250 chi2(0) + 0.500 chi2(1) + 0.250 chi2(2)
    >>> print(chi_bar_square(np.eye(3), [2]))
    0.146 chi2(0) + 0.354 chi2(1) + 0.354 chi2(2) + 0.146 chi2(3)
    """
    d = sum(k * (k + 1) // 2 for k in sizes)
    weights = closed_weights(cov, sizes)
    spread = None
    if weights is None:
        draws = _simulated(np.asarray(cov), sizes, n, np.random.default_rng(seed))
        weights, spread = draws.mean(axis=0), np.cov(draws.T) / n
    return ChiBarSquare(
        tuple(range(shift, shift + d + 1)), tuple(np.asarray(weights).tolist()), spread, 0 if spread is None else n
    )


def has_closed_weights(sizes: Sequence[int]) -> bool:
    """Whether weights need no simulation; as in `chi_bar_square`."""
    return list(sizes) in _CLOSED


def closed_weights(cov: np.ndarray | None, sizes: Sequence[int]) -> np.ndarray | None:
    """Weights that need no simulation, or None; arguments as in `chi_bar_square`."""
    if not has_closed_weights(sizes):
        return None
    if len(sizes) == 0:
        return np.ones(1)
    if list(sizes) == [1]:
        return np.full(2, 0.5)
    if len(sizes) > 1:
        every, none = _orthant(np.asarray(cov)), _orthant(np.linalg.inv(np.asarray(cov)))
        return np.array([none, 0.5, every]) if len(sizes) == 2 else np.array([none, 0.5 - every, 0.5 - none, every])
    cone, polar = _curve_lengths(np.asarray(cov))
    return np.array([0.5 - cone, polar, cone, 0.5 - polar])


def _orthant(cov) -> float:
    """P(all of two or three normal variables are positive)."""
    sd = np.sqrt(np.diag(cov))
    angles = np.arcsin(np.clip(cov / np.outer(sd, sd), -1.0, 1.0))[np.triu_indices(len(cov), 1)]
    return float(0.25 + angles[0] / (2 * np.pi) if len(cov) == 2 else 0.125 + angles.sum() / (4 * np.pi))


def _curve_lengths(cov) -> tuple[float, float]:
    """Length, over 4 pi, of the curves in which the cone of 2 x 2 matrices and its polar meet the unit sphere.

    These are the weights of 2 and of 1 degrees of freedom; with the even and with the odd ones adding up to a half
    (Gauss and Bonnet) they give the others.
    """
    half = np.linalg.cholesky(np.linalg.inv(cov)).T
    t = 2.0 * np.pi * np.arange(_CURVE) / _CURVE  # the boundary is (cos s, sin s)(cos s, sin s)', with t = 2 s
    one = np.ones_like(t)
    curve = half @ np.stack([0.5 * (one + np.cos(t)), np.sin(t) / np.sqrt(2.0), 0.5 * (one - np.cos(t))])
    first = half @ np.stack([-0.5 * np.sin(t), np.cos(t) / np.sqrt(2.0), 0.5 * np.sin(t)])
    second = half @ np.stack([-0.5 * np.cos(t), -np.sin(t) / np.sqrt(2.0), 0.5 * np.cos(t)])
    normal = np.cross(curve, first, axis=0)
    size, area = np.linalg.norm(curve, axis=0), np.linalg.norm(normal, axis=0)
    volume = np.abs((normal * second).sum(axis=0))
    return float(np.mean(area / size**2)) / 2.0, float(np.mean(size * volume / area**2)) / 2.0


# -- simulation -----------------------------------------------------------------------------------


def svec_basis(k: int) -> np.ndarray:
    """Orthonormal basis of the symmetric k x k matrices, shape (k (k + 1) / 2, k, k): row by row of the upper part."""
    out = []
    for i in range(k):
        for j in range(i, k):
            e = np.zeros((k, k))
            e[i, j] = e[j, i] = 1.0 if i == j else np.sqrt(0.5)
            out.append(e)
    return np.array(out)


class _Cone:
    """A product of cones of positive semidefinite matrices, points as rows of coordinates."""

    def __init__(self, sizes):
        self.parts, at = [], 0
        for k in sizes:
            basis = svec_basis(k)
            self.parts.append((slice(at, at + len(basis)), basis))
            at += len(basis)
        self.d = at

    def project(self, x: np.ndarray) -> np.ndarray:
        """Nearest points in the ordinary metric, shape (n, d)."""
        out = np.empty_like(x)
        for part, basis in self.parts:
            if len(basis) == 1:
                out[:, part] = np.maximum(x[:, part], 0.0)
                continue
            values, vectors = np.linalg.eigh(np.tensordot(x[:, part], basis, axes=1))
            nearest = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
            out[:, part] = np.tensordot(nearest, basis, axes=([1, 2], [1, 2]))
        return out

    def slope(self, x: np.ndarray) -> np.ndarray:
        """Derivative of `project`, shape (n, d, d)."""
        out = np.zeros((len(x), self.d, self.d))
        for part, basis in self.parts:
            values, vectors = np.linalg.eigh(np.tensordot(x[:, part], basis, axes=1))
            up = np.maximum(values, 0.0)
            gap = values[:, :, None] - values[:, None, :]
            both = values > 0
            same = np.where(both[:, :, None] & both[:, None, :], 1.0, 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (up[:, :, None] - up[:, None, :]) / gap
            ratio = np.where(both[:, :, None] == both[:, None, :], same, ratio)
            turned = vectors.transpose(0, 2, 1)[:, None] @ basis @ vectors[:, None]
            out[:, part, part] = np.einsum("naij,nij,nbij->nab", turned, ratio, turned)
        return out


def _simulated(cov, sizes, n, rng) -> np.ndarray:
    """What each of n draws adds to the weights, shape (n, d + 1)."""
    cone = _Cone(sizes)
    cov = _balanced(cov, cone)
    metric = np.linalg.inv(cov)
    half = np.linalg.cholesky(cov)
    out = []
    for start in range(0, n, _CHUNK):
        z = rng.standard_normal((min(_CHUNK, n - start), cone.d)) @ half.T
        out.append(_counts(_derivatives(z, metric, cone)))
    return np.vstack(out)


def _balanced(cov, cone) -> np.ndarray:
    """The covariance after a change of basis X -> T X T' of each matrix, which leaves the cone as it is.

    T is such that all directions of a matrix weigh the same; projections then converge quickly.
    """
    for _ in range(_BALANCE):
        change = np.zeros_like(cov)
        for part, basis in cone.parts:
            sums = np.einsum("aij,ab,bjl->il", basis, cov[part, part], basis)
            values, vectors = np.linalg.eigh(sums)
            root = (vectors / values**0.25) @ vectors.T
            change[part, part] = np.einsum("aij,bij->ab", basis, root @ basis @ root)
        cov = change @ cov @ change.T
    return cov


def _derivatives(z, metric, cone) -> np.ndarray:
    """Eigenvalues, between 0 and 1, of the derivative of the projection in the metric, shape (n, d).

    The projection by the alternating direction method of multipliers (Boyd et al. 2011, Found. Trends Mach. Learn. 3,
    1-122); its derivative from that of the conditions of the optimum: with W the projection x less its multiplier,
    x = P(W), so that dx = P'(W)(dx - A dx + A dz).
    """
    values = np.linalg.eigvalsh(metric)
    rate = float(np.sqrt(values[0] * values[-1]))
    solve = np.linalg.inv(metric + rate * np.eye(cone.d))
    pull = z @ metric
    x, price = cone.project(z), np.zeros_like(z)
    for _ in range(_STEPS):
        free = (pull + rate * (x - price)) @ solve
        moved = free + price
        nearest = cone.project(moved)
        change = max(float(np.abs(nearest - x).max()), float(np.abs(nearest - free).max()))
        x, price = nearest, moved - nearest
        if change < _SETTLED:
            break
    slope = cone.slope(x + rate * price)
    eye = np.eye(cone.d)
    derivative = np.linalg.solve(eye - slope + slope @ metric, slope @ metric)
    half = np.linalg.cholesky(metric)
    same = half.T @ derivative @ np.linalg.inv(half.T)
    return np.clip(np.linalg.eigvalsh(0.5 * (same + same.transpose(0, 2, 1))), 0.0, 1.0)


def _counts(shares: np.ndarray) -> np.ndarray:
    """Coefficients of prod_i (1 - l_i + l_i t), shape (n, d + 1)."""
    n, d = shares.shape
    out = np.zeros((n, d + 1))
    out[:, 0] = 1.0
    for i in range(d):
        share = shares[:, i : i + 1]
        out[:, 1:] = (1.0 - share) * out[:, 1:] + share * out[:, :-1]
        out[:, :1] *= 1.0 - share
    return out
