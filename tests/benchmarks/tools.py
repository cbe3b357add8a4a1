"""The Python tools that are measured, each spoken to in its own words.

A tool has ``arrays(data)`` and ``formula(data)``: each does what is not to be timed and returns the function that is,
which ends with the standard errors computed. They take the fastest route that the tool documents.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Data:
    """A case as a worker holds it: its description, its columns, and the same columns as a frame.

    Of a generalised model also its matrices: ``exog``, and ``z0``, ``z1``, ... of the terms.
    """

    case: dict
    columns: dict[str, np.ndarray]
    frame: pd.DataFrame
    matrices: dict[str, np.ndarray] = field(default_factory=dict)

    def design(self) -> tuple[np.ndarray, np.ndarray]:
        """y and X, with an intercept."""
        y = self.columns[self.case["response"]]
        x = [self.columns[self.case["predictor"]]] if self.case["predictor"] else []
        return y, np.column_stack([np.ones(len(y)), *x])

    def random(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes and Z of the only random term."""
        ((group, slope),) = self.case["terms"]
        _, exog = self.design()
        return self.columns[group], exog if slope else exog[:, :1]


def has_one_term(case: dict) -> bool:
    return len(case["terms"]) == 1


class Tool:
    distribution: str

    def can(self, case: dict, what: str) -> bool:
        return True

    def version(self) -> str:
        return importlib.metadata.version(self.distribution)

    def arrays(self, data: Data) -> Callable:
        raise NotImplementedError

    def formula(self, data: Data) -> Callable:
        raise NotImplementedError

    def summary(self, result) -> str:
        return str(result.summary())

    def estimates(self, result) -> dict:
        raise NotImplementedError


class Ours(Tool):
    distribution = "sm_multilevel"

    def version(self) -> str:
        return importlib.import_module("sm_multilevel").__version__

    def arrays(self, data):
        smm = importlib.import_module("sm_multilevel.api")
        y, exog = data.design()
        if has_one_term(data.case):
            codes, exog_re = data.random()
            words = {"groups": codes, "exog_re": exog_re}
        else:  # terms of its own for each run, so that nothing is kept from the last
            smf = importlib.import_module("sm_multilevel.formula.api")
            words = {"random": smf.mixedlm(data.case["formula"], data.frame).random}
        return lambda: _touch(smm.MixedLM(y, exog, **words).fit(reml=True), "bse")

    def formula(self, data):
        smf = importlib.import_module("sm_multilevel.formula.api")
        return lambda: _touch(smf.mixedlm(data.case["formula"], data.frame).fit(reml=True), "bse")

    def estimates(self, result):
        return _estimates(result.fe_params, result.bse_fe, -2.0 * result.llf)


class OLS(Tool):
    """Not a mixed model: the yardstick of what a formula and a least-squares fit cost in statsmodels."""

    distribution = "statsmodels"

    def arrays(self, data):
        api = importlib.import_module("statsmodels.api")
        y, exog = data.design()
        return lambda: _touch(api.OLS(y, exog).fit(), "bse")

    def formula(self, data):
        smf = importlib.import_module("statsmodels.formula.api")
        return lambda: _touch(smf.ols(data.case["fixed_formula"], data.frame).fit(), "bse")


class Statsmodels(Tool):
    distribution = "statsmodels"
    api = "statsmodels.api"
    formulas = "statsmodels.formula.api"

    def can(self, case, what):
        return has_one_term(case)

    def arrays(self, data):
        api = importlib.import_module(self.api)
        (y, exog), (codes, exog_re) = data.design(), data.random()
        return lambda: _touch(api.MixedLM(y, exog, codes, exog_re=exog_re).fit(reml=True), "bse_fe")

    def formula(self, data):
        smf = importlib.import_module(self.formulas)
        case = data.case
        ((group, slope),) = case["terms"]
        words = {"groups": group, "re_formula": f"~{case['predictor']}" if slope else None}
        return lambda: _touch(smf.mixedlm(case["fixed_formula"], data.frame, **words).fit(reml=True), "bse_fe")

    def estimates(self, result):
        return _estimates(result.fe_params, result.bse_fe, -2.0 * result.llf)


class MixedlmRs(Statsmodels):
    """Speaks as statsmodels does."""

    distribution = "mixedlm-rs"
    api = formulas = "mixedlm_rs"


class Glmm(Tool):
    """Takes a dict of arrays and a formula. Its Satterthwaite pass is left out from arrays and kept from a formula."""

    distribution = "glmm"

    def arrays(self, data):
        peer = importlib.import_module("glmm")
        return lambda: _touch(peer.fit(data.columns, data.case["formula"], satterthwaite=False), "se")

    def formula(self, data):
        peer = importlib.import_module("glmm")
        return lambda: _touch(peer.fit(data.frame, data.case["formula"]), "se")

    def estimates(self, result):
        return _estimates(result.beta, result.se, -2.0 * result.loglik)


class Mixedlm(Tool):
    """Has no array interface: from arrays means from its model matrices at hand."""

    distribution = "mixedlm"

    def arrays(self, data):
        models = importlib.import_module("mixedlm.models.lmer_fit")
        model = models.LmerMod(data.case["formula"], data.frame)
        return lambda: self._with_errors(model.fit())

    def formula(self, data):
        peer = importlib.import_module("mixedlm")
        return lambda: self._with_errors(peer.lmer(data.case["formula"], data.frame))

    @staticmethod
    def _with_errors(result):
        result.vcov()
        return result

    def estimates(self, result):
        return _estimates(list(result.fixef().values()), np.sqrt(np.diag(result.vcov())), result.deviance)


def _touch(result, attribute: str):
    """Have the standard errors computed."""
    getattr(result, attribute)
    return result


def _estimates(beta, se, criterion) -> dict:
    return {
        "beta": np.asarray(beta, float).tolist(),
        "se": np.asarray(se, float).tolist(),
        "criterion": float(criterion),
    }


TOOLS = {
    "sm_multilevel": Ours,
    "ols": OLS,
    "statsmodels": Statsmodels,
    "mixedlm-rs": MixedlmRs,
    "mixedlm": Mixedlm,
    "glmm": Glmm,
}
