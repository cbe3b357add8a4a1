"""The package's layers: a module imports only from those above it."""

import ast
import re
from pathlib import Path

import sm_multilevel

ROOT = Path(sm_multilevel.__file__).parent

# From the bottom up; a prefix stands for a whole package.
LAYERS = [
    "_compat",
    "progress",
    "host",
    "wording",
    "drawing",
    "covariance",
    "grouping",
    "families",
    "linalg.small",
    "linalg.layout",
    "linalg.cholesky",
    "random_effects",
    "design.terms",
    "design.pickling",
    "design.frame",
    "design.values",
    "design.matrices",
    "design.response",
    "design.rows",
    "design.recipe",
    "design.record",
    "design.tool_matrix",
    "design.random_part",
    "design.from_formula",
    "design.from_arrays",
    "objectives.point",
    "objectives.slopes",
    "objectives.space",
    "objectives.crossprod",
    "objectives.gaussian",
    "objectives.linear",
    "objectives.joint_gaussian",
    "objectives.batched",
    "objectives.unprofiled",
    "objectives.rows",
    "objectives.modes",
    "objectives.laplace",
    "objectives.quadrature",
    "objectives.marginal",
    "objectives.scores",
    "estimation.record",
    "estimation.minimize",
    "estimation.constrained",
    "estimation.fit",
    "estimation.batched",
    "estimation.information",
    "estimation.separation",
    "estimation.integration",
    "mixedlm_options",
    "checks",
    "postestimation.components",
    "postestimation.wald",
    "postestimation.robust",
    "postestimation.prediction",
    "postestimation.profiling",
    "postestimation.resampling",
    "postestimation.comparison",
    "postestimation.description",
    "graphics.panels",
    "graphics.rows",
    "graphics.caterpillar",
    "graphics.quantiles",
    "summary.layout",
    "summary.words",
    "summary.summarize",
    "statsmodels_results.display",
    "statsmodels_results.inference",
    "statsmodels_results.likelihood",
    "statsmodels_results.base",
    "statsmodels_results.linear",
    "statsmodels_results.generalized",
    "models.base",
    "models.linear",
    "models.generalized",
    "datasets",
    "api",
    "formula.api",
    "sp",
    "__main__",
]
# Whole packages, whose modules may import from each other.
PACKAGES = ("families", "datasets", *(layer for layer in LAYERS if layer.startswith("postestimation.")))


def _layer(module):
    for place, prefix in enumerate(LAYERS):
        if module == prefix or (module.startswith(prefix + ".") and prefix in PACKAGES):
            return place
    return None


def _modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts)
        if parts[-1] != "__init__" or parts[0] == "datasets":
            yield name.removesuffix(".__init__"), path


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sm_multilevel"):
            base = node.module.removeprefix("sm_multilevel").lstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}".lstrip("."), base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("sm_multilevel."):
                    yield alias.name.removeprefix("sm_multilevel."), ""


def test_every_module_has_a_layer():
    assert [name for name, _ in _modules() if _layer(name) is None] == []


def test_imports_point_one_way():
    wrong = []
    for name, path in _modules():
        for full, base in _imports(path):
            target = _layer(full) if _layer(full) is not None else _layer(base)
            if target is None:  # the package itself, for its version
                continue
            here = _layer(name)
            same_package = LAYERS[here] in PACKAGES
            if target > here or (target == here and not same_package):
                wrong.append(f"{name} imports {full or base}")
    assert wrong == []


def test_imports_are_absolute():
    relative = [
        name
        for name, path in _modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def _lines(path):
    """Lines of a module; the examples at the end of docstrings do not count."""
    text = re.sub(r"\n *Examples\n *--------\n.*?(?=\n *\"\"\")", "", path.read_text(), flags=re.DOTALL)
    return len(text.splitlines())


def test_modules_are_small():
    assert {name: lines for name, path in _modules() if (lines := _lines(path)) > 550} == {}


def test_nothing_dispatches_on_names_of_structures():
    """Adding a structure must not need a change outside its own module."""
    from sm_multilevel.covariance import STRUCTURES

    found = []
    for name, path in _modules():
        if name in ("covariance", "sp"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = [c for c in ast.walk(node) if isinstance(c, ast.Constant)]
                found += [(name, c.value) for c in constants if c.value in STRUCTURES]
    assert found == []


def test_packages_are_free_of_circles():
    """Within a package whose modules may import from each other, too."""
    known = dict(_modules())
    uses = {
        name: {target for full, base in _imports(path) for target in (full, base) if target in known}
        for name, path in known.items()
    }
    done, below = set(), []

    def visit(name):
        assert name not in below, f"a circle: {' -> '.join([*below[below.index(name) :], name])}"
        if name in done:
            return
        below.append(name)
        for other in sorted(uses[name]):
            visit(other)
        below.pop()
        done.add(name)

    for name in known:
        visit(name)


def test_the_picture_shows_every_package():
    picture = Path(__file__).parents[2] / "docs" / "_static" / "architecture.svg"
    shown = set(re.findall(r'font-weight="bold">([^<]+)</text>', picture.read_text()))
    top = {
        name.partition(".")[0] + ("/" if "." in name or path.stem == "__init__" else "") for name, path in _modules()
    }
    inside = {f"{name.split('.')[1]}/" for name, _ in _modules() if name.startswith("postestimation.")}
    assert (top - {"postestimation/"}) | inside <= shown
