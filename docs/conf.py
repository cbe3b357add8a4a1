"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "sm_multilevel"
author = "sm_multilevel developers"
copyright = "2026, sm_multilevel developers"
release = installed_version("sm_multilevel")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"sm_multilevel {release}"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
# What statsmodels' classes bring along is documented there.
autodoc_default_options = {"inherited-members": False}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
