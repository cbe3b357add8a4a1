"""Pickling of what formulas refer to: patsy's objects refuse it, and functions may be local ones."""

from __future__ import annotations

import io
import pickle

import numpy as np

from sm_multilevel._compat import CloudPickler

__all__ = ["dumps", "loads"]


class _Pickler(CloudPickler):
    """Functions that cannot be imported go by value, patsy's objects by their attributes."""

    def reducer_override(self, obj):
        if type(obj).__module__.startswith("patsy.") and not isinstance(obj, np.ndarray):
            return object.__new__, (type(obj),), obj.__dict__
        return super().reducer_override(obj)


def dumps(obj) -> bytes:
    """Pickle an object that holds patsy's objects, modules or users' functions."""
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.DEFAULT_PROTOCOL).dump(obj)
    return file.getvalue()


def loads(data: bytes):
    """Restore what `dumps` wrote."""
    return pickle.loads(data)
