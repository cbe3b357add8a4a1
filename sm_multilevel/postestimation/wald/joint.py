"""Joint linear hypotheses in a form in which no constraint is lost, whatever the units of the coefficients.

The Wald statistic (Lb - c)'(L C L')^-1 (Lb - c) does not depend on how a hypothesis is written, but the eigenvalues of
L C L' do: with one coefficient per metre and one per millimetre they differ by 10^6, and a rank that is judged by them
drops a constraint. The rank of a hypothesis is that of L alone, in units of the standard errors; L C L' is factored
with its diagonal scaled to one (van der Sluis 1969), and where that is singular to working precision there is no test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

__all__ = [
    "DERIVED",
    "FACTORED",
    "GIVEN",
    "NoWaldTest",
    "Root",
    "independent",
    "orthogonal",
    "root",
    "standard_root",
    "whitened",
]

_SPAN = 1e-10  # what is left of a row, in standard errors, that the rows before it imply
_SAME = 1e-8  # relative difference of two values of one combination that is rounding
# Least eigenvalue e of the correlations of the constraints that a test may have. Rounding, of some 1e-16, enters F by
# 1 / e where C comes from the fit's own factor, and by up to 1 / e^2 through covariances, and their derivatives, that
# were made in the user's columns: 4 to 5 digits of F and of degrees of freedom are left.
FACTORED = 1e-11
GIVEN = 1e-7
DERIVED = 1e-6
_MAP = 1e-16  # the same of the map from standardised columns, of which rounding is known to be 1e-16
_AGREE = 1e-6  # relative difference of two computations of the same covariance
_SWEEPS = 40


class NoWaldTest(ValueError):
    """The covariance of the constraints is singular in working precision."""

    def __init__(self, least: float):
        super().__init__(
            f"The estimates of the constraints depend on each other so closely (least eigenvalue of their correlations "
            f"{least:.1g}) that a test of them together would be rounding. Either they are nearly one quantity, as "
            "those of t, t**2 and t**3 with t in calendar years: centre such columns and fit again. Or a robust "
            "covariance has too few clusters for them: test fewer at a time."
        )


def independent(rows: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Constraints without those that follow from the ones before them.

    Parameters
    ----------
    rows : ndarray, shape (k, p)
    values : ndarray, shape (k,)
        Of the constraints rows @ params = values.
    errors : ndarray, shape (p,)
        Standard errors, which are the units of the coefficients here.

    Returns
    -------
    ndarray, shape (r, p)
        As they were written.
    ndarray, shape (r,)

    Raises
    ------
    ValueError
        If two constraints contradict each other, or nothing is left.
    """
    units = np.where(np.isfinite(errors) & (errors > 0.0), errors, 1.0)
    scaled = rows * units
    size = np.linalg.norm(scaled, axis=1)
    size[size == 0.0] = 1.0
    scaled, wanted = scaled / size[:, None], values / size
    basis, kept = np.zeros((0, rows.shape[1])), []
    for k, row in enumerate(scaled):
        left = row
        for _ in range(2):  # once more, for what rounding left
            left = left - (left @ basis.T) @ basis
        if np.linalg.norm(left) > _SPAN:
            basis = np.vstack([basis, left / np.linalg.norm(left)])
            kept.append(k)
            continue
        weights = np.linalg.lstsq(scaled[kept].T, row, rcond=None)[0] if kept else np.zeros(0)
        implied = weights @ wanted[kept]
        if abs(implied - wanted[k]) > _SAME * (abs(wanted[k]) + np.abs(weights) @ np.abs(wanted[kept])):
            raise ValueError(
                f"The constraints contradict each other: the one numbered {k + 1} sets a combination of coefficients "
                f"to {values[k]:.6g}, which is {implied * size[k]:.6g} by those before it."
            )
    if not kept:
        raise ValueError("The hypothesis says nothing about the coefficients: all of its elements are zero.")
    return rows[kept], values[kept]


@dataclass(frozen=True, eq=False)
class Root:
    """A covariance C = (units @ half) (units @ half)' of `params`, from the standardised columns.

    Attributes
    ----------
    units : ndarray, shape (p, p)
        The map to the user's columns, known to rounding, times standard errors in the standardised ones.
    half : ndarray, shape (p, p)
        A root of the correlations there. C itself has lost the digits that differences of its elements need.
    """

    units: np.ndarray
    half: np.ndarray


def standard_root(result: Any) -> Root | None:
    """Root of the model-based covariance of `params`.

    None where the result has another one (robust, adjusted, of a part of the parameters), or its parts are gone.
    """
    cov = np.asarray(result.cov_params())
    if result.residual_variance is None:
        standard = np.asarray(result.cov_standard)[: len(cov), : len(cov)]
        if hasattr(result, "cov_params_default") or not (np.diag(standard) > 0.0).all():
            return None
        size = np.sqrt(np.diag(standard))
        lengths, vectors = np.linalg.eigh(standard / np.outer(size, size))
        change, half = result.standard_jacobian, vectors * np.sqrt(np.maximum(lengths, 0.0))
    else:
        plain = np.asarray(result.normalized_cov_params) * result.scale
        if result._state is None or not np.array_equal(cov, plain):
            return None
        change, half = result._state.data.scaling.map, np.sqrt(result.scale) * result._state.inv_chol_x.T
        size = np.linalg.norm(half, axis=1)
        half = half / size[:, None]
    out = Root(change * size, half)
    whole, error = out.units @ out.half, np.sqrt(np.diag(cov))
    return out if np.all(np.abs(whole @ whole.T - cov) <= _AGREE * np.outer(error, error)) else None


def root(rows: np.ndarray, cov: np.ndarray, limit: float, standard: Root | None = None) -> np.ndarray:
    """Lower triangular G with G G' = rows @ cov @ rows', whatever the units of rows and coefficients.

    Parameters
    ----------
    rows : ndarray, shape (q, p)
        Of full row rank.
    cov : ndarray, shape (p, p)
    limit : float
        Of the least eigenvalue of the correlations, in an orthonormal basis of the rows in units of standard errors:
        how a hypothesis is written does not change it.
    standard : Root, optional
        A root of `cov`, which is more precise and has a limit of its own, `FACTORED`.

    Raises
    ------
    NoWaldTest
        If it is below the limit.
    """
    if standard is None:
        error = np.sqrt(np.maximum(np.diag(cov), 0.0))
        units = np.diag(np.where(error > 0.0, error, 1.0))
    else:
        units, limit = standard.units, FACTORED
    moved = rows @ units
    size = np.linalg.norm(moved, axis=1)
    basis, mix = np.linalg.qr((moved / size[:, None]).T)
    if standard is None:
        inner = basis.T @ (cov / np.outer(np.diag(units), np.diag(units))) @ basis
    else:
        half = basis.T @ standard.half
        inner = half @ half.T
    if not np.isfinite(inner).all():
        raise NoWaldTest(np.nan)
    least, mixed = float(np.linalg.eigvalsh(inner)[0]), float(np.linalg.svd(mix, compute_uv=False)[-1])
    # One constraint has nothing to be dependent on.
    if least <= 0.0 or (len(rows) > 1 and (least < limit or mixed**2 < _MAP)):
        raise NoWaldTest(max(min(least, mixed**2), 0.0))
    upper = np.linalg.cholesky(inner).T if standard is None else np.linalg.qr(half.T, mode="r")
    return size[:, None] * (upper @ mix).T


def whitened(rows: np.ndarray, cov: np.ndarray, limit: float, standard: Root | None = None) -> np.ndarray:
    """A, square, such that the estimates of A @ rows @ params are independent with variance 1.

    Parameters, and what is raised, are those of `root`.
    """
    return solve_triangular(root(rows, cov, limit, standard), np.eye(len(rows)), lower=True)


def orthogonal(rows: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """V' rows with the eigenvectors V of rows @ cov @ rows', however far apart its eigenvalues are; shape (q, p).

    One-sided Jacobi rotations of a root, which find eigenvalues to the precision of the root's scaled rows, where other
    methods find them to that of the largest (Demmel and Veselic 1992).

    Raises
    ------
    NoWaldTest
        As `root`, with the limit `DERIVED`.
    """
    half = root(rows, cov, DERIVED)
    q = len(rows)
    both = np.hstack([half, rows])
    for _ in range(_SWEEPS):
        turned = False
        for i in range(q - 1):
            for j in range(i + 1, q):
                a, b = both[i, :q] @ both[i, :q], both[j, :q] @ both[j, :q]
                c = both[i, :q] @ both[j, :q]
                if abs(c) <= 1e-15 * q * np.sqrt(a * b):
                    continue
                turned = True
                zeta = (b - a) / (2.0 * c)
                tangent = (1.0 if zeta >= 0.0 else -1.0) / (abs(zeta) + np.hypot(1.0, zeta))
                cosine = 1.0 / np.hypot(1.0, tangent)
                both[[i, j]] = cosine * np.array([[1.0, -tangent], [tangent, 1.0]]) @ both[[i, j]]
        if not turned:
            break
    return both[:, q:]
