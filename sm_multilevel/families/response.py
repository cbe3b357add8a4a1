"""The contract of a conditional distribution: log f(y | eta, psi) and its derivatives.

A `ResponseFamily` is a distribution with its link; `bind` gives it data, which makes a
`Response`; `Response.at` evaluates it at a linear predictor, which makes a `Local`. The
objectives see nothing but `Response` and `Local`: a new family is a subclass of these and
an entry in `families.registry`, and the tests over the registry check its derivatives.

psi are a response's own parameters. The objectives move *internal* psi, without
constraints (log dispersion; the signed square root of alpha; first threshold and logs of
increments); users see *natural* ones (dispersion, alpha, cut-points).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

__all__ = ["Local", "Response", "ResponseData", "ResponseFamily"]


@dataclass(frozen=True, eq=False)
class ResponseData:
    """A response's data, one entry a row, complete and finite.

    Attributes
    ----------
    endog : ndarray, shape (n,)
        Floats: the response; the proportion of successes where there are trials; the
        number 0 .. K-1 of the category where there are categories.
    trials : ndarray, shape (n,), or None
        Binomial numbers of trials; None: one each.
    var_weights : ndarray, shape (n,), or None
        Divide the dispersion; in a family without one they multiply log f (a
        pseudo-likelihood).
    freq_weights : ndarray, shape (n,), or None
        Multiply log f.
    categories : tuple or None
        Labels of an ordinal response in order, or (failure, success) of a binary one
        that came as two labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.response import ResponseData
    >>> halves = ResponseData(np.array([0.5, 0.25]), trials=np.array([2.0, 4.0]))
    >>> halves.endog.tolist(), halves.var_weights is None
    ([0.5, 0.25], True)
    """

    endog: np.ndarray
    trials: np.ndarray | None = None
    var_weights: np.ndarray | None = None
    freq_weights: np.ndarray | None = None
    categories: tuple | None = None


class Local(ABC):  # noqa: B024
    """log f and its derivatives at one linear predictor; all include the weights.

    eta may have shape (n,) or (..., n): quadrature nodes first, rows last. Attributes are
    computed when asked for (`functools.cached_property`) and share intermediate results.

    Attributes
    ----------
    logf : ndarray, shape (..., n)
        With all constants; -inf or NaN where eta is outside the link's domain.
    score : ndarray, shape (..., n)
        s = d log f / d eta.
    info : ndarray, shape (..., n)
        D = -d2 log f / d eta2; may be negative.
    info_slope : ndarray, shape (..., n)
        dD / d eta.
    expected_info : ndarray, shape (..., n)
        Expected information, never negative: what the inner Newton falls back to.
    psi_score : ndarray, shape (r, ..., n)
        d log f / d psi (internal).
    score_psi : ndarray, shape (r, ..., n)
        d s / d psi.
    info_psi : ndarray, shape (r, ..., n)
        d D / d psi.
    psi_info : ndarray, shape (r, r)
        -d2 log f / d psi d psi', summed over rows (for eta of shape (n,) only). Serves as a
        model Hessian only, so an approximation will do.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.registry import get_family
    >>> from sm_multilevel.families.response import ResponseData
    >>> local = get_family("poisson").bind(ResponseData(np.array([2.0]))).at(np.zeros(1), np.empty(0))
    >>> local.logf.round(4).tolist(), local.score.tolist(), local.info.tolist()
    ([-1.6931], [1.0], [1.0])
    """

    if TYPE_CHECKING:  # read-only to mypy, so that cached properties may stand for them

        @property
        def logf(self) -> np.ndarray: ...
        @property
        def score(self) -> np.ndarray: ...
        @property
        def info(self) -> np.ndarray: ...
        @property
        def info_slope(self) -> np.ndarray: ...
        @property
        def expected_info(self) -> np.ndarray: ...
        @property
        def psi_score(self) -> np.ndarray: ...
        @property
        def score_psi(self) -> np.ndarray: ...
        @property
        def info_psi(self) -> np.ndarray: ...
        @property
        def psi_info(self) -> np.ndarray: ...

    def psi_pull(
        self, a: np.ndarray | None = None, b: np.ndarray | None = None, c: np.ndarray | None = None
    ) -> np.ndarray:
        """Sum over rows (and nodes) of ``a psi_score + b score_psi + c info_psi``, None for zero; shape (r,)."""
        out: Any = 0.0
        for weights, name in ((a, "psi_score"), (b, "score_psi"), (c, "info_psi")):
            if weights is not None:
                values = getattr(self, name)
                out = out + values.reshape(len(values), -1) @ weights.reshape(-1)
        return out

    def psi_shift(self, d: np.ndarray) -> np.ndarray:
        """``d' score_psi``, the change of the score with psi; shape (..., n)."""
        return np.tensordot(d, self.score_psi, axes=1)


class Response(ABC):
    """A distribution bound to data.

    Attributes
    ----------
    n_psi : int
    eta_scale : float
        Size of the linear predictor: 1 for links without units (log, logit, ...), the root
        mean square of `start_eta` for identity, inverse, sqrt and other powers.
    nobs : float
        Rows, frequency weights counted.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.registry import get_family
    >>> from sm_multilevel.families.response import ResponseData
    >>> response = get_family("gamma", "log").bind(ResponseData(np.array([1.0, 2.0, 4.0])))
    >>> response.n_psi, response.nobs, response.take(slice(0, 2)).nobs
    (1, 3.0, 2.0)
    """

    n_psi: int = 0
    eta_scale: float = 1.0
    nobs: float

    @abstractmethod
    def at(self, eta: np.ndarray, psi: np.ndarray) -> Local:
        """Evaluate at a linear predictor and internal psi."""

    @abstractmethod
    def take(self, rows) -> Response:
        """The same response for some rows, a slice or an array of positions."""

    @abstractmethod
    def start_eta(self) -> np.ndarray:
        """A linear predictor to start from, inside the link's domain, offset not subtracted; (n,)."""

    def start_psi(self, eta: np.ndarray) -> np.ndarray:
        """Internal psi to start from, where eta has been fitted without random effects; (r,)."""
        return np.empty(0)


class ResponseFamily(ABC):
    """A distribution with its link, without data.

    Attributes
    ----------
    name, link_name : str
        For summaries: ``"Binomial"``, ``"logit"``.
    psi_names : tuple of str
        Of natural psi, as in ``params``: ``"alpha"``, ``"dispersion"``, ``"low|high"``.
    is_discrete : bool
    has_trials : bool
        Whether it takes numbers of trials.
    has_intercept : bool
        False where thresholds take the intercept's place.
    zero_limit : str
        What the family is where an element of psi is zero: ``"the Poisson limit"``.
    log_link, logit_link : bool
        Whether exp(coefficient) is a ratio of means, or of odds.
    latent_variance : float or None
        Variance of the latent residual where there is one (logit pi^2/3, probit 1, ...).
    example : float
        A response that the family can have whatever its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.registry import get_family
    >>> family = get_family("poisson")
    >>> family.name, family.link_name, family.is_discrete, family.log_link
    ('Poisson', 'log', True, True)
    >>> family.mean(np.zeros(1), np.empty(0)).tolist()
    [1.0]
    """

    name: str
    link_name: str
    psi_names: tuple[str, ...] = ()
    is_discrete: bool = False
    has_trials: bool = False
    has_intercept: bool = True
    zero_limit: str = ""
    log_link: bool = False
    logit_link: bool = False
    latent_variance: float | None = None
    example: float = 1.0

    @abstractmethod
    def check(self, data: ResponseData, what: str) -> None:
        """Raise ValueError, naming the response `what` and the first offending row, for data it cannot have."""

    @abstractmethod
    def bind(self, data: ResponseData) -> Response:
        """The response of checked data."""

    # -- psi ------------------------------------------------------------------------

    def natural(self, psi: np.ndarray) -> np.ndarray:
        """Natural psi from internal."""
        return np.array(psi, dtype=float)

    def internal(self, natural: np.ndarray) -> np.ndarray:
        """Internal psi from natural."""
        return np.array(natural, dtype=float)

    def jacobian(self, psi: np.ndarray) -> np.ndarray:
        """d natural / d internal, shape (r, r)."""
        return np.eye(len(psi))

    def at_zero(self, psi: np.ndarray) -> np.ndarray:
        """Which elements may stand at the boundary zero and are within 1e-4 of it; bool (r,)."""
        return np.zeros(len(psi), dtype=bool)

    # -- infinite estimates -------------------------------------------------------------

    def limits(self, data: ResponseData) -> np.ndarray | None:
        """Towards which end of eta a row's likelihood never falls: -1, 1, or 0 where it falls towards both; (n,).

        None where no row has such an end, as for continuous responses.
        """
        return None

    def recession(self, data: ResponseData, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Rows a of (beta, psi) with a'd >= 0, and with a'd = 0, in every direction d along which no row falls."""
        ends = self.limits(data)
        if ends is None:
            return None
        return x[ends != 0] * ends[ends != 0, None], x[ends == 0]

    # -- on the scale of the response, for any rows -------------------------------------

    @abstractmethod
    def mean(self, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Mean given eta, of one trial; ordinal: the mean of the category number. ``psi`` natural."""

    @abstractmethod
    def variance(self, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Variance of the response given eta, of one trial and unit weight; ``psi`` natural."""

    def dispersion(self, psi: np.ndarray) -> float:
        """Factor of the variance that is no function of the mean; 1 where there is none. ``psi`` natural."""
        return 1.0

    @abstractmethod
    def mean_slope(self, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """d mean / d eta; ``psi`` natural."""

    def probabilities(self, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Probability of each category, shape (..., n, K); families without categories raise ValueError."""
        raise ValueError(f"{self.name} has no categories, so there are no probabilities of them.")

    @abstractmethod
    def cdf(self, data: ResponseData, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(Y < y) and P(Y <= y) of the data given eta (equal where continuous); ``psi`` natural."""

    @abstractmethod
    def unit_deviance(self, data: ResponseData, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """2 (log f at the saturated mean - log f), unweighted by dispersion; never negative; (n,)."""

    @abstractmethod
    def simulate(self, data: ResponseData, eta: np.ndarray, psi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """New endog for given eta, trials and weights as in `data`; shape of eta; ``psi`` natural."""

    def __repr__(self) -> str:
        return f"{self.name}({self.link_name})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _plain(self) == _plain(other)

    def __hash__(self) -> int:
        return hash(type(self))


def _plain(family) -> dict[str, Any]:
    return {k: v for k, v in vars(family).items() if isinstance(v, (str, float, int, tuple, bool, type(None)))}
