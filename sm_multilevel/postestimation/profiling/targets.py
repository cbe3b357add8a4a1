"""What can be profiled: names, and each parameter as a smooth function of what is estimated.

A target has two scales. Users see its value; searches move t, in which the target stays smooth up to its limits:
log sigma, the root of alpha, and for what lies between two limits (a correlation, an ICC) the angle
t = -arccos of its place between them. A profile's zeta does not depend on that choice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sm_multilevel.estimation.constrained import SurfacePoint
from sm_multilevel.postestimation.components.component_map import ComponentMap
from sm_multilevel.wording import suggest

__all__ = [
    "ComponentTarget",
    "Coordinates",
    "FunctionTarget",
    "HeadTarget",
    "Target",
    "component_names",
    "find_targets",
]

ANGLE = 1e-4  # angle from its limit up to which a bounded target is profiled
_STEP = 1e-6  # difference steps of second derivatives; they decide how fast the search is, not where it ends
_SLOPE_STEP = 1e-5  # relative difference step where a function comes without its gradient


@dataclass(frozen=True, eq=False)
class Coordinates:
    """What a vector z of estimated parameters holds: beta and psi, theta (standardised columns), log sigma.

    Attributes
    ----------
    components : ComponentMap
    head : int
        Elements before theta.
    to_params : callable or None
        z -> (params of the user, their Jacobian by the head); None where beta is profiled out.
    """

    components: ComponentMap
    head: int
    to_params: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def size(self) -> int:
        return self.head + self.components.effects.n_params + self.components.residual

    @property
    def theta(self) -> slice:
        return slice(self.head, self.head + self.components.effects.n_params)

    def forms(self) -> np.ndarray:
        """Matrices A with component = sigma^2 theta'A theta, shape (c, k, k); of the residual zero."""
        effects = self.components.effects
        out = np.zeros((len(self.components.entries), effects.n_params, effects.n_params))
        for n, e in enumerate(self.components.entries):
            if e.term < 0:
                continue
            term, at = effects.terms[e.term], effects.slices[e.term]
            rows = effects.standardizers[e.term] @ term.covariance.basis(term.q)
            form = rows[:, e.j] @ rows[:, e.k].T
            out[n, at, at] = 0.5 * (form + form.T)
        return out

    def sigma2(self, z: np.ndarray) -> float:
        return float(np.exp(2.0 * z[-1])) if self.components.residual else 1.0

    def values(self, z: np.ndarray) -> np.ndarray:
        """Variances and covariances in the order of `varcorr()`."""
        return self.components(z[self.theta], self.sigma2(z))[0]


class Target(ABC):
    """A scalar of which a profile is made.

    Attributes
    ----------
    name : str
    lower, upper : float
        Limits of its values.
    t_lower, t_upper : float
        How far t goes; beyond a finite one there is nothing but the limit itself.
    """

    name: str
    lower: float = -np.inf
    upper: float = np.inf
    t_lower: float = -np.inf
    t_upper: float = np.inf
    is_fixed = False  # a coefficient, which the linear model profiles out

    @abstractmethod
    def at(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """t and its gradient in z."""

    @abstractmethod
    def hessian(self, z: np.ndarray) -> np.ndarray:
        """Second derivatives of t, or a model of them."""

    def to_value(self, t: float) -> float:
        return t

    def to_t(self, value: float) -> float:
        return value

    def unit(self, z: np.ndarray) -> float:
        """A step of t that is neither tiny nor huge, where the data do not tell."""
        return 0.1

    def surface(self, t: float) -> Callable[[np.ndarray], SurfacePoint]:
        """The constraint that the target is at t."""

        def surface(z):
            now, gradient = self.at(z)
            return SurfacePoint(np.array([now - t]), gradient[None], lambda weights: weights[0] * self.hessian(z))

        return surface

    def limit_surface(self, t: float) -> Callable[[np.ndarray], SurfacePoint]:
        """The constraint at a limit `t_lower` or `t_upper`."""
        return self.surface(t)


class HeadTarget(Target):
    """A coefficient, or an element of psi.

    Parameters
    ----------
    name : str
    coordinates : Coordinates
    index : int
        Among `params`.
    internal : (int, family), optional
        For an element of psi that is a function of one internal element alone, the first index of
        psi and the family: then t is that element.
    """

    def __init__(self, name, coordinates, index, is_fixed, internal=None):
        self.name, self.coordinates, self.index, self.is_fixed = name, coordinates, index, is_fixed
        self._internal = internal
        if internal is not None:
            first, family = internal
            nothing = np.zeros(len(family.psi_names))
            self.lower = 0.0
            if family.at_zero(nothing)[index - first]:
                self.t_lower = 0.0

    def at(self, z):
        n = self.coordinates.size
        gradient = np.zeros(n)
        if self._internal is not None:
            gradient[self.index] = 1.0
            return float(z[self.index]), gradient
        params, jacobian = self.coordinates.to_params(z)
        gradient[: self.coordinates.head] = jacobian[self.index]
        return float(params[self.index]), gradient

    def hessian(self, z):
        """Zero but for thresholds, which are no linear functions of the internal psi."""
        n, head = len(z), self.coordinates.head
        out = np.zeros((n, n))
        if self.is_fixed or self._internal is not None:
            return out
        for j in range(head):
            ends = []
            for sign in (_STEP, -_STEP):
                moved = z.copy()
                moved[j] += sign
                ends.append(self.coordinates.to_params(moved)[1][self.index])
            out[j, :head] = (ends[0] - ends[1]) / (2.0 * _STEP)
        return 0.5 * (out + out.T)

    def _psi(self, value, function):
        first, family = self._internal
        vector = np.full(len(family.psi_names), 1.0)
        vector[self.index - first] = value
        return float(function(vector)[self.index - first])

    def to_value(self, t):
        return t if self._internal is None else self._psi(t, self._internal[1].natural)

    def to_t(self, value):
        return value if self._internal is None else self._psi(value, self._internal[1].internal)


class _Bounded(Target):
    """A target between two finite limits, with its angle as t."""

    def _set_limits(self, lower, upper):
        self.lower, self.upper = lower, upper
        self.t_lower, self.t_upper = -np.pi + ANGLE, -ANGLE

    def to_value(self, t):
        if np.isinf(self.t_upper):
            return t
        return 0.5 * (self.lower + self.upper) + 0.5 * (self.upper - self.lower) * float(np.cos(t))

    def to_t(self, value):
        return value if np.isinf(self.t_upper) else -float(np.arccos(np.clip(self._place(value), -1.0, 1.0)))

    def _place(self, value):
        return (2.0 * value - self.lower - self.upper) / (self.upper - self.lower)

    @abstractmethod
    def _plain(self, z) -> tuple[float, np.ndarray]:
        """The value itself and its gradient."""

    @abstractmethod
    def _plain_hessian(self, z) -> np.ndarray: ...

    def at(self, z):
        value, gradient = self._plain(z)
        if np.isinf(self.t_upper):
            return value, gradient
        with np.errstate(invalid="ignore"):  # at a limit there is no gradient
            return self.to_t(value), self._rates(value)[0] * gradient

    def hessian(self, z):
        if np.isinf(self.t_upper):
            return self._plain_hessian(z)
        value, gradient = self._plain(z)
        first, second = self._rates(value)
        return first * self._plain_hessian(z) + second * np.outer(gradient, gradient)

    def _rates(self, value):
        """Derivatives of the angle in the value."""
        u, scale = self._place(value), 2.0 / (self.upper - self.lower)
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt((1.0 - u) * (1.0 + u))
            return scale / root, scale**2 * u / root**3


class ComponentTarget(_Bounded):
    """A standard deviation, a correlation or a covariance of the random effects, or the residual's.

    Parameters
    ----------
    name : str
    coordinates : Coordinates
    entry : int
        Among the components.
    covariance : bool
        Of two columns their covariance, not their correlation; its name starts with ``cov`` instead of ``cor``.
    """

    def __init__(self, name, coordinates, entry, covariance=False):
        self.name, self.coordinates, self.entry = name, coordinates, entry
        if covariance:
            self.name = f"cov{name.removeprefix('cor')}"
        entries = coordinates.components.entries
        self.row = row = entries[entry]
        forms = coordinates.forms()
        find = coordinates.components.find
        self._which = [entry]
        self.is_residual = row.term < 0
        if self.is_residual:
            self.lower = 0.0
        elif row.is_variance:
            self.lower = self.t_lower = 0.0
        elif not covariance:
            self._which += [find(row.term, row.j, row.j), find(row.term, row.k, row.k)]
            self._set_limits(*_correlation_range(*forms[self._which]))
        self._is_cov = covariance
        self.forms = forms[self._which]
        # Entries of one form are one parameter, as all standard deviations of an identity structure.
        self.key = (self.is_residual, row.is_variance, covariance, np.round(self.forms, 12).tobytes())

    def unit(self, z):
        if self.is_residual or not (self.row.is_variance or self._is_cov):
            return 0.1
        variance = 0.1 * self.coordinates.sigma2(z) * float(np.abs(np.linalg.eigvalsh(self.forms[0])).max())
        return variance if self._is_cov else float(np.sqrt(variance))

    def to_value(self, t):
        return float(np.exp(t)) if self.is_residual else super().to_value(t)

    def to_t(self, value):
        return float(np.log(value)) if self.is_residual else super().to_t(value)

    def _plain(self, z):
        gradient = np.zeros(len(z))
        if self.is_residual:
            gradient[-1] = 1.0
            return float(z[-1]), gradient
        value, gradient[self.coordinates.theta], _ = self._derivatives(z, False)
        if self.coordinates.components.residual:
            gradient[-1] = self._degree * value
        return value, gradient

    def _plain_hessian(self, z):
        out = np.zeros((len(z), len(z)))
        if self.is_residual:
            return out
        at = self.coordinates.theta
        value, gradient, out[at, at] = self._derivatives(z, True)
        if self.coordinates.components.residual:
            out[-1, at] = out[at, -1] = self._degree * gradient
            out[-1, -1] = self._degree**2 * value
        return out

    @property
    def _degree(self) -> float:
        """Of homogeneity in sigma."""
        return 1.0 if self.row.is_variance else 2.0 * self._is_cov

    def _derivatives(self, z, second):
        """Value, and derivatives in theta."""
        s2, theta = self.coordinates.sigma2(z), z[self.coordinates.theta]
        moved = s2 * (self.forms @ theta)
        values = moved @ theta
        if self._is_cov:
            return float(values[0]), 2.0 * moved[0], 2.0 * s2 * self.forms[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            if not self.row.is_variance:
                return _correlation(values, 2.0 * moved, 2.0 * s2 * self.forms if second else None)
            sd = np.sqrt(values[0])
            hessian = s2 * self.forms[0] / sd - np.outer(moved[0], moved[0]) / sd**3 if second else 0.0
            return float(sd), moved[0] / sd, hessian

    def limit_surface(self, t):
        """At a standard deviation of zero its whole row of Lambda is zero, which is linear in theta."""
        if not self.row.is_variance:
            return self.surface(t)
        values, vectors = np.linalg.eigh(self.forms[0])
        rows = vectors[:, values > 1e-10 * values[-1]].T
        jacobian = np.zeros((len(rows), self.coordinates.size))
        jacobian[:, self.coordinates.theta] = rows
        nothing = np.zeros((self.coordinates.size, self.coordinates.size))
        return lambda z: SurfacePoint(jacobian @ z, jacobian, lambda weights: nothing)


class FunctionTarget(_Bounded):
    """Any smooth function of the variance components and, where they are estimated jointly, of `params`.

    Parameters
    ----------
    name : str
    coordinates : Coordinates
    function : callable
        (components in the order of `varcorr()`, params) -> float. Of a linear model, whose fixed
        effects are profiled out, it must not depend on params: they are NaN.
    lower, upper : float
        Limits of its values; two finite ones make t an angle.
    """

    def __init__(self, name, coordinates, function, lower=-np.inf, upper=np.inf):
        self.name, self.coordinates, self._function = name, coordinates, function
        if np.isfinite(lower) and np.isfinite(upper):
            self._set_limits(lower, upper)

    def hessian(self, z):
        """Zero: the search learns it, which takes fewer evaluations of a function that may be slow."""
        return np.zeros((len(z), len(z)))

    def _plain_hessian(self, z):
        return self.hessian(z)

    def value(self, z) -> float:
        return float(self._function(self.coordinates.values(z), self._params(z)[0]))

    def _params(self, z):
        if self.coordinates.to_params is None:
            return np.full(1, np.nan), np.zeros((1, 0))
        return self.coordinates.to_params(z)

    def _plain(self, z):
        """Value and gradient, by differences in the standardised z, whose elements are of order one in any units."""
        gradient = np.empty(len(z))
        for j, step in enumerate(_SLOPE_STEP * np.maximum(np.abs(z), 1.0)):
            moved = np.array([z, z])
            moved[:, j] += [step, -step]
            gradient[j] = (self.value(moved[0]) - self.value(moved[1])) / (2.0 * step)
        return self.value(z), gradient


def _correlation(values, gradients, hessians=None):
    """c / sqrt(a b) with its gradient and, given those of c, a and b, its Hessian."""
    c, a, b = values
    scale = 1.0 / np.sqrt(a * b)
    value = c * scale
    first = np.array([scale, -0.5 * value / a, -0.5 * value / b])
    if hessians is None:
        return float(value), first @ gradients, 0.0
    second = np.array([
        [0.0, -0.5 * scale / a, -0.5 * scale / b],
        [-0.5 * scale / a, 0.75 * value / a**2, 0.25 * value / (a * b)],
        [-0.5 * scale / b, 0.25 * value / (a * b), 0.75 * value / b**2],
    ])  # fmt: skip
    return float(value), first @ gradients, np.tensordot(first, hessians, axes=1) + gradients.T @ second @ gradients


def _correlation_range(c, a, b):
    """Least and greatest correlation that a structure allows.

    Where all of its elements are variances of their own (diagonal forms, as compound symmetry has) and the two columns
    have the same one, it lies between the ratios of the forms; elsewhere between -1 and 1.
    """
    # Relative to the forms, whose size is that of the columns' units.
    near = 1e-9 * float(np.abs([a, b]).max())
    if np.allclose(a, b, atol=near) and all(np.allclose(m, np.diag(np.diag(m)), atol=near) for m in (a, c)):
        own = np.diag(a) > 0
        ratio = np.diag(c)[own] / np.diag(a)[own]
        return float(ratio.min()), float(ratio.max())
    return -1.0, 1.0


# -- names -----------------------------------------------------------------------------------


def component_names(components: ComponentMap) -> list[str]:
    """``sd(x|g)``, ``cor(x1,x2|g)``, ``sd(Residual)``, in the order of `varcorr()`.

    Of several terms of one factor the names have that factor, not its label with a number.
    """

    def name(entry, group):
        if entry.term < 0:
            return "sd(Residual)"
        columns = entry.var1 if entry.is_variance else f"{entry.var1},{entry.var2}"
        return f"{'sd' if entry.is_variance else 'cor'}({columns}|{group})"

    terms = components.effects.terms
    short = [name(e, terms[e.term].name or terms[e.term].group) for e in components.entries]
    return [n if short.count(n) == 1 else name(e, e.grp) for n, e in zip(short, components.entries)]


def find_targets(which: Any, fixed, psi, components) -> list[str]:
    """Names of what is asked for, in the order in which it is asked.

    Parameters
    ----------
    which : str, sequence of str, or None
        Names, or "beta", "psi", "components" for groups of them; None for all.
    fixed, psi, components : sequence of str
        Known names.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    fixed, psi, components = list(fixed), list(psi), list(components)
    known = [*fixed, *psi, *components]
    if which is None:
        return known
    plain = {_squeeze(name): name for name in known}
    groups = {"beta": fixed, "psi": psi, "components": components}
    out: list[str] = []
    if not isinstance(which, (str, Iterable)):
        raise ValueError(f"which={which!r} is no name or list of names. There are {', '.join(map(repr, known))}.")
    wanted = [which] if isinstance(which, str) else list(which)
    if not wanted:
        raise ValueError("which=[] asks for nothing. Give names, a group of them, or None for all.")
    for name in wanted:
        if not isinstance(name, str):
            raise ValueError(f"which={name!r} is not the name of a parameter.")
        if _squeeze(name) in plain:
            out.append(plain[_squeeze(name)])
        elif groups.get(name):
            out += groups[name]
        elif name in groups:
            raise ValueError(f"which={name!r}: the model has no such parameters.")
        else:
            raise ValueError(
                f"which={name!r} is not a parameter of the model.{suggest(name, known)} There are "
                f"{', '.join(map(repr, known))}, and the groups {', '.join(map(repr, groups))}."
            )
    return list(dict.fromkeys(out))


def _squeeze(name: str) -> str:
    return "".join(name.split())
