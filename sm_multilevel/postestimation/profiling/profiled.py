"""The deviance with one target held at a value and everything else estimated again.

A problem knows the optimum and solves for the others at a value of a target. Of linear models the likelihood is the
full one (ML): theta and log sigma are estimated, beta is profiled out, and a coefficient is held by moving its
column into the response, on the level of cross-products (no pass over the rows). Of the others beta, psi and theta are
estimated together, with the quadrature of the fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from sm_multilevel.checks import REFIT
from sm_multilevel.estimation.constrained import ConstrainedMinimum, SurfacePoint, minimize_on
from sm_multilevel.estimation.fit import estimate
from sm_multilevel.estimation.integration import objective_of
from sm_multilevel.objectives.crossprod import FixedScaling, GaussianData
from sm_multilevel.objectives.joint_gaussian import JointGaussian
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.postestimation.components.component_map import ComponentMap
from sm_multilevel.postestimation.profiling.targets import (
    ComponentTarget,
    Coordinates,
    FunctionTarget,
    HeadTarget,
    Target,
    component_names,
    find_targets,
)

__all__ = ["Problem", "Solved", "profile_problem"]

_STEP = 1e-4  # difference step of the Hessian at the optimum
_OPEN = 0.1, 0.7  # standard deviations (standardised) from which a search leaves a variance of zero
_FLAT = 1e-9


@dataclass(frozen=True, eq=False)
class Solved:
    """The optimum of all other parameters at one value of a target.

    Attributes
    ----------
    t : float
        The target's value on its own scale (see `targets`).
    deviance : float
    slope : float
        Derivative of the profiled deviance in t.
    z : ndarray, shape (k,)
    tangent : ndarray, shape (k,)
        Derivative of z in t; NaN where it is not known.
    estimates : ndarray
        All named parameters of the problem.
    reason : str
        Why it is no optimum; empty where it is one.
    """

    t: float
    deviance: float
    slope: float
    z: np.ndarray
    tangent: np.ndarray
    estimates: np.ndarray
    reason: str = ""

    @property
    def converged(self) -> bool:
        return not self.reason


class Problem(ABC):
    """A fitted model's deviance, to be profiled.

    Attributes
    ----------
    names : list of str
        Fixed effects, psi and components.
    z : ndarray
        The optimum.
    deviance : float
        Its deviance.
    """

    z: np.ndarray
    deviance: float
    hessian: np.ndarray

    def __init__(self, model, coordinates: Coordinates, fixed, psi):
        self.model, self.coordinates, self.effects = model, coordinates, model.effects
        self.fixed, self.psi = list(fixed), list(psi)
        self.components = component_names(coordinates.components)
        self.names = [*self.fixed, *self.psi, *self.components]

    def find(self, which) -> list[str]:
        """Names of what is asked for."""
        return find_targets(which, self.fixed, self.psi, self.components)

    def target(self, name: str) -> Target:
        """The parameter of a known name."""
        head = len(self.fixed) + len(self.psi)
        index = self.names.index(name)
        if index >= head:
            return ComponentTarget(name, self.coordinates, index - head)
        return self._head_target(name, index)

    def function_target(self, name, function, lower=-np.inf, upper=np.inf) -> FunctionTarget:
        """A function of the components and `params`."""
        return FunctionTarget(name, self.coordinates, function, lower, upper)

    @abstractmethod
    def _head_target(self, name: str, index: int) -> Target: ...

    def estimate(self, name: str) -> float:
        """The maximum-likelihood estimate of a named parameter."""
        return float(self.estimates[self.names.index(name)])

    def undefined(self, target: Target) -> str:
        """Why a target has no profile, as a correlation with a variance of zero; empty where it has one."""
        if isinstance(target, ComponentTarget) and not target.row.is_variance:
            find, row = self.coordinates.components.find, target.row
            zero = [self.components[n] for n in (find(row.term, row.j, row.j), find(row.term, row.k, row.k))
                    if self._is_zero(n)]  # fmt: skip
            if zero:
                return f"{target.name} does not exist: {' and '.join(zero)} estimated as zero"
        return ""

    def floor(self, target: Target) -> float:
        """A deviance that a target's profile never exceeds: inf for most.

        With a variance of zero a correlation can be anything, so that of no value is worse than that.
        """
        if not isinstance(target, ComponentTarget) or len(target.forms) == 1:
            return np.inf
        find, row = self.coordinates.components.find, target.row
        values = []
        for n in (find(row.term, row.j, row.j), find(row.term, row.k, row.k)):
            zero = ComponentTarget(self.components[n], self.coordinates, n)
            found = self.solve(zero, 0.0, [self.best(zero)], at_limit=True)
            if found.converged:
                values.append(found.deviance)
        return min(values, default=np.inf)

    def _is_zero(self, entry) -> bool:
        target = ComponentTarget("", self.coordinates, entry)
        return target.at(self.z)[0] < 1e-4 * target.unit(self.z)

    @property
    @abstractmethod
    def estimates(self) -> np.ndarray:
        """All named parameters at the optimum."""

    @abstractmethod
    def best(self, target: Target) -> Solved:
        """The optimum itself, as a point of a target's profile."""

    def solve(self, target: Target, t: float, near: list[Solved], at_limit: bool = False) -> Solved:
        """The optimum with the target at t.

        Parameters
        ----------
        target : Target
        t : float
        near : list of Solved
            Known points, from which the search starts: the first, then as far as it fails the others.
        at_limit : bool
            Whether t is a limit of the target, which has a constraint of its own.
        """
        found: Solved | None = None
        for known in near:
            for start in self._starts(target, known, t):
                here = self._search(target, t, start, at_limit)
                if found is None or (here.converged, -here.deviance) > (found.converged, -found.deviance):
                    found = here
            if found is not None and found.converged:
                return found
        assert found is not None
        return found

    @abstractmethod
    def _search(self, target, t, start, at_limit) -> Solved: ...

    def _starts(self, target, known, t):
        """Points to start from: the known one moved along its path, and where a variance is zero one that opens it.

        At a variance of zero the gradient is zero whatever the deviance does beyond it.
        """
        moved = known.z + known.tangent * (t - known.t)
        if np.isfinite(moved).all() and np.abs(moved - known.z).max(initial=0.0) < 2.0 * (1.0 + np.abs(known.z).max()):
            yield moved
        else:
            yield known.z
        singular = self._singular(known.z)
        if singular:
            for size in _OPEN:
                yield self._opened(known.z, singular, size)
        if len(singular) > 1:  # one may leave while others stay
            for term in singular:
                yield self._opened(known.z, [term], _OPEN[-1])

    def _singular(self, z) -> list[int]:
        """Terms whose covariance is singular."""
        parts = self.effects.per_term(z[self.coordinates.theta])
        terms = enumerate(zip(self.effects.terms, parts, strict=True))
        return [i for i, (term, part) in terms if term.covariance.is_singular(part, term.q)]

    def _opened(self, z, terms, size) -> np.ndarray:
        def open_term(i, term, part):
            if i not in terms:
                return part
            lam = term.covariance.factor(part, term.q)
            null = term.covariance.null_projector(part, term.q, tol=1e-3)
            rest = (np.eye(term.q) - null) @ lam
            return term.covariance.from_covariance(rest @ rest.T + size**2 * null)

        out = z.copy()
        out[self.coordinates.theta] = self.effects.map_terms(z[self.coordinates.theta], open_term)
        return out

    def _sdcor(self, z) -> np.ndarray:
        return self.coordinates.components.sdcor(self.coordinates.values(z))[0]

    def _tangent(self, gradient) -> np.ndarray:
        """dz/dt at the optimum, where the multiplier is zero."""
        if not (np.isfinite(gradient).all() and np.isfinite(self.hessian).all()):
            return np.full(len(self.z), np.nan)
        values, vectors = np.linalg.eigh(self.hessian)
        keep = values > _FLAT * max(values[-1], 0.0)
        way = vectors[:, keep] @ ((vectors[:, keep].T @ gradient) / values[keep])
        along = float(gradient @ way)
        return way / along if along > 0 else np.full(len(self.z), np.nan)

    def standard_error(self, target: Target) -> float:
        """Of the target on its own scale, from the observed information; NaN where there is none."""
        _, gradient = target.at(self.z)
        if not (np.isfinite(gradient).all() and gradient.any()):
            return np.nan
        way = self._tangent(gradient)
        curvature = float(way @ self.hessian @ way)
        return float(np.sqrt(2.0 / curvature)) if curvature > 0 else np.nan


def _nowhere(surface_size: int):
    """No constraint at all."""
    nothing = SurfacePoint(
        np.zeros(0), np.zeros((0, surface_size)), lambda weights: np.zeros((surface_size, surface_size))
    )
    return lambda z: nothing


class _LinearProblem(Problem):
    """Linear models: z is theta and log sigma."""

    def __init__(self, result, restricted=False):
        model = result.model
        coordinates = Coordinates(ComponentMap(model.effects, True), 0)
        super().__init__(model, coordinates, model.exog_names, [])
        objective = LinearObjective(model.cross_products(), model.effects, restricted)
        record = result.record
        if result.reml and not restricted:
            record = estimate(objective, start=result.theta)
            if not record.converged:
                raise ValueError(
                    "Profiles are of the ML likelihood, and the ML fit of the model did not converge: "
                    f"{record.reason}. Fit it with reml=False from other start_params=, or simplify the model."
                )
        self.objective, self.joint = objective, JointGaussian(objective)
        self.z, self.deviance = self.joint.optimum(record.theta_standard), record.value
        self.hessian = _difference_hessian(self.joint, self.z)

    def _head_target(self, name, index):
        return _Coefficient(name, index)

    def best(self, target):
        if target.is_fixed:
            t, tangent = float(self.estimates[target.index]), np.zeros(len(self.z))
        else:
            t, gradient = target.at(self.z)
            tangent = self._tangent(gradient)
        return Solved(t, self.deviance, 0.0, self.z, tangent, self.estimates)

    @cached_property
    def estimates(self):
        state = self.objective.standard_state(self.z[:-1])
        return np.concatenate([state.data.scaling.beta(state.beta), self._sdcor(self.z)])

    def standard_error(self, target):
        if not target.is_fixed:
            return super().standard_error(target)
        return float(np.sqrt(self.objective.standard_state(self.z[:-1]).cov_beta()[target.index, target.index]))

    def _search(self, target, t, start, at_limit):
        if target.is_fixed:
            return self._hold_coefficient(target.index, t, start)
        surface = target.limit_surface(t) if at_limit else target.surface(t)
        found = minimize_on(self.joint.point, surface, start)
        if not np.isfinite(found.value):
            return _failed(t, found, self.names)
        state = self.objective.standard_state(found.z[:-1])
        beta = state.data.scaling.beta(state.beta)
        return _solved(t, found, np.concatenate([beta, self._sdcor(found.z)]))

    def _hold_coefficient(self, index, value, start):
        data = self.objective.deviance.data
        held = LinearObjective(_without(data, index, value), self.effects, False)
        found = minimize_on(held.point, _nowhere(len(start) - 1), start[:-1])
        if not np.isfinite(found.value):
            return _failed(value, found, self.names)
        state = held.standard_state(found.z)
        z = np.append(found.z, 0.5 * np.log(state.sigma2))
        beta = state.data.scaling.beta(state.beta)
        beta[index] = value
        # The derivative in the held coefficient, from the solution with all of them.
        whole = self.objective.standard_state(found.z)
        row = data.scaling.map[index]
        variance = float(np.sum((whole.inv_chol_x @ row) ** 2))
        gap = value - data.scaling.start[index] - row @ whole.beta
        slope = 2.0 * gap / variance / state.sigma2
        out = _solved(value, found, np.concatenate([beta, self._sdcor(z)]))
        return replace(out, z=z, slope=float(slope), tangent=np.zeros(len(z)))


@dataclass(frozen=True)
class _Coefficient(Target):
    """A fixed effect of a linear model, which is held without being a coordinate."""

    name: str
    index: int
    is_fixed = True

    def at(self, z):
        raise TypeError("a coefficient of a linear model is no function of theta and sigma")

    hessian = at


def _without(data: GaussianData, index: int, value: float) -> GaussianData:
    """Cross-products of the model with one of the user's coefficients held at a value.

    With b the coefficients of the used columns and g'b + start the one that is held, b = g d / g'g + N c with N
    orthogonal to g: the columns become X N, and the response y - X g d / g'g.
    """
    scaling, p = data.scaling, data.p
    row = scaling.map[index]
    fixed = row * (value - scaling.start[index]) / (row @ row)
    rest = linalg.null_space(row[None])
    change = np.zeros((p + 1, p))
    change[:p, : p - 1], change[:p, -1], change[p, -1] = rest, -fixed, 1.0
    return replace(
        data,
        zxy=[z @ change for z in data.zxy],
        xxy=change.T @ data.xxy @ change,
        scaling=FixedScaling(scaling.map @ rest, scaling.start + scaling.map @ fixed),
    )


class _MarginalProblem(Problem):
    """Generalised and ordinal models: z is beta, internal psi and theta."""

    def __init__(self, result):
        model = result.model
        if result.nAGQ == 0:
            raise ValueError(
                "A profile needs a likelihood of the fixed effects; nAGQ=0 has none. Fit with nAGQ=1 or more."
            )
        self.space = model.space()
        coordinates = Coordinates(ComponentMap(model.effects, False), self.space.head, self._to_params)
        super().__init__(model, coordinates, model.exog_names, model.family.psi_names)
        self.objective = objective_of(model, result.nAGQ)
        self.z, self.deviance = result.z_standard, result.record.value
        self.hessian = result.record.hessian

    def _to_params(self, z):
        space = self.space
        beta, psi, _ = space.parts(z)
        beta = space.change @ beta
        return np.concatenate([beta, space.family.natural(psi) + space.centre @ beta]), space.head_jacobian(z)

    def _head_target(self, name, index):
        own = index >= self.space.p and self.model.family.has_intercept
        internal = (self.space.p, self.model.family) if own else None
        return HeadTarget(name, self.coordinates, index, index < self.space.p, internal)

    def best(self, target):
        t, gradient = target.at(self.z)
        return Solved(t, self.deviance, 0.0, self.z, self._tangent(gradient), self.estimates)

    @cached_property
    def estimates(self):
        return self._estimates(self.z)

    def _estimates(self, z):
        return np.concatenate([self._to_params(z)[0], self._sdcor(z)])

    def _search(self, target, t, start, at_limit):
        surface = target.limit_surface(t) if at_limit else target.surface(t)
        found = minimize_on(self.objective.point, surface, start)
        if not np.isfinite(found.value):
            return _failed(t, found, self.names)
        return _solved(t, found, self._estimates(found.z))


def profile_problem(result: Any, restricted: bool = False) -> Problem:
    """The problem of a fit.

    Parameters
    ----------
    result : MultilevelResults
    restricted : bool
        Of a linear model fitted by REML: take the restricted likelihood, of which components only have profiles.

    Raises
    ------
    ValueError
        Where the data are gone, the fit has not converged, or its criterion is no likelihood.
    """
    result.model.require_data("A profile")
    if not result.converged and not getattr(result, "separated", []):
        raise ValueError(
            f"A profile starts at the optimum, and the fit did not converge: {result.record.reason}. {REFIT}"
        )
    if result.residual_variance is None:
        return _MarginalProblem(result)
    return _LinearProblem(result, restricted)


def _difference_hessian(objective, z):
    out = np.empty((len(z), len(z)))
    for j, step in enumerate(_STEP * np.eye(len(z))):
        out[j] = (objective.point(z + step).gradient() - objective.point(z - step).gradient()) / (2.0 * _STEP)
    return 0.5 * (out + out.T)


def _solved(t, found: ConstrainedMinimum, estimates) -> Solved:
    single = len(found.multiplier) == 1
    slope = float(found.multiplier[0]) if single else np.nan
    tangent = found.tangent[:, 0] if single else np.full(len(found.z), np.nan)
    return Solved(t, found.value, slope, found.z, tangent, estimates, found.reason)


def _failed(t, found: ConstrainedMinimum, names) -> Solved:
    nothing = np.full(len(found.z), np.nan)
    return Solved(t, np.inf, np.nan, found.z, nothing, np.full(len(names), np.nan), found.reason)
