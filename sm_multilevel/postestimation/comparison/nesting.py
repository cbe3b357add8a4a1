"""Whether one fitted model is a special case of another, and along which directions the other is larger.

Nothing here looks at names. Fixed effects are nested if their columns span a part of the other's; random terms if
every covariance of the rows that they allow, Z G Z', is one that the other model's terms on the same grouping allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sm_multilevel.grouping import lies_within
from sm_multilevel.postestimation.comparison.regression import Regression
from sm_multilevel.random_effects import constant_column

__all__ = ["Nesting", "NestingError", "check_comparable", "check_same_rows", "label_of", "nest", "outside"]

_SPAN = 1e-7  # part of a column outside of others, relative to it, that counts as none
_CELLS = 64  # distinct rows of Z that a coarser grouping's covariance is compared on


class NestingError(ValueError):
    """Neither model is a special case of the other."""


@dataclass(frozen=True, eq=False)
class Nesting:
    """How a restricted model lies in a full one.

    Attributes
    ----------
    full : MultilevelResults
    fixed : int
        Fixed effects that only the full model has.
    psi : int
        Parameters of the response that are zero in the restricted model.
    directions : tuple of (int, ndarray)
        A basis of what the G of the full model may be: the factor, and a symmetric matrix over its columns,
        standardised.
    inside : ndarray, shape (directions, r)
        The directions, in this basis, in which the restricted model's covariance may change.
    null : list of ndarray
        G of each factor at the restricted fit.
    interior : list of ndarray
        The same, were no variance of the restricted model zero: the identity in its own standardised columns.
    """

    full: Any
    fixed: int
    psi: int
    directions: tuple[tuple[int, np.ndarray], ...]
    inside: np.ndarray
    null: list[np.ndarray]
    interior: list[np.ndarray]

    @property
    def df(self) -> int:
        return self.fixed + self.psi + len(self.directions) - self.inside.shape[1]


def label_of(fit: Any) -> str:
    """How messages name a model."""
    if isinstance(fit, Regression):
        return "the regression without random effects"
    formula = fit.model.full_formula
    text = repr(" ".join(formula.split())) if formula and "|" in formula else repr(fit.model)
    # A formula does not say what covariance= says; of a single column all structures are the same.
    kinds = [t.covariance for t in fit.model.effects.terms if t.q > 1 and t.covariance.maps != "linear"]
    names = dict.fromkeys(getattr(kind, "name", None) or repr(kind) for kind in kinds)
    return f"{text}, covariance={', '.join(map(repr, names))}" if names else text


# -- data and response ----------------------------------------------------------------------------


def check_same_rows(first: Any, second: Any) -> None:
    """Raise, naming what differs, if two models are of different rows or responses.

    Parameters
    ----------
    first, second : MultilevelModel
    """
    a, b = first.design, second.design
    if len(a.endog) != len(b.endog):
        advice = "Fit both to the same data."
        if a.n_dropped != b.n_dropped:
            advice = (
                f"{a.n_dropped} and {b.n_dropped} rows were left out because of missing values: drop them before "
                "both fits."
            )
        raise ValueError(f"The models are on different rows: {len(a.endog)} and {len(b.endog)}. {advice}")
    if a.endog.shape != b.endog.shape or not np.array_equal(a.endog, b.endog):
        if a.index is not None and b.index is not None and not a.index.equals(b.index):
            raise ValueError(
                "The models are on different rows, or on the same in another order: their labels (index) and responses "
                "differ. Fit both to the same data."
            )
        raise ValueError(
            f"The models have different responses: the values of {a.endog_name!r} and {b.endog_name!r} are not equal "
            "row by row. Fit both to the same response."
        )
    if a.categories != b.categories:
        raise ValueError(
            f"The models have different categories of the response, or another order of them: {a.categories} and "
            f"{b.categories}. Fit both to the same Categorical, or with the same order=."
        )
    for name, empty in (("n_trials", 1.0), ("var_weights", 1.0), ("freq_weights", 1.0), ("offset", 0.0)):
        x, y = (np.asarray(empty if getattr(d, name) is None else getattr(d, name), dtype=float) for d in (a, b))
        if not (np.broadcast_to(x, a.endog.shape) == y).all():
            raise ValueError(f"The models have different {name}. Fit both with the same.")


def check_comparable(first: Any, second: Any) -> None:
    """Raise, naming what differs, if the likelihoods of two fits cannot be compared.

    Parameters
    ----------
    first, second : MultilevelResults
    """
    check_same_rows(first.model, second.model)
    if (first.family is None) != (second.family is None):
        kinds = " and ".join(type(r.model).__name__ for r in (first, second))
        raise ValueError(f"The models have different likelihoods: {kinds}. Fit both by the same class.")
    if first.family is None:
        if first.reml != second.reml:
            raise ValueError("One model is fitted by REML and the other by ML. Fit both with the same reml=.")
        if first.reml and outside(first.model.design.exog, second.model.design.exog):
            raise ValueError(
                "REML likelihoods of models with different fixed effects cannot be compared: their columns span "
                "different spaces. Fit both with reml=False."
            )
        return
    for result in (first, second):
        if result.nAGQ == 0:
            raise ValueError(
                "nAGQ=0 does not maximise the likelihood over the fixed effects, so that its likelihood ratio means "
                "nothing. Fit with nAGQ=1 or more."
            )
        if result.model.var_weights is not None and "dispersion" not in result.family.psi_names:
            raise ValueError(
                f"var_weights in the {result.family.name} family, which has no dispersion, make a pseudo-likelihood. "
                "Its ratio has no chi-squared distribution. Use freq_weights for numbers of identical rows."
            )
    settled = first.quadrature_error is not None and second.quadrature_error is not None
    if first.nAGQ != second.nAGQ and not settled:
        raise ValueError(
            f"The likelihoods are integrated differently: nAGQ={first.nAGQ} and nAGQ={second.nAGQ}. Fit both with the "
            "same nAGQ."
        )


def _limit(restricted, full) -> int:
    """Elements of psi that make the full family the restricted one where they are zero; raises if it never is."""
    a, b = restricted.family, full.family
    if a is None or a == b:
        return 0
    extra = [j for j, name in enumerate(b.psi_names) if name not in a.psi_names]
    # Not all psi can be zero: thresholds must increase.
    zero = b.internal(np.zeros(len(b.psi_names))) if b.zero_limit else np.zeros(0)
    if len(a.psi_names) == 0 and extra and b.zero_limit and b.at_zero(zero).all():
        data = full.model.design.response_data()
        eta = b.bind(data).start_eta()
        if np.allclose(a.bind(data).at(eta, zero[:0]).logf, b.bind(data).at(eta, zero).logf, rtol=1e-9, atol=1e-9):
            return len(extra)
    what = "families" if (a.name, a.psi_names) != (b.name, b.psi_names) else "links"
    words = [f"{f.name} ({f.link_name})" for f in (a, b)]
    raise NestingError(f"The models have different {what}, {words[0]} and {words[1]}: neither is a case of the other.")


# -- fixed effects -----------------------------------------------------------------------------------


def outside(x: np.ndarray, columns: np.ndarray) -> list[int]:
    """Which columns the span of x does not contain."""
    if columns.shape[1] == 0:
        return []
    # Beside a constant only the deviations matter, however far from zero a column is.
    centred = constant_column(x) is not None
    scaled = _unit(columns, centred)
    if x.shape[1]:
        inner = _unit(x, centred)
        q = np.linalg.qr(inner[:, inner.any(axis=0)])[0]
        scaled = scaled - q @ (q.T @ scaled)
    return np.flatnonzero(np.sqrt((scaled * scaled).sum(axis=0)) > _SPAN).tolist()


def _unit(x, centred) -> np.ndarray:
    """Columns of length one; zero where they are zero or, centred, constant."""
    size = np.sqrt((x * x).sum(axis=0))
    least = 1e-12 * size
    if centred:
        x = x - x.mean(axis=0)
        size = np.sqrt((x * x).sum(axis=0))
    return np.where(size > least, x / np.where(size > 0, size, 1.0), 0.0)


def _fixed_df(restricted, full) -> int:
    """How many fixed effects only the full model has."""
    x, restricted_x = full.model.design.exog, restricted.model.design.exog
    names = list(restricted.model.design.exog_names)
    if full.family is not None and not full.family.has_intercept:  # thresholds contain the constant
        x = np.column_stack([np.ones(len(x)), x])
        restricted_x = np.column_stack([np.ones(len(x)), restricted_x])
        names = ["thresholds", *names]
    lost = outside(x, restricted_x)
    if lost:
        raise NestingError(
            f"The models are not nested: the fixed effect {names[lost[0]]!r} of {label_of(restricted)} is no part, nor "
            f"a combination, of the fixed effects of {label_of(full)}."
        )
    return x.shape[1] - restricted_x.shape[1]


# -- random effects ------------------------------------------------------------------------------------


def same_partition(a: Any, b: Any) -> bool:
    """Whether two terms group the rows in the same way, labels aside."""
    if a.n_levels != b.n_levels:
        return False
    return lies_within(a.codes, b.codes)


def _span(covariance, q) -> list[np.ndarray]:
    """Basis of the smallest space of symmetric matrices that has all G of a structure in it."""
    basis = covariance.basis(q)
    products = np.einsum("iab,jcb->ijac", basis, basis)
    products = (products + products.transpose(1, 0, 2, 3)).reshape(-1, q * q)
    products = products.reshape(-1, q, q)
    flat = (products + products.transpose(0, 2, 1)).reshape(-1, q * q)
    _, sizes, rows = np.linalg.svd(flat, full_matrices=False)
    return [row.reshape(q, q) for row in rows[sizes > 1e-9 * sizes[0]]]


def directions_of(effects: Any) -> tuple[tuple[int, np.ndarray], ...]:
    """A basis of what G may be, standardised columns: (factor, symmetric matrix over its columns)."""
    out = []
    for term, (f, start) in zip(effects.terms, effects.home, strict=True):
        part = slice(start, start + term.q)
        for g in _span(term.covariance, term.q):
            whole = np.zeros((effects.factors[f].q,) * 2)
            whole[part, part] = g
            out.append((f, whole))
    return tuple(out)


def _columns(effects, f) -> np.ndarray:
    """Columns of a factor."""
    return np.hstack([effects.terms[i].exog for i in effects.factors[f].terms])


def _place(term, standardizer, effects, directions) -> np.ndarray | None:
    """Coordinates of each of a term's directions in those of a model, shape (directions, r), or None.

    Both of standardised columns, so that no tolerance depends on units.
    """
    homes = [effects.terms[factor.terms[0]] for factor in effects.factors]
    alike = [same_partition(term, home) for home in homes]
    for f in sorted(range(len(homes)), key=lambda f: not alike[f]):
        home, same = homes[f], alike[f]
        if not same and not lies_within(term.codes, home.codes):
            continue
        w, z = effects.factor_standardizers[f], _columns(effects, f)
        if same:
            pair = _same_rows(term.exog @ standardizer, z @ w)
        else:
            pair = _distinct_rows(term, standardizer, home, z, w)
        if pair is None:
            continue
        mine, theirs, mask = pair
        kernels = [mask * (mine @ g @ mine.T) for g in _span(term.covariance, term.q)]
        own = [(j, theirs @ g @ theirs.T) for j, (home_factor, g) in enumerate(directions) if home_factor == f]
        matrix = np.stack([k.ravel() for _, k in own], axis=1)
        target = np.stack([k.ravel() for k in kernels], axis=1)
        sizes = np.linalg.norm(matrix, axis=0)
        found = np.linalg.lstsq(matrix / sizes, target, rcond=1e-10)[0]
        left = np.linalg.norm(matrix / sizes @ found - target, axis=0)
        if (left <= _SPAN * np.linalg.norm(target, axis=0)).all():
            out = np.zeros((len(directions), len(kernels)))
            out[[j for j, _ in own]] = found / sizes[:, None]
            return out
    return None


def _same_rows(mine, theirs):
    """Both terms' rows in a common basis of their columns; None if one's columns are not among the other's."""
    if outside(theirs, mine):
        return None
    r = np.linalg.qr(theirs, mode="r")
    return r @ np.linalg.lstsq(theirs, mine, rcond=None)[0], r, 1.0


def _distinct_rows(term, standardizer, home, theirs, w):
    """Rows of Z of each kind, where a finer grouping is told by the kind of row within the coarser levels.

    Then (1 | worker:machine) is what (0 + machine | worker) is with one variance and no correlation.
    """
    kinds, which = np.unique(np.hstack([theirs, term.exog]), axis=0, return_inverse=True)
    which = which.ravel()
    if len(kinds) > _CELLS:
        return None
    cell = np.full((home.n_levels, len(kinds)), -1)
    cell[home.codes, which] = term.codes
    if not np.array_equal(cell[home.codes, which], term.codes):
        return None
    known = (cell[:, :, None] >= 0) & (cell[:, None, :] >= 0)
    equal = (cell[:, :, None] == cell[:, None, :]) & known
    mask = equal.any(axis=0)
    if (mask & (known & ~equal).any(axis=0)).any() or not known.any(axis=0).all():
        return None
    q = theirs.shape[1]
    return kinds[:, q:] @ standardizer, kinds[:, :q] @ w, mask


def nest(restricted: Any, full: Any) -> Nesting:
    """Find out how one fit lies in another.

    Parameters
    ----------
    restricted : MultilevelResults or Regression
    full : MultilevelResults
        Of the same rows and response.

    Returns
    -------
    Nesting

    Raises
    ------
    NestingError
        If the restricted model is no special case of the full one; the message names what it has that the full
        one has not.
    """
    effects = full.model.effects
    directions = directions_of(effects)
    null = [np.zeros((f.q, f.q)) for f in effects.factors]
    if isinstance(restricted, Regression):
        fixed = full.model.design.exog.shape[1] - restricted.change.shape[1]
        return Nesting(full, fixed, 0, directions, np.zeros((len(directions), 0)), null, null)
    psi = _limit(restricted, full)
    fixed = _fixed_df(restricted, full)
    columns, interior = [], list(null)
    own = restricted.model.effects
    z = restricted.record.theta_standard  # of a generalised model: after the other parameters
    relative = own.per_term(z[len(z) - own.n_params :])
    for term, part, standardizer in zip(own.terms, relative, own.standardizers, strict=True):
        place = _place(term, standardizer, effects, directions)
        if place is None:
            name = f"({' + '.join(term.columns)} | {term.name or term.group})"
            raise NestingError(
                f"The models are not nested: {label_of(full)} has no random term that contains {name} of "
                f"{label_of(restricted)}, with the same grouping of the rows, its columns and a covariance of which "
                "its own is a special case."
            )
        columns.append(place)
        lam = term.covariance.factor(part, term.q)
        span = np.stack([g.ravel() for g in _span(term.covariance, term.q)], axis=1)
        for whole, g in ((null, lam @ lam.T), (interior, np.eye(term.q))):
            weights = place @ np.linalg.lstsq(span, g.ravel(), rcond=None)[0]
            for value, (f, direction) in zip(weights, directions, strict=True):
                whole[f] = whole[f] + value * direction
    inside = np.hstack(columns)
    lengths = np.linalg.norm(inside, axis=0)
    if np.linalg.matrix_rank(inside / np.where(lengths > 0, lengths, 1.0), tol=1e-9) < inside.shape[1]:
        raise NestingError(f"The random terms of {label_of(restricted)} cannot be told apart in {label_of(full)}.")
    return Nesting(full, fixed, psi, directions, inside, null, interior)
