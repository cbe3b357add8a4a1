"""Reference distributions of Wald tests: degrees of freedom of t and F statistics.

A tool that knows degrees of freedom (Satterthwaite's, Kenward and Roger's, those of a
cluster-robust covariance) subclasses `Reference`. The results ask nothing else of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

__all__ = ["FixedDf", "Reference"]


class Reference(ABC):
    """Degrees of freedom of linear hypotheses about `params`.

    Attributes
    ----------
    name : str
        What users write in ``df=``.
    label : str
        What the summary calls it.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> import numpy as np
    >>> res.with_df("satterthwaite").reference.t_df(np.eye(2)).round(2).tolist()
    [17.0, 17.0]
    """

    name: str
    label: str

    @abstractmethod
    def t_df(self, rows: np.ndarray) -> np.ndarray:
        """Degrees of freedom of each single hypothesis.

        Parameters
        ----------
        rows : ndarray, shape (k, p)

        Returns
        -------
        ndarray, shape (k,)
            NaN where a hypothesis has none.
        """

    @abstractmethod
    def f_df(self, rows: np.ndarray) -> tuple[float, float]:
        """Factor of the Wald F statistic, and its denominator degrees of freedom.

        Parameters
        ----------
        rows : ndarray, shape (k, p)
            Hypotheses that are tested jointly, of full row rank.
        """


class FixedDf(Reference):
    """The same degrees of freedom for all hypotheses.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.postestimation.wald.reference import FixedDf
    >>> FixedDf(17).t_df(np.eye(2)).tolist()
    [17.0, 17.0]
    """

    def __init__(self, df: float, name: str = "residual", label: str = "residual"):
        self.df, self.name, self.label = float(df), name, label

    def t_df(self, rows):
        return np.full(len(rows), self.df)

    def f_df(self, rows):
        return 1.0, self.df
