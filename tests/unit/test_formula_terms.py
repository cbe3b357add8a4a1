"""The formula reader: what it understands, what it refuses and in which words."""

import contextlib
import time

import numpy as np
import patsy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_multilevel.design.terms import FormulaError, FormulaSpec, RandomTermSpec, parse, parse_re_formula

G = RandomTermSpec("1", ("g",))


def term(expr, *group, correlated=True):
    return RandomTermSpec(expr, group, correlated)


# formula, response, fixed, random terms, offsets
GOOD = [
    # fixed parts
    ("y ~ x", "y", "x", [], []),
    ("y ~ 1", "y", "1", [], []),
    ("~ x", "", "x", [], []),
    ("y~x+z", "y", "x + z", [], []),
    ("y ~ 0 + x + (1 | g)", "y", "0 + x", [G], []),
    ("y ~ -1 + x + (1 | g)", "y", "-1 + x", [G], []),
    ("y ~ x - 1 + (1 | g)", "y", "x - 1", [G], []),
    ("y ~ (1 | g) - 1", "y", "-1", [G], []),
    ("y ~ (1 | g) + 0", "y", "0", [G], []),
    ("y ~ + x + (1 | g)", "y", "x", [G], []),
    ("y ~ x + -1 + (1 | g)", "y", "x + -1", [G], []),
    ("y ~ x*z - x:z + (1 | g)", "y", "x*z - x:z", [G], []),
    ("y ~ (1 + x)", "y", "(1 + x)", [], []),
    ("y ~ (1 + x) + (1 | g)", "y", "(1 + x)", [G], []),
    ("y ~ (a + b)**2 + (1 | g)", "y", "(a + b)**2", [G], []),
    ("y ~ (a + b)^2 + (1 | g)", "y", "(a + b)**2", [G], []),
    ("y ~ a/b + (1 | g)", "y", "a/b", [G], []),
    ("y ~ x > 3 + (1 | g)", "y", "x > 3", [G], []),
    ("y ~ bs(x, df=3, degree=2) + te(cr(a, 3), cr(b, 3)) + (1 | g)",
     "y", "bs(x, df=3, degree=2) + te(cr(a, 3), cr(b, 3))", [G], []),
    # responses
    ("np.log(y) ~ x + (1 | g)", "np.log(y)", "x", [G], []),
    ("successes + failures ~ x + (1 | g)", "successes + failures", "x", [G], []),
    ("successes + I(n - successes) ~ x", "successes + I(n - successes)", "x", [], []),
    ('Q("a ~ b") ~ x', 'Q("a ~ b")', "x", [], []),
    # bars
    ("y ~ (1 | g)", "y", "1", [G], []),
    ("y~(1|g)", "y", "1", [G], []),
    ("y ~ x + (1|g) + z", "y", "x + z", [G], []),
    ("Reaction ~ Days + (Days | Subject)", "Reaction", "Days", [term("Days", "Subject")], []),
    ("y ~ (0 + x | g)", "y", "1", [term("0 + x", "g")], []),
    ("y ~ (x - 1|g)", "y", "1", [term("x - 1", "g")], []),
    ("y ~ (-1 + x|g)", "y", "1", [term("-1 + x", "g")], []),
    ("y ~ (1+x||g)", "y", "1", [term("1 + x", "g", correlated=False)], []),
    ("y ~ (x || a/b)", "y", "1", [term("x", "b", "a", correlated=False), term("x", "a", correlated=False)], []),
    ("y ~ (1 | a) + (1 | b)", "y", "1", [term("1", "a"), term("1", "b")], []),
    ("y ~ (1 | g) + (0 + x | g)", "y", "1", [G, term("0 + x", "g")], []),
    ("y ~ ((1 | g))", "y", "1", [G], []),
    ("y ~ (((1 | g)) + x)", "y", "x", [G], []),
    ("y ~ z + (x + (1 | g))", "y", "z + x", [G], []),
    ("y ~ (bs(x, df=3) | g)", "y", "1", [term("bs(x, df=3)", "g")], []),
    ("y ~ (x*z | g)", "y", "1", [term("x*z", "g")], []),
    ("y ~ (x:z + C(h) | g)", "y", "1", [term("x:z + C(h)", "g")], []),
    ("y ~ (I(a | b) | g)", "y", "1", [term("I(a | b)", "g")], []),
    ("y\n~ x\n\t+ ( 1\n|\tg )  ", "y", "x", [G], []),
    # grouping factors
    ("y ~ (1 | a/b)", "y", "1", [term("1", "b", "a"), term("1", "a")], []),
    ("y ~ (1 | a:b)", "y", "1", [term("1", "a", "b")], []),
    ("y ~ (1 | (a:b))", "y", "1", [term("1", "a", "b")], []),
    ("y ~ (1 | a/b/c)", "y", "1", [term("1", "c", "b", "a"), term("1", "b", "a"), term("1", "a")], []),
    ("y ~ (1 | a/(b/c))", "y", "1", [term("1", "c", "b", "a"), term("1", "b", "a"), term("1", "a")], []),
    ("y ~ (1 | a:b/c)", "y", "1", [term("1", "c", "a", "b"), term("1", "a", "b")], []),
    ("y ~ (1 | a/b:c)", "y", "1", [term("1", "b", "c", "a"), term("1", "a")], []),
    ("y ~ (1 | a/b) + (1 | c)", "y", "1", [term("1", "b", "a"), term("1", "a"), term("1", "c")], []),
    ("y ~ (1 | C(g))", "y", "1", [term("1", "C(g)")], []),
    ("y ~ (1 | factor(g)) + (1|as.factor(h))", "y", "1", [term("1", "C(g)"), term("1", "C(h)")], []),
    ("y ~ (1 | np.floor(t / 10))", "y", "1", [term("1", "np.floor(t / 10)")], []),
    ('y ~ (1 | Q("my group"))', "y", "1", [term("1", 'Q("my group")')], []),
    ("y ~ (1 | Q('a/b')/c)", "y", "1", [term("1", "c", "Q('a/b')"), term("1", "Q('a/b')")], []),
    ("y ~ (1 | t // 10)", "y", "1", [term("1", "t // 10")], []),
    ("y ~ (1 | d['a/b'] )", "y", "1", [term("1", "d['a/b']")], []),
    ("y ~ (1 | g.str[::2])", "y", "1", [term("1", "g.str[::2]")], []),
    ("y ~ (1 | I(a + b))", "y", "1", [term("1", "I(a + b)")], []),
    # words that Python keeps for itself can only be columns
    ("y ~ (1 | school/class)", "y", "1", [term("1", "Q('class')", "school"), term("1", "school")], []),
    ("y ~ class + I(class * 2)", "y", "Q('class') + I(Q('class') * 2)", [], []),
    # bars, tildes and offsets that are Python's
    ("y ~ I(a | b) + np.where(a | b, 1, 0)", "y", "I(a | b) + np.where(a | b, 1, 0)", [], []),
    ("y ~ I (a | b)", "y", "I (a | b)", [], []),
    ('y ~ Q("a|b") + Q("(1 | g)")', "y", 'Q("a|b") + Q("(1 | g)")', [], []),
    ("y ~ d['x | g'] + I((a | b) & c) + x[(a | b)]", "y", "d['x | g'] + I((a | b) & c) + x[(a | b)]", [], []),
    ("y ~ I(~x) + Q('~')", "y", "I(~x) + Q('~')", [], []),
    ("y ~ np.offset(x) + offset + x.offset(3)", "y", "np.offset(x) + offset + x.offset(3)", [], []),
    ("y ~ f(x).s(3) + I(s(x)) + np.poly(x) + factor", "y", "f(x).s(3) + I(s(x)) + np.poly(x) + factor", [], []),
    ("y ~ f('''a\n  b''', r'\\(', 'it\\'s')", "y", "f('''a\n  b''', r'\\(', 'it\\'s')", [], []),
    ("y ~ x1e3 + I(1e-3*x) + I(.5*x) + x.shift(1) + f(x)[..., 0]",
     "y", "x1e3 + I(1e-3*x) + I(.5*x) + x.shift(1) + f(x)[..., 0]", [], []),
    # offsets
    ("y ~ x + offset(t)", "y", "x", [], ["t"]),
    ("y ~ offset(np.log(t)) + x + (1 | g) + offset( u + v )", "y", "x", [G], ["np.log(t)", "u + v"]),
    ("y ~ offset(t)", "y", "1", [], ["t"]),
    ("y ~ (x + offset(t))", "y", "x", [], ["t"]),
    # R's spellings
    ("y ~ factor(x) + C(z) + bs(factor(w), 3)", "y", "C(x) + C(z) + bs(C(w), 3)", [], []),
    ("y ~ `my var` + (1 | `my group`)", "y", "Q('my var')", [term("1", "Q('my group')")], []),
    ("y ~ log(x) + sqrt(z) + my.var", "y", "log(x) + sqrt(z) + my.var", [], []),
    ("größe ~ naïve + (1 | schüler)", "größe", "naïve", [term("1", "schüler")], []),
]  # fmt: skip


@pytest.mark.parametrize(("source", "response", "fixed", "terms", "offsets"), GOOD, ids=[row[0] for row in GOOD])
def test_parse(source, response, fixed, terms, offsets):
    spec = parse(source)
    assert spec == FormulaSpec(source, response, fixed, tuple(terms), tuple(offsets))
    # Patsy must be able to read every part of it.
    for text in [spec.fixed, *(t.expr for t in spec.terms)]:
        patsy.ModelDesc.from_formula("~ " + text)
    for text in [factor for t in spec.terms for factor in t.group] + list(spec.offsets):
        compile(text, "<test>", "eval")


def test_specs_are_frozen_hashable_and_labelled():
    spec = parse("y ~ (1 | batch/cask)")
    assert [t.label for t in spec.terms] == ["cask:batch", "batch"]
    assert len({spec, parse("y ~ (1 | batch/cask)")}) == 1
    with pytest.raises(AttributeError):
        spec.fixed = "x"


# formula, pieces of the message: the culprit and the way out
BAD = [
    # bars in the wrong place
    ("y ~ x | g", ["'x | g'", "needs parentheses", "'(x | g)'"]),
    ("y ~ x + 1 | g", ["'1 | g'", "'(1 | g)'"]),
    ("y ~ x || g", ["'(x || g)'"]),
    ("y ~ x:(1|g)", ["'x:(1|g)'", "only be added", "'+ (1 | g)'"]),
    ("y ~ x*(1|g)", ["'x*(1|g)'", "only be added"]),
    ("y ~ (1|g)^2", ["'(1|g)**2'", "only be added"]),
    ("y ~ ((1|g) + x)*z", ["'((1|g) + x)*z'", "only be added"]),
    ("y ~ (1|a)(1|b)", ["'(1|a)(1|b)'", "only be added"]),
    ("y ~ x - (1|g)", ["'- (1|g)'", "'+'", "leave it out"]),
    ("y ~ x - (z + (1|g))", ["'- (z + (1|g))'"]),
    ("y ~ x (1|g)", ["'x(1|g)'", "'x + (1|g)'"]),
    ("(1|g) ~ x", ["'(1|g)'", "right of '~'"]),
    # inside the bars
    ("y ~ ( | g)", ["'(| g)'", "no random effect", "'1' for an intercept"]),
    ("y ~ (0 | g)", ["'(0 | g)'", "leaves no random effect", "'0 + x'"]),
    ("y ~ (1 - 1 | g)", ["leaves no random effect"]),
    ("y ~ (-1 | g)", ["leaves no random effect"]),
    ("y ~ (1 | )", ["'(1 |)'", "no grouping factor", "column"]),
    ("y ~ (1 | ())", ["no grouping factor"]),
    ("y ~ (1 | 1)", ["'(1 | 1)'", "no grouping factor"]),
    ("y ~ (1 | 'g')", ["no grouping factor"]),
    ("y ~ (1 | a*b)", ["'(1 | a*b)'", "'(1 | a) + (1 | b) + (1 | a:b)'"]),
    ("y ~ (1 | a + b)", ["'(1 | a + b)'", "'(1 | a) + (1 | b)'", "'I(a + b)'"]),
    ("y ~ (x | a, b)", ["'(x | a) + (x | b)'"]),
    ("y ~ (1 | a - b)", ["'I(a - b)'"]),
    ("y ~ (1 | a:(b/c))", ["'(1 | a:(b/c))'", "one random term for each"]),
    ("y ~ (1 | a/a)", ["'(1 | a/a)'", "twice"]),
    ("y ~ (1 | a:)", ["'(1 | a:)'", "no grouping factor"]),
    ("y ~ (1 | g h)", ["'g h'", "Q('g h')"]),
    ("y ~ (x | g | h)", ["'(x | g | h)'", "a bar too many", "'(x | g) + (x | h)'"]),
    ("y ~ (1 | (a | b))", ["a bar too many"]),
    ("y ~ (x ~ z | g)", ["'~' too many"]),
    ("y ~ (1 | g) + (1 | g)", ["'(1 | g)'", "twice"]),
    ("y ~ (1 | a/b) + (1 | a)", ["'(1 | a)'", "twice"]),
    # what is not a formula
    ("", ["empty", "'response ~ predictors'"]),
    (" \n", ["empty"]),
    ("y", ["'y'", "no '~'"]),
    ("y = x + (1 | g)", ["no '~'"]),
    ("y ~", ["'y ~'", "no right-hand side", "'~ 1'"]),
    ("y ~ x ~ z", ["'y ~ x ~ z'", "'~' too many"]),
    ("y ~ x +", ["'x +'", "missing after '+'"]),
    ("y ~ -", ["missing after '-'"]),
    ("y ~ x z", ["'x z'", "operators"]),
    ("y ~ x, z", ["'x, z'", "operators"]),
    ("y ~ x * / z", ["'x * / z'"]),
    ("y ~ 2x", ["'2x'", "Q('my column')"]),
    ("y z ~ x", ["'y z'"]),
    ("y ~ (1 | g", ["'('", "character 5", "(1 | g", "')'"]),
    ("y ~ bs(x, df=3", ["'('", "character 7"]),
    ("y ~ x + 1 | g)", ["')'", "character 14"]),
    ("y ~ (1 | g]", ["']'", "character 11"]),
    ("y ~ Q('x + (1|g)", ["quote", "character 7", "never closed"]),
    ("y ~ `x + (1|g)", ["quote", "character 5"]),
    ("y ~ x # note", ["'#'", "character 7", "Remove"]),
    ("y ~ x – 1", ["'–'"]),
    ("y ~ “x”", ["'“'"]),
    (3, ["string", "int"]),
    (None, ["string", "NoneType"]),
    (b"y ~ x", ["string", "bytes"]),
    # offsets
    ("y ~ offset(x):z", ["'offset(x):z'", "'+ offset(x)'"]),
    ("y ~ log(offset(x))", ["'log(offset(x))'", "'+ offset(x)'"]),
    ("y ~ - offset(x)", ["'- offset(x)'"]),
    ("y ~ offset()", ["'offset()'", "one expression"]),
    ("y ~ offset(offset(x))", ["one expression"]),
    ("y ~ offset(a, b)", ["'a, b'"]),
    ("y ~ (offset(x) | g)", ["'(offset(x) | g)'", "'+ offset(x)'"]),
    ("y ~ (1 | offset(g)/h)", ["'(1 | offset(g)/h)'", "'+ offset(x)'"]),
    ("offset(y) ~ x", ["'offset(y)'", "right of '~'"]),
    # R's spellings
    ("y ~ I(x^2)", ["'^'", "'**'"]),
    ("y ~ x^2", ["'^'", "'I(x**2)'"]),
    ("y ~ log(x)^2", ["'I(x**2)'"]),
    ("y ~ I(a || b)", ["'||'", "'|'"]),
    ("y ~ I(a && b)", ["'&&'", "'&'"]),
    ("y ~ I(!x)", ["'!'", "I(~x)"]),
    ("y ~ poly(age, 2)", ["'poly(age, 2)'", "'age + I(age**2)'", "bs(age, df=3)"]),
    ("y ~ x + (poly(age, 2) | g)", ["'age + I(age**2)'"]),
    ("y ~ {x + 1} + (1 | g)", ["'{x + 1}', formulaic's braces", "I(x + 1)"]),
    ("y ~ x + ({x / 2} | g)", ["'{x / 2}'", "I(x / 2)"]),
    ("y ~ ns(age, df=3)", ["cr(age, df=3"]),
    ("y ~ as.numeric(age)", ["age.astype(float)"]),
    ("y ~ ordered(x)", ["'C(x)'", "C(x, Poly)"]),
    ("y ~ interaction(a, b)", ["'a:b'"]),
    ("y ~ cbind(a, b)", ["'cbind(a, b)'", "'successes + failures ~ ...'"]),
    ("y ~ a %in% b", ["'%in%'", "'a:b'"]),
    ("y ~ I(a %/% b)", ["'%/%'", "'//'"]),
    ("m <- y ~ x", ["'<-'", "outside the formula"]),
    ("y ~ bs(x, intercept=TRUE)", ["'TRUE'", "True"]),
    ("y ~ f(x, NULL)", ["'NULL'", "None"]),
    ("y ~ .", ["'.'", "all other columns", "names"]),
    ("y ~ . - x + (1 | g)", ["all other columns"]),
    ("~ .", ["all other columns"]),
    ("y ~ .hidden", ["Q('.hidden')"]),
    ("y ~ df$x", ["'$'", "name alone"]),
    ("y ~ splines::bs(x)", ["'::'", "name alone"]),
    # other packages' terms
    ("y ~ s(x, k=3) + (1 | g)", ["'s(x, k=3)'", "bs(x, df=4)"]),
    ("y ~ diag(x | g)", ["'diag(x | g)'", "'(x | g)'", "covariance='diagonal'"]),
    ("y ~ us(x | g)", ["covariance='unstructured'"]),
    ("y ~ cs(0 + x | g)", ["'(0 + x | g)'", "covariance='exchangeable'"]),
    ("y ~ homcs(x | g)", ["covariance='exchangeable'"]),
    ("y ~ ar1(t + 0 | g)", ["'ar1(t + 0 | g)'", "covariance='unstructured', 'diagonal'"]),
    ("y ~ (1 | gr(g, by=h))", ["'gr(g, by=h)'", "'(1 | g)'", "covariance="]),
    ("y ~ (1 | mm(a, b))", ["'mm(a, b)'", "'(1 | a) + (1 | b)'", "covariance="]),
]


@pytest.mark.parametrize(("source", "fragments"), BAD, ids=[str(row[0]) for row in BAD])
def test_refusals_name_the_culprit_and_the_way_out(source, fragments):
    with pytest.raises(FormulaError) as caught:
        parse(source)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("~Days", "Days"),
        ("1 + Days", "1 + Days"),
        ("1+Days", "1 + Days"),
        (" 0 + Days ", "0 + Days"),
        ("~1", "1"),
        ("~ 0 + C(cask)", "0 + C(cask)"),
        ("~ factor(a)*x", "C(a)*x"),
        ("I(a | b)", "I(a | b)"),
    ],
)
def test_parse_re_formula(source, expected):
    assert parse_re_formula(source) == expected


@pytest.mark.parametrize(
    ("source", "fragments"),
    [
        ("y ~ x", ["no response", "'~ x'"]),
        ("(1 | g)", ["no bar", "groups="]),
        ("x | g", ["no bar", "groups="]),
        ("0", ["leaves no random effect"]),
        ("~", ["no random effect"]),
        ("", ["no random effect"]),
        ("~ offset(x)", ["offset"]),
        ("~ x +", ["missing after '+'"]),
        ("~ poly(x, 2)", ["'x + I(x**2)'"]),
        (["x"], ["re_formula must be a string", "list"]),
    ],
)
def test_parse_re_formula_refusals(source, fragments):
    with pytest.raises(FormulaError) as caught:
        parse_re_formula(source)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_spline_proposed_for_ns_has_full_rank_beside_an_intercept():
    basis = patsy.dmatrix("cr(x, df=3, constraints='center')", {"x": np.arange(30.0)})
    assert basis.shape[1] == np.linalg.matrix_rank(basis) == 4


def test_patsy_reads_quoted_keywords():
    assert patsy.dmatrix("Q('class') - 1", {"class": [1.0, 2.0]}).shape == (2, 1)


def test_long_formulas_are_read_quickly():
    names = [f"Q('x{i}')" for i in range(1000)]
    start = time.perf_counter()
    spec = parse("y ~ " + " + ".join(names) + " + (1 | g)")
    assert spec.fixed == " + ".join(names)
    assert time.perf_counter() - start < 5


# Random assembly: terms put together in any order come out again, whatever the white space.

FIXED = st.sampled_from(
    ["x", "z2", "a:b", "a*b", "bs(x, df=3)", "I(a | b)", "Q('a | b ~ c')", "np.log(w)", "0", "(a + b)**2"]
)
COLUMNS = st.sampled_from(["1", "x", "0 + x", "1 + x + z", "bs(x, df=3)", "x*z", "x - 1", "I(a | b)"])
FACTORS = st.lists(
    st.sampled_from(["g", "h", "C(k)", "Q('my group')", "np.floor(t / 2)"]), min_size=1, max_size=3, unique=True
)
OFFSETS = st.sampled_from(["t", "np.log(t)", "a + b", "Q('offset(x)')"])
PIECES = st.one_of(
    FIXED.map(lambda text: ("fixed", text)),
    st.tuples(st.just("random"), COLUMNS, FACTORS, st.sampled_from(["|", "||"]), st.sampled_from(["/", ":"])),
    OFFSETS.map(lambda text: ("offset", text)),
)


def spaces(draw, text):
    """Replace each marker by random white space."""
    blank = st.text(" \t\n", max_size=3)
    return "".join(draw(blank) if part == "\0" else part for part in text)


@given(st.data(), st.lists(PIECES, min_size=1, max_size=6))
def test_assembled_formulas_come_apart_again(data, pieces):
    texts, fixed, terms, offsets = [], [], [], []
    for kind, *parts in pieces:
        if kind == "fixed":
            texts.append(parts[0])
            fixed.append(parts[0])
        elif kind == "offset":
            texts.append(f"offset(\0{parts[0]}\0)")
            offsets.append(parts[0])
        else:
            columns, factors, bar, operator = parts
            if operator == "/":
                groups = [tuple(factors[: i + 1][::-1]) for i in reversed(range(len(factors)))]
            else:
                groups = [tuple(factors)]
            new = [RandomTermSpec(columns, group, bar == "|") for group in groups]
            if {(t.expr, frozenset(t.group)) for t in new} & {(t.expr, frozenset(t.group)) for t in terms}:
                continue  # the same term twice is refused
            texts.append(f"(\0{columns}\0{bar}\0" + f"\0{operator}\0".join(factors) + "\0)")
            terms += new
    source = spaces(data.draw, "\0y\0~\0" + "\0+\0".join(texts) + "\0")
    assert parse(source) == FormulaSpec(source, "y", " + ".join(fixed) or "1", tuple(terms), tuple(offsets))


@given(st.lists(st.sampled_from(list("y~x+-*/:|(),.^%0'\"[]{}` \n") + ["offset(", "C(", "||", "**", "g"]), max_size=14))
def test_any_text_gives_a_spec_or_a_formula_error(pieces):
    for read in (parse, parse_re_formula):
        with contextlib.suppress(FormulaError):  # any other exception fails the test
            read("".join(pieces))
