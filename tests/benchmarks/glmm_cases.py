"""The generalised models that are measured: what `cases` is for linear ones."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import patsy
from cases import BUNDLED, TEST_DATA


@dataclass(frozen=True)
class GlmmCase:
    """A generalised model.

    ``fixed`` and each term's columns are right-hand sides that patsy and R read alike. ``yardstick`` is what our time
    is compared with on the same rows (`glmm_tools.Yardstick`), ``tools`` those that are run where not all are.
    """

    name: str
    title: str
    response: str
    fixed: str
    terms: tuple[tuple[str, str], ...]
    family: str
    frame: Callable[[], pd.DataFrame]
    link: str = "logit"
    nagq: int = 1
    trials: str | None = None
    offset: str | None = None
    yardstick: str | None = "glm"
    tools: tuple[str, ...] = ()
    strings: bool = False  # text as group labels, not codes

    @property
    def formula(self) -> str:
        """The model in lme4's notation, without trials and offset."""
        bars = [f"({columns} | {group})" for group, columns in self.terms]
        return f"{self.response} ~ " + " + ".join([self.fixed, *bars])

    @property
    def r_formula(self) -> str:
        """The same with trials and offset, as R and glmm read it."""
        text = self.formula
        if self.trials:
            text = text.replace(f"{self.response} ~", f"cbind({self.response}, failures) ~", 1)
        return text + (f" + offset({self.offset})" if self.offset else "")

    @property
    def words(self) -> str:
        """What is fitted, for the table of models."""
        points = f", nAGQ={self.nagq}" if self.nagq > 1 else ""
        return f"{self.family}{'' if self.family == 'nb2' else ' ' + self.link}{points}"

    @functools.cached_property
    def data(self) -> pd.DataFrame:
        return self.frame()

    @functools.cached_property
    def matrices(self) -> dict[str, np.ndarray]:
        """The design as numbers: X, and Z of each term."""
        sides = {"exog": self.fixed, **{f"z{i}": columns for i, (_, columns) in enumerate(self.terms)}}
        return {name: np.asarray(patsy.dmatrix(side, self.data), dtype=float) for name, side in sides.items()}

    @property
    def design_columns(self) -> int:
        """Numbers that a row of the design holds: y, X, each term's Z columns and its codes."""
        return 1 + sum(matrix.shape[1] for matrix in self.matrices.values()) + len(self.terms)

    def save(self, folder: Path) -> int:
        """Write the case for a worker of any language, as `cases.Case.save` does; the number of rows."""
        folder.mkdir(parents=True, exist_ok=True)
        groups = [group for group, _ in self.terms]
        for name, column in self.data.items():
            if name in groups and not self.strings:
                pd.factorize(column)[0].astype(np.int32).tofile(folder / f"{name}.int")
            elif name in groups or isinstance(column.dtype, pd.CategoricalDtype):
                labels = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
                labels.cat.codes.to_numpy(np.int32).tofile(folder / f"{name}.int")
                (folder / f"{name}.levels").write_text("\n".join(map(str, labels.cat.categories)) + "\n")
            else:
                np.asarray(column, dtype=float).tofile(folder / f"{name}.float")
        for name, matrix in self.matrices.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(matrix))
        description = {
            key: getattr(self, key)
            for key in (
                "name", "formula", "r_formula", "response", "fixed", "terms", "family", "link", "nagq", "trials",
                "offset", "yardstick", "strings",
            )
        }  # fmt: skip
        description["exog_names"] = patsy.dmatrix(self.fixed, self.data.head(50)).design_info.column_names
        (folder / "case.json").write_text(json.dumps(description))
        lines = [self.r_formula, self.family, self.link, str(self.nagq), str(len(self.terms)), self.formula]
        (folder / "model.txt").write_text("\n".join(lines) + "\n")
        return len(self.data)


COLUMNS = "x1 + x2 + x3"
BETA = np.array([-0.5, 0.5, -0.3, 0.2])
CUTS = np.array([-1.5, -0.5, 0.5, 1.5])


@functools.lru_cache(maxsize=4)
def simulate(rows: int, groups: int, slope: float = 0.0, seed: int = 20260201) -> pd.DataFrame:
    """Four columns with the intercept; SD 1 between groups, ``slope`` of x1's slopes; 0/1 and five categories."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    x = rng.normal(size=(rows, 3))
    effects = rng.normal(size=(groups, 2)) @ np.array([[1.0, 0.3 * slope], [0.0, np.sqrt(0.91) * slope]])
    eta = BETA[0] + x @ BETA[1:] + effects[group, 0] + effects[group, 1] * x[:, 0]
    latent = eta + rng.logistic(size=rows)
    frame = pd.DataFrame({"y": (latent > 0).astype(float), "rating": np.searchsorted(CUTS, latent).astype(float)})
    return frame.assign(**{f"x{i + 1}": x[:, i] for i in range(3)}, g=group)


def _simulated(response: str, rows: int, groups: int, slope: float = 0.0) -> Callable[[], pd.DataFrame]:
    return lambda: simulate(rows, groups, slope)[[response, "x1", "x2", "x3", "g"]]


def _with_binary() -> pd.DataFrame:
    """Five categories, and whether it is one of the upper two, for the yardstick."""
    frame = simulate(200_000, 5_000)[["rating", "x1", "x2", "x3", "g"]]
    return frame.assign(upper=(frame["rating"] >= 3).astype(float))


def _subset() -> pd.DataFrame:
    frame = simulate(200_000, 5_000)
    return frame.loc[frame["g"] < 500, ["rating", "x1", "x2", "x3", "g"]].reset_index(drop=True)


def _csv(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(next(folder.glob(f"{name}.csv*")))


def _factors(frame: pd.DataFrame, **levels: list) -> pd.DataFrame:
    return frame.assign(**{name: pd.Categorical(frame[name], labels) for name, labels in levels.items()})


def insteval() -> pd.DataFrame:
    frame = _csv(BUNDLED, "insteval")
    return frame.assign(good=frame["y"] >= 4)[["good", "y", "service", "s", "d", "dept"]]


def verbagg() -> pd.DataFrame:
    frame = _csv(BUNDLED, "verbagg")
    frame = frame.assign(r01=frame["r2"] == "Y")[["r01", "Anger", "Gender", "btype", "situ", "id", "item"]]
    return _factors(frame, Gender=["F", "M"], btype=["curse", "scold", "shout"], situ=["other", "self"])


def toenail() -> pd.DataFrame:
    frame = _csv(BUNDLED, "toenail").rename(columns={"patientID": "patient"})
    frame = frame.assign(severe=frame["outcome"] == "moderate or severe")
    frame = frame[["severe", "treatment", "time", "patient"]]
    return _factors(frame, treatment=["itraconazole", "terbinafine"])


def contraception() -> pd.DataFrame:
    frame = _csv(BUNDLED, "contraception")
    frame = frame.assign(use01=frame["use"] == "Y", age2=frame["age"] ** 2)
    frame = frame[["use01", "urban", "age", "age2", "livch", "district"]]
    return _factors(frame, urban=["N", "Y"], livch=["0", "1", "2", "3+"])


def owls() -> pd.DataFrame:
    frame = _csv(BUNDLED, "owls")
    frame = frame[["SiblingNegotiation", "FoodTreatment", "SexParent", "logBroodSize", "Nest"]]
    return _factors(frame, FoodTreatment=["Deprived", "Satiated"], SexParent=["Female", "Male"])


def cbpp() -> pd.DataFrame:
    frame = _csv(BUNDLED, "cbpp")
    frame["failures"] = frame["size"] - frame["incidence"]
    return _factors(frame.assign(period=frame["period"].astype(str)), period=["1", "2", "3", "4"])


def epil() -> pd.DataFrame:
    frame = _csv(BUNDLED, "epil")[["y", "lbase", "trt", "lage", "V4", "subject"]]
    return _factors(frame, trt=["placebo", "progabide"])


def wine() -> pd.DataFrame:
    frame = _csv(BUNDLED, "wine")[["rating", "temp", "contact", "judge"]]
    return _factors(frame.assign(rating=frame["rating"] - 1), temp=["cold", "warm"], contact=["no", "yes"])


def hospital() -> pd.DataFrame:
    frame = _csv(TEST_DATA, "hospital_costs")
    return _factors(frame[["cost", "severity", "ward", "hospital"]], ward=sorted(frame["ward"].unique()))


_G = (("g", "1"),)
_CROSSED = (("id", "1"), ("item", "1"))
_R = ("glmer", "glmmTMB")
_OWLS = ("SiblingNegotiation", "FoodTreatment * SexParent", (("Nest", "1"),), "nb2", owls, "log")
_LARGE = ("sm_multilevel", "yardstick", "glmm", "gpboost")

GLMM_CASES = {
    case.name: case
    for case in (
        GlmmCase(
            "bernoulli", "200,000 Bernoulli rows, 5,000 groups", "y", COLUMNS, _G, "binomial",
            _simulated("y", 200_000, 5_000), tools=(*_LARGE, "mixedlm", *_R),
        ),
        GlmmCase(
            "bernoulli7", "the same, nAGQ=7", "y", COLUMNS, _G, "binomial",
            _simulated("y", 200_000, 5_000), nagq=7, tools=(*_LARGE, "glmer"),
        ),
        GlmmCase(
            "slope", "200,000 Bernoulli rows, random slope", "y", COLUMNS, (("g", "x1"),), "binomial",
            _simulated("y", 200_000, 5_000, 0.5), yardstick="intercept", tools=_LARGE,
        ),
        GlmmCase(
            "ordinal", "200,000 rows, 5 ordered categories", "rating", COLUMNS, _G, "ordinal",
            _with_binary, yardstick="binary", tools=("sm_multilevel", "yardstick"),
        ),
        GlmmCase(
            "ordinal20", "20,000 rows of it", "rating", COLUMNS, _G, "ordinal", _subset, yardstick=None,
        ),
        GlmmCase(
            "insteval", "InstEval, `y >= 4`", "good", "service", (("s", "1"), ("d", "1"), ("dept", "1")), "binomial",
            insteval, yardstick="linear", tools=(*_LARGE, *_R),
        ),
        GlmmCase(
            "verbagg", "VerbAgg, crossed", "r01", "Anger + Gender + btype + situ", _CROSSED, "binomial", verbagg,
        ),
        GlmmCase(
            "toenail", "toenail", "severe", "treatment * time", (("patient", "1"),), "binomial", toenail, nagq=21,
        ),
        GlmmCase(
            "contraception", "Contraception, random slope", "use01", "urban + age + age2 + livch",
            (("district", "urban"),), "binomial", contraception,
        ),
        GlmmCase("owls", "Owls", *_OWLS, offset="logBroodSize", yardstick=None),
        GlmmCase(
            "cbpp", "cbpp, binomial trials", "incidence", "period", (("herd", "1"),), "binomial", cbpp, trials="size",
        ),
        GlmmCase(
            "epil", "epil", "y", "lbase * trt + lage + V4", (("subject", "1"),), "poisson", epil, "log",
        ),
        GlmmCase(
            "wine", "wine, ordinal", "rating", "temp + contact", (("judge", "1"),), "ordinal", wine, yardstick=None,
        ),
    )
}  # fmt: skip

# Fitted once by every tool, to see what it makes of them; not timed.
PROBES = {
    case.name: case
    for case in (
        GlmmCase(
            "toenail1", "toenail, Laplace", "severe", "treatment * time", (("patient", "1"),), "binomial", toenail,
        ),
        GlmmCase(
            "toenail7", "toenail, nAGQ=7", "severe", "treatment * time", (("patient", "1"),), "binomial", toenail,
            nagq=7,
        ),
        GlmmCase(
            "contraception7", "Contraception, random slope, nAGQ=7", "use01", "urban + age + age2 + livch",
            (("district", "urban"),), "binomial", contraception, nagq=7,
        ),
        GlmmCase(
            "cbpp1", "cbpp, binomial trials", "incidence", "period", (("herd", "1"),), "binomial", cbpp, trials="size",
        ),
        GlmmCase(
            "cbpp7", "cbpp, binomial trials, nAGQ=7", "incidence", "period", (("herd", "1"),), "binomial", cbpp,
            trials="size", nagq=7,
        ),
        GlmmCase(
            "epil7", "epil, Poisson, nAGQ=7", "y", "lbase * trt + lage + V4", (("subject", "1"),), "poisson", epil,
            "log", nagq=7,
        ),
        GlmmCase(
            "gamma", "hospital costs, Gamma", "cost", "severity + ward", (("hospital", "1"),), "gamma", hospital, "log",
        ),
        GlmmCase(
            "gamma7", "hospital costs, Gamma, nAGQ=7", "cost", "severity + ward", (("hospital", "1"),), "gamma",
            hospital, "log", nagq=7,
        ),
        GlmmCase("nb2", "Owls, negative binomial", *_OWLS, offset="logBroodSize"),
        GlmmCase(
            "strings", "VerbAgg, items as text", "r01", "Anger + Gender + btype + situ", _CROSSED, "binomial", verbagg,
            strings=True,
        ),
    )
}  # fmt: skip

SCALING = tuple(
    GlmmCase(f"scale{rows}", f"{rows:,}", "y", COLUMNS, _G, "binomial", _simulated("y", rows, rows // 40))
    for rows in (20_000, 200_000, 2_000_000)
)
