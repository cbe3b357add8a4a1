"""statsmodels' base classes, with the type hints that they do not have.

Without these a type checker knows nothing of what our classes inherit, and therefore lets every misspelt name pass.
Only what users call or our code uses is declared. Methods that a class of ours defines itself are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

__all__ = ["Dataset", "Frame", "FrameOrDict", "Hypothesis", "LikelihoodModel", "LikelihoodModelResults"]


class _Polars(Protocol):
    def to_pandas(self) -> Any: ...


# What a formula's data may be.
Frame: TypeAlias = "pd.DataFrame | Mapping[str, Any] | _Polars"
# A frame, or a dict of them where a model has several grouping factors, which its type does not say.
FrameOrDict: TypeAlias = "pd.DataFrame | Any"
# Of linear hypotheses: "x = 0, z = 1", rows of a matrix, or (matrix, values).
Hypothesis: TypeAlias = "str | np.ndarray | Sequence[Any] | pd.DataFrame"

if TYPE_CHECKING:

    class Dataset:
        """A data set of statsmodels' kind."""

        data: pd.DataFrame
        names: list[str]
        endog: pd.Series
        endog_name: str
        exog: pd.DataFrame
        exog_name: list[str]
        groups: pd.Series | Any
        groups_name: list[str]

        def __init__(self, **kwargs: Any) -> None: ...

    class LikelihoodModel:
        """What `statsmodels.base.model.LikelihoodModel` has."""

        endog: np.ndarray
        exog: Any
        data: Any
        endog_names: str
        exog_names: list[str]
        df_model: float
        df_resid: float
        k_constant: int
        _data_attr: list[str]
        _init_keys: list[str]

        def __init__(self, endog: Any, exog: Any = None, **kwargs: Any) -> None: ...
        def information(self, params: Any) -> np.ndarray: ...
        def _fit_zeros(self, keep_index: Any = None, start_params: Any = None, **kwargs: Any) -> Any: ...

    class LikelihoodModelResults:
        """What `statsmodels.base.model.LikelihoodModelResults` has; Series and frames where the data had names."""

        params: pd.Series
        bse: pd.Series
        tvalues: pd.Series
        normalized_cov_params: np.ndarray
        scale: float
        nobs: float
        df_model: float
        df_resid: float
        df_resid_inference: Any  # a number, or one a hypothesis
        k_params: int
        use_t: bool
        cov_type: str
        cov_params_default: np.ndarray
        mle_retvals: dict[str, Any]
        mle_settings: dict[str, Any]
        _cache: dict[str, Any]
        _data_attr: list[str]
        _data_in_cache: list[str]

        def __init__(self, model: Any, params: Any, normalized_cov_params: Any = None, scale: float = 1.0) -> None: ...
        @property
        def pvalues(self) -> pd.Series: ...
        def conf_int(self, alpha: float = 0.05) -> pd.DataFrame: ...
        def cov_params(
            self, r_matrix: Any = None, column: Any = None, scale: Any = None, cov_p: Any = None, other: Any = None
        ) -> pd.DataFrame: ...
        def t_test(self, r_matrix: Hypothesis, cov_p: Any = None, use_t: bool | None = None) -> Any: ...
        def f_test(self, r_matrix: Hypothesis, cov_p: Any = None, invcov: Any = None) -> Any: ...
        def wald_test(
            self,
            r_matrix: Any,
            cov_p: Any = None,
            invcov: Any = None,
            use_f: bool | None = None,
            df_constraints: int | None = None,
            scalar: bool = True,
        ) -> Any: ...
        def remove_data(self) -> None: ...
        def save(self, fname: Any, remove_data: bool = False) -> None: ...
        @classmethod
        def load(cls, fname: Any) -> Any: ...

else:
    from statsmodels.base.model import LikelihoodModel, LikelihoodModelResults
    from statsmodels.datasets.utils import Dataset
