"""Brute-force fits of small models, exact and Laplace: brute.json.

    python tests/reference/brute.py              all, a quarter of an hour
    python tests/reference/brute.py ID [ID ...]  only these, the others kept as they are

Cases, data and formulas are those of glmm_cases.json; the likelihoods and the search are oracle_glmm.py's.
"""

import functools
import itertools
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import patsy
import scipy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
import oracle_glmm as oracle  # noqa: E402

METHODS = {"laplace": oracle.dense_laplace, "exact": oracle.integrate, "nested": oracle.integrate_nested}

# case: methods; "rows" keeps a part of the data (pandas query), "formula" and "link" replace the case's own.
WANTED = {
    "cbpp": {"methods": ["laplace", "exact"]},
    "cbpp_probit": {"methods": ["exact"]},
    "cbpp_cloglog": {"methods": ["exact"]},
    "cbpp_loglog": {"case": "cbpp", "link": "loglog", "methods": ["laplace", "exact"]},
    "cbpp_cauchit": {"case": "cbpp", "link": "cauchit", "methods": ["laplace", "exact"]},
    "contraception": {"methods": ["exact"]},
    "epil": {"methods": ["laplace", "exact"]},
    "epil_period": {"methods": ["laplace", "exact"]},
    "epil_nb2": {"methods": ["laplace", "exact"]},
    "epil_nb1_slope": {"methods": ["laplace"]},
    "owls_nb2": {"methods": ["exact"]},
    "owls_nb1": {"methods": ["laplace", "exact"]},
    "owls_nb2_arrival": {"methods": ["laplace", "exact"]},
    "wine": {"methods": ["laplace", "exact"]},
    "wine_probit": {"methods": ["laplace", "exact"]},
    "wine_cloglog": {"methods": ["laplace", "exact"]},
    "wine_loglog": {"methods": ["laplace", "exact"]},
    "wine_cauchit": {"methods": ["laplace", "exact"]},
    "wine_slope": {"methods": ["laplace", "exact"]},
    "soup": {"methods": ["laplace", "exact"]},
    "soup_probit_slope": {"methods": ["laplace"]},
    "hospital_gamma": {"methods": ["laplace", "exact"]},
    "hospital_gamma_slope": {"methods": ["laplace", "exact"]},
    "hospital_inverse_gaussian": {
        "case": "hospital_gamma", "formula": "wait ~ severity + ward + (1 | hospital)", "family": "inverse_gaussian",
        "methods": ["laplace", "exact"],
    },
    "guimmun_31": {"case": "guimmun", "rows": "comm <= 80", "methods": ["laplace", "nested"]},
    "toenail": {"methods": ["laplace", "exact"]},
    "schizophrenia2": {"methods": ["exact"]},
    "bacteria": {"methods": ["exact"]},
    "respiratory": {"methods": ["exact"]},
}  # fmt: skip


@functools.cache
def _cases():
    return json.loads((HERE / "glmm_cases.json").read_text())


def case_of(name):
    """The case of glmm_cases.json with the changes that WANTED makes, and its name in brute.json."""
    wanted = WANTED.get(name, {})
    (case,) = [c for c in _cases()["cases"] if c["id"] == wanted.get("case", name)]
    changes = {k: v for k, v in wanted.items() if k not in ("case", "methods")}
    return {k: v for k, v in case.items() if k not in ("engines", "note")} | changes | {"id": name}


def frame_of(case):
    entry = _cases()["data"][case["data"]]
    data = pd.read_csv(ROOT / entry["file"])
    if case.get("rows"):
        data = data.query(case["rows"]).reset_index(drop=True)
    for column, levels in entry.get("factors", {}).items():
        data[column] = pd.Categorical(data[column], levels or sorted(data[column].unique()))
    for name, code in {**entry.get("columns", {}), **case.get("columns", {})}.items():
        data[name] = _evaluate(code, data)
    return data


def _evaluate(code, data):
    columns = {name: data[name] for name in data}
    # "(a == 'b')" adds up as 0 and 1, as in R
    code = re.sub(r"(\w+ == '[^']*'|\w+ > \d+)", r"(\1).astype(float)", code)
    return np.asarray(eval(code, {"log": np.log}, columns), float)


def model_of(case):
    """The oracle's Model of a case, with names: (model, names of beta, of psi, of terms as (group, columns))."""
    data = frame_of(case)
    formula = re.sub(r"\(([^()|]+)\|\|([^()|]+)\)", r"(1 | \2) + (0 + \1 | \2)", case["formula"])
    bars = re.findall(r"\(([^()|]+)\|([^()|]+)\)", formula)
    plain = re.sub(r"\s*\+\s*\([^()|]+\|[^()|]+\)", "", formula)
    left, right = plain.split("~")
    design = patsy.dmatrix(right, data)
    names, x = list(design.design_info.column_names), np.asarray(design)
    y, psi_names, n_psi = data[left.strip()], [], 0
    family = case["family"]
    if family == "ordinal":
        labels = list(y.cat.categories)
        x, names = x[:, 1:], names[1:]
        psi_names = [f"{a}|{b}" for a, b in itertools.pairwise(labels)]
        y = y.cat.codes
    elif family in ("nb2", "nb1"):
        psi_names = ["alpha"]
    elif family not in ("binomial", "poisson"):
        psi_names = ["dispersion"]
    n_psi = len(psi_names)
    y = np.asarray(y)
    if case.get("trials"):
        y = np.column_stack([y, data[case["trials"]]])
    terms, groups = [], []
    for columns, group in bars:
        z = patsy.dmatrix(columns.strip(), data)
        factors = [g.strip() for g in group.split("/")]
        for depth in range(1, len(factors) + 1):
            # levels in their natural order, of nested factors the outer one first
            codes = np.column_stack([pd.factorize(data[f], sort=True)[0] for f in factors[:depth]])
            terms.append((np.unique(codes, axis=0, return_inverse=True)[1].ravel(), np.asarray(z)))
            groups.append((":".join(reversed(factors[:depth])), list(z.design_info.column_names)))
    model = oracle.Model(
        y, x, tuple(terms), oracle.density_of(family, case["link"]), n_psi, family == "ordinal",
        np.asarray(data[case["offset"]], float) if case.get("offset") else None,
        np.asarray(data[case["weights"]], float) if case.get("weights") else None,
    )  # fmt: skip
    return model, names, psi_names, groups


def start_of(model):
    """Crude, and far enough from the optimum to be no help to a wrong likelihood."""
    beta = np.zeros(model.x.shape[1])
    psi = np.full(model.n_psi, -0.5)
    if model.thresholds:
        share = np.cumsum(np.bincount(model.y))[:-1] / len(model.y)
        psi = np.log(share / (1 - share))
    elif model.y.ndim == 1 and model.y.max() > 1:
        beta[0] = np.log(model.y.mean()) - (0 if model.offset is None else np.mean(model.offset))
    theta = []
    for _, z in model.terms:
        low = 0.5 * np.eye(z.shape[1])
        theta.append(low.T[np.triu_indices(len(low))])
    return np.concatenate([beta, psi, *theta])


def fit(name, method):
    """One line of brute.json."""
    case = case_of(name)
    model, names, psi_names, groups = model_of(case)
    started = time.time()
    result = oracle.brute_fit(model, start_of(model), oracle.dense_laplace)
    check = None
    if method != "laplace":  # from the Laplace optimum: fewer integrals
        two = len(model.terms) == 1 and model.terms[0][1].shape[1] == 2
        options = {"n_points": 45} if two else {}
        result = oracle.brute_fit(model, None, METHODS[method], near=result, **options)
        finer = {"step": 0.125} if method == "nested" else {"n_points": 97 if two else 1501}
        check = model.loglike(result.packed, METHODS[method], **finer) - result.llf
    p, k = len(names), len(psi_names)
    se, at, terms = result.se, p + k, []
    labels = names + psi_names
    for group, columns in groups:
        q = len(columns)
        place = np.triu_indices(q)
        size = len(place[0])
        cov = np.zeros((q, q))
        cov.T[place] = result.params[at : at + size]
        cov = cov + np.tril(cov, -1).T
        labels = labels + [
            f"{group}|{columns[i]}" if i == j else f"{group}|{columns[i]},{columns[j]}"
            for i, j in zip(*place, strict=True)
        ]
        terms.append({"group": group, "names": columns, "cov": cov.tolist(), "se": se[at : at + size].tolist()})
        at += size
    seconds = time.time() - started
    print(f"{name:28s} {method:8s} {seconds:6.1f} s  {result.llf:.8f}  step {result.step:.1e}, {check}", flush=True)
    return case | {
        "method": method, "nobs": len(model.y), "ngroups": [int(c.max()) + 1 for c, _ in model.terms],
        "llf": result.llf,
        "fixef": {"names": names, "values": result.params[:p].tolist()}, "se": se[:p].tolist(),
        "psi": {"names": psi_names, "values": result.params[p : p + k].tolist(), "se": se[p : p + k].tolist()},
        "terms": terms, "joint": {"names": labels, "cov": result.cov.tolist()},
        "step": result.step, "finer_grid": check,
    }  # fmt: skip


def main(wanted):
    path = HERE / "brute.json"
    kept = json.loads(path.read_text())["fits"] if path.exists() and wanted else []
    store = {}
    for old in kept:
        store.setdefault(old["id"], []).append(old)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    for name, entry in WANTED.items():
        if wanted and name not in wanted:
            continue
        store[name] = [fit(name, method) for method in entry["methods"]]
        lines = [json.dumps(f) for n in WANTED for f in store.get(n, [])]
        part = path.with_suffix(".part")
        text = '{\n"versions": ' + json.dumps(versions) + ',\n"fits": [\n' + ",\n".join(lines) + "\n]\n}\n"
        part.write_text(text)
        part.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
