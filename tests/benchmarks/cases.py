"""The models that are measured: their data as plain columns, their formula, and how they reach a worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "sm_multilevel" / "datasets"
TEST_DATA = ROOT / "tests" / "data"


@dataclass(frozen=True)
class Case:
    """A linear mixed model: response, one numeric predictor or none, and random terms.

    ``terms`` gives for each grouping column whether the predictor has a random slope there.
    """

    name: str
    title: str
    response: str
    predictor: str | None
    terms: tuple[tuple[str, bool], ...]
    frame: Callable[[], pd.DataFrame]

    @property
    def fixed_formula(self) -> str:
        return f"{self.response} ~ {self.predictor or 1}"

    @property
    def formula(self) -> str:
        """The model in lme4's notation."""
        bars = [f"({self.predictor if slope else 1} | {group})" for group, slope in self.terms]
        return " + ".join([self.fixed_formula, *bars])

    @property
    def design_columns(self) -> int:
        """Numbers a row of the design holds: y, X, each term's Z columns and its codes."""
        fixed = 1 + (self.predictor is not None)
        return 1 + fixed + sum(2 + slope for _, slope in self.terms)

    def columns(self) -> dict[str, np.ndarray]:
        """The model's columns: numbers as float64, groups as integer codes from 0."""
        frame = self.frame()
        numeric = [self.response] + ([self.predictor] if self.predictor else [])
        columns = {name: np.asarray(frame[name], dtype=float) for name in numeric}
        for group, _ in self.terms:
            columns[group] = pd.factorize(frame[group])[0].astype(np.int64)
        return columns

    def save(self, folder: Path) -> int:
        """Write the case for a worker of any language: raw columns and a description; the number of rows."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = self.columns()
        for name, values in columns.items():
            kind = np.int32 if values.dtype.kind == "i" else np.float64
            values.astype(kind).tofile(folder / f"{name}.{'int' if kind is np.int32 else 'float'}")
        description = {
            "name": self.name,
            "formula": self.formula,
            "fixed_formula": self.fixed_formula,
            "response": self.response,
            "predictor": self.predictor,
            "terms": [list(term) for term in self.terms],
        }
        (folder / "case.json").write_text(json.dumps(description))
        (folder / "formula.txt").write_text(self.formula + "\n")
        return len(columns[self.response])


def _csv(folder: Path, name: str) -> Callable[[], pd.DataFrame]:
    return lambda: pd.read_csv(next(folder.glob(f"{name}.csv*")))


def simulate_slopes(rows: int = 1_000_000, groups: int = 20_000, seed: int = 20260101) -> pd.DataFrame:
    """Random intercept and slope, correlated; rows in no order, groups of unequal size."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    x = rng.normal(size=rows)
    effects = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]], size=groups)
    y = 1.0 + 0.5 * x + effects[group, 0] + effects[group, 1] * x + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "x": x, "g": group})


def simulate_three_levels(schools: int = 300, seed: int = 20260102) -> pd.DataFrame:
    """Pupils in schools, measured 3 to 12 times, slopes at both levels, everything unbalanced."""
    rng = np.random.default_rng(seed)
    school_of_pupil = np.repeat(np.arange(schools), rng.integers(5, 36, schools))
    pupils = len(school_of_pupil)
    pupil = np.repeat(np.arange(pupils), rng.integers(3, 13, pupils))
    school = school_of_pupil[pupil]
    x = rng.uniform(-2.0, 2.0, len(pupil))
    upper = rng.multivariate_normal([0.0, 0.0], [[0.6, 0.1], [0.1, 0.1]], size=schools)
    lower = rng.multivariate_normal([0.0, 0.0], [[1.0, -0.1], [-0.1, 0.2]], size=pupils)
    y = 2.0 + x + upper[school, 0] + upper[school, 1] * x + lower[pupil, 0] + lower[pupil, 1] * x
    y += rng.normal(size=len(pupil))
    return pd.DataFrame({"y": y, "x": x, "school": school, "pupil": pupil})


CASES = {
    case.name: case
    for case in (
        Case("million", "a million rows, 20,000 groups", "y", "x", (("g", True),), simulate_slopes),
        Case(
            "insteval",
            "InstEval",
            "y",
            "service",
            (("s", False), ("d", False), ("dept", False)),
            _csv(BUNDLED, "insteval"),
        ),
        Case(
            "chem97",
            "Chem97, three levels",
            "score",
            "gcsecnt",
            (("school", False), ("lea", False)),
            _csv(BUNDLED, "chem97"),
        ),
        Case(
            "egsingle",
            "egsingle, three levels, slopes",
            "math",
            "year",
            (("childid", True), ("schoolid", True)),
            _csv(TEST_DATA, "egsingle"),
        ),
        Case(
            "threelevel",
            "simulated, three levels, slopes",
            "y",
            "x",
            (("pupil", True), ("school", True)),
            simulate_three_levels,
        ),
        Case("mathachieve", "MathAchieve", "mathach", "ses", (("school", True),), _csv(BUNDLED, "mathachieve")),
        Case("exam", "Exam", "normexam", "standLRT", (("school", True),), _csv(TEST_DATA, "exam")),
        Case("sleepstudy", "sleepstudy", "Reaction", "Days", (("Subject", True),), _csv(BUNDLED, "sleepstudy")),
    )
}
