"""The random part of a model, from bars or from keywords, to recipes of its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import patsy

from sm_multilevel.covariance import Diagonal, Unstructured, get_covariance
from sm_multilevel.design.frame import Expression
from sm_multilevel.design.recipe import TermRecipe
from sm_multilevel.design.terms import FormulaError, FormulaSpec, parse_re_formula
from sm_multilevel.wording import suggest

__all__ = ["random_recipes", "structures_of"]


def random_recipes(spec: FormulaSpec, source, groups, re_formula, vc_formula, covariance):
    if spec.terms:
        for name, value in (("groups", groups), ("re_formula", re_formula), ("vc_formula", vc_formula)):
            if value is not None:
                raise FormulaError(f"The formula has random terms in bars and {name}= is given too. Use one of them.")
        pieces = [
            (_label(t.group), tuple(source.expression(g, f"group {t.label!r}") for g in t.group),
             None, t.expr, _label(t.group), not t.correlated)
            for t in spec.terms
        ]  # fmt: skip
        structures = structures_of(covariance, [p[0] for p in pieces])
    else:
        if groups is None:
            raise FormulaError(
                f"{spec.source!r} has no random term. Add one, for example '+ (1 | g)', or give "
                "groups=. For a model without random effects use statsmodels' own (ols, glm, NegativeBinomial, "
                "OrderedModel)."
            )
        pieces = _keyword_pieces(source, groups, re_formula, vc_formula)
        structures = structures_of(covariance, [p[4] for p in pieces if p[4] not in (vc_formula or {})])
        structures += [get_covariance("identity")] * (len(pieces) - len(structures))
    recipes = []
    seen = set()
    for (group, parts, given, text, name, split), structure in zip(pieces, structures, strict=True):
        if split:
            if not isinstance(structure, (Unstructured, Diagonal)):
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
            raise ValueError(f"covariance= has {len(covariance)} entries for {len(labels)} random terms.")
        return [get_covariance(c) for c in covariance]
    return [get_covariance(covariance)] * len(labels)


def _keyword_pieces(source, groups, re_formula, vc_formula):
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
    pieces = []
    for depth in range(len(levels) - 1, -1, -1):
        inner_first = levels[depth::-1]
        label = ":".join(n for n, *_ in inner_first)
        text = by_level[levels[depth][0]]
        if text is None:
            continue
        parts = tuple(p for _, p, _ in inner_first)
        given = None if by_name else tuple(g for _, _, g in inner_first)
        pieces.append((label, parts, given, text, label, False))
    if vc_formula:
        pieces += [_variance_component(source, levels[0], str(name), text) for name, text in vc_formula.items()]
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
                return (name, (*parts, part), None, columns, name, False)
            if np.all(given == given[0]):  # statsmodels' idiom for crossed factors
                return (name, tuple(parts), None, columns, name, False)
            return (name, (*parts, part), (*values, given), columns, name, False)
    return (label, (part,), None if given is None else (given,), rhs, name, False)
