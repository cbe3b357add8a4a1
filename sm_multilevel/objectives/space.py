"""The coordinates that are estimated: signs, boundaries and null spaces.

`ThetaSpace` is that of the random effects' Cholesky factors alone, where the objective has
profiled everything else out. `JointSpace` has fixed effects and a response's own parameters
before them. Coordinates are those of standardised columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sm_multilevel.covariance import SINGULAR_TOLERANCE
from sm_multilevel.random_effects import RandomEffects

__all__ = ["SNAP", "Escape", "JointSpace", "ThetaSpace", "leads_out"]

SNAP = 1e-3  # relative standard deviation (of a standardised column) up to which zero is tried
_OPEN = 1e-3  # how far a null space is opened to see the derivative in it


def leads_out(slope: float) -> bool:
    """Whether the deviance falls by a derivative in the covariance: by what a variance of (0.03)^2 would gain."""
    return slope * 1e-3 < -1e-6


@dataclass(frozen=True, eq=False)
class Escape:
    """A way out of the boundary along which the objective falls.

    Attributes
    ----------
    slope : float
        Its derivative in the covariance (or in the parameter).
    index : int
        The term, or with `is_psi` the element.
    direction : ndarray
    """

    slope: float
    index: int
    direction: np.ndarray
    is_psi: bool = False


class ThetaSpace:
    """theta of all terms.

    Parameters
    ----------
    effects : RandomEffects
    """

    head = 0

    def __init__(self, effects: RandomEffects):
        self.effects = effects

    def split(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What stands before theta, and theta."""
        return z[: self.head], z[self.head :]

    def _theta(self, z, function) -> np.ndarray:
        head, theta = self.split(z)
        return np.concatenate([head, self.effects.map_terms(theta, function)])

    def canonical(self, z: np.ndarray) -> np.ndarray:
        """The same point, scale elements not negative."""
        return self._theta(z, lambda i, t, part: t.covariance.canonical(part, t.q))

    def snap(self, z: np.ndarray, tol: float = SNAP) -> np.ndarray:
        """The point with null spaces that are nearly reached made exact."""

        def project(i, term, part):
            null = term.covariance.null_projector(part, term.q, tol=tol)
            if not null.any():
                return part
            lam = term.covariance.factor(part, term.q)
            keep = np.eye(term.q) - null
            keep[np.abs(keep) < 1e-12] = 0.0  # rounding, of which tiny variances would be made
            half = keep @ lam
            return term.covariance.from_covariance(half @ half.T)

        return self._theta(z, project)

    def is_singular(self, z: np.ndarray) -> list[bool]:
        """Whether each term's covariance is singular."""
        parts = self.effects.per_term(self.split(z)[1])
        return [t.covariance.is_singular(part, t.q) for t, part in zip(self.effects.terms, parts, strict=True)]

    def boundary(self, objective, z) -> tuple[float, Escape | None, int]:
        """Least derivative along the null spaces, the way to go if it is negative, and evaluations."""
        singular = self.is_singular(z)
        if not any(singular):
            return np.inf, None, 0
        opened = self._theta(z, lambda i, t, part: t.covariance.open(part, t.q, _OPEN) if singular[i] else part)
        slopes = objective.slopes(opened)
        least, way = np.inf, None
        for i, (term, part) in enumerate(zip(self.effects.terms, self.effects.per_term(self.split(z)[1]), strict=True)):
            if not singular[i]:
                continue
            rate, direction = term.covariance.escape(part, term.q, slopes[i])
            if rate < least:
                least, way = rate, Escape(float(rate), i, direction)
        return float(least), (way if leads_out(least) else None), 1

    def moved(self, z: np.ndarray, way: Escape, size: float) -> np.ndarray:
        """The point after a step out of the boundary."""

        def move(i, term, part):
            if i != way.index:
                return part
            lam = term.covariance.factor(part, term.q)
            return term.covariance.from_covariance(lam @ lam.T + size * way.direction)

        return self._theta(z, move)

    def at_boundary(self, z: np.ndarray) -> tuple[str, ...]:
        """What is singular, in words."""
        words = []
        for term, part in zip(self.effects.terms, self.effects.per_term(self.split(z)[1]), strict=True):
            cov = term.covariance
            if not cov.is_singular(part, term.q):
                continue
            lam = cov.factor(part, term.q)
            sd = np.sqrt(np.sum(lam * lam, axis=1))
            zero = [c for c, s in zip(term.columns, sd, strict=True) if s < SINGULAR_TOLERANCE]
            if len(zero) == term.q:
                what = "variance is zero" if term.q == 1 else "all variances are zero"
            elif zero:
                what = f"variance of {', '.join(zero)} is zero"
            elif term.q == 2:
                sign = "+1" if lam[0] @ lam[1] > 0 else "-1"
                what = f"correlation of {term.columns[0]} and {term.columns[1]} is {sign}"
            else:
                rank = int(np.linalg.matrix_rank(lam, tol=SINGULAR_TOLERANCE))
                what = f"covariance of {', '.join(term.columns)} has rank {rank} of {term.q}"
            words.append(f"{term.name or term.group}: {what}")
        return tuple(words)

    def to_user(self, z: np.ndarray) -> np.ndarray:
        """theta in the user's columns."""
        return self.effects.to_user(self.split(z)[1])

    def from_user(self, start: np.ndarray) -> np.ndarray:
        """The point of a theta in the user's columns."""
        return self.effects.from_user(start)

    def others(self, first: np.ndarray):
        """(name, method, point) of starts that are tried where the first one fails."""
        effects = self.effects
        ones = effects.map_terms(
            np.zeros(effects.n_params), lambda i, t, part: t.covariance.from_covariance(np.eye(t.q))
        )
        head = self.split(first)[0]
        for name, method, size in (("unit", "newton", 1.0), ("small", "newton", 0.1), ("large", "lbfgs", 3.0)):
            yield name, method, np.concatenate([head, size * ones])


class JointSpace(ThetaSpace):
    """Fixed effects, internal psi and theta.

    Parameters
    ----------
    effects : RandomEffects
    change : ndarray, shape (p, p)
        beta of the user's columns is ``change @`` that of the standardised ones.
    family : ResponseFamily
    n_psi : int
    centre : ndarray, shape (p,), optional
        What was subtracted from the columns of X where psi are thresholds, which take it up.

    Attributes
    ----------
    head : int
        Elements before theta.
    scale : float
        `Response.eta_scale`: what one of beta and theta is on the linear predictor.
    """

    def __init__(self, effects, change, family, n_psi, centre=None):
        super().__init__(effects)
        self.scale = 1.0 / np.sqrt(effects.weight)
        self.change, self.family, self.n_psi = change, family, n_psi
        self.centre = np.zeros(change.shape[0]) if centre is None else centre
        self.p = change.shape[0]
        self.head = self.p + n_psi

    def parts(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """beta, psi (internal) and theta."""
        return z[: self.p], z[self.p : self.head], z[self.head :]

    def psi_at_zero(self, z) -> np.ndarray:
        """Which elements of psi stand at zero."""
        return self.family.at_zero(self.parts(z)[1])

    def canonical(self, z):
        out = super().canonical(z)
        # Where psi is a signed root both signs are the same point; others keep theirs.
        psi = out[self.p : self.head]
        out[self.p : self.head] = self.family.internal(self.family.natural(psi))
        return out

    def snap(self, z, tol=SNAP):
        out = super().snap(z, tol)
        psi = out[self.p : self.head]
        # `at_zero` looks no farther than the tolerance of singular terms.
        near = self.family.at_zero(psi * SINGULAR_TOLERANCE / max(tol, SINGULAR_TOLERANCE))
        psi[near] = 0.0
        return out

    def boundary(self, objective, z):
        least, way, count = super().boundary(objective, z)
        for j in np.flatnonzero(self.psi_at_zero(z)):
            opened = z.copy()
            opened[self.p + j] = _OPEN
            point = objective.point(opened)
            count += 1
            if not np.isfinite(point.value):
                continue
            rate = point.gradient()[self.p + j] / (2.0 * _OPEN)
            if rate < least:
                least = float(rate)
                way = Escape(least, int(j), np.ones(1), is_psi=True) if leads_out(least) else None
        return least, way, count

    def moved(self, z, way, size):
        if not way.is_psi:
            return super().moved(z, way, size)
        out = z.copy()
        out[self.p + way.index] = np.sqrt(size)
        return out

    def at_boundary(self, z):
        zero = [self.family.psi_names[j] for j in np.flatnonzero(self.psi_at_zero(z))]
        return super().at_boundary(z) + tuple(f"{name} is zero" for name in zero)

    def to_user(self, z):
        """beta, natural psi and theta in the user's columns."""
        beta, psi, theta = self.parts(z)
        beta = self.change @ beta
        natural = self.family.natural(psi) + self.centre @ beta
        return np.concatenate([beta, natural, self.effects.to_user(theta)])

    def from_user(self, start):
        beta, psi, theta = self.parts(np.asarray(start, float))
        return np.concatenate([*self.head_from_user(beta, psi), self.effects.from_user(theta)])

    def head_from_user(self, beta, psi):
        """beta and internal psi from the user's beta and natural psi."""
        with np.errstate(invalid="ignore", divide="ignore"):  # outside of its space psi is NaN
            psi = self.family.internal(psi - self.centre @ beta)
        return np.linalg.solve(self.change, beta), psi

    def head_jacobian(self, z) -> np.ndarray:
        """d (the user's beta, natural psi) / d (beta, internal psi), shape (p + r, p + r)."""
        p, out = self.p, np.zeros((self.head, self.head))
        out[:p, :p] = self.change
        out[p:, :p] = self.centre @ self.change
        out[p:, p:] = self.family.jacobian(self.parts(z)[1])
        return out
