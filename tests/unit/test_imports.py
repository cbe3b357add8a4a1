"""What an import of the package brings along: hardly more than statsmodels does, whose users have that already."""

import functools
import subprocess
import sys

import pytest

# Packages and modules that take long to import and that few sessions need.
HEAVY = ["matplotlib", "IPython", "polars", "pytest", "tqdm", "dask", "sm_multilevel.graphics"]
ENTRIES = {
    "sm_multilevel": "import sm_multilevel",
    "api": "import sm_multilevel.api",
    "formula.api": "import sm_multilevel.formula.api",
    "sp": "from sm_multilevel import sp",
    "datasets": "from sm_multilevel.datasets import sleepstudy",
}


@functools.cache
def _modules(statement):
    command = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def statsmodels():
    return _modules("import statsmodels.api")


@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_heavy_is_imported(entry, statsmodels):
    loaded = _modules(ENTRIES[entry]) - statsmodels
    assert [name for name in HEAVY if name in loaded] == []
    packages = {name.split(".")[0] for name in _modules(ENTRIES[entry])} - {name.split(".")[0] for name in statsmodels}
    assert packages - sys.stdlib_module_names <= {"sm_multilevel", "threadpoolctl"}


def test_datasets_do_not_import_the_models():
    assert "sm_multilevel.models" not in _modules(ENTRIES["datasets"])


def test_data_sets_are_imported_one_at_a_time():
    loaded = _modules(ENTRIES["datasets"])
    assert "sm_multilevel.datasets.sleepstudy" in loaded
    assert "sm_multilevel.datasets.insteval" not in loaded
