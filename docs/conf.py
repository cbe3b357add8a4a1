"""Sphinx configuration."""

import atexit
import logging
import os
import shutil
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path

project = "sm_multilevel"
author = "sm_multilevel developers"
copyright = "2026, sm_multilevel developers"
release = installed_version("sm_multilevel")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_nb",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"sm_multilevel {release}"
html_static_path = ["_static"]
html_css_files = ["gallery.css"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# The pages of docs/gallery are run in every build, each in a kernel of the Python that builds.
# With sphinx's -W an exception, or anything on stderr (a warning, too), fails the build. raise_on_error would end it at
# the first such page, and without the traceback.
nb_execution_mode = "force"
nb_execution_raise_on_error = False
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_output_stderr = "error"
nb_merge_streams = True

# The kernels inherit this environment: the figures' style (docs/matplotlibrc), SVG figures in the page, no lines of
# progress however busy the machine is, and an IPython home of their own, so that no setting of the builder's plays a
# part.
kernel_home = Path(tempfile.mkdtemp(prefix="sm_multilevel_docs_"))
atexit.register(shutil.rmtree, kernel_home, ignore_errors=True)
(kernel_home / "profile_default").mkdir()
(kernel_home / "profile_default" / "ipython_kernel_config.py").write_text(
    "c = get_config()\n"
    "c.InlineBackend.figure_formats = {'svg'}\n"
    "c.HistoryManager.enabled = False\n"
    "c.InteractiveShell.colors = 'nocolor'\n"
    "c.IPKernelApp.log_level = 40\n"
    "c.IPKernelApp.exec_lines = ['import sm_multilevel.progress as _p; _p._DELAY = float(\"inf\"); del _p']\n"
)
logging.getLogger("traitlets").setLevel(logging.WARNING)
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
os.environ["IPYTHONDIR"] = str(kernel_home)
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent / "matplotlibrc")
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"

autosummary_generate = True
autodoc_typehints = "none"
# What statsmodels' classes bring along is documented there.
autodoc_default_options = {"inherited-members": False}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
