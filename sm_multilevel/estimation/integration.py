"""How the random effects are integrated over, and the fit that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sm_multilevel.estimation.fit import estimate
from sm_multilevel.estimation.information import covariance_beside, joint_covariance
from sm_multilevel.estimation.minimize import newton
from sm_multilevel.estimation.record import FitRecord
from sm_multilevel.estimation.separation import is_constant_within, separating_columns
from sm_multilevel.objectives.marginal import MarginalObjective, MarginalState
from sm_multilevel.objectives.modes import NoModeError
from sm_multilevel.objectives.point import unwatched
from sm_multilevel.objectives.quadrature import NODE_BUDGET, Quadrature, cells_of_largest_group
from sm_multilevel.objectives.space import JointSpace

__all__ = ["AUTO", "Fitted", "check_nagq", "fit_marginal", "objective_of", "too_rough"]

AUTO = -1  # nAGQ="auto"
_ORDERS = (3, 5, 7, 11, 17, 25, 37, 55, 81, 101)  # that "auto" goes through
_SETTLED = 1e-5, 1e-3  # change of log L, and of the estimates in standard errors, that is none
_FIRST = 1e-3  # precision (deviance) of a Laplace fit that only serves as a start
_SUSPICIOUS = 2.0  # standard error of a standardised column that makes one look for separation
_LARGE = 10.0  # standard deviation on the scale of the link that makes one look at the outcomes of levels
_FINER = 9, 5  # points with which a fit is looked at once more, at least: of one column; of each of several
_MOVED = 1.0  # standard errors that these may move the estimates by
_CELLS = 2**27  # numbers of an array of one group's rows at all nodes


@dataclass(eq=False)
class Fitted:
    """What a fit found.

    Attributes
    ----------
    record : FitRecord
    objective : MarginalObjective
    state : MarginalState
        At the optimum.
    space : JointSpace
    z : ndarray
        The optimum in standardised columns, beta included.
    covariance : ndarray
        Of z, boundaries held fixed.
    nAGQ : int
        Points a column used.
    quadrature_error : float or None
        Change of the log-likelihood with the last points added, where nAGQ is "auto".
    separated : list of str
        Predictors whose estimates are infinite.
    beside : ndarray or None
        Covariance of the user's beta and psi beside them.
    warnings : list of str
    """

    record: FitRecord
    objective: MarginalObjective
    state: MarginalState
    space: JointSpace
    z: np.ndarray
    covariance: np.ndarray
    nAGQ: int
    quadrature_error: float | None = None
    separated: list[str] = field(default_factory=list)
    beside: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)


def check_nagq(value, model) -> int:
    """The number of points a column; AUTO for "auto".

    Raises
    ------
    ValueError
        Where it is no whole number from 0, or the model's random effects or the budget do not allow it.
    """
    if isinstance(value, str) and value.lower() == "auto":
        points = AUTO
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and value in (
        range(10**6)
    ):  # fmt: skip
        points = int(value)
    else:
        raise ValueError(f"nAGQ={value!r} must be a whole number from 0, or 'auto'.")
    if points in (0, 1):
        return points
    layout = model.effects.layout
    if layout.tail_factors:
        crossed = ", ".join(dict.fromkeys(model.group_names))
        raise ValueError(
            f"nAGQ={value!r}: quadrature needs one grouping factor, or factors that are nested; those of this model "
            f"({crossed}) are crossed. Use nAGQ=1 (Laplace), which any random effects allow."
        )
    columns = sum(layout.q)
    most = int(NODE_BUDGET ** (1.0 / columns) + 1e-9)
    rows = model.bound().rows
    largest = cells_of_largest_group(rows)
    most = min(most, int((_CELLS / largest) ** (1.0 / columns) + 1e-9))
    if points > most or most < 3:
        possible = f"use at most nAGQ={most}" if most > 1 else "use nAGQ=1 (Laplace)"
        raise ValueError(
            f"nAGQ={value!r} with {columns} random column{'s' if columns > 1 else ''} would need "
            f"{max(points, 3)}^{columns} nodes at which all rows are evaluated, over the budget of {NODE_BUDGET} nodes "
            f"(and of memory for a group of {largest} rows). For this model {possible}."
        )
    return points


def objective_of(model, points: int) -> MarginalObjective:
    """The objective of a model for 0, 1 or more points."""
    bound, space = model.bound(), model.space()
    if points == 0:
        empty = JointSpace(model.effects, np.zeros((0, 0)), model.family, bound.response.n_psi)
        return MarginalObjective(bound.rows, bound.response, model.effects, empty, joint=True)
    if points == 1:
        return MarginalObjective(bound.rows, bound.response, model.effects, space)
    rule = Quadrature(bound.rows, bound.response, points)
    return MarginalObjective(bound.rows, bound.response, model.effects, space, rule)


def fit_marginal(model, points: int, *, method, start, maxiter, callback, watch=unwatched) -> Fitted:
    """Fit by 0, 1 or more points, or by as many as it takes; see `MixedGLM.fit`."""
    objective = objective_of(model, points if points in (0, 1) else 1)
    objective.watch = watch
    if start is not None:
        with np.errstate(invalid="ignore"):
            objective.first = objective.space.from_user(start if points else start[model.k_fixed :])
        if not np.isfinite(objective.first).all():
            names = ", ".join(model.family.psi_names)
            raise ValueError(
                f"start_params is outside of the parameter space: check {names or 'the covariances'} (alpha and "
                "dispersion are positive, cut-points increase)."
            )
    error, notes = None, []
    try:
        if points == AUTO or points > 1:
            first = newton(objective.point, objective.start(), tol=_FIRST, maxiter=maxiter)
            if np.isfinite(first.value):
                objective.first = first.theta
                _check_domain(objective, first.theta, refuse=True)
            if points == AUTO:
                objective, points, error, notes = _raise_order(model, objective, first.theta, maxiter)
            else:
                objective = _next(model, points, objective)
        record = estimate(objective, method=method, maxiter=maxiter, callback=callback)
        fitted = _collect(model, objective, record, points)
    except NoModeError as problem:
        raise ValueError(
            f"The model cannot be fitted: {problem}. {model.family!r} does not hold these linear predictors; choose a "
            "link whose domain has no edge (logit for binomial, log for positive responses), or check offsets and "
            "outliers."
        ) from problem
    fitted.quadrature_error = error
    fitted.warnings += notes
    if points == 1:
        fitted.warnings += _check_domain(objective, record.theta_standard, refuse=False)
    return fitted


def too_rough(model, fitted: Fitted) -> list[str]:
    """A warning where more points would move the estimates by more than their standard errors.

    By one step of Newton's method from the estimates, in the metric of their covariance. Where the random effects of
    0/1 rows are large, the likelihood may not even have the maximum that a rough approximation has.
    """
    points = max(_FINER[sum(model.effects.layout.q) > 1], 2 * fitted.nAGQ + 1)
    if not fitted.record.converged or fitted.nAGQ == 0 or fitted.quadrature_error is not None:
        return []
    try:
        check_nagq(points, model)
        finer = _next(model, points, fitted.objective)
        finer.watch = unwatched  # the fit is done
        gradient = finer.state(fitted.z).gradient
    except (ValueError, NoModeError, np.linalg.LinAlgError):
        return []  # crossed factors, or beyond the budget
    moved = 0.5 * np.sqrt(max(gradient @ np.nan_to_num(fitted.covariance) @ gradient, 0.0))
    if not moved > _MOVED:
        return []
    what = "Laplace's approximation is" if fitted.nAGQ == 1 else f"{fitted.nAGQ} quadrature points are"
    return [
        f"{what} too rough for these data: {points} points a column would move the estimates by about {moved:.1f} "
        "standard errors. Use nAGQ='auto'."
    ]


def _next(model, points, objective):
    out = objective_of(model, points)
    out.follow(objective)
    return out


def _raise_order(model, objective, z, maxiter):
    """More points until nothing changes."""
    last = objective.state(z)
    value, error, points = last.value, np.inf, 1
    why = "the most that are tried"
    for order in _ORDERS:
        try:
            check_nagq(order, model)
        except ValueError:
            why = "the most that the budget allows"
            break
        following = _next(model, order, objective)
        found = newton(following.point, z, tol=1e-8, maxiter=maxiter)
        if not np.isfinite(found.value):
            why = f"since with {order} the likelihood does not exist where it was looked for"
            break
        curvature = np.maximum(np.diag(following.state(found.theta).curvature), 1e-8)
        shift = float(np.abs((found.theta - z) * np.sqrt(0.5 * curvature)).max())
        error = 0.5 * abs(found.value - value)
        objective, z, value, points = following, found.theta, found.value, order
        objective.first = z
        if error <= _SETTLED[0] and shift <= _SETTLED[1]:
            return objective, points, error, []
    size = f"the log-likelihood still changes by {error:.2g}" if np.isfinite(error) else "its error is not known"
    text = (
        f"nAGQ='auto' ended at {points} point{'s' * (points > 1)} a column, {why}: {size}, and the estimates "
        "carry that error."
    )
    return objective, points, error, [text]


def _collect(model, objective, record, points) -> Fitted:
    """Covariance of the estimates, and whether they exist."""
    space = model.space()
    z, hessian = record.theta_standard, record.hessian
    try:
        state = objective.state(z)
    except np.linalg.LinAlgError as error:
        raise NoModeError(str(error)) from error
    if points == 0:
        z, hessian = _with_beta(state, z, hessian)
        record = replace(record, theta=space.to_user(z), theta_standard=z, hessian=hessian)
    fixed = np.zeros(len(z), dtype=bool)
    fixed[space.p : space.head] = space.psi_at_zero(z)
    covariance = joint_covariance(hessian, fixed)
    fitted = Fitted(record, objective, state, space, z, covariance, points)
    errors = np.sqrt(np.diag(covariance)[: space.p])
    if space.p and not (np.isfinite(errors).all() and errors.max() * space.scale <= _SUSPICIOUS):
        _look_for_separation(model, fitted, hessian, fixed)
    if record.converged and fitted.record.converged:
        fitted.warnings += _without_errors(model, fitted, fixed)
    if len(z) > space.head and np.abs(z[space.head :]).max() > _LARGE:
        _look_for_constant_levels(model, fitted)
    return fitted


def _with_beta(state, z, hessian):
    """nAGQ=0: the modes of beta put before psi and theta, with their covariance given these."""
    p = state.mode.rows.p
    out = np.zeros((p + len(z), p + len(z)))
    out[:p, :p] = 2.0 * state.mode.schur
    out[p:, p:] = hessian
    return np.concatenate([state.mode.beta, z]), out


def _look_for_separation(model, fitted, hessian, fixed):
    recession = model.family.recession(model.design.response_data(), model.design.exog)
    if recession is None:
        return
    names = [*model.design.exog_names, *model.family.psi_names]
    fitted.separated = separating_columns(recession, names[: recession[0].shape[1]])
    if not fitted.separated:
        return
    held = fixed.copy()
    held[: fitted.space.head] |= np.isin(names, fitted.separated)
    fitted.beside = covariance_beside(hessian, fitted.space.head_jacobian(fitted.z), held)
    listed = ", ".join(fitted.separated)
    reason = (
        f"the predictors separate the response: the likelihood rises without end along {listed}, whose estimates are "
        "infinite. Leave them out, merge levels, or collect data in which the outcome varies"
    )
    fitted.record = replace(fitted.record, converged=False, reason=reason)


def _without_errors(model, fitted, fixed) -> list[str]:
    """A warning where an estimate off the boundary has no standard error."""
    head = fitted.space.head
    lost = np.isnan(np.diag(fitted.covariance)[:head]) & ~fixed[:head]
    if not lost.any():
        return []
    names = [*model.design.exog_names, *model.family.psi_names]
    listed = ", ".join(n for n, gone in zip(names, lost, strict=True) if gone)
    return [
        f"The data have no information on some direction in which {listed} could move: they have no standard errors. "
        "Simplify the random effects or the fixed part."
    ]


def _look_for_constant_levels(model, fitted):
    ends = model.family.limits(model.design.response_data())
    if ends is None:
        return
    names = [name for t, name in zip(model.random, model.group_names, strict=True) if is_constant_within(ends, t.codes)]
    if names:
        reason = (
            f"the outcome does not vary within the levels of {', '.join(dict.fromkeys(names))}, so the variance of the "
            "random effects grows without end. Use a coarser grouping factor, or model the levels themselves"
        )
        fitted.record = replace(fitted.record, converged=False, reason=reason)


def _check_domain(objective, z, refuse) -> list[str]:
    """Whether the random effects stay inside the link's domain, three standard deviations around their modes."""
    mode = objective.state(z).mode
    far = mode.response.take(slice(0, 1))
    if all(np.isfinite(far.at(np.array([side]), mode.psi).logf).all() for side in (-30.0, 30.0)):
        return []
    inverse = mode.inverse.congruence([lam.T for lam in mode.lams], 0.0)
    spread = 3.0 * np.sqrt(np.maximum(mode.rows.quadratic(inverse), 0.0))
    if all(np.isfinite(mode.response.at(mode.eta + side, mode.psi).logf).all() for side in (-spread, spread)):
        return []
    text = (
        "within three standard deviations of the random effects the linear predictor leaves the domain of the link, "
        "where the mean has no meaning, so the integral over the random effects does not exist"
    )
    if refuse:
        raise ValueError(f"nAGQ > 1 is not possible: {text}. Use nAGQ=1, or a log link.")
    return [f"Laplace's approximation is used although {text}. Consider a log link."]
