"""Generalised and ordinal mixed models by brute force: dense matrices and integrals on fine grids.

Written from the definition eta = offset + X beta + sum_k Z_k b_k, b_k ~ N(0, G_k) for every level of a
factor, y | eta ~ f(y | eta, psi), and sharing no code with the package. Nothing is clever here: the mode
is found by Newton's method on dense matrices, the marginal likelihood by the trapezoidal rule on a grid
that is refined until it no longer changes (for such integrands its error falls exponentially), and all
derivatives of a log-likelihood are Richardson differences.

A density is a function (y, eta, psi) -> (log f, d log f/d eta, d2 log f/d eta2), row by row. psi is on the natural
scale: () for binomial and Poisson, (alpha,), (dispersion,) or the thresholds. Binomial y with trials has the
two columns successes and trials; ordinal y is 0, 1, ... Terms are triples (codes, Z, G): level numbers
from 0, the columns of the term, the covariance of one level's effects.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

LOG_2PI = np.log(2 * np.pi)


# ---------------------------------------------------------------- distributions of links
# x -> (F, 1 - F, F', F''), each accurate in its own tail.
def _logit(x):
    low, high = special.expit(x), special.expit(-x)
    return low, high, low * high, low * high * (high - low)


def _probit(x):
    f = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return special.ndtr(x), special.ndtr(-x), f, -x * f


def _cloglog(x):
    e = np.exp(np.minimum(x, 700.0))
    high = np.exp(-e)
    return -np.expm1(-e), high, e * high, e * high * (1 - e)


def _loglog(x):
    low, high, f, slope = _cloglog(-x)
    return high, low, f, -slope


def _cauchit(x):
    f = 1 / (np.pi * (1 + x * x))
    return np.arctan2(1, -x) / np.pi, np.arctan2(1, x) / np.pi, f, -2 * np.pi * x * f * f


LINKS = {"logit": _logit, "probit": _probit, "cloglog": _cloglog, "loglog": _loglog, "cauchit": _cauchit}


# ---------------------------------------------------------------- densities
def binomial(link: str) -> Callable:
    def density(y, eta, psi=()):
        y = np.asarray(y, float)
        y, n = (y[..., 0], y[..., 1]) if y.ndim == 2 else (y, np.ones_like(y))
        y, n = _expand(y, eta), _expand(n, eta)
        low, high, f, slope = LINKS[link](eta)
        constant = special.gammaln(n + 1) - special.gammaln(y + 1) - special.gammaln(n - y + 1)
        a, b = _ratio(f, low), _ratio(f, high)
        value = constant + special.xlogy(y, low) + special.xlogy(n - y, high)
        second = y * (_ratio(slope, low) - a * a) - (n - y) * (_ratio(slope, high) + b * b)
        return value, y * a - (n - y) * b, second

    return density


def poisson(y, eta, psi=()):
    y = _expand(y, eta)
    mu = np.exp(eta)
    return y * eta - mu - special.gammaln(y + 1), y - mu, -mu


def gamma(y, eta, psi):
    """Variance psi mu^2, log link."""
    y, shape = _expand(y, eta), 1 / psi[0]
    ratio = y * np.exp(-eta)
    value = shape * np.log(shape * y) - shape * eta - shape * ratio - special.gammaln(shape) - np.log(y)
    return value, shape * (ratio - 1), -shape * ratio


def inverse_gaussian(y, eta, psi):
    """Variance psi mu^3, log link."""
    y = _expand(y, eta)
    m = np.exp(-eta)
    value = -0.5 * (LOG_2PI + np.log(psi[0] * y**3) + (y * m - 1) ** 2 / (psi[0] * y))
    return value, (y * m * m - m) / psi[0], (m - 2 * y * m * m) / psi[0]


def gaussian(y, eta, psi):
    """Variance psi, identity link."""
    r = _expand(y, eta) - eta
    return -0.5 * (LOG_2PI + np.log(psi[0]) + r * r / psi[0]), r / psi[0], np.full(np.shape(eta), -1 / psi[0])


def nb2(y, eta, psi):
    """Variance mu + alpha mu^2, log link."""
    y, size = _expand(y, eta), 1 / psi[0]
    mu = np.exp(eta)
    constant = special.gammaln(y + size) - special.gammaln(size) - special.gammaln(y + 1)
    value = constant - size * np.log1p(mu / size) + y * (eta - np.log(size + mu))
    return value, size * (y - mu) / (size + mu), -size * mu * (y + size) / (size + mu) ** 2


def nb1(y, eta, psi):
    """Variance mu (1 + alpha), log link."""
    y, alpha = _expand(y, eta), psi[0]
    size = np.exp(eta) / alpha
    value = special.gammaln(y + size) - special.gammaln(size) - special.gammaln(y + 1)
    value = value - size * np.log1p(alpha) + y * np.log(alpha / (1 + alpha))
    first = size * (special.digamma(y + size) - special.digamma(size) - np.log1p(alpha))
    second = size**2 * (special.polygamma(1, y + size) - special.polygamma(1, size))
    return value, first, first + second


def ordinal(link: str) -> Callable:
    """P(y <= k) = F(psi_k - eta), k = 0, 1, ..."""

    def density(y, eta, psi):
        y = np.asarray(y, int)
        cuts = np.concatenate([[-np.inf], psi, [np.inf]])
        upper, lower = _expand(cuts[y + 1], eta) - eta, _expand(cuts[y], eta) - eta
        with np.errstate(all="ignore"):
            up, down = LINKS[link](upper), LINKS[link](lower)
        top, bottom = np.isinf(upper), np.isinf(lower)
        p = np.where(lower + upper > 0, down[1] - up[1], up[0] - down[0])
        p = np.where(top, down[1], np.where(bottom, up[0], p))
        f = np.where(top, 0, up[2]) - np.where(bottom, 0, down[2])
        slope = np.where(top, 0, up[3]) - np.where(bottom, 0, down[3])
        first = -_ratio(f, p)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(p), first, _ratio(slope, p) - first**2

    return density


def density_of(family: str, link: str) -> Callable:
    """The density of a case in reference/glmm_cases.json."""
    fixed = {"poisson": poisson, "gamma": gamma, "inverse_gaussian": inverse_gaussian, "gaussian": gaussian}
    fixed |= {"nb2": nb2, "nb1": nb1}
    return {"binomial": binomial, "ordinal": ordinal}[family](link) if family not in fixed else fixed[family]


def _expand(row_values, eta):
    """Values per row, ready to meet eta, whose later axes are grid points."""
    row_values = np.asarray(row_values, float)
    return row_values.reshape(row_values.shape + (1,) * (np.ndim(eta) - row_values.ndim))


def _ratio(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, 0.0)


# ---------------------------------------------------------------- Laplace
@dataclass(frozen=True)
class Mode:
    """Mode of the penalised log-likelihood over spherical effects u, b = root u; all terms in one vector."""

    value: float
    u: np.ndarray
    hessian: np.ndarray
    b: np.ndarray
    root: np.ndarray

    @property
    def laplace(self) -> float:
        """The Laplace approximation of the log-likelihood."""
        return float(self.value - 0.5 * np.linalg.slogdet(self.hessian)[1])

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations of b given all parameters."""
        return np.sqrt(np.einsum("ij,ji->i", self.root, np.linalg.solve(self.hessian, self.root.T)))


def square_root(g) -> np.ndarray:
    """A root R of G = R R', which may be singular."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.asarray(g, float)))
    return vectors * np.sqrt(np.maximum(values, 0))


def dense_mode(y, x, beta, offset, terms: Sequence, density: Callable, psi=(), weights=None) -> Mode:
    """Newton's method with halved steps; the Hessian of the log-density is the observed one."""
    fixed = np.asarray(x) @ np.asarray(beta) + (0 if offset is None else offset)
    w = 1.0 if weights is None else np.asarray(weights, float)
    roots, columns = [], []
    for codes, z, g in terms:
        levels, q = int(np.max(codes)) + 1, np.shape(z)[1]
        wide = np.zeros((len(fixed), levels, q))
        wide[np.arange(len(fixed)), codes] = np.asarray(z) @ square_root(g)
        columns.append(wide.reshape(len(fixed), levels * q))
        roots.append(np.kron(np.eye(levels), square_root(g)))
    a = np.hstack(columns)
    size = sum(len(r) for r in roots)
    root, at = np.zeros((size, size)), 0
    for r in roots:
        root[at : at + len(r), at : at + len(r)] = r
        at += len(r)

    def evaluate(u):
        value, first, second = density(y, fixed + a @ u, psi)
        return np.sum(w * value) - 0.5 * u @ u, w * first, w * second

    u = np.zeros(size)
    value, first, second = evaluate(u)
    for _ in range(200):
        gradient = a.T @ first - u
        hessian = np.eye(size) - (a.T * second) @ a
        # Away from the mode the curvature may have the wrong sign: then without the offending rows.
        if np.any(second > 0) and np.linalg.eigvalsh(hessian)[0] <= 1e-6:
            hessian = np.eye(size) - (a.T * np.minimum(second, 0)) @ a
        step = np.linalg.solve(hessian, gradient)
        factor = 1.0
        while factor > 1e-10:
            trial = evaluate(u + factor * step)
            if trial[0] >= value - 1e-13 * abs(value):
                break
            factor /= 2
        u = u + factor * step
        value, first, second = trial
        if np.max(np.abs(step)) < 1e-11:
            break
    else:
        raise RuntimeError("no mode found")
    hessian = np.eye(size) - (a.T * second) @ a
    if np.linalg.eigvalsh(hessian)[0] <= 0:
        raise RuntimeError("not a maximum")
    return Mode(float(value), u, hessian, root @ u, root)


def dense_laplace(y, x, beta, offset, terms, density, psi=(), weights=None) -> float:
    """Laplace approximation of the log-likelihood, any number of terms."""
    return dense_mode(y, x, beta, offset, terms, density, psi, weights).laplace


# ---------------------------------------------------------------- one grouping factor
class SingleFactor:
    """The integrand of every level of one factor, as a function of its effects around their modes."""

    def __init__(self, y, x, beta, offset, terms, density, psi=(), weights=None):
        ((codes, z, g),) = terms
        mode = dense_mode(y, x, beta, offset, terms, density, psi, weights)
        order = np.argsort(codes, kind="stable")
        self.codes = np.asarray(codes)[order]
        self.starts = np.flatnonzero(np.r_[True, np.diff(self.codes) > 0])
        self.y = np.asarray(y)[order]
        self.weights = None if weights is None else np.asarray(weights, float)[order]
        self.fixed = (np.asarray(x) @ np.asarray(beta) + (0 if offset is None else offset))[order]
        self.a = (np.asarray(z) @ square_root(g))[order]
        self.q = self.a.shape[1]
        self.density, self.psi = density, psi
        self.levels = len(self.starts)
        self.centre = mode.u.reshape(self.levels, self.q)
        blocks = np.array([mode.hessian[i : i + self.q, i : i + self.q] for i in range(0, len(mode.u), self.q)])
        # u = centre + scale t has at the mode the curvature of a standard normal in t.
        self.scale = np.linalg.inv(np.linalg.cholesky(blocks)).transpose(0, 2, 1)
        self.log_scale = np.log(np.diagonal(self.scale, axis1=1, axis2=2)).sum(axis=1)

    def log_integrand(self, t) -> np.ndarray:
        """log of f(y_i | u) phi(u) |scale| at u = centre + scale t; t has shape (levels or 1, points, q)."""
        u = self.centre[:, None] + np.einsum(
            "lij,lpj->lpi", self.scale, np.broadcast_to(t, (self.levels, *t.shape[1:]))
        )
        eta = self.fixed[:, None] + np.einsum("npi,ni->np", u[self.codes], self.a)
        value = self.density(self.y, eta, self.psi)[0]
        if self.weights is not None:
            value = value * self.weights[:, None]
        total = np.add.reduceat(value, self.starts, axis=0)
        return total - 0.5 * (u**2).sum(axis=2) - 0.5 * self.q * LOG_2PI + self.log_scale[:, None]

    def box(self, drop=42.0) -> tuple[np.ndarray, np.ndarray]:
        """Per level and axis, how far to either side the integrand matters (falls by exp(-drop))."""
        reach = np.full((2, self.levels, self.q), 6.0)
        peak = self.log_integrand(np.zeros((1, 1, self.q)))
        # Points on the faces of the box, not only on the axes: the integrand need not be aligned with it.
        face = np.array(list(itertools.product(*[np.linspace(-1, 1, 9)] * (self.q - 1)))) if self.q > 1 else None
        for _ in range(60):
            grown = False
            for side, axis in itertools.product((0, 1), range(self.q)):
                points = 1 if face is None else len(face)
                t = np.zeros((self.levels, points, self.q))
                t[:, :, axis] = (2 * side - 1) * reach[side, :, axis][:, None]
                if face is not None:
                    others = [j for j in range(self.q) if j != axis]
                    for column, j in enumerate(others):
                        f = face[:, column][None]
                        t[:, :, j] = np.where(f > 0, f * reach[1, :, j][:, None], f * reach[0, :, j][:, None])
                short = np.any(self.log_integrand(t) > peak - drop, axis=1)
                reach[side, short, axis] *= 1.25
                grown = grown or short.any()
            if not grown:
                return -reach[0], reach[1]
        raise RuntimeError("the integrand has no end")

    def trapezoid(self, points: int) -> np.ndarray:
        """Log of each level's integral on a grid of `points` an axis."""
        low, high = self.box()
        unit = np.linspace(0, 1, points)
        pieces = []
        rows = max(1, int(4e6 // max(len(self.fixed), 1)))
        grid = np.array(list(itertools.product(unit, repeat=self.q)))
        for start in range(0, len(grid), rows):
            part = grid[start : start + rows]
            pieces.append(
                special.logsumexp(self.log_integrand(low[:, None] + (high - low)[:, None] * part[None]), axis=1)
            )
        return special.logsumexp(pieces, axis=0) + np.log((high - low) / (points - 1)).sum(axis=1)

    def gauss_hermite(self, points: int) -> float:
        """Adaptive Gauss-Hermite quadrature; two columns: a product rule along the Cholesky factor of the Hessian."""
        nodes, weights = np.polynomial.hermite.hermgauss(points)
        t = np.array(list(itertools.product(nodes, repeat=self.q))) * np.sqrt(2)
        w = np.array([np.sum(c) for c in itertools.product(np.log(weights) + nodes**2, repeat=self.q)])
        return float((special.logsumexp(self.log_integrand(t[None]) + w, axis=1) + 0.5 * self.q * np.log(2)).sum())


def integrate(y, x, beta, offset, terms, density, psi=(), weights=None, n_points=None) -> float:
    """Marginal log-likelihood with one grouping factor of one or two columns; without n_points to 1e-10."""
    problem = SingleFactor(y, x, beta, offset, terms, density, psi, weights)
    if n_points:
        return float(problem.trapezoid(n_points).sum())
    points = 65
    value = problem.trapezoid(points).sum()
    while points < 5000 ** (1 / problem.q) * 40:
        points = 2 * points - 1
        before, value = value, problem.trapezoid(points).sum()
        if abs(value - before) < 1e-11 * max(abs(value), 1):
            return float(value)
    raise RuntimeError("the integral does not settle")


def quadrature(y, x, beta, offset, terms, density, psi=(), weights=None, points=7) -> float:
    """Log-likelihood by adaptive Gauss-Hermite quadrature, which is not the exact one: nAGQ=points."""
    return SingleFactor(y, x, beta, offset, terms, density, psi, weights).gauss_hermite(points)


def integrate_nested(y, x, beta, offset, terms, density, psi=(), weights=None, step=0.25, reach=9.25) -> float:
    """Marginal log-likelihood of (1 | outer/inner), ``terms`` outer then inner: a grid within a grid.

    Fixed nodes in standard normal effects suffice while levels are small and the standard deviations moderate;
    halve ``step`` to see that they do.
    """
    (outer, z1, g1), (inner, z2, g2) = terms
    outer, inner = np.asarray(outer), np.asarray(inner)
    order = np.lexsort((inner, outer))
    outer, inner, y = outer[order], inner[order], np.asarray(y)[order]
    sd1, sd2 = np.sqrt(np.ravel(g1)[0]), np.sqrt(np.ravel(g2)[0])
    assert np.all(np.asarray(z1) == 1)
    assert np.all(np.asarray(z2) == 1)
    fixed = (np.asarray(x) @ np.asarray(beta) + (0 if offset is None else offset))[order]
    nodes = np.arange(-reach, reach + step / 2, step)
    log_weight = np.log(step) - 0.5 * nodes**2 - 0.5 * LOG_2PI
    eta = fixed[:, None, None] + sd1 * nodes[None, :, None] + sd2 * nodes[None, None, :]
    value = density(y, eta, psi)[0]
    if weights is not None:
        value = value * np.asarray(weights, float)[order][:, None, None]
    starts = np.flatnonzero(np.r_[True, (np.diff(inner) != 0) | (np.diff(outer) != 0)])
    each = special.logsumexp(np.add.reduceat(value, starts, axis=0) + log_weight, axis=2)
    parents = np.flatnonzero(np.r_[True, np.diff(outer[starts]) != 0])
    return float(special.logsumexp(np.add.reduceat(each, parents, axis=0) + log_weight, axis=1).sum())


# ---------------------------------------------------------------- fits
@dataclass(frozen=True)
class Fit:
    """An optimum: natural parameters (beta, psi, lower triangles of the covariances column by column)."""

    llf: float
    params: np.ndarray
    cov: np.ndarray
    packed: np.ndarray
    information: np.ndarray  # of packed
    step: float  # what Newton's method would still move, in standard errors

    @property
    def se(self) -> np.ndarray:
        return np.sqrt(np.diag(self.cov))


@dataclass(frozen=True)
class Model:
    """Data of a model and its parameters packed for a search: beta, psi (logs but for thresholds), Cholesky factors."""

    y: np.ndarray
    x: np.ndarray
    terms: tuple  # (codes, z)
    density: Callable
    n_psi: int = 0
    thresholds: bool = False
    offset: np.ndarray | None = None
    weights: np.ndarray | None = None

    def unpack(self, packed) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        p = self.x.shape[1]
        beta, psi = packed[:p], packed[p : p + self.n_psi]
        at, covariances = p + self.n_psi, []
        for _, z in self.terms:
            q = z.shape[1]
            low = np.zeros((q, q))
            size = q * (q + 1) // 2
            low.T[np.triu_indices(q)] = packed[at : at + size]
            covariances.append(low @ low.T)
            at += size
        return beta, psi if self.thresholds else np.exp(psi), covariances

    def natural(self, packed) -> np.ndarray:
        beta, psi, covariances = self.unpack(packed)
        return np.concatenate([beta, psi, *[g.T[np.triu_indices(len(g))] for g in covariances]])

    def loglike(self, packed, method: Callable, **options) -> float:
        """Log-likelihood by dense_laplace, integrate, integrate_nested or quadrature."""
        beta, psi, covariances = self.unpack(np.asarray(packed, float))
        terms = [(codes, z, g) for (codes, z), g in zip(self.terms, covariances, strict=True)]
        return method(self.y, self.x, beta, self.offset, terms, self.density, psi, self.weights, **options)


def gradient_of(function: Callable, x, steps) -> np.ndarray:
    """Central differences of sixth order."""
    out = np.zeros(len(x))
    for i, h in enumerate(steps):
        e = np.zeros(len(x))
        e[i] = h
        d = [function(x + k * e) - function(x - k * e) for k in (1, 2, 3)]
        out[i] = (45 * d[0] - 9 * d[1] + d[2]) / (60 * h)
    return out


def hessian_of(function: Callable, x, steps) -> np.ndarray:
    """Second differences, two step sizes extrapolated."""
    x, steps = np.asarray(x, float), np.asarray(steps, float)
    k, here = len(x), function(x)

    def differences(h):
        moves = h * np.diag(steps)
        curve = np.array([function(x + a) - 2 * here + function(x - a) for a in moves])
        out = np.diag(curve)
        for i in range(k):
            for j in range(i):
                both = moves[i] + moves[j]
                diagonal = function(x + both) - 2 * here + function(x - both)
                out[i, j] = out[j, i] = (diagonal - curve[i] - curve[j]) / 2
        return out / (h * h * np.outer(steps, steps))

    return (4 * differences(1.0) - differences(2.0)) / 3


def brute_fit(model: Model, start, method: Callable, near: Fit | None = None, **options) -> Fit:
    """Maximise a log-likelihood; standard errors from the joint observed information.

    ``near`` is the fit by a similar likelihood to start from instead of ``start``.
    """

    def negative(packed):
        try:
            value = -model.loglike(packed, method, **options)
        except (RuntimeError, np.linalg.LinAlgError, FloatingPointError):
            return np.inf
        return value if np.isfinite(value) else np.inf

    def information_at(x):
        return hessian_of(negative, x, 1e-3 * np.maximum(np.abs(x), 0.1))

    if near is None:
        x = np.asarray(start, float)
        for _ in range(3):  # BFGS on two-point differences may stop early
            x = optimize.minimize(negative, x, method="BFGS", options={"gtol": 1e-3}).x
        information = information_at(x)
    else:
        x, information = near.packed, near.information
    # Newton's method in standard errors: along axes in which the information is about the identity.
    zero = np.zeros(len(x))
    last = np.inf
    for _ in range(20):
        axes = np.linalg.inv(np.linalg.cholesky(information)).T
        gradient = gradient_of(lambda t, x=x, axes=axes: negative(x + axes @ t), zero, zero + 0.02)
        size = np.max(np.abs(gradient))
        if size < 1e-8:
            break
        x = x - axes @ gradient * min(1, 1 / size)
        if size > 0.3 * last:
            information = information_at(x)
        last = size
    # Laplace's value is precise enough for small steps, which nearly singular covariances need.
    step = 0.003 if method is dense_laplace else 0.03
    whitened = hessian_of(lambda t: negative(x + axes @ t), zero, zero + step)
    back = np.linalg.inv(axes)
    information = back.T @ whitened @ back
    jacobian = np.array([
        gradient_of(lambda p, i=i: model.natural(p)[i], x, 1e-3 * np.maximum(np.abs(x), 0.1)) for i in range(len(x))
    ])  # fmt: skip
    covariance = jacobian @ axes @ np.linalg.solve(whitened, axes.T) @ jacobian.T
    return Fit(-negative(x), model.natural(x), covariance, x, information, float(size))
