"""A model's data as one frozen record, however they were given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sm_multilevel.design.recipe import Recipe
from sm_multilevel.families.response import ResponseData
from sm_multilevel.grouping import factorize
from sm_multilevel.random_effects import RandomTerm

__all__ = ["Design", "compact_component"]


@dataclass(frozen=True, eq=False)
class Design:
    """A model's data, checked and complete; nothing in it is missing or infinite.

    Attributes
    ----------
    endog : ndarray, shape (n,)
    exog : ndarray, shape (n, p)
    endog_name : str
    exog_names : tuple of str
    terms : tuple of RandomTerm
    offset, var_weights, freq_weights : ndarray, shape (n,), or None
    index : Index or None
        Labels of the rows kept; None where only arrays were given.
    recipe : Recipe or None
        None for a model from arrays.
    n_dropped : int
        Rows left out because of missing values.
    outer : tuple of (ndarray, Index), or None
        Codes and levels of ``groups=``, where there are variance components within them.
    n_trials : ndarray, shape (n,), or None
        Binomial numbers of trials; None where every row is a single trial.
    categories : tuple or None
        Labels of an ordered response that occur, in order; (failure, success) of a binary
        one that came as labels.
    exposure : ndarray, shape (n,), or None
        Its logarithm is in `offset` already.
    kept : ndarray of bool, or None
        Which rows of the frame these are; None: all of them, or there is no frame.
    """

    endog: np.ndarray
    exog: np.ndarray
    endog_name: str
    exog_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    offset: np.ndarray | None
    var_weights: np.ndarray | None
    freq_weights: np.ndarray | None
    index: pd.Index | None
    recipe: Recipe | None
    n_dropped: int
    outer: tuple[np.ndarray, pd.Index] | None = None
    n_trials: np.ndarray | None = None
    categories: tuple | None = None
    exposure: np.ndarray | None = None
    kept: np.ndarray | None = None

    def response_data(self) -> ResponseData:
        """What a response family needs of the data."""
        return ResponseData(self.endog, self.n_trials, self.var_weights, self.freq_weights, self.categories)


def compact_component(term: RandomTerm) -> RandomTerm:
    """A variance component of indicator columns as a grouping factor of its own.

    Columns of which each row has at most one are a factor crossed with the group; as such
    they cost one column instead of a dense block a group.
    """
    if not term.is_component or term.q == 1:
        return term
    used = term.exog != 0
    if used.sum(axis=1).max(initial=0) > 1:
        return term
    column = used.argmax(axis=1)
    codes, cells = factorize(term.codes * term.q + column)
    value = term.exog[np.arange(len(column)), column][:, None]
    group, which = np.divmod(np.asarray(cells), term.q)
    names = [str(name) for name in np.asarray(term.columns)[which]]
    if term.n_levels > 1:
        names = [f"{a}:{b}" for a, b in zip(names, np.asarray(term.levels)[group], strict=True)]
    return replace(term, group=term.name, codes=codes, levels=pd.Index(names), exog=value, columns=("Intercept",))
