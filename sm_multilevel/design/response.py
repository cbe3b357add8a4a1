"""A response as users have it, read as numbers: values, proportions of trials, ordered categories.

A model says with a `ResponseReader` how its response is to be read. Reading has two steps:
`screen` refuses columns of the wrong kind while missing values are still in them, `read`
turns complete columns into floats with their numbers of trials and their labels.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import patsy

from sm_multilevel.design.frame import missing_mask
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.design.values import numeric
from sm_multilevel.grouping import factorize

__all__ = ["Reading", "ResponseReader", "check_trials", "log_exposure", "response_columns", "row_name"]

KINDS = ("numeric", "proportion", "ordered")
# Successes computed as proportion x trials may miss a whole number by this, relatively.
WHOLE = 1e-6
_SUCCESSES = "two columns, successes and failures, are for a binomial response only"


@dataclass(frozen=True, eq=False)
class Reading:
    """A response as numbers, for complete rows.

    Attributes
    ----------
    endog : ndarray, shape (n,)
        Floats: the values; proportions of successes; numbers 0 .. K-1 of categories.
    n_trials : ndarray, shape (n,), or None
        Whole numbers; None where every row is a single trial, or there are no trials.
    categories : tuple or None
        Labels of an ordered response that occur, in order; (failure, success) of a binary
        one that came as labels.
    """

    endog: np.ndarray
    n_trials: np.ndarray | None = None
    categories: tuple | None = None


@dataclass(frozen=True)
class ResponseReader:
    """How a model reads its response.

    Parameters
    ----------
    kind : {"numeric", "proportion", "ordered"}
        ``"numeric"``: one column of numbers. ``"proportion"``: 0/1, two labels, proportions
        or successes with ``n_trials=``, or successes and failures. ``"ordered"``: ordered
        categories.
    max_columns : int
        2 where successes and failures may be given as two columns.
    order : sequence, optional
        Labels of an ordered response from the lowest to the highest, where the column does
        not know their order; labels that do not occur are left out.

    Examples
    --------
    >>> import numpy as np
    >>> reading = ResponseReader("proportion", 2).read([np.array([1.0, 3.0]), np.array([1.0, 0.0])], "y", [0, 1])
    >>> reading.endog.tolist(), reading.n_trials.tolist()
    ([0.5, 1.0], [2.0, 3.0])
    """

    kind: str = "numeric"
    max_columns: int = 1
    order: Sequence | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is not known. Choose one of {', '.join(map(repr, KINDS))}.")
        if self.order is not None:
            object.__setattr__(self, "order", _labels_in_order(self.order))

    @property
    def drop_intercept(self) -> bool:
        """Whether thresholds between the categories take the intercept's place."""
        return self.kind == "ordered"

    def screen(self, columns: list, what: str) -> list:
        """Columns that `read` can take once incomplete rows are left out.

        Parameters
        ----------
        columns : list of ndarray or Categorical
            As the user has them, with missing values; one of two dimensions counts as several.
        what : str
            What it is, for messages.

        Raises
        ------
        ValueError
            For too many columns, dates, complex numbers, and text where numbers are needed.
        """
        if len(columns) == 1 and np.ndim(columns[0]) == 2:
            columns = list(np.asarray(columns[0]).T)
        if len(columns) > self.max_columns:
            needed = "one is needed" if self.max_columns == 1 else "it may have two, successes and failures"
            hint = f"; {_SUCCESSES}" if self.max_columns == 1 else ""
            raise ValueError(f"{what} has {len(columns)} columns; {needed}{hint}.")
        if len(columns) > 1:
            return [numeric(c, f"{what} ({name})") for c, name in zip(columns, ("successes", "failures"), strict=True)]
        values = columns[0]
        if self.kind == "numeric":
            return [numeric(values, what, response=True)]
        if self.kind == "ordered" and _is_bool(values):
            return [pd.Categorical(values, categories=[False, True], ordered=True)]
        return [values if _is_labels(values, what) else numeric(values, what, response=True)]

    def read(self, columns: list, what: str, rows, n_trials=None) -> Reading:
        """Numbers from complete columns.

        Parameters
        ----------
        columns : list of ndarray or Categorical
            From `screen`, without missing values.
        what : str
            What it is, for messages.
        rows : Index or sequence
            Labels of the rows, for messages.
        n_trials : ndarray, optional
            Numbers of trials that were given beside the response.

        Raises
        ------
        ValueError
            Naming the first row, or the label, that is wrong.
        """
        if n_trials is not None and self.kind != "proportion":
            raise ValueError(f"{what} has no trials: n_trials= is for a binomial response. Leave it out.")
        if self.kind == "numeric":
            return Reading(columns[0])
        if self.kind == "ordered":
            return self._ordered(columns[0], what, rows)
        if len(columns) > 1:
            return _two_columns(columns, what, rows, n_trials)
        values = columns[0]
        if n_trials is not None:
            check_trials(n_trials, rows)
        if values.dtype.kind != "f":
            return _two_labels(values, what, rows, n_trials)
        return _proportion(values, what, rows, n_trials)

    def trials(self, columns: list, vectors: dict):
        """Numbers of trials: ``n_trials``, or the precision weights of proportions, as R's glm and glmer have them.

        Parameters
        ----------
        columns : list of ndarray
            The response's.
        vectors : dict of ndarray
            Options by name. ``var_weights`` is taken out where it holds the trials: where the response has
            values between 0 and 1 whose products with the weights are all whole numbers.

        Returns
        -------
        ndarray or None
        """
        given, weights = vectors.get("n_trials"), vectors.get("var_weights")
        if given is not None or weights is None or self.kind != "proportion" or len(columns) > 1:
            return given
        y = columns[0]
        if y.dtype.kind != "f" or not ((y > 0) & (y < 1)).any() or not ((y >= 0) & (y <= 1)).all():
            return None
        count = y * weights
        near = np.abs(count - np.rint(count)) <= WHOLE * np.maximum(weights, 1.0)
        if not (near.all() and (weights > 0).all() and np.array_equal(weights, np.rint(weights))):
            return None
        return vectors.pop("var_weights")

    def _ordered(self, values, what, rows) -> Reading:
        if self.order is not None:
            known = {label: code for code, label in enumerate(self.order)}
            codes = np.array([known.get(v, -1) for v in np.asarray(values, dtype=object)], dtype=np.intp)
            if (codes < 0).any():
                row = int(np.flatnonzero(codes < 0)[0])
                raise ValueError(
                    f"{what} has the label {_plain(values[row])!r} (first in {row_name(rows, row)}), which is not in "
                    f"order={_listed(self.order)}. Add it, or leave these rows out."
                )
            used = np.unique(codes)
            codes, labels = np.searchsorted(used, codes), tuple(self.order[k] for k in used)
        else:
            if isinstance(values, pd.Categorical):
                if not values.ordered:
                    raise ValueError(
                        f"{what} is categorical, but its categories {_listed(values.categories)} have no order. Give "
                        "order= with the labels from the lowest to the highest, or use an ordered Categorical."
                    )
            elif values.dtype.kind != "f":
                found = _listed(sorted({str(v) for v in values}))
                raise ValueError(
                    f"{what} holds text, whose order is not known. Give order= with the labels from the lowest to the "
                    f"highest (here in alphabetical order: {found}), or use an ordered Categorical."
                )
            else:
                odd = np.flatnonzero(values != np.round(values))
                if odd.size:
                    raise ValueError(
                        f"{what} must hold categories, that is labels or whole numbers, but {row_name(rows, odd[0])} "
                        f"has {values[odd[0]]:g}. Cut it into categories, for example with pandas.cut."
                    )
            codes, levels = factorize(values, what)
            labels = tuple(levels.tolist())
        if len(labels) == 1:
            raise ValueError(
                f"{what} is constant: all {len(codes)} rows have the category {labels[0]!r}. At least two are needed."
            )
        return Reading(codes.astype(float), None, labels)

    def again(self, endog, rows, n_trials, categories) -> Reading:
        """Another response for the rows of a fit.

        Parameters
        ----------
        endog : array_like, shape (n,)
            Numbers as in ``model.endog`` (values, proportions of the trials, numbers
            0 .. K-1 of categories), or labels; or two columns, successes and failures.
        rows, n_trials, categories
            Of the fit.
        """
        what = "The response"
        values = endog
        if isinstance(endog, pd.Series):
            values = pd.Categorical(endog) if isinstance(endog.dtype, pd.CategoricalDtype) else endog.to_numpy()
        values = values if isinstance(values, pd.Categorical) else np.asarray(values)
        two = self.max_columns == 2 and values.ndim == 2 and values.shape[1] == 2
        if self.kind != "numeric" and not two and _is_labels(values, what):
            values = self._codes(values, rows, categories)
        columns = [numeric(c, what, response=True) for c in (values.T if two else [values])]
        for column in columns:
            if column.shape != (len(rows),):
                raise ValueError(
                    f"{what} has shape {column.shape}; give one value for each of the {len(rows)} rows of the fit."
                )
            odd = np.flatnonzero(~np.isfinite(column))
            if odd.size:
                raise ValueError(
                    f"{what} has {column[odd[0]]} in {row_name(rows, odd[0])}, which is not finite. Give numbers."
                )
        if two:
            return _two_columns(columns, what, rows, None)
        if self.kind == "proportion":
            reading = _proportion(columns[0], what, rows, n_trials, counts_of_ones=False)
            return replace(reading, categories=categories)
        if self.kind == "ordered":
            odd = np.flatnonzero(~np.isin(columns[0], np.arange(len(categories))))
            if odd.size:
                raise ValueError(
                    f"{what} has {columns[0][odd[0]]:g} in {row_name(rows, odd[0])}. Give labels, or the numbers 0 to "
                    f"{len(categories) - 1} of the categories, as in model.endog."
                )
        return Reading(columns[0], n_trials, categories)

    @staticmethod
    def _codes(values, rows, categories):
        """Numbers of labels among those of the fit."""
        known = {label: float(code) for code, label in enumerate(categories or ())}
        codes = np.array([known.get(v, -1.0) for v in np.asarray(values, dtype=object)])
        if (codes < 0).any():
            row = int(np.flatnonzero(codes < 0)[0])
            had = f"the labels {_listed(categories)}" if categories else "numbers"
            raise ValueError(
                f"The response has {_plain(values[row])!r} in {row_name(rows, row)}; that of the fit had {had}."
            )
        return codes


def _labels_in_order(order) -> tuple:
    if isinstance(order, (str, Set, Mapping)) or not isinstance(order, Iterable):
        raise ValueError(f"order={order!r} must be a list of the labels, from the lowest to the highest.")
    labels = tuple(map(_plain, order))
    for i, label in enumerate(labels):
        if not isinstance(label, Hashable) or label != label:
            raise ValueError(f"order= has {label!r}, which is no label. Give text or numbers.")
        if label in labels[:i]:
            raise ValueError(f"order= names the label {label!r} twice. Name each label once.")
    return labels


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _listed(labels) -> str:
    """Labels as a list, shortened."""
    shown = [repr(_plain(v)) for v in list(labels)[:6]]
    return f"[{', '.join(shown)}{', ...' if len(labels) > 6 else ''}]"


def row_name(rows, i) -> str:
    """A row by its label."""
    return f"row {_plain(rows[int(i)])!r}"


def _is_bool(values) -> bool:
    if isinstance(values, pd.Categorical) or values.dtype.kind == "b":
        return not isinstance(values, pd.Categorical)
    if values.dtype != object:
        return False
    present = values[~missing_mask(values)]
    return bool(present.size) and all(isinstance(v, (bool, np.bool_)) for v in present)


def _is_labels(values, what) -> bool:
    """Whether a column holds labels, not numbers; a mixture is refused."""
    if isinstance(values, pd.Categorical):
        return True
    if values.dtype.kind in "US":
        return True
    if values.dtype != object:
        return False
    present = values[~missing_mask(values)]
    text = next((v for v in present if isinstance(v, str)), None)
    if text is None:
        return False
    other = next((v for v in present if not isinstance(v, str)), None)
    if other is not None:
        raise ValueError(f"{what} mixes text and other values ({text!r}, {_plain(other)!r}). Clean it.")
    return True


def _trials(trials):
    """None where every row is a single trial."""
    return None if trials is None or (trials == 1).all() else trials


def _two_columns(columns, what, rows, n_trials) -> Reading:
    successes, failures = columns
    if n_trials is not None:
        raise ValueError(
            f"{what} has two columns, successes and failures, and n_trials= is given too. Use one of them."
        )
    for values, name in ((successes, "successes"), (failures, "failures")):
        odd = np.flatnonzero((values < 0) | (values != np.round(values)))
        if odd.size:
            raise ValueError(
                f"{what}: {name} are counts, whole numbers of 0 or more, but {row_name(rows, odd[0])} has "
                f"{values[odd[0]]:g}."
            )
    trials = successes + failures
    empty = np.flatnonzero(trials == 0)
    if empty.size:
        raise ValueError(
            f"{what}: {row_name(rows, empty[0])} has neither successes nor failures ({empty.size} such rows). Leave "
            "them out with subset=."
        )
    return Reading(successes / trials, _trials(trials))


def _two_labels(values, what, rows, n_trials) -> Reading:
    codes, levels = factorize(values, what)
    labels = tuple(levels.tolist())
    if len(labels) == 1:
        raise ValueError(f"{what} is constant ({labels[0]!r} in all {len(codes)} rows): there is nothing to explain.")
    if len(labels) > 2:
        raise ValueError(
            f"{what} has {len(labels)} labels, {_listed(labels)}; a binary response has two. For ordered categories "
            f"use MEOLogit; to compare one with the others write a comparison, such as (y == {labels[0]!r})."
        )
    if _trials(n_trials) is not None:
        row = int(np.flatnonzero(n_trials != 1)[0])
        raise ValueError(
            f"{what} holds labels, one trial a row, but n_trials has {n_trials[row]:g} in {row_name(rows, row)}. Give "
            "the number of successes as response."
        )
    return Reading(codes.astype(float), None, labels)


def _proportion(values, what, rows, n_trials, counts_of_ones=True) -> Reading:
    """Of one column of numbers: 0/1, proportions, or successes.

    A value above 1 shows that the column holds successes; zeros and ones alone are
    successes too (unless `counts_of_ones` is False, for values that are known to be proportions).
    """
    negative = np.flatnonzero(values < 0)
    if negative.size:
        raise ValueError(f"{what} has {values[negative[0]]:g} in {row_name(rows, negative[0])}; it cannot be negative.")
    trials = _trials(n_trials)
    if trials is None:
        _check_single(values, what, rows, n_trials is not None)
        return Reading(values)
    whole = values == np.round(values)
    if (values > 1).any() or (whole.all() and counts_of_ones):
        if not whole.all():
            row, large = int(np.flatnonzero(~whole)[0]), int(np.argmax(values > 1))
            raise ValueError(
                f"{what} holds numbers of successes ({values[large]:g} in {row_name(rows, large)}), which must be "
                f"whole, but {row_name(rows, row)} has {values[row]:g}."
            )
        more = np.flatnonzero(values > trials)
        if more.size:
            raise ValueError(
                f"{what} has {values[more[0]]:g} successes of n_trials {trials[more[0]]:g} in "
                f"{row_name(rows, more[0])}. There cannot be more successes than trials."
            )
        return Reading(values / trials, trials)
    product = values * trials
    successes = np.round(product)
    odd = np.flatnonzero(np.abs(product - successes) > WHOLE * np.maximum(successes, 1.0))
    if odd.size:
        row = odd[0]
        raise ValueError(
            f"{what} is the proportion {values[row]:g} of {trials[row]:g} trials in {row_name(rows, row)}, which makes "
            f"{product[row]:g} successes, not a whole number. Give the successes themselves, or unrounded proportions."
        )
    return Reading(successes / trials, trials)


def _check_single(values, what, rows, given) -> None:
    """Raise unless numbers are 0 or 1: there is one trial a row."""
    large = np.flatnonzero(values > 1)
    if large.size:
        row = large[0]
        distinct = np.unique(values)
        if distinct.size == 2:
            hint = f"For two outcomes compare them, as in (y == {distinct[1]:g}); for"
        else:
            hint = "For"
        trials = "n_trials= says one trial a row" if given else "an outcome is 0 or 1"
        raise ValueError(
            f"{what} has {values[row]:g} in {row_name(rows, row)}, but {trials}. {hint} numbers of successes give "
            "n_trials=, or two columns, successes + failures."
        )
    part = np.flatnonzero(values != np.round(values))
    if part.size:
        row = part[0]
        fix = "n_trials= is 1 there" if given else "its number of trials is needed: give n_trials="
        raise ValueError(f"{what} is the proportion {values[row]:g} in {row_name(rows, row)}, but {fix}.")


def check_trials(values, rows) -> None:
    """Raise unless numbers of trials are whole and positive; missing ones pass."""
    odd = np.flatnonzero((values < 1) | (~np.isnan(values) & (values != np.round(values))))
    if odd.size:
        raise ValueError(
            f"n_trials must be whole numbers of 1 or more, but {row_name(rows, odd[0])} has {values[odd[0]]:g} "
            f"({odd.size} of {len(values)} rows are not). Leave these rows out with subset=."
        )


def log_exposure(values, rows, what: str = "exposure") -> np.ndarray:
    """The logarithm of exposures, which must be positive; missing ones stay missing."""
    odd = np.flatnonzero(values <= 0)
    if odd.size:
        raise ValueError(
            f"{what} must be positive, since its logarithm is added, but {row_name(rows, odd[0])} has "
            f"{values[odd[0]]:g} ({odd.size} of {len(values)} rows are not). Leave these rows out with subset=."
        )
    return np.log(values)


def response_columns(text: str, source, reader: ResponseReader) -> list:
    """Values of the columns on a formula's left-hand side.

    ``s + f`` and ``cbind(s, f)`` are two; anything else is one expression.

    Raises
    ------
    FormulaError
        If there are none, or more than the reader takes.
    """
    try:
        desc = patsy.ModelDesc.from_formula(f"{text} ~ 1")
    except patsy.PatsyError:
        raise FormulaError(f"The response {text!r} cannot be read. Write arithmetic as I({text}).") from None
    if not any(term.factors for term in desc.lhs_termlist):
        raise FormulaError(f"The response {text!r} is no column. Write its name left of '~'.")
    codes = _bound(text)
    if codes is None:
        terms = desc.lhs_termlist
        product = any(len(term.factors) != 1 for term in terms)
        codes = [text] if len(terms) == 1 else [factor.code for term in terms for factor in term.factors]
        if product or len(codes) > reader.max_columns:
            raise FormulaError(
                f"The response {text!r} is more than one column. Write a sum or product of columns as I({text})"
                + (f"; {_SUCCESSES}." if reader.max_columns == 1 else ", or two columns as successes + failures.")
            )
    if reader.kind != "numeric" and re.match(r"C\(.*\blevels\s*=", text):
        raise FormulaError(
            f"The response {text!r}: the levels of C() are not read. Use a Categorical with its categories in order."
        )
    return [source.vector(code, "response") for code in codes]


def _bound(text) -> list[str] | None:
    """The arguments of R's ``cbind(a, b)``; None if it is something else."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cbind" and node.args):
        return None
    return [str(ast.get_source_segment(text.strip(), argument)) for argument in node.args]
