"""From a formula and a frame to a frozen design, and the same for new data.

Everything that can be wrong with the data is found here, before any number is computed:
names, lengths, missing and infinite values, levels, weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import patsy
from patsy.eval import EvalEnvironment

from sm_multilevel.covariance import Covariance, Diagonal, get_covariance
from sm_multilevel.formula.frame import Expression, RowSource, as_frame, missing_mask, suggest
from sm_multilevel.formula.matrices import MatrixFormula, build_matrices, environment
from sm_multilevel.formula.terms import FormulaError, FormulaSpec, parse, parse_re_formula
from sm_multilevel.grouping import cross, factorize, match_levels
from sm_multilevel.random_effects import RandomTerm

__all__ = [
    "Design",
    "NewData",
    "Recipe",
    "TermRecipe",
    "check_weights",
    "design_from_arrays",
    "design_from_formula",
]


@dataclass(frozen=True, eq=False)
class TermRecipe:
    """How a random term is made from data.

    Attributes
    ----------
    group : str
        Name of the grouping factor.
    parts : tuple of Expression or None
        Factors whose crossing is the grouping; None where an array was given.
    text : str
        Patsy right-hand side of the columns.
    covariance : Covariance
    name : str
    split : bool
        ``||``: every column becomes a term of its own.
    given : tuple of ndarray or None
        Values of the grouping where an array was given.
    is_component : bool
        Whether it came from ``vc_formula=``.
    """

    group: str
    parts: tuple | None
    text: str
    covariance: Covariance
    name: str
    split: bool = False
    given: tuple | None = None
    is_component: bool = False


@dataclass(frozen=True, eq=False)
class NewData:
    """A design evaluated on new rows.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    offset : ndarray, shape (n,)
    random : list of (ndarray, ndarray)
        Codes (-1: unknown level) and columns of each term; empty for population values.
    index : Index
    """

    exog: np.ndarray
    offset: np.ndarray
    random: list
    index: pd.Index


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a design is rebuilt for new data; pickles without the data.

    Attributes
    ----------
    fixed : MatrixFormula
    random : tuple of (TermRecipe, MatrixFormula)
    offsets : tuple of Expression
    offset_name : str or None
        Column given in ``offset=``.
    """

    fixed: MatrixFormula
    random: tuple
    offsets: tuple
    offset_name: str | None

    def apply(self, data, levels, include_random: bool) -> NewData:
        """Evaluate on new data.

        Parameters
        ----------
        data : frame or mapping
        levels : list of Index
            Levels of the terms, as split.
        include_random : bool
            Whether the random terms are wanted; their columns must exist then.
        """
        frame = as_frame(data)
        exog = self.fixed.matrix(frame)
        offset = np.zeros(len(frame))
        for expression in self.offsets:
            offset = offset + np.asarray(expression.values(frame), dtype=float)
        if self.offset_name is not None:
            if self.offset_name not in frame.columns:
                raise FormulaError(
                    f"The model has the offset column {self.offset_name!r}, which is not in the new "
                    "data. Add it (zeros for no offset)."
                )
            offset = offset + np.asarray(frame[self.offset_name], dtype=float)
        random = []
        if include_random:
            at = 0
            for term, matrix in self.random:
                z = matrix.matrix(frame)
                codes = self._codes(term, frame, levels[at])
                pieces = [z[:, [j]] for j in range(z.shape[1])] if term.split else [z]
                random.extend((codes, piece) for piece in pieces)
                at += len(pieces)
        return NewData(exog, offset, random, frame.index)

    def random_columns(self, data) -> list:
        """Columns of each term for new data, whatever their groups: (None, ndarray) pairs."""
        frame = as_frame(data)
        out = []
        for term, matrix in self.random:
            z = matrix.matrix(frame)
            pieces = [z[:, [j]] for j in range(z.shape[1])] if term.split else [z]
            out.extend((None, piece) for piece in pieces)
        return out

    @staticmethod
    def _codes(term, frame, levels):
        hint = (
            " Add it, or ask for the population value with include_random=False."
        )
        if term.parts is None:
            if term.group in frame.columns:
                return match_levels([frame[term.group].to_numpy()], levels)
            raise FormulaError(
                f"The model's groups were given as an array, so new data need a column named "
                f"{term.group!r} with the group of each row.{hint}"
            )
        for part in term.parts:
            if part.code.isidentifier() and part.code not in frame.columns:
                raise FormulaError(
                    f"The new data have no column {part.code!r}, the grouping factor of "
                    f"({term.text} | {term.group}).{hint}"
                )
        return match_levels([part.values(frame) for part in term.parts], levels)


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
    index : Index
        Labels of the rows kept.
    recipe : Recipe or None
        None for a model from arrays.
    n_dropped : int
        Rows left out because of missing values.
    """

    endog: np.ndarray
    exog: np.ndarray
    endog_name: str
    exog_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    offset: np.ndarray | None
    var_weights: np.ndarray | None
    freq_weights: np.ndarray | None
    index: pd.Index
    recipe: Recipe | None
    n_dropped: int


def design_from_formula(
    formula: str,
    data,
    env: EvalEnvironment,
    *,
    groups=None,
    re_formula=None,
    vc_formula=None,
    covariance="unstructured",
    offset=None,
    var_weights=None,
    freq_weights=None,
    subset=None,
    missing: str = "drop",
) -> tuple[Design, pd.DataFrame]:
    """Evaluate a formula on data.

    Parameters
    ----------
    formula : str
        With lme4's bars, or without them and `groups`.
    data : DataFrame, polars frame or dict
    env : patsy.EvalEnvironment
        The user's namespace.
    groups, re_formula, vc_formula, covariance, offset, var_weights, freq_weights, subset, missing
        As in `MixedLM.from_formula`.

    Returns
    -------
    design : Design
    frame : DataFrame
        The rows used, all columns.

    Raises
    ------
    FormulaError, ValueError
        Naming the column, level or option at fault.
    """
    spec = parse(formula)
    if not spec.response:
        raise FormulaError(f"{formula!r} has no response. Write 'y ~ x + (1 | g)'.")
    if missing not in ("drop", "raise", "none"):
        raise ValueError(f"missing={missing!r} is not known. Choose 'drop' or 'raise'.")
    full = as_frame(data)
    if len(full) == 0:
        raise ValueError("The data have no rows.")
    frame, positions = _subset(full, subset)
    source = RowSource(frame, positions, full.index, environment(env))

    recipes = _recipes(spec, source, groups, re_formula, vc_formula, covariance)
    offsets = tuple(Expression(code, source.env, "offset") for code in spec.offsets)
    response = _response(spec, source)
    vectors = {"the response " + repr(spec.response): response}
    for k, expression in enumerate(offsets):
        vectors[f"offset({expression.code})"] = (
            _numeric(expression.values(frame, source.view), f"offset({expression.code})"),
            k,
        )[0]
    for name, value in (("offset", offset), ("var_weights", var_weights), ("freq_weights", freq_weights)):
        if value is not None:
            vectors[name] = _numeric(source.vector(value, name), name)
    parts = [
        [p.values(frame, source.view) for p in r.parts] if r.parts is not None else list(r.given)
        for r in recipes
    ]

    gone = np.zeros(len(frame), dtype=bool)
    culprits = []
    for name, values in [*vectors.items(), *((f"group {r.group!r}", v) for r, p in zip(recipes, parts, strict=True) for v in p)]:
        mask = missing_mask(values)
        if mask.all():
            raise ValueError(f"{name[0].upper() + name[1:]} is missing (NaN) in every row.")
        if mask.any():
            gone |= mask
            culprits.append(name)
    texts = [(spec.fixed, "fixed part")]
    texts += [(r.text, f"random part of {r.group!r}") for r in recipes]
    formulas, matrices, keep, factors = build_matrices(texts, source, gone)
    culprits += factors
    if not keep.any():
        raise ValueError(
            f"No row is complete: every row has a missing value in {', '.join(dict.fromkeys(culprits))}."
        )
    if not keep.all() and missing == "raise":
        raise ValueError(
            f"{int((~keep).sum())} rows have missing values, in {', '.join(dict.fromkeys(culprits))}. "
            "Drop or fill them, or use missing='drop'."
        )

    def kept(values):
        return values if keep.all() else values[keep]

    terms = []
    for recipe, matrix, values in zip(recipes, matrices[1:], parts, strict=True):
        codes, levels = cross([kept(v) for v in values])
        fnames = formulas[1 + recipes.index(recipe)].columns
        check_finite(matrix, fnames, f"random part of {recipe.group!r}")
        if matrix.shape[1] == 0:
            raise FormulaError(f"({recipe.text} | {recipe.group}) has no columns. Write (1 | {recipe.group}).")
        pieces = [[j] for j in range(len(fnames))] if recipe.split else [list(range(len(fnames)))]
        for piece in pieces:
            terms.append(
                RandomTerm(
                    recipe.group, codes, levels, matrix if len(piece) == matrix.shape[1] else matrix[:, piece],
                    tuple(fnames[j] for j in piece), recipe.covariance, recipe.name, recipe.is_component,
                )  # fmt: skip
            )
    check_finite(matrices[0], formulas[0].columns, "fixed part")
    total_offset = None
    for name, values in vectors.items():
        if name.startswith("offset"):
            total_offset = kept(values) + (0.0 if total_offset is None else total_offset)
    offset_name = offset if isinstance(offset, str) else None
    recipe = Recipe(formulas[0], tuple(zip(recipes_without_arrays(recipes), formulas[1:], strict=True)), offsets, offset_name)
    design = Design(
        endog=kept(response),
        exog=matrices[0],
        endog_name=spec.response,
        exog_names=formulas[0].columns,
        terms=tuple(terms),
        offset=total_offset,
        var_weights=None if var_weights is None else kept(vectors["var_weights"]),
        freq_weights=None if freq_weights is None else kept(vectors["freq_weights"]),
        index=frame.index if keep.all() else frame.index[keep],
        recipe=recipe,
        n_dropped=int((~keep).sum()),
    )
    return design, frame


def recipes_without_arrays(recipes):
    """Recipes as kept for new data: the arrays of the fit are not carried along."""
    return [
        replace(r, given=None) for r in recipes
    ]


def _subset(full, subset):
    if subset is None:
        return full, None
    if isinstance(subset, str):
        raise ValueError(
            f"subset={subset!r}: give a boolean mask or row labels, for example df['x'] > 0."
        )
    try:
        positions = pd.Series(np.arange(len(full)), index=full.index).loc[subset].to_numpy()
    except (KeyError, IndexError, ValueError, pd.errors.IndexingError) as error:
        raise ValueError(f"subset does not fit the data's index: {error}") from error
    if positions.size == 0:
        raise ValueError("subset leaves no rows.")
    return full.iloc[positions], positions


def _response(spec, source):
    desc = patsy.ModelDesc.from_formula(f"{spec.response} ~ 1")
    if len(desc.lhs_termlist) != 1 or len(desc.lhs_termlist[0].factors) != 1:
        raise FormulaError(
            f"The response {spec.response!r} is more than one column. Write the sum of two columns "
            f"as I({spec.response})."
        )
    what = "response"
    values = source.vector(spec.response, what)
    return _numeric(values, f"The response {spec.response!r}", response=True)


def _numeric(values, what, response=False):
    if isinstance(values, pd.Categorical):
        values = np.asarray(values, dtype=object)
    values = np.asarray(values)
    if values.ndim > 1:
        raise ValueError(f"{what} has {values.shape[1]} columns; one is needed.")
    if values.dtype == object or values.dtype.kind not in "biuf":
        present = values[~missing_mask(values)]
        if all(isinstance(v, (bool, np.bool_)) for v in present) and present.size:
            pass
        elif present.size and any(isinstance(v, str) for v in present):
            example = next(v for v in present if isinstance(v, str))
            raise ValueError(
                f"{what} holds text ({example!r}), not numbers."
                + (" Convert it with astype(float), or code it as 0/1." if response else "")
            )
        try:
            values = np.array([np.nan if missing_mask(np.array([v], dtype=object))[0] else float(v) for v in values])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} is not numeric: {error}") from error
    values = values.astype(float, copy=False)
    if np.isinf(values).any():
        raise ValueError(
            f"{what} has infinite values (first in row {int(np.flatnonzero(np.isinf(values))[0])})."
        )
    return values


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
    names = np.asarray(term.columns)[which]
    if term.n_levels > 1:
        names = [f"{a}:{b}" for a, b in zip(names, np.asarray(term.levels)[group], strict=True)]
    return replace(
        term, group=term.name, codes=codes, levels=pd.Index(names), exog=value, columns=("Intercept",)
    )


def check_finite(matrix, names, what):
    """Raise if a column of a design matrix has infinite values."""
    # A sum shows whether to look closer; column by column, which is fast for narrow matrices.
    bad = np.array([not np.isfinite(matrix[:, j].sum()) for j in range(matrix.shape[1])], bool)
    if bad.any():
        for j in np.flatnonzero(bad):
            if not np.isfinite(matrix[:, j]).all():
                row = int(np.flatnonzero(~np.isfinite(matrix[:, j]))[0])
                raise ValueError(
                    f"{what}: the column {names[j]!r} has infinite or missing values (first in row "
                    f"{row}); perhaps a logarithm of zero."
                )


def check_weights(values, what, integer=False):
    """Raise unless weights are positive (and whole numbers where they count rows)."""
    if values is None:
        return
    bad = ~(values > 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{what} must be positive, but row {row} has {values[row]:g}"
            f" ({int(bad.sum())} such rows). Leave these rows out with subset=."
        )
    if integer and not np.array_equal(values, np.round(values)):
        row = int(np.flatnonzero(values != np.round(values))[0])
        raise ValueError(
            f"{what} count rows, so they must be whole numbers, but row {row} has {values[row]:g}. "
            "Precision weights go into var_weights."
        )


# -- the random part ------------------------------------------------------------------


def _recipes(spec: FormulaSpec, source, groups, re_formula, vc_formula, covariance):
    if spec.terms:
        for name, value in (("groups", groups), ("re_formula", re_formula), ("vc_formula", vc_formula)):
            if value is not None:
                raise FormulaError(
                    f"The formula has random terms in bars and {name}= is given too. Use one of them."
                )
        pieces = [
            (_label(t.group), tuple(Expression(g, source.env, f"group {t.label!r}") for g in t.group),
             None, t.expr, _label(t.group), not t.correlated)
            for t in spec.terms
        ]  # fmt: skip
        structures = _structures(covariance, [p[0] for p in pieces])
    else:
        if groups is None:
            raise FormulaError(
                f"{spec.source!r} has no random term. Add one, for example '+ (1 | g)', or give "
                "groups=. For a model without random effects use statsmodels' ols."
            )
        pieces = _keyword_pieces(source, groups, re_formula, vc_formula)
        structures = _structures(covariance, [p[4] for p in pieces if p[4] not in (vc_formula or {})])
        structures += [get_covariance("identity")] * (len(pieces) - len(structures))
    recipes = []
    seen = set()
    for (group, parts, given, text, name, split), structure in zip(pieces, structures, strict=True):
        if split:
            if structure.name not in ("unstructured", "diagonal"):
                raise FormulaError(
                    f"({text} || {group}) asks for uncorrelated columns, and covariance= for "
                    f"{structure.name!r}. Write a single bar, or leave covariance out."
                )
            structure = Diagonal()
        key = (group, text.replace(" ", ""), name)
        if key in seen:
            raise FormulaError(f"The random term ({text} | {group}) is there twice. Leave one out.")
        seen.add(key)
        component = not spec.terms and name in (vc_formula or {})
        recipes.append(TermRecipe(group, parts, text, structure, name, split, given, component))
    return recipes


def _label(group):
    """``inner:outer``; Q('my group') is called my group."""
    names = []
    for code in group:
        if code.startswith("Q(") and code.endswith(")"):
            code = code[2:-1].strip("'\"")
        elif code.startswith("C(") and code.endswith(")") and code[2:-1].isidentifier():
            code = code[2:-1]
        names.append(code)
    return ":".join(names)


def _structures(covariance, labels):
    """One structure a term, from a name, a list or a dict by grouping factor."""
    if isinstance(covariance, Mapping):
        unknown = [k for k in covariance if k not in labels]
        if unknown:
            raise ValueError(
                f"covariance= names {unknown[0]!r}, which is no grouping factor of the model."
                f" They are {', '.join(map(repr, dict.fromkeys(labels)))}."
            )
        return [get_covariance(covariance.get(label, "unstructured")) for label in labels]
    if isinstance(covariance, Sequence) and not isinstance(covariance, str):
        if len(covariance) != len(labels):
            raise ValueError(
                f"covariance= has {len(covariance)} entries for {len(labels)} random terms."
            )
        return [get_covariance(c) for c in covariance]
    return [get_covariance(covariance)] * len(labels)


def _keyword_pieces(source, groups, re_formula, vc_formula):
    """Terms of groups=, re_formula= and vc_formula= in the manner of statsmodels' MixedLM."""
    nested = isinstance(groups, (list, tuple)) and all(isinstance(g, str) for g in groups)
    names = list(groups) if nested else [groups]
    if nested and not names:
        raise ValueError("groups=[] names no grouping factor.")
    if vc_formula is not None and not isinstance(vc_formula, Mapping):
        raise ValueError(
            "vc_formula= must be a dict of name -> formula, for example "
            "{'classroom': '0 + C(classroom)'}."
        )
    if vc_formula and len(names) > 1:
        raise ValueError(
            "vc_formula= goes with a single grouping factor. Write nested levels with bars, "
            "(1 | school/class)."
        )
    levels = []
    for depth, value in enumerate(names):
        if isinstance(value, str):
            part, given, label = Expression(value, source.env, "groups"), None, value
            part.values(source.frame, source.view)
        else:
            values = source.vector(value, "groups")
            if np.ndim(values) != 1:
                raise ValueError("groups= must be one-dimensional.")
            given, part = values, None
            label = getattr(value, "name", None) or ("group" if depth == 0 else f"group{depth + 1}")
        levels.append((str(label), part, given))
    by_level = _re_formulas(re_formula, [n for n, *_ in levels], default=not vc_formula)
    pieces = []
    for depth in range(len(levels) - 1, -1, -1):
        inner_first = levels[depth::-1]
        label = ":".join(n for n, *_ in inner_first)
        text = by_level[levels[depth][0]]
        if text is None:
            continue
        parts = None if levels[depth][1] is None else tuple(p for _, p, _ in inner_first)
        given = None if parts is not None else tuple(g for _, _, g in inner_first)
        pieces.append((label, parts, given, text, label, False))
    if vc_formula:
        pieces += [
            _variance_component(source, levels[0], str(name), text)
            for name, text in vc_formula.items()
        ]
    return pieces


def _re_formulas(re_formula, labels, default):
    out = dict.fromkeys(labels)
    if isinstance(re_formula, Mapping):
        for key, text in re_formula.items():
            if key not in out:
                raise ValueError(
                    f"re_formula= names {key!r}, which is no grouping factor; they are "
                    f"{', '.join(map(repr, labels))}.{suggest(key, labels)}"
                )
            out[key] = parse_re_formula(text)
        return {k: v or "1" for k, v in out.items()}
    if default or re_formula is not None:
        out = dict.fromkeys(labels, "1")
    if re_formula is not None:
        out[labels[-1]] = parse_re_formula(re_formula)
    return out


def _variance_component(source, level, name, text):
    """A variance component: columns with one common variance, within each group.

    statsmodels writes a grouping factor as the columns ``0 + C(a)``; as a factor of its
    own (crossed with the group) it costs nothing, where its columns would be a dense block.
    """
    label, part, given = level
    rhs = parse_re_formula(text)
    desc = patsy.ModelDesc.from_formula(f"~ {rhs}")
    terms = desc.rhs_termlist
    if len(terms) == 1 and terms[0].factors:
        factors, numeric = [], []
        for factor in terms[0].factors:
            expression = Expression(factor.name(), source.env, f"vc_formula {name!r}")
            values = expression.values(source.frame, source.view)
            boxed = factor.name().startswith("C(")
            kind = getattr(values, "dtype", None)
            plain = isinstance(kind, np.dtype) and kind.kind in "iuf"
            (numeric if plain and not boxed else factors).append((expression, values))
        if factors:
            columns = "1" if not numeric else "0 + " + ":".join(e.code for e, _ in numeric)
            constant = part is None and given is not None and len(set(given[:1])) == 1 and np.all(given == given[0])
            if part is not None:
                parts = (*(e for e, _ in factors), part)
                return (name, parts, None, columns, name, False)
            if constant:
                return (name, tuple(e for e, _ in factors), None, columns, name, False)
            return (name, None, (*(v for _, v in factors), given), columns, name, False)
    parts = None if part is None else (part,)
    return (label, parts, None if parts is not None else (given,), rhs, name, False)


def design_from_arrays(
    endog, exog, groups, exog_re, exog_vc, *, random, covariance, offset, var_weights,
    freq_weights, missing,
) -> Design:  # fmt: skip
    """A design from arrays, Series and frames, aligned by the index where there is one.

    Parameters
    ----------
    endog, exog, groups, exog_re, exog_vc, covariance, offset, var_weights, freq_weights, missing
        As in `MixedLM`.
    random : sequence of RandomTerm, optional
        Finished terms, instead of groups and columns.

    Raises
    ------
    ValueError
        Naming the argument whose length, index or values are wrong.
    """
    if missing not in ("none", "drop", "raise"):
        raise ValueError(f"missing={missing!r} is not known. Choose 'none', 'drop' or 'raise'.")
    if np.ndim(endog) == 2 and np.shape(endog)[1] == 1:
        endog = endog.iloc[:, 0] if isinstance(endog, pd.DataFrame) else np.asarray(endog)[:, 0]
    n = len(endog)
    index = endog.index if isinstance(endog, pd.Series) else None
    if index is None and isinstance(exog, (pd.DataFrame, pd.Series)):
        index = exog.index
    index = pd.RangeIndex(n) if index is None else index
    source = RowSource(pd.DataFrame(index=index), None, index, EvalEnvironment([{}]))
    y_name = getattr(endog, "name", None) or "y"
    y = _numeric(source.vector(endog, "endog"), "endog", response=True)
    x, x_names = _array_columns(source, exog, "exog", "x")
    if exog is not None and not isinstance(exog, (pd.DataFrame, pd.Series)):
        x_names = _default_names(x)
    vectors = {"endog": y}
    for name, value in (("offset", offset), ("var_weights", var_weights), ("freq_weights", freq_weights)):
        if value is not None:
            vectors[name] = _numeric(source.vector(value, name), name)
    terms = tuple(random) if random is not None else None
    raw: list[tuple] = []
    if terms is None:
        raw = _array_terms(source, groups, exog_re, exog_vc, covariance)
    gone = np.zeros(n, dtype=bool)
    culprits = []
    pieces = [*vectors.items(), ("exog", x)]
    for label, parts, z, *_ in raw:
        pieces += [(f"groups {label!r}", p) for p in parts] + [(f"columns of {label!r}", z)]
    for name, values in pieces:
        mask = missing_mask(values)
        if mask.any():
            gone |= mask
            culprits.append(name)
            if mask.all():
                raise ValueError(f"{name} is missing (NaN) in every row.")
    if gone.any() and (missing != "drop" or random is not None):
        raise ValueError(
            f"{int(gone.sum())} rows have missing values, in {', '.join(dict.fromkeys(culprits))}. "
            "Drop or fill them, or use missing='drop'."
        )
    if gone.all():
        raise ValueError("No row is complete.")
    keep = ~gone

    def kept(values):
        return values[keep] if gone.any() else values

    check_finite(x, x_names, "exog")
    if terms is None:
        built = []
        for label, parts, z, columns, structure, name_is_vc in raw:
            codes, levels = cross([kept(p) for p in parts])
            check_finite(z, columns, f"columns of {label!r}")
            built.append(RandomTerm(label, codes, levels, kept(z), columns, structure, label, name_is_vc))
        terms = tuple(map(compact_component, built))
    for term in terms:
        if len(term.codes) != int(keep.sum()):
            raise ValueError(
                f"The random term {term.group!r} has {len(term.codes)} rows; endog has {n}."
            )
    return Design(
        endog=kept(y), exog=kept(x), endog_name=str(y_name), exog_names=tuple(x_names), terms=terms,
        offset=None if offset is None else kept(vectors["offset"]),
        var_weights=None if var_weights is None else kept(vectors["var_weights"]),
        freq_weights=None if freq_weights is None else kept(vectors["freq_weights"]),
        index=index[keep] if gone.any() else index, recipe=None, n_dropped=int(gone.sum()),
    )  # fmt: skip


def _array_columns(source, value, what, prefix):
    if value is None:
        return np.empty((source.n, 0)), []
    names = None
    if isinstance(value, pd.DataFrame):
        doubled = value.columns[value.columns.duplicated()]
        if len(doubled):
            raise ValueError(f"{what} has more than one column named {doubled[0]!r}.")
        names = [str(c) for c in value.columns]
        columns = [_numeric(source.vector(value[c], f"{what} {c!r}"), f"{what}: the column {c!r}") for c in value.columns]
        matrix = np.column_stack(columns) if columns else np.empty((source.n, 0))
        return matrix, names
    if isinstance(value, pd.Series):
        matrix = _numeric(source.vector(value, what), what)[:, None]
        return matrix, [str(value.name) if value.name is not None else f"{prefix}1"]
    matrix = np.asarray(value)
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"{what} is not numeric.")
    matrix = matrix.astype(float, copy=False)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[0] != source.n:
        raise ValueError(f"{what} has shape {matrix.shape}; {source.n} rows are needed.")
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


def _array_terms(source, groups, exog_re, exog_vc, covariance):
    """(label, grouping values, columns, names, structure) of each term."""
    raw: list[tuple] = []
    if isinstance(exog_re, Mapping):
        if groups is not None:
            raise ValueError("With a dict exog_re= the groups are in it; leave groups= out.")
        for name, pair in exog_re.items():
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ValueError(f"exog_re[{name!r}] must be a pair (groups, columns).")
            raw.append((str(name), [source.vector(pair[0], f"groups {name!r}")], *_re_columns(source, pair[1])))
    else:
        if groups is None:
            raise ValueError("groups= is needed: the group of each row.")
        several = isinstance(groups, (list, tuple)) and len(groups) and np.ndim(groups[0]) == 1 and len(groups) != source.n
        given = list(groups) if several else [groups]
        parts = [source.vector(g, "groups") for g in given]
        for part in parts:
            if np.ndim(part) != 1:
                raise ValueError("groups= must be one-dimensional.")
        names = [
            str(getattr(g, "name", None) or ("group" if len(given) == 1 else f"group{d + 1}"))
            for d, g in enumerate(given)
        ]
        if exog_re is not None or exog_vc is None:
            for depth in range(len(parts) - 1, -1, -1):
                columns = exog_re if depth == len(parts) - 1 else None
                label = ":".join(names[depth::-1])
                raw.append((label, parts[depth::-1], *_re_columns(source, columns)))
    structures = _structures(covariance, [r[0] for r in raw])
    out = [(*r, s, False) for r, s in zip(raw, structures, strict=True)]
    if exog_vc is not None:
        if not isinstance(exog_vc, Mapping):
            raise ValueError("exog_vc= must be a dict of name -> array of columns.")
        for name, value in exog_vc.items():
            matrix, columns = _array_columns(source, value, f"exog_vc[{name!r}]", f"{name}")
            out.append((str(name), [parts[0]], matrix, tuple(columns), get_covariance("identity"), True))
    return out


def _re_columns(source, value):
    if value is None:
        return np.ones((source.n, 1)), ("Intercept",)
    matrix, names = _array_columns(source, value, "exog_re", "x_re")
    if not isinstance(value, (pd.DataFrame, pd.Series)):
        names = [
            "Intercept" if np.ptp(matrix[:, j]) == 0 and matrix[0, j] == 1 else n
            for j, n in enumerate(names)
        ]
    return matrix, tuple(names)
