"""The random part of a model, from bars or from keywords, to recipes of its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import patsy

from sm_multilevel.covariance import Diagonal, Identity, Unstructured, get_covariance
from sm_multilevel.design.frame import Expression
from sm_multilevel.design.recipe import TermRecipe
from sm_multilevel.design.terms import FormulaError, FormulaSpec, parse_re_formula
from sm_multilevel.wording import suggest

__all__ = ["random_recipes", "structures_of"]


def random_recipes(spec: FormulaSpec, source, groups, re_formula, vc_formula, covariance) -> list[TermRecipe]:
    """Recipes of the random terms, in the order of the formula; variance components last.

    Parameters
    ----------
    spec : FormulaSpec
    source : RowSource
    groups, re_formula, vc_formula, covariance
        As in `MixedLM.from_formula`.

    Raises
    ------
    FormulaError, ValueError
        Where there is no random term, one is there twice, or options contradict the bars or each other.
    """
    if spec.terms:
        for name, value in (("groups", groups), ("re_formula", re_formula), ("vc_formula", vc_formula)):
            if value is not None:
                raise FormulaError(f"The formula has random terms in bars and {name}= is given too. Use one of them.")
        found = []
        for bar in spec.terms:
            parts = tuple(source.expression(g, f"group {bar.label!r}") for g in bar.group)
            label = _label(bar.group)
            found.append(TermRecipe(label, parts, bar.expr, Unstructured(), label, split=not bar.correlated))
    else:
        if groups is None:
            raise FormulaError(
                f"{spec.source!r} has no random term. Add one, for example '+ (1 | g)', or give "
                "groups=. For a model without random effects use statsmodels' own (ols, glm, NegativeBinomial, "
                "OrderedModel)."
            )
        found = _keyword_terms(source, groups, re_formula, vc_formula)
    structures = iter(structures_of(covariance, [term.group for term in found if not term.is_component]))
    recipes = []
    seen = set()
    for term in found:
        structure = term.covariance if term.is_component else next(structures)
        if term.split:
            if not isinstance(structure, (Unstructured, Diagonal)):
                raise FormulaError(
                    f"({term.text} || {term.group}) asks for uncorrelated columns, and covariance= for "
                    f"{structure.name!r}. Write a single bar, or leave covariance out."
                )
            structure = Diagonal()
        key = (term.group, term.text.replace(" ", ""), term.name)
        if key in seen:
            raise FormulaError(f"The random term ({term.text} | {term.group}) is there twice. Leave one out.")
        seen.add(key)
        recipes.append(replace(term, covariance=structure))
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


def structures_of(covariance, labels):
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
                f"covariance= has {len(covariance)} entries for {len(labels)} random terms. Give one for each."
            )
        return [get_covariance(c) for c in covariance]
    return [get_covariance(covariance)] * len(labels)


def _keyword_terms(source, groups, re_formula, vc_formula):
    """Terms of groups=, re_formula= and vc_formula= in the manner of statsmodels' MixedLM."""
    nested, by_name = isinstance(groups, (list, tuple)), isinstance(groups, str)
    if nested:
        by_name = all(isinstance(g, str) for g in groups)
        if by_name and len(groups) == len(source.full_index) and groups[0] not in source.frame.columns:
            nested = by_name = False  # labels, one a row
        else:
            nested = by_name or any(np.ndim(g) == 1 for g in groups)
    names = list(groups) if nested else [groups]
    if by_name and len(set(names)) < len(names):
        raise ValueError("groups= names a grouping factor twice. Name each level once, the outermost first.")
    if nested and not names:
        raise ValueError("groups=[] names no grouping factor.")
    if vc_formula is not None and not isinstance(vc_formula, Mapping):
        raise ValueError(
            "vc_formula= must be a dict of name -> formula, for example {'classroom': '0 + C(classroom)'}."
        )
    if isinstance(groups, str) and groups in (vc_formula or {}):
        raise ValueError(
            f"vc_formula= calls a component {groups!r}, which is the name of the grouping factor. Use another name."
        )
    if vc_formula and len(names) > 1:
        raise ValueError(
            "vc_formula= goes with a single grouping factor. Write nested levels with bars, (1 | school/class)."
        )
    levels = []
    for depth, value in enumerate(names):
        values = source.vector(value, "groups")
        if np.ndim(values) != 1:
            raise ValueError("groups= must be one-dimensional; give nested levels as a list of columns.")
        if isinstance(value, str):
            label = value
        else:
            label = getattr(value, "name", None) or ("group" if depth == 0 else f"group{depth + 1}")
        # New data have an array's values in a column of its name.
        part = Expression(str(label), source.env, "groups", [str(label)])
        levels.append((str(label), part, None if by_name else values))
    by_level = _re_formulas(re_formula, [n for n, *_ in levels], default=not vc_formula)
    terms = []
    for depth in range(len(levels) - 1, -1, -1):
        inner_first = levels[depth::-1]
        label = ":".join(n for n, *_ in inner_first)
        text = by_level[levels[depth][0]]
        if text is None:
            continue
        parts = tuple(p for _, p, _ in inner_first)
        given = None if by_name else tuple(g for _, _, g in inner_first)
        terms.append(TermRecipe(label, parts, text, Unstructured(), label, given=given))
    if vc_formula:
        terms += [_variance_component(source, levels[0], str(name), text) for name, text in vc_formula.items()]
    return terms


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


def _variance_component(source, level, name, text) -> TermRecipe:
    """A variance component: columns with one common variance, within each group.

    statsmodels writes a grouping factor as the columns ``0 + C(a)``; as a factor of its
    own (crossed with the group) it costs nothing, where its columns would be a dense block.
    """
    label, part, given = level

    def component(group, parts, columns, values):
        return TermRecipe(group, tuple(parts), columns, Identity(), name, given=values, is_component=True)

    rhs = parse_re_formula(text)
    desc = patsy.ModelDesc.from_formula(f"~ {rhs}")
    terms = desc.rhs_termlist
    if len(terms) == 1 and terms[0].factors:
        factors: list[tuple] = []
        numeric: list[tuple] = []
        for factor in terms[0].factors:
            expression = source.expression(factor.name(), f"vc_formula {name!r}")
            values = expression.values(source.frame, source.view)
            boxed = factor.name().startswith("C(")
            kind = getattr(values, "dtype", None)
            plain = isinstance(kind, np.dtype) and kind.kind in "iuf"
            (numeric if plain and not boxed else factors).append((expression, values))
        if factors:
            columns = "1" if not numeric else "0 + " + ":".join(e.code for e, _ in numeric)
            parts, values = [e for e, _ in factors], [v for _, v in factors]
            if given is None:
                return component(name, (*parts, part), columns, None)
            if np.all(given == given[0]):  # statsmodels' idiom for crossed factors
                return component(name, parts, columns, None)
            return component(name, (*parts, part), columns, (*values, given))
    return component(label, (part,), rhs, None if given is None else (given,))
