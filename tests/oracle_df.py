"""Degrees of freedom by brute force: every matrix over the rows dense, every formula as in its paper.

Shares no code with the package. Rows with a frequency weight are repeated, V is formed and inverted. Satterthwaite's
Hessian is made by fourth-order differences of the gradient tr(P V_i) - y'P V_i P y, and the gradient of the
covariance by differences of (X'V^-1 X)^-1. Kenward and Roger's P_i, Q_ij and W are those of section 2 of their paper
(1997), with V_i numerical matrices, sigma^2 being one more covariance parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from oracle import FACTORS, Term


def spans(name: str, q: int) -> list[np.ndarray]:
    """Symmetric matrices of which every covariance of a structure is a linear combination."""
    eye = np.eye(q)
    if name == "unstructured":
        pairs = [(j, k) for j in range(q) for k in range(j + 1)]
        return [np.outer(eye[j], eye[k]) + (np.outer(eye[k], eye[j]) if j != k else 0) for j, k in pairs]
    if name == "diagonal":
        return [np.outer(row, row) for row in eye]
    if name == "identity":
        return [eye]
    return [eye, np.ones((q, q))] if q > 1 else [eye]


def fourth_order(function, at, step):
    """Derivatives along each element of a vector; the first axis is the element."""
    out = []
    for move in step * np.eye(len(at)):
        near = function(at + move) - function(at - move)
        far = function(at + 2 * move) - function(at - 2 * move)
        out.append((8 * near - far) / (12 * step))
    return np.array(out)


@dataclass
class DenseInference:
    """A linear mixed model's data, and the structure of each term."""

    y: np.ndarray
    x: np.ndarray
    terms: list[Term]
    structures: list[str]
    var_weights: np.ndarray | None = None
    freq_weights: np.ndarray | None = None
    reml: bool = True

    def __post_init__(self):
        n = len(self.y)
        times = np.ones(n, int) if self.freq_weights is None else np.asarray(self.freq_weights).astype(int)
        keep = np.repeat(np.arange(n), times)
        w = np.ones(n) if self.var_weights is None else np.asarray(self.var_weights, float)
        self.r = np.diag(1 / w[keep])
        self.yy, self.xx = np.asarray(self.y, float)[keep], np.asarray(self.x, float).reshape(n, -1)[keep]
        self.zz = [t.matrix()[keep] for t in self.terms]

    def along(self, term: int, d) -> np.ndarray:
        """Z (I kron D) Z' of a term."""
        return self.zz[term] @ np.kron(np.eye(self.terms[term].levels), d) @ self.zz[term].T

    def variance(self, theta, sigma) -> np.ndarray:
        """V for relative Cholesky factors theta, all terms in one vector."""
        out, at = self.r.copy(), 0
        for k, (term, name) in enumerate(zip(self.terms, self.structures, strict=True)):
            size = {"unstructured": term.q * (term.q + 1) // 2, "diagonal": term.q, "identity": 1}.get(
                name, min(term.q, 2)
            )
            lam = FACTORS[name](np.asarray(theta[at : at + size]), term.q)
            out, at = out + self.along(k, lam @ lam.T), at + size
        return sigma**2 * out

    def covariance(self, v):
        return np.linalg.inv(self.xx.T @ np.linalg.solve(v, self.xx))

    def projector(self, v):
        inverse = np.linalg.inv(v)
        return inverse - inverse @ self.xx @ self.covariance(v) @ self.xx.T @ inverse

    # -- Satterthwaite ---------------------------------------------------------------------

    def gradient(self, at):
        """Of the deviance, beta profiled out, in theta and log sigma."""
        v = self.variance(at[:-1], np.exp(at[-1]))
        slopes = fourth_order(lambda z: self.variance(z[:-1], np.exp(z[-1])), at, 1e-3)
        p = self.projector(v)
        traced, pulled = (p if self.reml else np.linalg.inv(v)), p @ self.yy
        return np.array([np.sum(traced * s) - pulled @ s @ pulled for s in slopes])

    def satterthwaite(self, theta, sigma):
        """Covariance of beta, its derivatives in theta and log sigma, and the Hessian."""
        at = np.append(theta, np.log(sigma))
        hessian = fourth_order(self.gradient, at, 1e-3)
        slopes = fourth_order(lambda z: self.covariance(self.variance(z[:-1], np.exp(z[-1]))), at, 1e-3)
        return self.covariance(self.variance(theta, sigma)), slopes, 0.5 * (hessian + hessian.T)

    # -- Kenward and Roger -------------------------------------------------------------------

    def kenward_roger(self, theta, sigma):
        """Covariance of beta, the adjusted one, the P_i and W."""
        v = self.variance(theta, sigma)
        inverse, phi = np.linalg.inv(v), self.covariance(v)
        moves = [
            self.along(k, d)
            for k, (term, name) in enumerate(zip(self.terms, self.structures, strict=True))
            for d in spans(name, term.q)
        ] + [self.r]
        half = [inverse @ m for m in moves]
        p = [-self.xx.T @ h @ inverse @ self.xx for h in half]
        q = [[self.xx.T @ a @ b @ inverse @ self.xx for b in half] for a in half]
        info = np.array([
            [
                0.5 * (np.sum(a * b.T) - 2 * np.trace(phi @ q[i][j]) + np.trace(phi @ p[i] @ phi @ p[j]))
                for j, b in enumerate(half)
            ]
            for i, a in enumerate(half)
        ])  # fmt: skip
        w = np.linalg.inv(info)
        inside = sum(
            w[i, j] * (q[i][j] - p[i] @ phi @ p[j]) for i in range(len(moves)) for j in range(len(moves))
        )  # fmt: skip
        return phi, phi + 2 * phi @ inside @ phi, p, w


def kr_test(rows, beta, phi, adjusted, p, w):
    """F, its factor, and denominator degrees of freedom, as on page 987."""
    rows = np.atleast_2d(rows)
    size = len(rows)
    theta = rows.T @ np.linalg.inv(rows @ phi @ rows.T) @ rows
    a1 = a2 = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            left, right = theta @ phi @ p[i] @ phi, theta @ phi @ p[j] @ phi
            a1 += w[i, j] * np.trace(left) * np.trace(right)
            a2 += w[i, j] * np.trace(left @ right)
    b = (a1 + 6 * a2) / (2 * size)
    g = ((size + 1) * a1 - (size + 4) * a2) / ((size + 2) * a2)
    c = [x / (3 * size + 2 * (1 - g)) for x in (g, size - g, size + 2 - g)]
    expected = 1 / (1 - a2 / size)
    spread = 2 / size * (1 + c[0] * b) / ((1 - c[1] * b) ** 2 * (1 - c[2] * b))
    rho = spread / (2 * expected**2)
    m = 4 + (size + 2) / (size * rho - 1)
    factor = m / (expected * (m - 2))
    value = (rows @ beta) @ np.linalg.solve(rows @ adjusted @ rows.T, rows @ beta) / size
    return factor * value, factor, m
