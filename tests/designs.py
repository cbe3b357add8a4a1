"""Small random designs on which the package is compared with dense matrices: all kinds of nesting and crossing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm_multilevel.random_effects import RandomTerm

N = 42


def levels(rng, m, n=N):
    """Codes of n rows, each of the m levels among them."""
    return rng.permutation(np.concatenate([np.arange(m), rng.integers(0, m, n - m)]))


# Of each term the group, its codes and the number of its columns.


def one_intercept(rng):
    return [("g", levels(rng, 7), 1)]


def slopes(rng):
    return [("g", levels(rng, 7), 2)]


def three_columns(rng):
    return [("g", levels(rng, 6), 3)]


def split(rng):
    """Two terms of one factor, as (1 | g) + (0 + x | g)."""
    codes = levels(rng, 7)
    return [("g", codes, 1), ("g", codes, 2)]


def nested(rng):
    inner = levels(rng, 11)
    return [("b:a", inner, 1), ("a", levels(rng, 4, 11)[inner], 2)]


def crossed(rng):
    return [("g", levels(rng, 8), 2), ("h", levels(rng, 5), 1)]


def apart(rng):
    """Crossed within three sets of levels that never meet."""
    part = np.repeat([0, 1, 2], [21, 14, 7])
    sizes = np.array([[4, 3, 2], [3, 2, 2]])
    out = []
    for m in sizes:
        start = np.concatenate([[0], np.cumsum(m)[:-1]])
        codes = np.concatenate([start[k] + levels(rng, m[k], int((part == k).sum())) for k in range(3)])
        out.append(codes)
    return [("g", out[0], 2), ("h", out[1], 2)]


def crossed_and_nested(rng):
    inner = levels(rng, 9)
    return [("h", levels(rng, 5), 2), ("b:a", inner, 2), ("a", levels(rng, 3, 9)[inner], 1)]


WEIGHTS = {"none": (), "var": ("var",), "freq": ("freq",), "both": ("var", "freq")}


def random_terms(rng, layout, covariance):
    """The terms of a layout: a first column of ones where there is room, and others far from zero."""
    terms = []
    for group, codes, q in layout(rng):
        z = rng.normal(size=(N, q)) + 3.0
        if q > 1:
            z[:, 0] = 1.0
        names = tuple(f"z{j}" for j in range(q))
        terms.append(RandomTerm(group, codes, pd.RangeIndex(codes.max() + 1), z, names, covariance, group))
    return terms


def random_weights(rng, kinds):
    """Precision weights and frequency weights, None for those not among the kinds."""
    var = rng.uniform(0.3, 3.0, N) if "var" in kinds else None
    freq = rng.integers(1, 4, N).astype(float) if "freq" in kinds else None
    return var, freq
