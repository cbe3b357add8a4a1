"""From arrays, Series and frames to a frozen design, aligned by the index where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from patsy.eval import EvalEnvironment

from sm_multilevel.covariance import Covariance, Identity, Unstructured
from sm_multilevel.design.frame import RowSource, as_frame, missing_mask
from sm_multilevel.design.random_part import structures_of
from sm_multilevel.design.record import Design, compact_component
from sm_multilevel.design.response import Reading, ResponseReader
from sm_multilevel.design.rows import missing_rows, refuse_incomplete, total_offset
from sm_multilevel.design.values import check_finite, numeric, row_vectors
from sm_multilevel.grouping import cross
from sm_multilevel.random_effects import RandomTerm

__all__ = ["design_from_arrays"]


def design_from_arrays(
    endog, exog, groups, exog_re, exog_vc, *, random, covariance, offset, var_weights,
    freq_weights, missing, exposure=None, n_trials=None, reader=None, reading=None,
) -> Design:  # fmt: skip
    """A design from arrays, Series and frames, aligned by the index where there is one.

    Parameters
    ----------
    endog, exog, groups, exog_re, exog_vc, covariance, offset, var_weights, freq_weights, missing
        As in `MixedLM`.
    random : sequence of RandomTerm, optional
        Finished terms, instead of groups and columns.
    exposure, n_trials : array_like, optional
        Exposure, whose logarithm is added to the offset, and binomial numbers of trials.
    reader : ResponseReader, optional
        How `endog` is read, default as one column of numbers.
    reading : Reading, optional
        Of the same rows: `endog` are numbers as there, and trials and labels are as there.

    Raises
    ------
    ValueError
        Naming the argument whose length, index or values are wrong.
    """
    if missing not in ("none", "drop", "raise"):
        raise ValueError(f"missing={missing!r} is not known. Choose 'none', 'drop' or 'raise'.")
    reader = ResponseReader() if reader is None or reading is not None else reader
    if type(endog).__module__.split(".")[0] == "polars" and np.ndim(endog) == 2:
        endog = as_frame(endog)
    if np.ndim(endog) == 2 and np.shape(endog)[1] == 1:
        endog = endog.iloc[:, 0] if isinstance(endog, pd.DataFrame) else np.asarray(endog)[:, 0]
    if isinstance(endog, str) or np.ndim(endog) == 0:
        raise ValueError(
            f"endog is {'a name' if isinstance(endog, str) else 'a single value'}; give one value a row, or use "
            "from_formula for names of columns."
        )
    n = len(endog)
    index = endog.index if isinstance(endog, (pd.Series, pd.DataFrame)) else None
    if index is None and isinstance(exog, (pd.DataFrame, pd.Series)):
        index = exog.index
    rows = pd.RangeIndex(n) if index is None else index
    source = RowSource(pd.DataFrame(index=rows), None, rows, EvalEnvironment([{}]))
    y_name, lhs = _endog_columns(source, endog, reader)
    x, x_names = _array_columns(source, exog, "exog", "x")
    if exog is not None and not isinstance(exog, (pd.DataFrame, pd.Series)):
        x_names = _default_names(x)
    vectors = row_vectors(
        source, offset=offset, exposure=exposure, n_trials=n_trials, var_weights=var_weights, freq_weights=freq_weights
    )
    terms = tuple(random) if random is not None else None
    raw: list[_ArrayTerm] = []
    if terms is None:
        raw = _array_terms(source, groups, exog_re, exog_vc, covariance)
    pieces = [*(("endog", values) for values in lhs), *vectors.items(), ("exog", x)]
    for part in raw:
        pieces += [(f"groups {part.label!r}", values) for values in part.groups]
        pieces.append((f"columns of {part.label!r}", part.exog))
    gone, culprits = missing_rows(pieces, n)
    keep = ~gone
    refuse_incomplete(keep, culprits, missing == "drop" and random is None)

    def kept(values):
        return values[keep] if gone.any() else values

    check_finite(kept(x), x_names, "exog")
    if terms is None:
        built = []
        for label, values, z, columns, structure, is_component in raw:
            codes, levels = cross([kept(v) for v in values], f"groups {label!r}")
            check_finite(kept(z), columns, f"columns of {label!r}")
            built.append(RandomTerm(label, codes, levels, kept(z), columns, structure, label, is_component))
        terms = tuple(map(compact_component, built))
    for term in terms:
        if len(term.codes) != int(keep.sum()):
            raise ValueError(
                f"The random term {term.group!r} has {len(term.codes)} rows; endog has {n}. Give equally many."
            )
    vectors = {name: kept(values) for name, values in vectors.items()}
    labels = kept(rows)
    lhs = [kept(values) for values in lhs]
    if reading is None:
        reading = reader.read(lhs, "endog", labels, reader.trials(lhs, vectors))
    else:
        reading = Reading(lhs[0], reading.n_trials, reading.categories)
    return Design(
        endog=reading.endog, exog=kept(x), endog_name=str(y_name), exog_names=tuple(x_names), terms=terms,
        offset=total_offset(vectors, labels), var_weights=vectors.get("var_weights"),
        freq_weights=vectors.get("freq_weights"),
        index=index if index is None else labels, recipe=None, n_dropped=int(gone.sum()),
        outer=cross([kept(source.vector(groups, "groups"))], "groups") if exog_vc else None,
        n_trials=reading.n_trials, categories=reading.categories, exposure=vectors.get("exposure"),
    )  # fmt: skip


def _endog_columns(source, endog, reader):
    """Name and columns of the response."""
    name = getattr(endog, "name", None) or "y"
    if isinstance(endog, pd.DataFrame):
        name = " + ".join(map(str, endog.columns))
        columns = [source.vector(endog.iloc[:, j], "endog") for j in range(endog.shape[1])]
    else:
        if isinstance(endog, (list, tuple)) and any(isinstance(v, str) for v in endog):
            endog = np.array(endog, dtype=object)  # a missing value among labels stays one
        columns = [source.vector(endog, "endog")]
    return name, reader.screen(columns, "endog")


def _array_columns(source, value, what, prefix):
    if value is None:
        return np.empty((source.n, 0)), []
    names = None
    if isinstance(value, pd.DataFrame):
        doubled = value.columns[value.columns.duplicated()]
        if len(doubled):
            raise ValueError(f"{what} has more than one column named {doubled[0]!r}. Rename or drop the duplicates.")
        names = [str(c) for c in value.columns]
        columns = [
            numeric(source.vector(value[c], f"{what} {c!r}"), f"{what}: the column {c!r}") for c in value.columns
        ]
        matrix = np.column_stack(columns) if columns else np.empty((source.n, 0))
        return matrix, names
    if isinstance(value, pd.Series):
        matrix = numeric(source.vector(value, what), what)[:, None]
        return matrix, [str(value.name) if value.name is not None else f"{prefix}1"]
    matrix = np.asarray(value)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[0] != source.n:
        raise ValueError(f"{what} has shape {matrix.shape}; {source.n} rows are needed.")
    if matrix.dtype.kind not in "biuf":
        columns = [numeric(matrix[:, j], f"{what}: the column {j}") for j in range(matrix.shape[1])]
        matrix = np.column_stack(columns) if columns else np.empty(matrix.shape)
    matrix = matrix.astype(float, copy=False)
    return matrix, [f"{prefix}{j + 1}" for j in range(matrix.shape[1])]


def _default_names(x):
    """statsmodels' names of nameless columns: const for the constant, x1, x2, ..."""
    constant = [j for j in range(x.shape[1]) if x[0, j] != 0 and np.ptp(x[:, j]) == 0]
    names, count = [], 0
    for j in range(x.shape[1]):
        if constant and j == constant[0]:
            names.append("const")
        else:
            count += 1
            names.append(f"x{count}")
    return names


class _ArrayTerm(NamedTuple):
    label: str
    groups: list  # values of the factors whose crossing is the grouping
    exog: np.ndarray
    columns: tuple[str, ...]
    covariance: Covariance = Unstructured()
    is_component: bool = False


def _array_terms(source, groups, exog_re, exog_vc, covariance) -> list[_ArrayTerm]:
    """The random terms; variance components last."""
    raw: list[_ArrayTerm] = []
    exog_vc = _by_name(source, exog_vc, groups)
    if isinstance(exog_re, Mapping):
        if groups is not None:
            raise ValueError("With a dict exog_re= the groups are in it; leave groups= out.")
        for name, pair in exog_re.items():
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ValueError(f"exog_re[{name!r}] must be a pair (groups, columns).")
            values = source.vector(pair[0], f"groups {name!r}")
            raw.append(_ArrayTerm(str(name), [values], *_re_columns(source, pair[1])))
    else:
        if groups is None:
            raise ValueError("groups= is needed: the group of each row.")
        several = isinstance(groups, (list, tuple)) and 0 < len(groups) != source.n and np.ndim(groups[0]) == 1
        given = list(groups) if several else [groups]
        parts = [source.vector(g, "groups") for g in given]
        for part in parts:
            if np.ndim(part) != 1:
                raise ValueError("groups= must be one-dimensional; give nested levels as a list of arrays.")
        names = [
            str(getattr(g, "name", None) or ("group" if len(given) == 1 else f"group{d + 1}"))
            for d, g in enumerate(given)
        ]
        if exog_re is not None or exog_vc is None:
            for depth in range(len(parts) - 1, -1, -1):
                columns = exog_re if depth == len(parts) - 1 else None
                label = ":".join(names[depth::-1])
                raw.append(_ArrayTerm(label, parts[depth::-1], *_re_columns(source, columns)))
    structures = structures_of(covariance, [term.label for term in raw])
    out = [term._replace(covariance=s) for term, s in zip(raw, structures, strict=True)]
    if exog_vc is not None:
        if not isinstance(exog_vc, Mapping):
            raise ValueError("exog_vc= must be a dict of name -> array of columns.")
        for name, value in exog_vc.items():
            matrix, columns = _array_columns(source, value, f"exog_vc[{name!r}]", f"{name}")
            out.append(_ArrayTerm(str(name), [parts[0]], matrix, tuple(columns), Identity(), True))
    return out


def _re_columns(source, value):
    if value is None:
        return np.ones((source.n, 1)), ("Intercept",)
    matrix, names = _array_columns(source, value, "exog_re", "x_re")
    if not names:
        raise ValueError("exog_re has no columns; leave it out for a random intercept.")
    if not isinstance(value, (pd.DataFrame, pd.Series)):
        names = ["Intercept" if np.ptp(matrix[:, j]) == 0 and matrix[0, j] == 1 else n for j, n in enumerate(names)]
    return matrix, tuple(names)


def _by_name(source, exog_vc, groups):
    """``exog_vc=`` as name -> columns; also of statsmodels' VCSpec, or of dicts of matrices by group."""
    if hasattr(exog_vc, "mats") and hasattr(exog_vc, "names"):
        names, given = list(exog_vc.names), exog_vc.mats
        labels = exog_vc.colnames
        if names != sorted(names):
            raise ValueError(
                f"exog_vc= has the components {', '.join(names)}; give them in alphabetical order, which is that of "
                "result.vcomp."
            )
    elif isinstance(exog_vc, Mapping) and any(isinstance(v, Mapping) for v in exog_vc.values()):
        names, given, labels = list(exog_vc), list(exog_vc.values()), None
    else:
        return exog_vc
    if not names:
        return None
    values = source.vector(groups, "groups")
    if missing_mask(values).any():
        raise ValueError("groups= has missing values, and exog_vc= matrices by group. Drop these rows from both.")
    levels = sorted(set(np.asarray(values, dtype=object).tolist()))
    codes = pd.Index(levels, dtype=object).get_indexer(pd.Index(np.asarray(values, dtype=object), dtype=object))
    out = {}
    for k, (name, blocks) in enumerate(zip(names, given)):
        if isinstance(blocks, Mapping):
            lost = [level for level in levels if level not in blocks]
            if lost:
                raise ValueError(f"exog_vc[{name!r}] has no matrix of the group {lost[0]!r}. Give one for each.")
            blocks = [blocks[level] for level in levels]
        if len(blocks) != len(levels):
            raise ValueError(f"exog_vc {name!r} has matrices of {len(blocks)} groups; there are {len(levels)}.")
        whole, columns = _stacked(f"exog_vc {name!r}", blocks, levels, codes, labels and labels[k])
        out[str(name)] = pd.DataFrame(whole, index=source.frame.index, columns=columns)
    return out


def _stacked(what, blocks, levels, codes, labels):
    """Matrices by group as one of all rows, with zeros where a group has fewer columns than others."""
    dense = [np.asarray(b.toarray() if hasattr(b, "toarray") else b, dtype=float) for b in blocks]
    dense = [b[:, None] if b.ndim == 1 else b for b in dense]
    for level, block, count in zip(levels, dense, np.bincount(codes, minlength=len(levels)), strict=True):
        if block.ndim != 2 or len(block) != count:
            raise ValueError(f"{what}: the matrix of the group {level!r} has shape {block.shape}; it has {count} rows.")
    width = max(b.shape[1] for b in dense)
    whole = np.zeros((len(codes), width))
    whole[np.argsort(codes, kind="stable")] = np.vstack([np.pad(b, ((0, 0), (0, width - b.shape[1]))) for b in dense])
    own = labels is not None and all(list(c) == list(labels[0]) for c in labels) and len(set(labels[0])) == width
    return whole, list(map(str, labels[0])) if own else [str(j) for j in range(width)]
