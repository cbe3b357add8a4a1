"""Every public function has an example, and the examples in docstrings give what they say."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import sm_multilevel
import sm_multilevel.api
import sm_multilevel.formula.api
import sm_multilevel.graphics
import sm_multilevel.sp

MODULES = [
    "sm_multilevel",
    *(name for _, name, _ in pkgutil.walk_packages(sm_multilevel.__path__, "sm_multilevel.") if "__main__" not in name),
]
API = Path(__file__).parents[2] / "docs" / "api.rst"
# What tools and models ask of results, and the parts that results are made of: no user calls them.
SEAMS = {
    "DisplayMethods", "InferenceMethods", "LikelihoodMethods", "adopt", "component_table", "derived", "draw",
    "fit_options", "icc_function", "mean_random_variance", "null_point", "with_free",
}  # fmt: skip
# Below the results only contracts and algorithms are listed: classes have an example, their methods need none.
INSIDE = ("covariance", "families", "objectives", "postestimation.wald.reference")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    mpl.use("Agg")
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    plt.close("all")
    assert outcome.failed == 0


def _listed():
    """Objects in docs/api.rst and in the public modules, by name."""
    found = {}
    for name in re.findall(r"^ +(sm_multilevel\.[\w.]+)$", API.read_text(), flags=re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        found[name] = getattr(importlib.import_module(module), attribute)
    public = (sm_multilevel, sm_multilevel.api, sm_multilevel.formula.api, sm_multilevel.graphics, sm_multilevel.sp)
    for module in public:
        found.update({f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__})
    return {name: value for name, value in found.items() if callable(value)}


def _documented():
    """Functions, classes and their methods; what is inherited and has no docstring of its own is described above it."""
    for name, value in _listed().items():
        if value.__name__ not in SEAMS:
            yield name, value
        if not inspect.isclass(value) or name.removeprefix("sm_multilevel.").startswith(INSIDE):
            continue
        for attribute, part in vars(value).items():
            function = getattr(part, "__func__", part)
            if inspect.isfunction(function) and not attribute.startswith("_") and attribute not in SEAMS:
                inherited = any(hasattr(base, attribute) for base in value.__mro__[1:])
                if function.__doc__ or not inherited:
                    yield f"{name}.{attribute}", function


def test_everything_public_has_an_example():
    assert len(list(_documented())) > 100
    assert [name for name, value in _documented() if ">>>" not in (inspect.getdoc(value) or "")] == []


def _described(doc):
    """Names in the section Parameters."""
    section = doc.partition("Parameters\n----------\n")[2].split("\n\n")
    for line in "\n".join(section).splitlines():
        if match := re.fullmatch(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?", line):
            yield from (name.strip("* ") for name in match.group(1).split(","))


def test_every_parameter_and_what_is_returned_is_described():
    """Of functions and methods; those of `sp` and `formula.api` refer to each other's and to the models' options."""
    lacking = []
    for name, value in _documented():
        if inspect.isclass(value) or name.startswith(("sm_multilevel.sp.", "sm_multilevel.formula.api.")):
            continue
        doc, signature = inspect.getdoc(value), inspect.signature(value)
        known = {"self", "cls", "kwargs", "fit_kwargs", *_described(doc)}
        lacking += [f"{name}({parameter})" for parameter in signature.parameters if parameter not in known]
        if signature.return_annotation not in (None, "None") and "Returns\n-------" not in doc:
            lacking.append(f"{name}: Returns")
    assert lacking == []


def test_everything_that_users_import_is_in_the_reference():
    listed = API.read_text()
    names = [*sm_multilevel.api.__all__, *sm_multilevel.sp.__all__, *sm_multilevel.formula.api.__all__]
    assert [name for name in names if not re.search(rf"\b{name}\b", listed)] == []
