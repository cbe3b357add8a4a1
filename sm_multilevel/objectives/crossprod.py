"""Cross-products of the linear mixed model: all that its objective sees of the data.

One pass over the rows, in batches small enough for the cache. Cross-products of disjoint
batches of rows add up (`GaussianData.__add__`), so a cluster or threads could build them.

Columns are standardised on the way (X: centred where there is an intercept, and scaled;
y: minus a first regression on X), because products of raw columns lose the digits that
the residual sum of squares needs: y shifted by 1e7 costs 5 % of it. Columns of X that are
still nearly collinear then (an interaction with a predictor far from zero) are made orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.random_effects import RandomEffects, constant_column

__all__ = ["FixedScaling", "GaussianData", "combined_weights", "cross_products", "fixed_scaling"]

BATCH_ROWS = 2**16
_COLLINEAR = 1e-6  # ratio of eigenvalues of standardised columns' products from which on they are made orthogonal
_DEPENDENT = 1e-12  # and of the lengths of what remains of a column, from which on there is nothing to make


@dataclass(frozen=True, eq=False)
class FixedScaling:
    """Change of basis of the fixed effects: X_used = X @ map, y_used = y - X @ start.

    Attributes
    ----------
    map : ndarray, shape (p, p)
    start : ndarray, shape (p,)
    orthogonal : bool
        Whether columns are mixed; otherwise each is scaled, with a constant added.
    """

    map: np.ndarray
    start: np.ndarray
    orthogonal: bool = False

    @cached_property
    def logdet(self) -> float:
        """log |det map|."""
        return float(np.linalg.slogdet(self.map)[1]) if self.map.size else 0.0

    def beta(self, beta_used: np.ndarray) -> np.ndarray:
        """Coefficients of the user's columns."""
        return self.start + self.map @ beta_used


@dataclass(frozen=True, eq=False)
class GaussianData:
    """Weighted cross-products in standardised columns.

    Attributes
    ----------
    zz : BlockMatrix
        Z'WZ on its pattern.
    zxy : list of ndarray, shape (q, m, p + 1)
        Z'W[X y] of each factor.
    xxy : ndarray, shape (p + 1, p + 1)
        [X y]'W[X y].
    nobs : float
        Number of rows, frequency weights counted.
    log_weights : float
        Sum of the logarithms of the precision weights.
    scaling : FixedScaling
        How X and y were standardised.
    maps : list of ndarray, shape (q, q)
        How each factor's columns were standardised (Z_used = Z @ map).
    """

    zz: BlockMatrix
    zxy: list[np.ndarray]
    xxy: np.ndarray
    nobs: float
    log_weights: float
    scaling: FixedScaling
    maps: list[np.ndarray]

    @property
    def p(self) -> int:
        return self.xxy.shape[0] - 1

    def __add__(self, other: GaussianData) -> GaussianData:
        zz = BlockMatrix(
            self.zz.layout,
            [a + b for a, b in zip(self.zz.diag, other.zz.diag, strict=True)],
            {key: a + other.zz.off[key] for key, a in self.zz.off.items()},
        )
        return replace(
            self,
            zz=zz,
            zxy=[a + b for a, b in zip(self.zxy, other.zxy, strict=True)],
            xxy=self.xxy + other.xxy,
            nobs=self.nobs + other.nobs,
            log_weights=self.log_weights + other.log_weights,
        )


def fixed_scaling(y, x, weights=None, rows=slice(0, BATCH_ROWS)):
    """Standardisation of X and y, from the moments of all rows and a fit to some.

    Parameters
    ----------
    y : ndarray, shape (n,)
    x : ndarray, shape (n, p)
    weights : ndarray, shape (n,), optional
    rows : slice
        Rows on which the first regression is done.

    Returns
    -------
    FixedScaling
    """
    n, p = x.shape
    change = np.eye(p)
    one = constant_column(x)
    for j in range(p):
        column = x[:, j]
        if one is not None and j != one:
            mean = column.sum() / n
            column = column - mean
            sd = np.sqrt(column @ column / n)
            if sd > 1e-12 * abs(mean):
                change[j, j] = 1.0 / sd
                change[one, j] = -mean / x[0, one] / sd
                continue
        size = np.sqrt(column @ column / n)
        change[j, j] = 1.0 / size if size > 0 else 1.0
    xs = x[rows] @ change
    orthogonal = False
    if p > 1:
        values = np.linalg.eigvalsh(xs.T @ xs)
        if values[0] < _COLLINEAR * values[-1]:
            r = np.linalg.qr(x @ change, mode="r")
            left = np.abs(np.diag(r))
            if len(r) == p and left.min() > _DEPENDENT * left.max():
                change = change @ np.linalg.inv(r) * np.sqrt(n)
                xs, orthogonal = x[rows] @ change, True
    w = 1.0 if weights is None else weights[rows][:, None]
    gram = (xs * w).T @ xs
    start = change @ (np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ ((xs * w).T @ y[rows]))
    return FixedScaling(change, start, orthogonal)


class _Columns:
    """Distinct columns of X, y and all Z, each materialised once a batch."""

    def __init__(self, y, x, scaling, effects, maps):
        self.sources: list[tuple] = []
        self.y, self.x, self.scaling = y, x, scaling
        used, change = (x @ scaling.map, np.eye(x.shape[1])) if scaling.orthogonal else (x, scaling.map)
        self.x_ids = [self._add(used, j, change[:, j]) for j in range(x.shape[1])]
        self.z_ids = []
        for factor, w in zip(effects.factors, maps, strict=True):
            ids = []
            parts = [effects.terms[i].exog for i in factor.terms]
            z = parts[0] if len(parts) == 1 else np.hstack(parts)
            for j in range(factor.q):
                ids.append(self._add(z, j, w[:, j]))
            self.z_ids.append(ids)
        self.y_id = len(self.sources)

    def _add(self, matrix, j, weights):
        """Identify the column matrix @ weights: its own column, shift and scale."""
        column = matrix[:, j]
        others = [i for i in np.flatnonzero(weights) if i != j]
        shift = sum(weights[i] * matrix[0, i] for i in others)  # only constants are mixed in
        scale = weights[j]
        one = bool(column[0] != 0 and np.all(column == column[0]))
        if one:
            scale, column, shift = scale * column[0], None, 0.0
        for k, (col, sc, sh) in enumerate(self.sources):
            if (col is None) != one or not np.isclose(sc, scale, rtol=1e-13, atol=0):
                continue
            if one or (
                abs(sh - shift) <= 1e-12 * max(1.0, abs(shift))
                and np.array_equal(col[:64], column[:64])
                and np.array_equal(col, column)
            ):
                return k
        self.sources.append((column, scale, shift))
        return len(self.sources) - 1

    def batch(self, rows):
        """The distinct columns and y, over some rows."""
        size = rows.stop - rows.start
        out = []
        for column, scale, shift in self.sources:
            if column is None:
                out.append(np.full(size, scale))
            else:
                values = column[rows] * scale
                if shift:
                    values += shift
                out.append(values)
        residual = self.y[rows]
        if self.scaling.start.size:
            residual = residual - self.x[rows] @ self.scaling.start
        out.append(residual)
        return out


def cross_products(
    y: np.ndarray,
    x: np.ndarray,
    effects: RandomEffects,
    var_weights: np.ndarray | None = None,
    freq_weights: np.ndarray | None = None,
    scaling: FixedScaling | None = None,
    rows: slice | None = None,
) -> GaussianData:
    """All cross-products of a linear mixed model in one pass.

    Parameters
    ----------
    y : ndarray, shape (n,)
        Response minus offset.
    x : ndarray, shape (n, p)
    effects : RandomEffects
    var_weights, freq_weights : ndarray, shape (n,), optional
        Precision weights and replications.
    scaling : FixedScaling, optional
        Needed where the result is to be added to that of other rows.
    rows : slice, optional
        Only these rows.

    Returns
    -------
    GaussianData

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.objectives.crossprod import cross_products
    >>> design = res.model.design
    >>> products = cross_products(design.endog, design.exog, res.model.effects)
    >>> products.nobs, products.p
    (180.0, 2)
    """
    weights = combined_weights(var_weights, freq_weights)
    rows = rows or slice(0, y.shape[0])
    if scaling is None:
        scaling = fixed_scaling(y, x, weights)
    maps = effects.factor_standardizers
    columns = _Columns(y, x, scaling, effects, maps)
    xy_ids = columns.x_ids + [columns.y_id]
    layout = effects.layout
    codes = [effects.terms[f.terms[0]].codes for f in effects.factors]

    wanted: dict[int | tuple[int, int], set] = {}
    for f, ids in enumerate(columns.z_ids):
        wanted[f] = {_key(a, b) for a in ids for b in ids + xy_ids}
    for f, g in layout.pairs:
        wanted[f, g] = {_key(a, b) for a in columns.z_ids[f] for b in columns.z_ids[g]}
    sizes: dict[int | tuple[int, int], int] = {f: layout.m[f] for f in range(len(codes))}
    sizes.update({key: p.nnz for key, p in layout.pairs.items()})
    sums = {(where, key): np.zeros(sizes[where]) for where, keys in wanted.items() for key in keys}
    xxy = np.zeros((len(xy_ids), len(xy_ids)))

    for start in range(rows.start, rows.stop, BATCH_ROWS):
        part = slice(start, min(start + BATCH_ROWS, rows.stop))
        values = columns.batch(part)
        w = None if weights is None else weights[part]
        products: dict[tuple, np.ndarray] = {}
        for where, keys in wanted.items():
            index = effects.rows[where][part] if isinstance(where, tuple) else codes[where][part]
            for key in keys:
                if key not in products:
                    product = values[key[0]] * values[key[1]]
                    products[key] = product if w is None else product * w
                sums[where, key] += np.bincount(index, products[key], minlength=sizes[where])
        block = np.stack([values[i] for i in xy_ids])
        xxy += (block if w is None else block * w) @ block.T

    def gather(where, left, right):
        return np.stack([np.stack([sums[where, _key(a, b)] for b in right]) for a in left])

    zz = BlockMatrix(
        layout,
        [gather(f, ids, ids) for f, ids in enumerate(columns.z_ids)],
        {(f, g): gather((f, g), columns.z_ids[f], columns.z_ids[g]) for f, g in layout.pairs},
    )
    zxy = [np.ascontiguousarray(gather(f, ids, xy_ids).transpose(0, 2, 1)) for f, ids in enumerate(columns.z_ids)]
    n = rows.stop - rows.start
    nobs = float(n if freq_weights is None else freq_weights[rows].sum())
    log_weights = 0.0
    if var_weights is not None:
        logs = np.log(var_weights[rows])
        log_weights = float(logs.sum() if freq_weights is None else freq_weights[rows] @ logs)
    return GaussianData(zz, zxy, xxy, nobs, log_weights, scaling, maps)


def _key(a, b):
    return (a, b) if a <= b else (b, a)


def combined_weights(var_weights, freq_weights):
    """Their product, where None is one; None where both are."""
    if var_weights is None:
        return freq_weights
    return var_weights if freq_weights is None else var_weights * freq_weights
