"""
Formulas as text: lme4's random-effect bars in, a frozen specification out; never sees data.

The reader's work is to tell the formula's operators from Python's: ``(x | g)`` is a random term,
``np.where(a | b, 1, 0)`` is not. One pass marks each token with its bracket depth and with
whether it stands inside Python code (a call, subscript or literal); the rest uses these marks.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

__all__ = ["FormulaError", "FormulaSpec", "RandomTermSpec", "parse", "parse_re_formula"]


class FormulaError(ValueError):
    """
    A formula that cannot be read; the message names the culprit and what to write instead.

    Examples
    --------
    >>> parse("y ~ x | g")
    Traceback (most recent call last):
    sm_multilevel.design.terms.FormulaError: 'x | g': a random term needs parentheses. Write '(x | g)'.
    """


@dataclass(frozen=True)
class RandomTermSpec:
    """
    One random term, ``(expr | group)``.

    Parameters
    ----------
    expr : str
        Patsy right-hand side of the columns that vary by group.
    group : tuple of str
        Factor expressions whose crossing is the grouping factor, innermost first.
    correlated : bool
        False for ``||``.

    Examples
    --------
    >>> parse("y ~ (1 | batch/cask)").terms[0].label
    'cask:batch'
    """

    expr: str
    group: tuple[str, ...]
    correlated: bool = True

    @property
    def label(self) -> str:
        """The grouping factor as lme4 labels it, ``inner:outer``."""
        return ":".join(self.group)


@dataclass(frozen=True)
class FormulaSpec:
    """
    A whole formula, taken apart.

    Parameters
    ----------
    source : str
        The formula as the user wrote it.
    response : str
        What stands left of ``~``; empty for a one-sided formula.
    fixed : str
        Patsy right-hand side without random terms and offsets, "1" if nothing is left.
    terms : tuple of RandomTermSpec
        Random terms in formula order; nesting is expanded innermost first.
    offsets : tuple of str
        The expressions inside ``offset(...)``.

    Examples
    --------
    >>> parse("y ~ x + offset(t) + (1 | g)").offsets
    ('t',)
    """

    source: str
    response: str
    fixed: str
    terms: tuple[RandomTermSpec, ...]
    offsets: tuple[str, ...]


# What R users write and patsy cannot read, and what to write instead. In the tables of functions
# {0} is the call's first argument and {1} all of them.
_RENAMED = {"factor": "C", "as.factor": "C"}
_R_TOKENS = {
    "TRUE": "True, or Q('TRUE') for a column",
    "FALSE": "False, or Q('FALSE') for a column",
    "NULL": "None, or Q('NULL') for a column",
    "%in%": "'a:b' to combine two factors, 'a/b' for b nested in a",
    "%%": "'%'",
    "%/%": "'//'",
    "%*%": "'@'",
    "<-": "'< -' with a space for a comparison, and assign outside the formula",
    "&&": "'&'",
    "!": "'~' inside a function call, as in I(~x)",
    "$": "the column's name alone, and pass the table as data",
    "::": "the function's name alone",
}
_R_FUNCTIONS = {
    "poly": "'{0} + I({0}**2)', or 'bs({0}, df=3)' for a spline",
    "ns": "\"cr({0}, df=3, constraints='center')\" for a natural cubic spline",
    **dict.fromkeys(("ordered", "as.ordered"), "'C({0})', or 'C({0}, Poly)' for polynomial contrasts"),
    "as.numeric": "'{0}', or '{0}.astype(float)' to convert it",
    "as.integer": "'{0}', or '{0}.astype(int)' to convert it",
    "as.character": "'C({0})'",
    "relevel": "\"C({0}, Treatment('reference level'))\"",
    "ifelse": "'np.where({0}, ..., ...)'",
    "interaction": "the factors joined by ':', as in 'a:b'",
    "cbind": "'successes + failures ~ ...' with two columns of counts, or I(n - successes) for the second",
}
# Refused only outside Python code, where a user's own function may be called s ...
_SMOOTHS = dict.fromkeys(("s", "ti", "t2"), "'bs({0}, df=4)' or 'cr({0}, df=4)', patsy's splines")
_BRMS = {
    "gr": "'(1 | {0})', with the keyword covariance= for a structure",
    "mm": "crossed terms, '(1 | a) + (1 | b)', with the keyword covariance= for a structure",
}
# ... and these only with a bar inside.
_STRUCTURES = {
    "us": "'({1})' with the keyword covariance='unstructured'",
    "diag": "'({1})' with the keyword covariance='diagonal'",
    "homdiag": "'({1})' with the keyword covariance='identity'",
    **dict.fromkeys(("cs", "homcs"), "'({1})' with the keyword covariance='exchangeable'"),
    **dict.fromkeys(
        ("ar1", "hetar1", "ou", "toep", "homtoep", "mat", "gau", "rr", "propto"),
        "'({1})' with covariance='unstructured', 'diagonal', 'identity' or 'exchangeable'",
    ),
}
# Words that no Python expression can contain, so that they can only be columns, such as 'class'.
_EXPRESSIVE = {"None", "True", "False", "and", "or", "not", "in", "is", "if", "else", "for", "lambda"}
_STATEMENTS = set(keyword.kwlist) - _EXPRESSIVE - {"async", "await", "yield", "from"}
_LEXEME = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>(?i:rb|br|[rbuf])?(?:'''(?:\\.|.)*?'''|\"\"\"(?:\\.|.)*?\"\"\"
                                       |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
      | (?P<backtick>`[^`\n]+`)
      | (?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?)
      | (?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
      | (?P<attribute>\.[^\W\d][\w.]*)
      | (?P<op>\.\.\.|\*\*|//|<-|\|\||&&|::|==|!=|<=|>=|:=|<<|>>|%(?:in|/|\*)?%|[-+*/:~|&^%<>=!,()\[\]{}$@.])
      | (?P<unclosed>['"`])
      | (?P<unknown>.)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = re.compile(r"[^\W\d][\w.]*( [\w.]+)*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class _Token(NamedTuple):
    kind: str  # as in _LEXEME; further call (a name before its parenthesis), group (a plain one), bar, tilde, offset
    text: str
    depth: int  # number of brackets around it; a bracket has its outside's, so equal depth means equal level
    code: bool  # inside a call, subscript or literal: Python's business, not the formula's
    space: bool  # white space stands before it

    @property
    def ends_operand(self) -> bool:
        return self.kind in ("name", "number", "string", "attribute") or self.text in (")", "]", "}")


def _tokenize(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    stack: list[tuple[_Token, bool, str]] = []  # open brackets: token, whether code stands inside, place
    space = False
    for match in _LEXEME.finditer(source):
        kind, text = str(match.lastgroup), match.group()
        if kind == "space":
            space = True
            continue
        before = tokens[-1] if tokens else _Token("start", "", 0, False, False)
        code = bool(stack) and stack[-1][1]
        depth = len(stack)
        where = f"at character {match.start() + 1} ('{' '.join(source[match.start() : match.start() + 20].split())}')"
        if kind == "unclosed":
            raise FormulaError(f"The quote {where} is never closed. Write another {text} where the name ends.")
        if re.match(r"##?[\w(]", source[match.start() :]):
            meant = "'*' for '##'" if source[match.start() :].startswith("##") else "':'"
            raise FormulaError(f"'#' {where} is Stata notation. Write {meant}.")
        if kind == "unknown":
            raise FormulaError(f"The character {text!r} {where} has no meaning in a formula. Remove or replace it.")
        if text in _R_TOKENS and not (text == "::" and code):  # a slice may hold '::'
            raise FormulaError(f"'{text}' {where} is R notation. Write {_R_TOKENS[text]}.")
        if code and text in ("^", "||"):
            raise FormulaError(f"'{text}' {where} is R notation. Write " + ("'**'." if text == "^" else "'|'."))
        if text == "^" and (before.kind, before.text) != ("group", ")"):
            raise FormulaError(f"'^' {where} is R notation. Write 'I(x**2)' for a square, '(a + b)**2' to cross terms.")
        if text == "**" and not code and (before.kind, before.text) != ("group", ")"):
            raise FormulaError(
                f"'**' {where} crosses terms, and x**2 is x. Write 'I(x**2)' for a square, '(a + b)**2' to cross terms."
            )
        if text == ".":
            raise FormulaError(f"'.' {where} cannot stand for all other columns. Write their names, as in 'y ~ a + b'.")
        if kind == "attribute" and not before.ends_operand:
            raise FormulaError(f"The name {where} begins with a dot. Write Q('{text}').")

        if text in _CLOSING:  # after a name it opens a call; after an operator a group of the formula
            call = text != "(" or (before.ends_operand and before.kind not in ("number", "string", "group"))
            if text == "(" and before.kind == "name":
                tokens[-1] = before._replace(kind="offset" if before.text == "offset" else "call")
            tokens.append(_Token("op" if call or code else "group", text, depth, code, space))
            stack.append((tokens[-1], code or call, where))
        elif text in _CLOSING.values():
            if not stack or _CLOSING[stack[-1][0].text] != text:
                raise FormulaError(f"Unbalanced '{text}' {where}. Remove it, or open it before.")
            tokens.append(stack.pop()[0]._replace(text=text, space=space))
        else:
            if text == "^":
                text = "**"
            elif kind == "backtick" or text in _STATEMENTS:
                kind, text = "name", f"Q({text.strip('`')!r})"
            elif not code:
                kind = {"|": "bar", "||": "bar", "~": "tilde"}.get(text, kind)
            tokens.append(_Token(kind, text, depth, code, space))
        space = False
    if stack:
        opening, _, where = stack[-1]
        raise FormulaError(f"Unbalanced '{opening.text}' {where}. Write '{_CLOSING[opening.text]}' where it ends.")
    return tokens


def _text(tokens: Sequence[_Token]) -> str:
    """The user's spelling, with each run of white space made one blank."""
    return "".join(" " * token.space + token.text for token in tokens).strip()


def _split(tokens: Sequence[_Token], *operators: str) -> list[list[_Token]]:
    """The parts between these operators of the outermost level."""
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.depth == tokens[0].depth and token.text in operators:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _translate_calls(tokens: list[_Token]) -> list[_Token]:
    """Rename R's functions to patsy's, and refuse what has no translation."""
    result = list(tokens)
    for i, token in enumerate(tokens):
        if token.text == "{" and not token.code:
            inside = tokens[i + 1 :]
            text = _text(inside[: next(j for j, t in enumerate(inside) if t.depth == token.depth)])
            raise FormulaError(f"'{{{text}}}', formulaic's braces, cannot be read here. Write I({text}).")
        if token.kind != "call":
            continue
        inside = tokens[i + 2 :]
        inside = inside[: next(j for j, t in enumerate(inside) if t.depth == token.depth)]
        first = _split(inside, ",")[0]
        if i == 0 and token.text == "cbind" and any(t.kind == "tilde" for t in tokens):
            continue  # a response of two columns, as R writes it
        hints = dict(_R_FUNCTIONS)
        if first != inside:  # NumPy's second argument is where to put the result
            hints["log"] = "'log({0}) / log(base)', or log2({0}), log10({0})"
        has_bar = any(t.text in ("|", "||") and t.depth == token.depth + 1 for t in inside)
        if not token.code:
            hints |= _SMOOTHS | _BRMS | (_STRUCTURES if has_bar else {})
            # Nobody writes a space here in a Python call: it is a forgotten plus.
            if has_bar and first == inside and tokens[i + 1].space and token.text != "I":
                hints.setdefault(token.text, "'" + token.text + " + ({1})' to add a random term")
        if token.text in hints:
            hint = hints[token.text].format(_text(first) or "x", _text(inside))
            raise FormulaError(f"'{token.text}({_text(inside)})' cannot be read here. Write {hint}.")
        result[i] = token._replace(text=_RENAMED.get(token.text, token.text))
    return result


def _read(formula: str, name: str, example: str) -> tuple[list[_Token], list[int]]:
    """The tokens and the positions of the tildes, at most one."""
    if not isinstance(formula, str):
        raise FormulaError(f"{name} must be a string, not {type(formula).__name__}. Write '{example}'.")
    tokens = _translate_calls(_tokenize(formula))
    tildes = [i for i, token in enumerate(tokens) if token.kind == "tilde"]
    if len(tildes) > 1 or any(tokens[i].depth for i in tildes):
        raise FormulaError(f"'{_text(tokens)}' has a '~' too many. Write one, between response and predictors.")
    return tokens, tildes


def _additive(tokens: Sequence[_Token]) -> list[tuple[str, list[_Token]]]:
    """Additive terms with their signs; a sign after another operator belongs to its operand."""
    signed = tokens[0].text in ("+", "-")
    terms: list[tuple[str, list[_Token]]] = [(tokens[0].text if signed else "+", [])]
    for token in tokens[signed:]:
        term = terms[-1][1]
        if token.text in ("+", "-") and token.depth == tokens[0].depth and term and term[-1].ends_operand:
            terms.append((token.text, []))
        else:
            term.append(token)
    if not terms[-1][1]:
        raise FormulaError(f"'{_text(tokens)}': a term is missing after '{terms[-1][0]}'. Write one, or leave it out.")
    return terms


def _join(terms: Sequence[tuple[str, str]]) -> str:
    text = " ".join(f"{sign} {term}" for sign, term in terms)
    return "-" + text[2:] if text.startswith("-") else text[2:]


def _is_wrapped(tokens: Sequence[_Token]) -> bool:
    """Whether one pair of parentheses encloses everything."""
    return tokens[0].text == "(" and all(token.depth > tokens[0].depth for token in tokens[1:-1])


def _expression(tokens: Sequence[_Token]) -> str:
    """The text of one patsy expression, refused here where patsy's message would not help."""
    text = _text(tokens)
    # Patsy's syntax is Python's, except for ':', which binds like a product.
    python = _text([t._replace(text="*") if t.text == ":" and not t.code else t for t in tokens])
    try:
        single = not isinstance(ast.parse(f"({python}\n)", mode="eval").body, ast.Tuple)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        single = False
    if not single:
        raise FormulaError(
            f"'{text}' is not an expression. Join terms by operators, as in 'a + b', "
            f"and quote an unusual column name, as in Q({text if _WORDS.fullmatch(text) else 'my column'!r})."
        )
    return text


def _columns(tokens: Sequence[_Token], whole: str) -> str:
    """What stands left of a bar, or in a re_formula: patsy text with at least one column."""
    if not tokens:
        raise FormulaError(f"'{whole}' names no random effect. Write '1' for an intercept, 'x' to add a slope.")
    terms = [(sign, _expression(term)) for sign, term in _additive(tokens)]
    # As in patsy, the last constant decides on the intercept.
    if all(text in ("0", "1") for _, text in terms) and terms[-1] in (("+", "0"), ("-", "1")):
        raise FormulaError(f"'{whole}' leaves no random effect. Write '1' for an intercept, '0 + x' for a slope alone.")
    return _join(terms)


def _grouping(tokens: Sequence[_Token], expr: str, whole: str) -> list[tuple[str, ...]]:
    """The grouping factors right of a bar, innermost first."""
    while tokens and _is_wrapped(tokens):
        tokens = tokens[1:-1]
    if not tokens or (len(tokens) == 1 and tokens[0].kind in ("number", "string")):
        raise FormulaError(f"'{whole}' has no grouping factor. Write the name of a column after the bar.")
    operators = {t.text for t in tokens if t.depth == tokens[0].depth}
    if misread := sorted(operators & {"+", "-", "*", "**", ","}):
        names = [_text(part) for part in _split(tokens, *misread)]
        if misread == ["*"]:
            names = [":".join(some) for size in range(len(names)) for some in combinations(names, size + 1)]
        fixes = [] if operators & {"-", "**"} else ["'" + " + ".join(f"({expr} | {name})" for name in names) + "'"]
        fixes += [] if "," in operators else [f"'I({_text(tokens)})' for a computed factor"]
        raise FormulaError(f"'{whole}': '{misread[0]}' is not read after a bar. Write {', or '.join(fixes)}.")
    if len(parts := _split(tokens, "/")) > 1:
        factors = _grouping(parts[0], expr, whole)
        for part in parts[1:]:  # each within the innermost so far, as R reads a/b/c
            factors = [inner + factors[0] for inner in _grouping(part, expr, whole)] + factors
    elif len(parts := _split(tokens, ":")) > 1:
        crossed = [_grouping(part, expr, whole) for part in parts]
        if any(len(nested) > 1 for nested in crossed):
            raise FormulaError(f"'{whole}': '/' inside ':' is not read. Write one random term for each factor.")
        factors = [tuple(name for (factor,) in crossed for name in factor)]
    else:
        factors = [(_expression(tokens),)]
    if any(len(set(factor)) < len(factor) for factor in factors):
        raise FormulaError(f"'{whole}' names a grouping factor twice. Write each factor once.")
    return factors


def _random_terms(tokens: Sequence[_Token]) -> list[RandomTermSpec]:
    """What stands between the parentheses of a random term."""
    whole = f"({_text(tokens)})"
    bars = [i for i, token in enumerate(tokens) if token.kind == "bar"]
    if len(bars) > 1:
        raise FormulaError(f"'{whole}' has a bar too many. Write one random term for each, '(x | g) + (x | h)'.")
    if any(token.kind == "offset" for token in tokens):
        raise FormulaError(f"'{whole}': an offset cannot vary by group. Write '+ offset(x)' as a term of its own.")
    expr = _columns(tokens[: bars[0]], whole)
    factors = _grouping(tokens[bars[0] + 1 :], expr, whole)
    return [RandomTermSpec(expr, factor, tokens[bars[0]].text == "|") for factor in factors]


def _collect(
    tokens: Sequence[_Token], fixed: list[tuple[str, str]], terms: list[RandomTermSpec], offsets: list[str]
) -> None:
    """Sort the additive terms of a right-hand side into these lists."""
    for sign, term in _additive(tokens):
        text = _text(term)
        bars = [token.depth - term[0].depth for token in term if token.kind == "bar"]
        is_offset = term[0].kind == "offset" and all(t.depth > term[0].depth for t in term[2:-1])
        if not bars and all(token.kind != "offset" for token in term):
            fixed.append((sign, _expression(term)))
        elif 0 in bars:
            raise FormulaError(f"'{text}': a random term needs parentheses. Write '({text})'.")
        elif not (is_offset or _is_wrapped(term)):
            kind, example = ("a random term", "(1 | g)") if bars else ("an offset", "offset(x)")
            raise FormulaError(f"'{text}': {kind} can only be added. Write '+ {example}' as a term of its own.")
        elif sign == "-":
            raise FormulaError(f"'- {text}': random terms and offsets can only be added. Write '+', or leave it out.")
        elif is_offset:
            if len(term) == 3 or any(token.kind == "offset" for token in term[1:]):
                raise FormulaError(f"'{text}': an offset holds one expression. Write 'offset(x)'.")
            offsets.append(_expression(term[2:-1]))
        elif 1 in bars:
            terms.extend(_random_terms(term[1:-1]))
        else:  # '((1 | g))' or '(x + (1 | g))': parentheses that only add
            _collect(term[1:-1], fixed, terms, offsets)


def parse(formula: str) -> FormulaSpec:
    """
    Read a formula with random terms in lme4's notation.

    Parameters
    ----------
    formula : str
        Such as ``"y ~ x + (x | g)"``; patsy's notation in the fixed part and left of the bars.

    Returns
    -------
    FormulaSpec
        Its ``terms`` are empty where the formula has no bar.

    Raises
    ------
    FormulaError
        If the formula cannot be read.

    Examples
    --------
    >>> spec = parse("Reaction ~ Days + (Days || Subject)")
    >>> spec.response, spec.fixed, spec.terms
    ('Reaction', 'Days', (RandomTermSpec(expr='Days', group=('Subject',), correlated=False),))
    """
    tokens, tildes = _read(formula, "The formula", "y ~ x + (1 | g)")
    left, right = (tokens[: tildes[0]], tokens[tildes[0] + 1 :]) if tildes else (tokens, [])
    if not right:
        problem = (
            f"'{_text(tokens)}' has no {'right-hand side' if tildes else repr('~')}"
            if tokens
            else "The formula is empty"
        )
        raise FormulaError(f"{problem}. Write 'response ~ predictors', with '~ 1' if there are none.")
    if any(token.kind in ("bar", "offset") for token in left):
        raise FormulaError(f"'{_text(left)}': random terms and offsets belong to the right of '~'. Write them there.")
    fixed: list[tuple[str, str]] = []
    terms: list[RandomTermSpec] = []
    offsets: list[str] = []
    _collect(right, fixed, terms, offsets)
    for i, term in enumerate(terms):
        if (term.expr, set(term.group)) in [(other.expr, set(other.group)) for other in terms[:i]]:
            raise FormulaError(f"'({term.expr} | {term.label})' stands twice in the formula. Write it once.")
    response = _expression(left) if left else ""
    return FormulaSpec(formula, response, _join(fixed) or "1", tuple(terms), tuple(offsets))


def parse_re_formula(re_formula: str) -> str:
    """
    Read statsmodels' ``re_formula``, or a part of ``vc_formula``: columns without a bar.

    Parameters
    ----------
    re_formula : str
        Such as ``"~Days"``, ``"1 + Days"`` or ``"0 + Days"``.

    Returns
    -------
    str
        The patsy right-hand side.

    Raises
    ------
    FormulaError
        If it cannot be read, has a response or a bar, or leaves no column.

    Examples
    --------
    >>> parse_re_formula("~ 0 + Days")
    '0 + Days'
    """
    tokens, tildes = _read(re_formula, "re_formula", "~x")
    whole = _text(tokens)
    if any(token.kind in ("bar", "offset") for token in tokens):
        raise FormulaError(f"'{whole}': a re_formula has no bar and no offset. Write '~x', with groups= and offset=.")
    if tildes and tildes[0] > 0:
        raise FormulaError(f"'{whole}': a re_formula has no response. Write '{_text(tokens[tildes[0] :])}'.")
    return _columns(tokens[1:] if tildes else tokens, whole)
