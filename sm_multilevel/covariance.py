"""Covariance structures of random effects: theta to Lambda and back.

A structure knows the relative covariance G = Lambda Lambda' of the q columns of one term.
All structures here are linear in theta, Lambda = sum_j theta_j B_j, so that a structure is
its basis, a way back from G, and what may happen at the boundary.
To add one: a subclass, and an entry in `STRUCTURES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

__all__ = [
    "SINGULAR_TOLERANCE",
    "STRUCTURES",
    "Covariance",
    "Diagonal",
    "Exchangeable",
    "Identity",
    "Unstructured",
    "get_covariance",
]

# A relative standard deviation (of a standardised column, in residual SDs) below this is
# reported as zero, as lme4's isSingular does.
SINGULAR_TOLERANCE = 1e-4


class Covariance(ABC):
    """Contract of a covariance structure.

    Attributes
    ----------
    name : str
        What users write in ``covariance=``.
    maps : {"linear", "columns", "common"}
        Changes of basis b = W b' under which the family is closed: any W, a diagonal W,
        or a multiple of the identity. Columns are standardised no further than this.
    correlated : bool
        Whether covariances between columns are part of the structure.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.covariance import Covariance
    >>> structure = res.model.effects.terms[0].covariance
    >>> isinstance(structure, Covariance), structure.name
    (True, 'unstructured')
    >>> structure.factor(res.theta, 2).round(3).tolist()
    [[0.967, 0.0], [0.015, 0.231]]
    """

    name: str
    maps: str
    correlated: bool = True

    @abstractmethod
    def basis(self, q: int) -> np.ndarray:
        """Matrices B_j, shape (k, q, q), with Lambda = sum theta_j B_j."""

    @abstractmethod
    def from_covariance(self, g: np.ndarray) -> np.ndarray:
        """theta of a positive semidefinite G of the family; shape (k,)."""

    def n_params(self, q: int) -> int:
        """Number of elements of theta for q columns."""
        return self.basis(q).shape[0]

    def span(self, q: int) -> np.ndarray:
        """Orthonormal basis of the symmetric matrices that G = Lambda Lambda' spans; shape (c, q, q).

        G as a linear function of its own elements, where theta's is quadratic: c may differ from the
        length of theta.
        """
        basis = self.basis(q)
        # As many covariances in general position as there can be dimensions span what all of them do.
        thetas = np.random.default_rng(0).standard_normal((q * (q + 1) // 2, len(basis)))
        lams = np.tensordot(thetas, basis, axes=1)
        _, values, vectors = np.linalg.svd((lams @ lams.transpose(0, 2, 1)).reshape(-1, q * q), full_matrices=False)
        return vectors[values > 1e-10 * values.max()].reshape(-1, q, q)

    def factor(self, theta: np.ndarray, q: int) -> np.ndarray:
        """Lambda, shape (q, q)."""
        return np.tensordot(theta, self.basis(q), axes=1)

    def canonical(self, theta: np.ndarray, q: int) -> np.ndarray:
        """The representative of theta whose scale elements are not negative."""
        lam = self.factor(theta, q)
        return self.from_covariance(lam @ lam.T)

    def transform(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        """theta of the covariance W G W'."""
        half = w @ self.factor(theta, w.shape[0])
        return self.from_covariance(half @ half.T)

    def transform_many(self, thetas: np.ndarray, w: np.ndarray) -> np.ndarray:
        """`transform` of many theta, shape (B, k)."""
        return np.stack([self.transform(theta, w) for theta in thetas])

    def open(self, theta: np.ndarray, q: int, eps: float) -> np.ndarray:
        """A theta near this one whose Lambda is not singular (null space raised to eps)."""
        lam = self.factor(theta, q)
        return self.from_covariance(lam @ lam.T + eps**2 * self.null_projector(theta, q))

    def null_projector(self, theta: np.ndarray, q: int, tol: float = 1e-7) -> np.ndarray:
        """Projector on the null space of G, shape (q, q)."""
        lam = self.factor(theta, q)
        values, vectors = np.linalg.eigh(lam @ lam.T)
        null = vectors[:, values < tol**2]
        return null @ null.T

    @abstractmethod
    def escape(self, theta: np.ndarray, q: int, slope: np.ndarray) -> tuple[float, np.ndarray]:
        """Steepest feasible way to leave the boundary.

        Parameters
        ----------
        theta : ndarray
            Where Lambda is singular.
        slope : ndarray, shape (q, q)
            Derivative of the objective in G.

        Returns
        -------
        float, ndarray
            Directional derivative (inf if no direction is closed off) and the direction,
            a positive semidefinite matrix of unit norm with G + t direction in the family.
        """

    def is_singular(self, theta: np.ndarray, q: int, tol: float = SINGULAR_TOLERANCE) -> bool:
        """Whether G has (numerically) less than full rank."""
        lam = self.factor(theta, q)
        return bool(np.linalg.svd(lam, compute_uv=False)[-1] < tol)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))


class _Orthogonal(Covariance):
    """Structures with B_j B_k' = 0 for j != k: each theta_j^2 is a variance of its own."""

    def from_covariance(self, g):
        basis = self.basis(g.shape[0])
        squares = np.einsum("kab,kcb->kac", basis, basis)
        norms = np.einsum("kab,kab->k", squares, squares)
        weights = np.einsum("kab,ab->k", squares, g) / norms
        return np.sqrt(np.maximum(weights, 0.0))

    def null_projector(self, theta, q, tol=1e-7):
        basis = self.basis(q)[np.abs(theta) < tol]
        return np.einsum("kab,kcb->ac", basis, basis)

    def escape(self, theta, q, slope):
        best, direction = np.inf, np.zeros((q, q))
        for value, b in zip(theta, self.basis(q), strict=True):
            if abs(value) < SINGULAR_TOLERANCE:
                d = b @ b.T
                d = d / np.linalg.norm(d)
                rate = float(np.sum(d * slope))
                if rate < best:
                    best, direction = rate, d
        return best, direction

    def is_singular(self, theta, q, tol=SINGULAR_TOLERANCE):
        return bool(np.min(np.abs(theta)) < tol)


class Unstructured(Covariance):
    """Any positive semidefinite G; Lambda is lower triangular, theta its columns.

    Examples
    --------
    >>> from sm_multilevel.covariance import Unstructured
    >>> Unstructured().n_params(2)
    3
    """

    name = "unstructured"
    maps = "linear"

    def basis(self, q):
        pairs = [(i, j) for j in range(q) for i in range(j, q)]
        out = np.zeros((len(pairs), q, q))
        for k, (i, j) in enumerate(pairs):
            out[k, i, j] = 1.0
        return out

    def from_covariance(self, g):
        values, vectors = np.linalg.eigh(g)
        return self._from_half(vectors * np.sqrt(np.maximum(values, 0.0)))

    def _from_half(self, half):
        """theta of half @ half.T, through QR: no precision is lost by squaring."""
        low = np.asarray(np.linalg.qr(half.T, mode="r")).T
        low = low * np.where(np.diag(low) < 0, -1.0, 1.0)
        q = low.shape[0]
        return np.array([low[i, j] for j in range(q) for i in range(j, q)])

    def canonical(self, theta, q):
        return self._from_half(self.factor(theta, q))

    def transform(self, theta, w):
        return self._from_half(w @ self.factor(theta, w.shape[0]))

    def transform_many(self, thetas, w):
        q = w.shape[0]
        half = w @ np.einsum("bk,kij->bij", thetas, self.basis(q))
        low = np.asarray(np.linalg.qr(half.swapaxes(1, 2), mode="r")).swapaxes(1, 2)
        diagonal = np.einsum("bii->bi", low)
        low = low * np.where(diagonal < 0, -1.0, 1.0)[:, None, :]
        columns = [low[:, j:, j] for j in range(q)]
        return np.hstack(columns)

    def open(self, theta, q, eps):
        null = self.null_projector(theta, q)
        return self._from_half(np.hstack([self.factor(theta, q), eps * null]))

    def escape(self, theta, q, slope):
        lam = self.factor(theta, q)
        values, vectors = np.linalg.eigh(lam @ lam.T)
        null = vectors[:, values < SINGULAR_TOLERANCE**2]
        if null.shape[1] == 0:
            return np.inf, np.zeros((q, q))
        rates, inside = np.linalg.eigh(null.T @ slope @ null)
        v = null @ inside[:, 0]
        return float(rates[0]), np.outer(v, v)


class Diagonal(_Orthogonal):
    """Independent columns, each with its own variance.

    Examples
    --------
    >>> from sm_multilevel.covariance import Diagonal
    >>> Diagonal().factor([2.0, 3.0], 2).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """

    name = "diagonal"
    maps = "columns"
    correlated = False

    def basis(self, q):
        return np.stack([np.diag(row) for row in np.eye(q)])


class Identity(_Orthogonal):
    """Independent columns with one common variance.

    Examples
    --------
    >>> from sm_multilevel.covariance import Identity
    >>> Identity().factor([2.0], 2).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    name = "identity"
    maps = "common"
    correlated = False

    def basis(self, q):
        return np.eye(q)[None]


class Exchangeable(_Orthogonal):
    """One variance and one correlation (compound symmetry), which may be negative.

    Lambda = a 11'/q + b (I - 11'/q) with a, b >= 0; nlme's ``pdCompSymm``.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.covariance import Exchangeable
    >>> theta = Exchangeable().from_covariance(np.array([[2.0, 0.5], [0.5, 2.0]]))
    >>> half = Exchangeable().factor(theta, 2)
    >>> (half @ half.T).round(6).tolist()
    [[2.0, 0.5], [0.5, 2.0]]
    """

    name = "exchangeable"
    maps = "common"

    def basis(self, q):
        mean = np.full((q, q), 1.0 / q)
        if q == 1:  # one column: only the variance exists
            return mean[None]
        return np.stack([mean, np.eye(q) - mean])


STRUCTURES = {c.name: c for c in (Unstructured, Diagonal, Identity, Exchangeable)}


def get_covariance(value) -> Covariance:
    """A structure from its name, class or instance.

    Raises
    ------
    ValueError
        If there is no structure of this name.

    Examples
    --------
    >>> from sm_multilevel.covariance import get_covariance
    >>> get_covariance("diagonal")
    Diagonal()
    """
    if isinstance(value, Covariance):
        return value
    if isinstance(value, type) and issubclass(value, Covariance):
        return value()
    if isinstance(value, str) and value.lower() in STRUCTURES:
        return STRUCTURES[value.lower()]()
    raise ValueError(f"covariance={value!r} is not known. Choose one of {', '.join(map(repr, STRUCTURES))}.")
