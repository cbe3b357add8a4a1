"""
Data sets for examples and tests, used as those of :mod:`statsmodels.datasets`.

>>> from sm_multilevel import datasets
>>> datasets.sleepstudy.load_pandas().data.head(2)
   Reaction  Days Subject
0  249.5600     0     308
1  258.7047     1     308

Each data set is a module with ``load_pandas()`` (also called ``load``) and the texts ``TITLE``,
``SOURCE``, ``COPYRIGHT``, ``DESCRSHORT``, ``DESCRLONG`` and ``NOTE``. Nothing is read before
``load_pandas`` is called. ``datasets.__all__`` lists them.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

__all__ = sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; the data sets are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
