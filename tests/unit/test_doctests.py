"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import sm_multilevel

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(sm_multilevel.__path__, "sm_multilevel.")
    if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
