"""The finite-sample null distribution of the likelihood ratio for one variance, by simulation.

Linear model with Z b, b ~ N(0, sigma^2 lambda I), as the only random effect; under the null hypothesis lambda = 0 and
q of the p fixed effects are zero. With mu_s the eigenvalues of Z'P_0 Z, P_0 = I - X(X'X)^-1 X', xi_s those of Z'Z and
w_s independent standard normal,

    RLRT = sup (n - p) log(1 + N / D) - sum log(1 + lambda mu_s)
    LRT  = n log(1 + sum_q u^2 / sum_{n-p} w^2) + sup n log(1 + N / D) - sum log(1 + lambda xi_s)
    N = sum lambda mu_s / (1 + lambda mu_s) w_s^2,   D = sum w_s^2 / (1 + lambda mu_s) + sum_{s > K} w_s^2

(Crainiceanu and Ruppert 2004, J. R. Stat. Soc. B 66, 165-185, equations 6 to 9). The eigenvalues are found once, and a
draw costs a pass over a grid of lambda.

Where the restricted model has other random effects, these are taken as known: the distribution is that of the model
with the tested variance alone (Greven, Crainiceanu, Kuechenhoff and Peters 2008, J. Comput. Graph. Stat. 17,
870-891, section 2.2), for the restricted likelihood.
"""

from __future__ import annotations

import numpy as np

from sm_multilevel.objectives.crossprod import GaussianData

__all__ = ["exact_draws", "one_variance"]

_GRID = 200  # values of lambda; between them the ratio is taken as quadratic in log lambda
_LARGEST = 4000  # columns of Z whose eigenvalues are found
_CELLS = 2**22  # numbers of a chunk of draws


def one_variance(data: GaussianData, factor: int, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of Z'P_0 Z and of Z'Z, for Z times a root of the direction in which G grows.

    Parameters
    ----------
    data : GaussianData
    factor : int
    direction : ndarray, shape (q, q)
        Positive semidefinite: G = lambda times it.

    Returns
    -------
    mu, xi : ndarray
        As many as there are columns, zeros included.

    Raises
    ------
    ValueError
        If there are too many columns.
    """
    values, vectors = np.linalg.eigh(direction)
    half = vectors[:, values > 1e-9 * values.max()] * np.sqrt(values[values > 1e-9 * values.max()])
    r, m, p = half.shape[1], data.zz.diag[factor].shape[2], data.p
    if r * m > _LARGEST:
        raise ValueError(
            f"method='exact' needs the eigenvalues of a matrix of {r * m} columns (at most {_LARGEST}). With so many "
            "levels method='asymptotic' is as good."
        )
    blocks = np.einsum("ai,abm,bj->ijm", half, data.zz.diag[factor], half)
    whole = np.zeros((r, m, r, m))
    levels = np.arange(m)
    whole[:, levels, :, levels] = blocks.transpose(2, 0, 1)
    whole = whole.reshape(r * m, r * m)
    zx = np.einsum("ai,amp->imp", half, data.zxy[factor][:, :, :p]).reshape(r * m, p)
    low = np.linalg.cholesky(data.xxy[:p, :p]) if p else np.zeros((0, 0))
    inside = np.linalg.solve(low, zx.T) if p else zx.T
    mu = np.linalg.eigvalsh(whole - inside.T @ inside)
    return np.maximum(mu[::-1], 0.0), np.maximum(np.linalg.eigvalsh(blocks.transpose(2, 0, 1)).ravel(), 0.0)


def exact_draws(mu, xi, nobs: int, p: int, fixed: int, reml: bool, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the likelihood ratio under the null hypothesis.

    Parameters
    ----------
    mu, xi : ndarray
        As `one_variance` gives them.
    nobs, p : int
        Rows and fixed effects of the full model.
    fixed : int
        How many of these are zero under the null hypothesis.
    reml : bool
    n : int
        Draws.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.postestimation.comparison.exact import exact_draws
    >>> mu = np.r_[np.full(9, 5.0), 0.0]  # 10 groups of 5, an intercept
    >>> draws = exact_draws(mu, np.full(10, 5.0), 50, 1, 0, True, 10_000, np.random.default_rng(1))
    >>> bool(0.5 < np.mean(draws == 0) < 0.65)
    True
    """
    df = nobs - p
    top = float(mu.max(initial=0.0))
    if not top > 0:
        raise ValueError(
            "The fixed effects contain the columns of the random effect that is tested. Leave them out of one part."
        )
    mu = np.sort(mu[mu > 1e-10 * top])[::-1][:df]
    xi = mu if reml else xi[xi > 1e-10 * xi.max()]
    # From where no draw gains anything to where the ratio falls in all of them.
    grid = np.logspace(-4.0, 5.0, _GRID) / top
    shrink = 1.0 / (1.0 + np.outer(mu, grid))
    penalty = np.log1p(np.outer(grid, xi)).sum(axis=1)
    scale = df if reml else nobs
    out = np.empty(n)
    step = max(1, _CELLS // max(len(mu), _GRID))
    for start in range(0, n, step):
        size = min(step, n - start)
        squares = rng.chisquare(1.0, (size, len(mu)))
        rest = rng.chisquare(df - len(mu), size) if df > len(mu) else np.zeros(size)
        total = squares.sum(axis=1) + rest
        left = squares @ shrink + rest[:, None]  # D; N + D is the total
        values = scale * np.log(total[:, None] / left) - penalty
        best = _peak(values)
        if fixed:
            best += nobs * np.log1p(rng.chisquare(fixed, size) / total)
        out[start : start + size] = best
    return out


def _peak(values: np.ndarray) -> np.ndarray:
    """Largest value of each row, or zero, by a parabola through the largest and its neighbours."""
    rows = np.arange(len(values))
    at = values.argmax(axis=1)
    inner = np.clip(at, 1, values.shape[1] - 2)
    a, b, c = (values[rows, inner + k] for k in (-1, 0, 1))
    bend = a - 2.0 * b + c
    with np.errstate(divide="ignore", invalid="ignore"):
        top = b - (a - c) ** 2 / (8.0 * bend)
    top = np.where((bend < 0) & (at == inner), top, values[rows, at])
    return np.maximum(top, 0.0)
