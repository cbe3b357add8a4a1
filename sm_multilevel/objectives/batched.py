"""The profiled deviance of many data sets at once, for models whose rows fall into independent units.

The units are the levels of the grouping factor; with several factors, the sets of levels that
meet: of nested factors the levels of the outermost. The data sets share Z and X and differ in
the response (parametric bootstrap), or in how often each unit occurs (cluster bootstrap,
jackknife). Units with equal Z'WZ and Z'WX are one *class*: of its responses only the sum of
Z'Wy and that of their products are needed, so that a balanced design costs as much as one unit.

With G = Lambda Lambda', and of a unit A = Z'WZ, K = Z'WX, d = Z'Wy,

    M = Lambda (I + Lambda'A Lambda)^-1 Lambda',  T = I - M A,  Q = A - A M A,  U = T'K,
    X'V^-1 X = X'WX - sum K'M K,   r^2 = the residual sum of squares at its minimum over beta,
    F = T'E T,  E = (d - K beta)(d - K beta)',  P = (X'V^-1 X)^-1,  J = U P U',
    W = (df / r^2) F, and J more under REML,

the derivatives of the deviance in G are sums over the units:

    d dev [D]       = tr((Q - W) D)
    d2 dev [D1, D2] = tr((2 W - Q) D2 Q D1) - 2 (df / r^2) h1'P h2 - df r1 r2 / r^4,
                      less tr(P Y1 P Y2) under REML,

    h = U'D T'(d - K beta),  r = -tr(F D),  Y = U'D U

since dM = T D T' and dQ = -Q D Q. They are exact, so that Newton's method needs no model of
the Hessian, and they hold at the boundary, where the derivative in Lambda is zero.

Arrays have the replicates last: ``(..., B)``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sm_multilevel.linalg import small

__all__ = ["BatchedDeviance", "BatchedPoint", "Replicates", "UnitClasses"]

# A residual sum of squares below this part of y'Wy is what rounding leaves.
_EXACT = 1e-14
# Numbers of an array of one block of replicates, so that a few of them fit in the cache; most replicates.
_NUMBERS, _WIDEST = 2**15, 128
_SHARED = ("counts", "xx", "nobs", "log_weights")  # what all replicates may have in common


@dataclass(frozen=True, eq=False)
class UnitClasses:
    """What all replicates share: Z'WZ and Z'WX of each class of equal units, standardised columns.

    Attributes
    ----------
    a : ndarray, shape (q, q, C)
    k : ndarray, shape (q, p, C)
    """

    a: np.ndarray
    k: np.ndarray


@dataclass(frozen=True, eq=False)
class Replicates:
    """The data sets' own sums; where the last axis has length one, all have the same.

    Attributes
    ----------
    counts : ndarray, shape (C, B) or (C, 1)
        Units of each class.
    d : ndarray, shape (q, C, B)
        Sum of Z'Wy over the units of each class.
    dd : ndarray, shape (q, q, C, B)
        Sum of Z'Wy y'WZ.
    xx : ndarray, shape (p, p, B) or (p, p, 1)
    xy : ndarray, shape (p, B)
    yy : ndarray, shape (B,)
    nobs, log_weights : ndarray, shape (B,) or (1,)
    """

    counts: np.ndarray
    d: np.ndarray
    dd: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    nobs: np.ndarray
    log_weights: np.ndarray

    @property
    def size(self) -> int:
        return self.d.shape[-1]

    def taken(self, which: np.ndarray) -> Replicates:
        """Some of the data sets."""

        def take(name):
            x = getattr(self, name)
            return x if name in _SHARED and x.shape[-1] == 1 else x[..., which]

        return Replicates(*map(take, _names(self)))


@dataclass(frozen=True, eq=False)
class BatchedPoint:
    """The deviance and its derivatives at one theta a replicate.

    Attributes
    ----------
    value : ndarray, shape (B,)
        inf where it does not exist: columns of X that are dependent, no residual left.
    gradient : ndarray, shape (B, k)
    hessian : ndarray, shape (B, k, k)
    slope : ndarray, shape (B, q, q)
        Derivative in G.
    beta : ndarray, shape (B, p)
        Standardised columns.
    sigma2 : ndarray, shape (B,)
    """

    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    slope: np.ndarray
    beta: np.ndarray
    sigma2: np.ndarray

    def part(self, which: np.ndarray) -> BatchedPoint:
        """Some of the replicates."""
        return BatchedPoint(*(getattr(self, name)[which] for name in _names(self)))

    def put(self, which: np.ndarray, other: BatchedPoint) -> None:
        """Replace some of the replicates."""
        for name in _names(self):
            getattr(self, name)[which] = getattr(other, name)


class BatchedDeviance:
    """Profiled ML or REML deviance of many data sets, each at a theta of its own.

    Parameters
    ----------
    classes : UnitClasses
    data : Replicates
    basis : ndarray, shape (k, q, q)
        dLambda / dtheta_j.
    reml : bool
    logdet_change : float
        log |det| of the change of basis of X.
    slots : list of ndarray of int, shape (K, q_f), optional
        Of each factor, the columns of a unit that belong to each of its levels there; default one
        factor with one level a unit.
    """

    def __init__(
        self, classes: UnitClasses, data: Replicates, basis: np.ndarray, reml: bool, logdet_change: float, slots=None
    ):
        self.slots = [np.arange(classes.a.shape[0])[None]] if slots is None else slots
        self.classes, self.data, self.basis, self.reml = classes, data, basis, reml
        self.p, self.size = classes.k.shape[1], data.size
        self.constant = -2.0 * logdet_change if reml and self.p else 0.0
        q, _, size = classes.a.shape
        self.width = int(np.clip(_NUMBERS // (q * q * size) // 8 * 8, 8, _WIDEST))
        # Whether it is cheaper to take the directions before the sum over the levels.
        self.is_wide = 2 * len(basis) * q + len(basis) ** 2 < q * q
        k = classes.k
        self._kk = np.einsum("apc,brc->prabc", k, k).reshape(self.p**2, q * q * size)
        self._k = k.transpose(1, 0, 2).reshape(self.p, q * size)
        self._pairs = np.einsum("jab,kcb->jkac", basis, basis)
        self._pairs = self._pairs + self._pairs.swapaxes(2, 3)

    def at(self, theta: np.ndarray, which: np.ndarray) -> BatchedPoint:
        """The deviance of some replicates, with its first and second derivatives.

        They are computed in blocks of a fixed width (filled up by repeating the last one), so that
        no replicate's rounding depends on how many others there are.

        Parameters
        ----------
        theta : ndarray, shape (B, k)
        which : ndarray of int, shape (B,)
        """
        parts = []
        for first in range(0, len(which), self.width):
            here = slice(first, first + self.width)
            count = len(which[here])
            fill = np.minimum(np.arange(self.width), count - 1)
            point = self._block(theta[here][fill], self.data.taken(which[here][fill]))
            parts.append(point if count == self.width else point.part(np.arange(count)))
        if len(parts) == 1:
            return parts[0]
        return BatchedPoint(*(np.concatenate([getattr(part, name) for part in parts]) for name in _names(BatchedPoint)))

    def factor_slopes(self, slope: np.ndarray) -> list[np.ndarray]:
        """The derivative in each factor's G, from that in the covariance of a unit (q, q)."""
        return [np.sum([slope[np.ix_(at, at)] for at in places], axis=0) for places in self.slots]

    def _block(self, theta, data) -> BatchedPoint:
        a, k = self.classes.a, self.classes.k
        (q, _, c), p, b = a.shape, self.p, data.size
        n, df = data.counts, data.nobs - self.p if self.reml else data.nobs
        lam = np.einsum("jxy,bj->xyb", self.basis, theta)
        s = np.einsum("xib,xycb->iycb", lam, np.einsum("xyc,yjb->xjcb", a, lam)).reshape(q, q, c * b)
        for i in range(q):
            s[i, i] += 1.0
        low = small.cholesky(s)
        half = np.einsum("xym,zym->xzm", small.inverse_lower(low), _spread(lam, c)).reshape(q, q, c, b)
        m = np.einsum("zxcb,zycb->xycb", half, half)
        logdet = 2.0 * np.einsum(
            "cb,cb->b", np.broadcast_to(n, (c, b)), sum(np.log(low[i, i]) for i in range(q)).reshape(c, b)
        )

        # beta, r^2 and P
        md = np.einsum("xycb,ycb->xcb", m, data.d)
        xvx = data.xx - (self._kk @ (m * n).reshape(q * q * c, b)).reshape(p, p, b)
        xvy = data.xy - self._k @ md.reshape(q * c, b)
        yvy = data.yy - np.einsum("xycb,xycb->b", m, data.dd)
        inverse, logdet_x, good = _inverse(xvx)
        beta = np.einsum("prb,rb->pb", inverse, xvy)
        rss = yvy - np.einsum("pb,pb->b", beta, xvy)
        good &= rss > _EXACT * np.maximum(data.yy, 0.0)
        good &= rss > 0
        rss = np.where(good, rss, 1.0)
        value = logdet + df * (1.0 + np.log(2.0 * np.pi * rss / df)) - data.log_weights + self.constant
        if self.reml:
            value = value + logdet_x

        # derivatives in G
        tt = -np.einsum("xyc,yzcb->xzcb", a, m)  # T'
        for i in range(q):
            tt[i, i] += 1.0
        quad = np.einsum("xycb,yzc->xzcb", tt, a)
        kb = np.einsum("xpc,pb->xcb", k, beta)
        cross = np.einsum("xcb,ycb->xycb", data.d, kb)
        e = data.dd - cross - cross.swapaxes(0, 1) + np.einsum("xcb,ycb->xycb", n * kb, kb)
        f = np.einsum("xycb,zycb->xzcb", np.einsum("xycb,yzcb->xzcb", tt, e), tt)
        rate = df / rss
        w = rate * f
        u = np.einsum("xycb,ypc->xpcb", tt, k)
        if self.reml and p:
            w = w + n * np.einsum("xpcb,ypcb->xycb", np.einsum("xpcb,prb->xrcb", u, inverse), u)
        nq = n * quad
        slope = (nq - w).sum(axis=2)
        slope = 0.5 * (slope + slope.swapaxes(0, 1))

        # and in theta: D_j = B_j Lambda' + Lambda B_j'
        dirs = np.einsum("jxy,zyb->jxzb", self.basis, lam)
        dirs = dirs + dirs.swapaxes(1, 2)
        gradient = np.einsum("jxyb,xyb->bj", dirs, slope)
        r = -np.einsum("jxyb,xyb->jb", dirs, f.sum(axis=2))
        if self.is_wide:
            left = np.einsum("jxyb,yzcb->jxzcb", dirs, 2.0 * w - nq)
            right = np.einsum("jxyb,yzcb->jxzcb", dirs, quad)
            hessian = np.einsum("jxycb,kyxcb->jkb", left, right)
        else:
            four = np.einsum("xycb,zwcb->xyzwb", 2.0 * w - nq, quad)
            inner = np.einsum("jwxb,xyzwb->jyzb", dirs, four)
            hessian = np.einsum("jyzb,kyzb->jkb", inner, dirs)
        hessian -= (rate / rss) * np.einsum("jb,kb->jkb", r, r)
        if p:
            e1 = np.einsum("xycb,ycb->xcb", tt, data.d - n * kb)
            du = np.einsum("jxyb,ypcb->jxpcb", dirs, u) if self.is_wide else None
            if du is not None:
                h = np.einsum("jxpcb,xcb->jpb", du, e1)
            else:
                h = np.einsum("jxyb,xpyb->jpb", dirs, np.einsum("xpcb,ycb->xpyb", u, e1))
            hessian -= 2.0 * rate * np.einsum("jpb,kpb->jkb", np.einsum("jpb,prb->jrb", h, inverse), h)
            if self.reml:
                if du is not None:
                    y = np.einsum("xpcb,jxrcb->jprb", n * u, du)
                else:
                    y = np.einsum("jxyb,xpyrb->jprb", dirs, np.einsum("xpcb,yrcb->xpyrb", n * u, u))
                py = np.einsum("spb,jprb->jsrb", inverse, y)
                hessian -= np.einsum("jsrb,krsb->jkb", py, py)
        hessian += np.einsum("jkxy,xyb->jkb", self._pairs, slope)
        hessian = hessian.transpose(2, 0, 1)
        return BatchedPoint(
            np.where(good, value, np.inf), gradient, 0.5 * (hessian + hessian.swapaxes(1, 2)),
            np.moveaxis(slope, 2, 0), beta.T, rss / df,
        )  # fmt: skip


def _names(record) -> list[str]:
    return [field.name for field in fields(record)]


def _spread(x, c):
    """(q, q, B) repeated for C classes, shape (q, q, C * B)."""
    q, r, b = x.shape
    return np.broadcast_to(x[:, :, None], (q, r, c, b)).reshape(q, r, c * b)


def _inverse(xvx):
    """Inverses and log-determinants of (p, p, B) matrices, and which of them are positive definite."""
    p, _, b = xvx.shape
    if p == 0:
        return xvx, np.zeros(b), np.ones(b, dtype=bool)
    stack = np.moveaxis(xvx, 2, 0)
    values, vectors = np.linalg.eigh(0.5 * (stack + stack.swapaxes(1, 2)))
    good = values[:, 0] > 1e-13 * values[:, -1]
    values = np.where(good[:, None], values, 1.0)
    inverse = (vectors / values[:, None]) @ vectors.swapaxes(1, 2)
    return np.ascontiguousarray(np.moveaxis(inverse, 0, 2)), np.log(values).sum(axis=1), good
