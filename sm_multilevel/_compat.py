"""The only place that touches private or version-dependent APIs of our dependencies."""

from __future__ import annotations

import contextlib
import functools

import threadpoolctl

try:
    from pandas.errors import IndexingError
except ImportError:  # pandas before 1.5
    from pandas.core.indexing import IndexingError

try:
    from cloudpickle import CloudPickler
except ImportError:  # older joblibs carry it themselves
    from joblib.externals.cloudpickle import CloudPickler

__all__ = ["CloudPickler", "IndexingError", "one_blas_thread", "spline_knots"]


@functools.lru_cache(maxsize=1)
def _controller():
    # Finding the loaded BLAS libraries takes milliseconds, so it is done once.
    return threadpoolctl.ThreadpoolController()


def spline_knots(transform):
    """What patsy's B-spline ``bs(...)`` has learnt, as its arguments; None for another stateful transform."""
    if type(transform).__module__ != "patsy.splines" or getattr(transform, "_all_knots", None) is None:
        return None
    degree, knots = int(transform._degree), [float(knot) for knot in transform._all_knots]
    inner = knots[degree + 1 : len(knots) - degree - 1]
    return {"knots": inner, "degree": degree, "lower_bound": knots[0], "upper_bound": knots[-1]}


@contextlib.contextmanager
def one_blas_thread():
    """Limit BLAS to one thread.

    NumPy's and SciPy's wheels each bring an OpenBLAS with spinning threads of its own; on
    two cores they cost an order of magnitude in our many small products.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
