"""Cluster-robust covariance of the estimates: sandwiches of exact scores of independent clusters.

    V = H^-1 (sum_i s_i s_i') H^-1

with s_i the gradient of cluster i's log-likelihood (Liang and Zeger 1986, Biometrika 73, 13-22; White 1982,
Econometrica 50, 1-25; Huber 1967). In generalised and ordinal models, and in linear ones by ML, H is the observed
information of all parameters (beta, psi, variance components): `joint`. In linear models by REML, or by option, it is
the part of beta alone, s_i = X_i'V_i^-1 r_i. Corrections for the number of clusters m are a factor,

    CR0: 1,   CR1: m / (m - 1),   CR1S: m (n - 1) / ((m - 1) (n - p)),

or CR2, see `bias_reduced`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg
from statsmodels.tools.sm_exceptions import ValueWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_flag, users_level
from sm_multilevel.objectives.scores import column_sums, linear_information, linear_scores, marginal_scores
from sm_multilevel.postestimation.components.component_map import ComponentMap, held_directions, restricted_inverse
from sm_multilevel.postestimation.components.second_order import theta_hessian
from sm_multilevel.postestimation.robust.bias_reduced import ClusterSatterthwaite, influences
from sm_multilevel.postestimation.robust.clusters import Clusters, find_clusters
from sm_multilevel.postestimation.wald.df import MODEL_BASED, df_option
from sm_multilevel.postestimation.wald.reference import FixedDf, Reference
from sm_multilevel.wording import suggest

__all__ = [
    "RobustRequest",
    "check_robust",
    "chosen_options",
    "get_robustcov_results",
    "robust_result",
    "without_rows",
]

# Corrections, and whether they are a factor alone.
_CORRECTIONS = {"CR0": True, "CR1": True, "CR1S": True, "CR2": False}
_OPTIONS = ("groups", "correction", "use_correction", "df_correction", "joint", "df")
_DF = ("normal", "clusters", "residual", "satterthwaite")
_INFORMATION = "Inverse of the joint observed information of all parameters."
_FEW = 10  # clusters
_ALONE = 1e-8  # part of a direction's information that is in other clusters, and none
_FLAT = 1e-9  # eigenvalues of the scaled information up to which derivatives' errors matter
_ROUNDING = 1e-15  # the least that an eigenvalue can be told from zero
_SMALL = 1e-6  # part of a variance that may be left out
_MOVED = 1e-4  # standard errors that a coefficient may move with a rotation of a singular Lambda


@dataclass(frozen=True, eq=False)
class RobustRequest:
    """A checked choice of a robust covariance.

    Attributes
    ----------
    cov_type : str
        As the user wrote it.
    correction : str
        ``"CR0"``, ``"CR1"``, ``"CR1S"`` or ``"CR2"``.
    clusters : Clusters
    joint : bool
        Sandwich of all parameters, or of beta alone.
    df : str or None
        Degrees of freedom; None leaves normal distributions.
    options : dict
        cov_kwds as the user gave them.
    """

    cov_type: str
    correction: str
    clusters: Clusters
    joint: bool
    df: str | None
    options: dict


# -- options ---------------------------------------------------------------------------------


def check_robust(model: Any, cov_type, cov_kwds=None, *, reml=None, nAGQ=None, use_t=None, df=None):
    """The options ``cov_type`` and ``cov_kwds``, before anything is computed.

    Parameters
    ----------
    model : MultilevelModel
    cov_type : str
    cov_kwds : dict, optional
    reml : bool, optional
        Of a linear model; None for others.
    nAGQ : int, optional
        Of a generalised model.
    use_t : bool, optional
    df : str, optional
        Of `fit`; ``"residual"`` or ``"normal"``.

    Returns
    -------
    RobustRequest or None
        None for ``"nonrobust"``.

    Raises
    ------
    ValueError
        For unknown options, and combinations that do not exist.
    """
    if cov_kwds is not None and not isinstance(cov_kwds, Mapping):
        raise ValueError(f"cov_kwds={cov_kwds!r} must be a dict, as {{'groups': 'school', 'correction': 'CR1'}}.")
    options = dict(cov_kwds or {})
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"cov_kwds has no option {name!r}.{suggest(str(name), _OPTIONS)} There are "
                             f"{', '.join(_OPTIONS)}.")  # fmt: skip
    kind = _kind(cov_type)
    if kind == "nonrobust":
        if options:
            raise ValueError(
                f"cov_kwds has {next(iter(options))!r}, which cov_type='nonrobust' does not use. Give "
                "cov_type='cluster' or 'robust' with it."
            )
        return None
    linear = reml is not None
    if nAGQ == 0:
        raise ValueError(
            f"cov_type={cov_type!r} needs nAGQ=1 or more: with nAGQ=0 fixed effects are modes and have no scores."
        )
    correction = _correction(kind, options)
    if correction == "CR2" and not linear:
        raise ValueError(
            "CR2 is for linear mixed models: it needs a working covariance of the responses. Use CR0 or CR1."
        )
    joint = _joint(options, linear, bool(reml), correction)
    degrees = _degrees(options, correction, joint, linear, use_t, df)
    if kind == "cluster" and options.get("groups") is None:
        raise ValueError(
            "cov_type='cluster' needs cov_kwds={'groups': ...}: a column, a grouping factor, or a value for each row. "
            "cov_type='robust' takes the top level of the model."
        )
    model.require_data("A robust covariance")
    clusters = find_clusters(model, options.get("groups"))
    return RobustRequest(str(cov_type), correction, clusters, joint, degrees, options)


def _kind(cov_type) -> str:
    name = cov_type.strip() if isinstance(cov_type, str) else ""
    known = {k.lower(): k for k in ("nonrobust", "robust", "cluster", *_CORRECTIONS)}
    if name.lower() in known:
        return known[name.lower()]
    known_others = {
        **dict.fromkeys(
            ("HC0", "HC1", "HC2", "HC3"),
            "rows of a mixed model are not independent; its forms for clusters are 'CR0', 'CR1' and, as HC2, 'CR2'",
        ),
        **dict.fromkeys(
            ("HAC", "NW-PANEL", "HAC-PANEL", "HAC-GROUPSUM", "NW-GROUPSUM", "FIXED SCALE"),
            "it is not available for mixed models",
        ),
        **dict.fromkeys(("CR3", "CR4", "CR1P"), "it is not available"),
    }
    reason = known_others.get(name.upper(), "it is not known")
    raise ValueError(
        f"cov_type={cov_type!r}: {reason}. Choose 'nonrobust', 'robust' (clusters are the top level of the model), "
        "'cluster' with cov_kwds={'groups': ...}, or a correction: 'CR0', 'CR1', 'CR1S', 'CR2'."
    )


def _correction(kind, options) -> str:
    given = options.get("correction")
    if given is not None and (not isinstance(given, str) or given.upper() not in _CORRECTIONS):
        raise ValueError(f"cov_kwds: correction={given!r} is not known. Choose one of {', '.join(_CORRECTIONS)}.")
    found = [] if given is None else [given.upper()]
    if kind in _CORRECTIONS:
        found.append(kind)
    if options.get("use_correction") is not None:
        found.append("CR1S" if check_flag("use_correction", options["use_correction"]) else "CR0")
    if len(set(found)) > 1:
        raise ValueError(
            f"The correction is given twice, as {found[0]} and {found[1]} (statsmodels' use_correction=True is CR1S, "
            "False is CR0). Leave one out."
        )
    return found[0] if found else "CR1"


def _joint(options, linear, reml, correction) -> bool:
    given = options.get("joint")
    if given is None:
        return not (linear and (reml or correction == "CR2"))
    joint = check_flag("joint", given)
    if joint and reml:
        raise ValueError(
            "cov_kwds: joint=True needs fit(reml=False): the restricted likelihood has no parts for clusters, and the "
            "sandwich under REML is of the fixed effects alone."
        )
    if joint and correction == "CR2":
        raise ValueError("cov_kwds: joint=True has no CR2, which is for the fixed effects alone. Use CR1.")
    if not joint and not linear:
        raise ValueError(
            "cov_kwds: joint=False is for linear models; in others fixed effects and components are not independent."
        )
    return joint


def _degrees(options, correction, joint, linear, use_t, df) -> str | None:
    given = options.get("df")
    if given is not None and given not in _DF:
        raise ValueError(f"cov_kwds: df={given!r} is not known. Choose one of {', '.join(map(repr, _DF))}.")
    if options.get("df_correction") is not None:
        other = "clusters" if check_flag("df_correction", options["df_correction"]) else "residual"
        if other == "residual" and not use_t:
            other = "normal"
        if given not in (None, other):
            raise ValueError(f"cov_kwds: df={given!r} and df_correction={options['df_correction']!r} contradict each "
                             "other. Leave one out.")  # fmt: skip
        given = other
    if given is None and isinstance(df, str) and df.strip().lower() in ("normal", "residual"):
        given = df.strip().lower()
    if given is None:
        given = "satterthwaite" if correction == "CR2" else "clusters" if use_t else "normal"
    if given == "satterthwaite" and (joint or not linear):
        raise ValueError(
            "cov_kwds: df='satterthwaite' is for linear models with a sandwich of the fixed effects alone: REML, CR2, "
            "or joint=False. Use df='clusters'."
        )
    return None if given == "normal" else given


def chosen_options(result: Any) -> dict:
    """What `fit` takes to make a result's robust covariance again."""
    if "options" not in result.cov_kwds:
        return {}
    return {"cov_type": result.cov_type, "cov_kwds": dict(result.cov_kwds["options"])}


def without_rows(cov_kwds: dict) -> dict:
    """cov_kwds without an array that has one value a row."""
    options = cov_kwds.get("options", {})
    if options.get("groups") is None or isinstance(options["groups"], str):
        return cov_kwds
    return {**cov_kwds, "options": {**options, "groups": None}}


# -- covariance --------------------------------------------------------------------------------


def get_robustcov_results(result: Any, cov_type, use_t, cov_kwds: dict) -> Any:
    """The same fit with another covariance; see `InferenceMethods.get_robustcov_results`."""
    if use_t is None:
        use_t = result.use_t and result.reference is None
    request = check_robust(
        result.model, cov_type, cov_kwds, reml=getattr(result, "reml", None), nAGQ=getattr(result, "nAGQ", None),
        use_t=check_flag("use_t", use_t),
    )  # fmt: skip
    if request is not None:
        return robust_result(result, request)
    _check_plain(result)
    plain = np.asarray(result.normalized_cov_params) * result.scale
    words = {"description": _INFORMATION if result.residual_variance is None else MODEL_BASED}
    return result.derived(cov=plain, use_t=use_t, cov_type="nonrobust", cov_kwds=words)


def robust_result(result: Any, request: RobustRequest) -> Any:
    """The same fit with a robust covariance.

    Parameters
    ----------
    result : MultilevelResults
    request : RobustRequest

    Returns
    -------
    MultilevelResults

    Raises
    ------
    ValueError
        If the result has Satterthwaite's or Kenward and Roger's degrees of freedom.
    """
    _check_plain(result)
    plain = np.asarray(result.normalized_cov_params) * result.scale
    with one_blas_thread():
        cov, joint, reference = _covariance(result, request)
    lost = np.isnan(np.diag(plain))
    alone, where = _of_one_cluster(result, request.clusters)
    if alone.any():
        names = ", ".join(n for n, one in zip(result.model.data.param_names, alone, strict=True) if one)
        warnings.warn(
            f"Without the cluster {where!r} of {request.clusters.name!r} the data do not determine {names}. A single "
            "cluster does not show how it varies: these have no robust standard error.",
            ValueWarning,
            stacklevel=users_level(),
        )
        lost = lost | alone
    cov[lost, :] = cov[:, lost] = np.nan
    clusters, label = request.clusters, request.cov_type
    if _kind(request.cov_type) not in _CORRECTIONS:
        label = f"{request.cov_type} ({request.correction})"
    sandwich = "all parameters" if request.joint else "the fixed effects"
    few = ""
    if clusters.size < _FEW and reference is None:
        few = " These are few: with normal distributions intervals are too short."
    kwds = {
        "description": f"Cluster-robust sandwich of {sandwich}, {request.correction}, by {clusters.name}.",
        "note": f"Standard errors of the coefficients are robust: {clusters.size} clusters by {clusters.name}; "
        f"those of variances are model-based.{few}",
        "label": label, "correction": request.correction, "n_groups": clusters.size, "group_name": clusters.name,
        "cov_joint": joint, "options": request.options,
    }  # fmt: skip
    return result.derived(reference=reference, use_t=False, cov=cov, cov_type=request.cov_type, cov_kwds=kwds)


def _check_plain(result) -> None:
    method = df_option(result.reference)
    if method is not None:
        raise ValueError(
            f"This result has df={method!r}, which belongs to the model-based covariance. A robust one has its own: "
            "take it from the fit without df=, with cov_kwds={'df': ...} if need be."
        )
    if result._state is None:
        raise ValueError(
            "A robust covariance needs the solution of the fit, which a fit with constraints does not keep. Leave the "
            "columns out of the model instead."
        )


def _of_one_cluster(result, clusters) -> tuple[np.ndarray, Any]:
    """Which parameters only one cluster determines, and the first such cluster.

    Its residuals fit it as well as they can in that direction, and show nothing of its own variation.
    """
    x = result.model.design.exog
    p, extra = x.shape[1], len(np.asarray(result.params)) - x.shape[1]
    thresholds = result.family is not None and not result.family.has_intercept
    if thresholds:  # they take the place of the constant
        x = np.column_stack([x, np.ones(len(x))])
    out, where = np.zeros(p + extra, dtype=bool), None
    if not x.shape[1]:
        return out, where
    size = np.sqrt(np.einsum("ij,ij->j", x, x))
    q, r = np.linalg.qr(x / size)
    # The sum over clusters is the number of columns, and a cluster alone in a direction has one of it.
    leverage = np.bincount(clusters.codes, np.einsum("ij,ij->i", q, q), minlength=clusters.size)
    for cluster in np.flatnonzero(leverage > 1.0 - _ALONE):
        mine = q[clusters.codes == cluster]
        values, vectors = np.linalg.eigh(mine.T @ mine)
        directions = np.linalg.solve(r, vectors[:, values > 1.0 - _ALONE])
        found = (np.abs(directions) > 1e-6 * np.abs(directions).max(initial=0.0)).any(axis=1)
        if found.any() and where is None:
            where = clusters.labels.tolist()[cluster]
        out[:p] |= found[:p]
        if thresholds:
            out[p:] |= found[p]
    return out, where


def _covariance(result, request) -> tuple[np.ndarray, np.ndarray | None, Reference | None]:
    """Covariance of params, that of all parameters where the sandwich is joint, and degrees of freedom."""
    clusters, moments = request.clusters, None
    if result.residual_variance is None:
        parts = _marginal_influences(result, clusters)
    elif request.joint:
        parts = _linear_influences(result, clusters)
    elif request.correction == "CR2" or request.df == ClusterSatterthwaite.name:
        adjust, wanted = request.correction == "CR2", request.df == ClusterSatterthwaite.name
        parts, moments = influences(result, clusters, _residuals(result), adjust, wanted)
    else:
        parts = _beta_influences(result, clusters)
    p = len(np.asarray(result.params))
    joint = _factor(request.correction, clusters.size, float(result.nobs), p) * (parts.T @ parts)
    return joint[:p, :p].copy(), joint if request.joint else None, _reference(result, request, moments)


def _factor(correction, m, n, p) -> float:
    if correction in ("CR0", "CR2"):
        return 1.0
    return m / (m - 1.0) * ((n - 1.0) / (n - p) if correction == "CR1S" else 1.0)


def _reference(result, request, moments) -> Reference | None:
    if moments is not None:
        return ClusterSatterthwaite(moments)
    if request.df == "clusters":
        return FixedDf(request.clusters.size - 1, "clusters", "number of clusters - 1")
    if request.df == "residual":
        return FixedDf(result.df_resid)
    return None


def _residuals(result) -> np.ndarray:
    """y - X beta."""
    model = result.model
    fixed = model.design.exog @ np.asarray(result.params)
    return model.endog - (fixed if model.offset is None else fixed + model.offset)


def _weights(model):
    var, freq = model.var_weights, model.freq_weights
    if var is None or freq is None:
        return freq if var is None else var
    return var * freq


def _columns(result) -> np.ndarray:
    return result.model.design.exog @ result._state.data.scaling.map


def _beta_influences(result, clusters) -> np.ndarray:
    """(X'V^-1 X)^-1 X_i'V_i^-1 r_i of each cluster, shape (m, p)."""
    state, weights = result._state, _weights(result.model)
    white = result.resid if weights is None else weights * result.resid  # V^-1 r: the predicted effects taken off
    sums = column_sums(clusters.codes, clusters.size, _columns(result).T, white)
    return sums @ state.inv_chol_x.T @ state.inv_chol_x @ state.data.scaling.map.T


def _linear_influences(result, clusters) -> np.ndarray:
    """H^-1 s_i in the user's beta, theta (standardised columns) and sigma^2; shape (m, p + k + 1)."""
    model, state, theta = result.model, result._state, result.record.theta_standard
    effects, p, k = model.effects, state.data.p, len(theta)
    scores = linear_scores(
        state, effects.basis, [effects.terms[f.terms[0]].codes for f in effects.factors], clusters.codes,
        clusters.size, exog=_columns(result), resid=_residuals(result), conditional=result.resid,
        weights=_weights(model), counts=model.freq_weights, sigma2=float(result.scale),
    )  # fmt: skip
    whole = theta_hessian(state, effects, theta, None)  # in theta and log sigma
    hessian = whole[:k, :k] - np.outer(whole[:k, k], whole[k, :k]) / whole[k, k]
    info, others = linear_information(state, effects.basis, hessian), np.r_[0:p, p + k]
    # The factor of X'V^-1 X as the fit has it, however near its columns are to collinear.
    root = linalg.block_diag(np.sqrt(state.sigma2) * state.inv_chol_x, 1.0 / np.sqrt(info[-1:, -1:]))
    half = root @ info[np.ix_(others, range(p, p + k))]
    back = linalg.block_diag(state.data.scaling.map, np.eye(1))
    free = held_directions(ComponentMap(effects, True), theta)
    # Half the profiled Hessian is what the information of theta leaves after that of beta and sigma^2.
    rest, at = _solved(scores[:, others] @ root.T, scores[:, p : p + k], root @ back.T, half, 0.5 * hessian, free)
    return np.column_stack([rest[:, :p], at, rest[:, p:]])


def _solved(white, theta_scores, root, half, schur, free):
    """The joint information's inverse times scores, by blocks: only directions of theta may be left out.

    Parameters
    ----------
    white : ndarray, shape (m, h)
        Scores of the other parameters times the root of the inverse of their own information.
    theta_scores : ndarray, shape (m, k)
    root : ndarray, shape (h, j)
        That root, taken to the user's parameters.
    half : ndarray, shape (h, k)
        The root times the information that the two share.
    schur : ndarray, shape (k, k)
        Information of theta, the others profiled out.
    free : ndarray, shape (k, f)
        Directions of theta off the boundary.

    Returns
    -------
    ndarray, shape (m, j)
        Of the others; NaN where they move with a direction of theta that has no information.
    ndarray, shape (m, k)
        Of theta.
    """
    inverse, flat = restricted_inverse(schur, free)
    at = (theta_scores - white @ half) @ inverse
    out = (white - at @ half.T) @ root
    moved = np.abs(root.T @ (half @ flat)) > _MOVED * np.sqrt(np.einsum("hj,hj->j", root, root))[:, None]
    out[:, moved.any(axis=1)] = np.nan
    return out, at


def _marginal_influences(result, clusters) -> np.ndarray:
    """H^-1 s_i in the user's beta, natural psi, and theta (standardised columns); shape (m, h + k)."""
    model, z = result.model, result.z_standard
    bound, space, head = model.bound(), model.space(), len(np.asarray(result.params))
    state = model.objective(result.nAGQ).state(z)
    codes = clusters.codes if bound.order is None else clusters.codes[bound.order]
    scores = marginal_scores(state, model.effects.basis, codes, clusters.size)
    jacobian, hessian = result.standard_jacobian, 0.5 * result.record.hessian
    held = np.zeros(head, dtype=bool)
    held[model.k_fixed :] = space.psi_at_zero(z)
    free = np.eye(head)[:, ~held]
    if result.separated:  # infinite estimates are held, in the user's parameters
        held |= np.isin(list(model.data.param_names), result.separated)
        free = np.linalg.qr(np.linalg.inv(jacobian + np.diag(np.diag(jacobian) == 0.0))[:, ~held])[0]
    inside, cross = free.T @ hessian[:head, :head] @ free, free.T @ hessian[:head, head:]
    size = np.sqrt(np.maximum(np.diag(inside), np.finfo(float).tiny))
    if not (np.isfinite(hessian).all() and np.isfinite(size).all()):
        return np.full(scores.shape, np.nan)
    values, vectors = np.linalg.eigh(inside / np.outer(size, size))
    if values.size and values[0] < -1e-6:  # no maximum of the likelihood
        return np.full(scores.shape, np.nan)
    moves = vectors / size[:, None]
    keep = values > _FLAT
    root = (moves[:, keep] / np.sqrt(values[keep])).T
    half, back = root @ cross, jacobian @ free
    schur = hessian[head:, head:] - half.T @ half
    white = scores[:, :head] @ free @ root.T
    directions = held_directions(ComponentMap(model.effects, False), z[head:])
    out, at = _solved(white, scores[:, head:], root @ back.T, half, schur, directions)
    # What moves with a direction left out has more variance than is seen.
    left = moves[:, ~keep] / np.sqrt(np.maximum(values[~keep], _ROUNDING))
    seen = np.einsum("hj,hj->j", root @ back.T, root @ back.T)
    out[:, ((back @ left) ** 2 > _SMALL * seen[:, None]).any(axis=1)] = np.nan
    at[:, ((cross.T @ left) ** 2 > _SMALL * np.abs(np.diag(schur))[:, None]).any(axis=1)] = np.nan
    return np.column_stack([out, at])
