"""Responses drawn from a fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sm_multilevel.checks import check_count

__all__ = ["Simulator", "simulate"]


class Simulator:
    """Draws responses from a fit; what does not depend on random numbers is made once.

    Parameters
    ----------
    result : MultilevelResults
    include_random : {"new", True, False}

    Raises
    ------
    ValueError
        For another value of `include_random`, or where the data are gone.
    """

    def __init__(self, result: Any, include_random="new"):
        if not (include_random == "new" or isinstance(include_random, (bool, np.bool_))):
            raise ValueError(f"include_random={include_random!r} is not known. Choose 'new', True or False.")
        model = result.model
        model.require_data("simulate()")
        self.result, self.random = result, model.random
        self.fixed = model.design.exog @ np.asarray(result.fe_params)
        if model.offset is not None:
            self.fixed = self.fixed + model.offset
        self.halves: list[np.ndarray] = []
        if include_random == "new":
            for term, part in zip(model.random, model.effects.per_term(result.theta), strict=True):
                self.halves.append(np.sqrt(result.scale) * term.covariance.factor(part, term.q))
        elif include_random:
            for term, solution in zip(model.random, result.term_solutions, strict=True):
                self.fixed = self.fixed + np.einsum("nq,nq->n", term.exog, solution.effects[term.codes])
        self.residual_sd = None
        if result.residual_variance is not None:
            weights = 1.0 if model.var_weights is None else model.var_weights
            self.residual_sd = np.sqrt(result.scale / weights)

    def draw(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """One response from each generator, which may be the same one; shape (B, n).

        Of each the random effects are drawn first, term by term, then the rows.
        """
        terms = list(zip(self.random, self.halves))  # no halves without new random effects
        sizes = [term.n_levels * term.q for term, _ in terms]
        n = len(self.fixed)
        if self.residual_sd is None:
            out = np.empty((len(rngs), n))
            for k, rng in enumerate(rngs):
                effects = rng.standard_normal(sum(sizes))[None] if sizes else np.empty((1, 0))
                out[k] = self.result.draw(self._linear(terms, sizes, effects)[0], rng)
            return out
        numbers = np.empty((len(rngs), sum(sizes) + n))
        for row, rng in zip(numbers, rngs, strict=True):
            rng.standard_normal(out=row)
        return self._linear(terms, sizes, numbers) + self.residual_sd * numbers[:, sum(sizes) :]

    def _linear(self, terms, sizes, numbers) -> np.ndarray:
        """Linear predictors from standard normal numbers, shape (B, n)."""
        eta = np.tile(self.fixed, (len(numbers), 1))
        at = 0
        for (term, half), size in zip(terms, sizes, strict=True):
            u = numbers[:, at : at + size].reshape(len(numbers), term.n_levels, term.q)
            at += size
            for i in range(term.q):
                eta += term.exog[:, i] * (u * half[i]).sum(axis=2)[:, term.codes]
        return eta


def simulate(result, n=1, seed=None, include_random="new") -> np.ndarray:
    """Responses drawn from the fitted model; see `MultilevelResults.simulate`."""
    n = check_count("n", n, "the number of replicates")
    rng = np.random.default_rng(seed)
    return Simulator(result, include_random).draw([rng] * n)
