"""The Python tools that fit generalised models, each spoken to in its own words; the contract is `tools.Tool`'s.

Estimates carry their names, so that tools that order coefficients otherwise can be compared, the log-likelihood as the
tool reports it, and the standard deviation of the first term's first column.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
from tools import Data, Tool, _touch

FAMILY = {"nb2": "negativebinomial"}  # glmm's names, where they are not ours


def estimates(names, beta, se, llf, sd) -> dict:
    return {
        "names": [str(name) for name in names],
        "beta": np.asarray(beta, float).tolist(),
        "se": np.asarray(se, float).tolist(),
        "llf": float(llf),
        "sd": float(sd),
    }


def term_columns(data: Data) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, codes and Z of each term."""
    return [(group, data.columns[group], data.matrices[f"z{i}"]) for i, (group, _) in enumerate(data.case["terms"])]


def _place(column: np.ndarray, exog: np.ndarray) -> int:
    """Which column of X this is."""
    return next(j for j in range(exog.shape[1]) if np.array_equal(exog[:, j], column))


class Ours(Tool):
    distribution = "sm_multilevel"

    def version(self) -> str:
        return importlib.import_module("sm_multilevel").__version__

    def can(self, case, what):
        return what == "formula" or not case["strings"]

    @staticmethod
    def _model(case: dict) -> tuple[type, dict]:
        """Class and options."""
        smm = importlib.import_module("sm_multilevel.api")
        if case["family"] == "ordinal":
            return smm.MEOLogit, {"distr": case["link"]}
        if case["family"] == "nb2":
            return smm.MENegBin, {}
        return smm.MixedGLM, {"family": case["family"], "link": case["link"]}

    def arrays(self, data):
        case = data.case
        cls, options = self._model(case)
        if case["trials"]:
            options["n_trials"] = data.columns[case["trials"]]
        if case["offset"]:
            options["offset"] = data.columns[case["offset"]]
        y, exog = data.columns[case["response"]], data.matrices["exog"]
        if case["family"] == "ordinal":  # thresholds take the place of the constant
            exog = np.ascontiguousarray(exog[:, 1:])
        random = self._random(data)
        return lambda: _touch(cls(y, exog, **random(), **options).fit(nAGQ=case["nagq"]), "bse")

    @staticmethod
    def _random(data) -> Callable[[], dict]:
        terms = term_columns(data)
        if len(terms) == 1:
            ((_, codes, exog_re),) = terms
            return lambda: {"groups": codes, "exog_re": exog_re}
        return lambda: {"exog_re": {group: (codes, exog) for group, codes, exog in terms}}

    def formula(self, data):
        case = data.case
        cls, options = self._model(case)
        if case["trials"]:
            options["n_trials"] = case["trials"]
        if case["offset"]:
            options["offset"] = case["offset"]
        frame = data.frame
        return lambda: _touch(cls.from_formula(case["formula"], frame, **options).fit(nAGQ=case["nagq"]), "bse")

    def estimates(self, result):
        names = result.model.design.exog_names
        beta, se = np.asarray(result.fe_params), np.asarray(result.bse_fe)
        sd = result.varcorr()["sdcor"].iloc[0]
        return {**estimates(names, beta, se, result.llf, sd), "converged": bool(result.converged)}


class Yardstick(Ours):
    """What our time is compared with on the same rows, as the case says.

    ``glm`` is statsmodels' GLM on the same fixed effects; the others are fits of ours: ``intercept`` leaves out the
    random slopes, ``binary`` fits whether the category is one of the upper two, ``linear`` fits InstEval's mark as
    normal, by ML.
    """

    distribution = "statsmodels"

    def can(self, case, what):
        return case["yardstick"] is not None and what == "arrays"

    def arrays(self, data):
        return getattr(self, "_" + data.case["yardstick"])(data)

    @staticmethod
    def _glm(data):
        api = importlib.import_module("statsmodels.api")
        case = data.case
        y, exog = data.columns[case["response"]], data.matrices["exog"]
        family = {"binomial": api.families.Binomial, "poisson": api.families.Poisson}[case["family"]]
        if case["trials"]:
            y = np.column_stack([y, data.columns["failures"]])
        return lambda: _touch(api.GLM(y, exog, family=family()).fit(), "bse")

    @staticmethod
    def _intercept(data):
        smm = importlib.import_module("sm_multilevel.api")
        y, exog = data.columns[data.case["response"]], data.matrices["exog"]
        ((_, codes, _),) = term_columns(data)
        return lambda: _touch(smm.MixedGLM(y, exog, codes, family="binomial").fit(), "bse")

    @staticmethod
    def _binary(data):
        smm = importlib.import_module("sm_multilevel.api")
        ((_, codes, _),) = term_columns(data)
        y, exog = data.columns["upper"], data.matrices["exog"]
        return lambda: _touch(smm.MixedGLM(y, exog, codes, family="binomial").fit(), "bse")

    def _linear(self, data):
        smm = importlib.import_module("sm_multilevel.api")
        y, exog, random = data.columns["y"], data.matrices["exog"], self._random(data)
        return lambda: _touch(smm.MixedLM(y, exog, **random()).fit(reml=False), "bse")


class Glmm(Tool):
    """Takes a dict of arrays and a formula: from arrays the design's columns under names of our own."""

    distribution = "glmm"

    def can(self, case, what):
        return case["family"] != "ordinal" and (what == "formula" or not case["strings"])

    @staticmethod
    def _fit(columns, formula, case):
        peer = importlib.import_module("glmm")
        family, link = FAMILY.get(case["family"], case["family"]), case["link"]
        return lambda: _touch(peer.fit(columns, formula, family, link=link, nagq=case["nagq"]), "se")

    def arrays(self, data):
        case = data.case
        columns = {case["response"]: data.columns[case["response"]]}
        for name in (case["trials"] and "failures", case["offset"]):
            if name:
                columns[name] = data.columns[name]
        sides = []
        for j in range(1, data.matrices["exog"].shape[1]):
            columns[f"c{j}"] = np.ascontiguousarray(data.matrices["exog"][:, j])
            sides.append(f"c{j}")
        for group, codes, exog in term_columns(data):
            columns[group] = codes
            # Slopes must be of columns of the fixed part.
            names = [f"c{_place(column, data.matrices['exog'])}" for column in exog.T[1:]]
            sides.append(f"({' + '.join(['1', *names])} | {group})")
        left, _, right = case["r_formula"].partition(" ~ ")
        if case["offset"]:
            sides.append(right[right.index("offset(") :])
        return self._fit(columns, f"{left} ~ {' + '.join(sides)}", case)

    def formula(self, data):
        return self._fit(data.frame, data.case["r_formula"], data.case)

    def estimates(self, result):
        return estimates(result.names, result.beta, result.se, result.loglik, np.sqrt(np.ravel(result.tau2)[0]))


class Mixedlm(Tool):
    """Has no array interface: from arrays means from its model matrices at hand. Its dispersions are not estimated."""

    distribution = "mixedlm"

    def can(self, case, what):
        return case["family"] != "ordinal"

    @staticmethod
    def _words(data) -> tuple[str, dict]:
        case = data.case
        families = importlib.import_module("mixedlm").families
        name = {"binomial": "Binomial", "poisson": "Poisson", "nb2": "NegativeBinomial", "gamma": "Gamma"}
        words = {"family": getattr(families, name[case["family"]])(link=case["link"])}
        if case["offset"]:
            words["offset"] = data.columns[case["offset"]]
        formula = case["formula"]
        if case["trials"]:
            formula = formula.replace(" ~", f" / {case['trials']} ~", 1)
        return formula, words

    def arrays(self, data):
        models = importlib.import_module("mixedlm")
        formula, words = self._words(data)
        self.frame = data.frame
        model = models.GlmerMod(formula, data.frame, **words)
        return lambda: self._with_errors(model.fit(nAGQ=data.case["nagq"]))

    def formula(self, data):
        peer = importlib.import_module("mixedlm")
        formula, words = self._words(data)
        self.frame = data.frame
        return lambda: self._with_errors(peer.glmer(formula, data.frame, nAGQ=data.case["nagq"], **words))

    @staticmethod
    def _with_errors(result):
        result.vcov()
        return result

    def estimates(self, result):
        fixed = result.fixef()
        llf = result.logLik()
        llf = float(getattr(llf, "value", llf))
        sd = abs(float(np.ravel(result.theta)[0]))
        names = [":".join(map(self._label, name.split(":"))) for name in fixed]
        return estimates(names, list(fixed.values()), np.sqrt(np.diag(result.vcov())), llf, sd)

    def _label(self, name: str) -> str:
        """It numbers the levels of a factor."""
        column, _, number = name.rpartition(".")
        return column + str(self.frame[column].cat.categories[int(number)]) if column in self.frame else name


class GPBoost(Tool):
    """Has arrays only, and no correlated slopes and no quadrature."""

    distribution = "gpboost"
    LIKELIHOODS = {
        ("binomial", "logit"): "bernoulli_logit",
        ("poisson", "log"): "poisson",
        ("gamma", "log"): "gamma",
        ("nb2", "log"): "negative_binomial",
    }

    def can(self, case, what):
        known = (case["family"], case["link"]) in self.LIKELIHOODS and not case["trials"]
        plain = all(columns == "1" for _, columns in case["terms"])
        return what == "arrays" and known and plain and case["nagq"] == 1 and not case["strings"]

    def arrays(self, data):
        gpboost = importlib.import_module("gpboost")
        case = data.case
        likelihood = self.LIKELIHOODS[case["family"], case["link"]]
        codes = np.column_stack([codes for _, codes, _ in term_columns(data)])
        y, exog = data.columns[case["response"]], data.matrices["exog"]
        offset = data.columns[case["offset"]] if case["offset"] else None

        def fit():
            model = gpboost.GPModel(group_data=codes, likelihood=likelihood)
            model.fit(y=y, X=exog, offset=offset)
            self.coefficients = model.get_coef(std_err=True)
            self.names = case["exog_names"]
            return model

        return fit

    def estimates(self, result):
        beta, se = np.asarray(self.coefficients, dtype=float)
        variance = np.ravel(np.asarray(result.get_cov_pars(), dtype=float))[0]
        return estimates(self.names, beta, se, -result.get_current_neg_log_likelihood(), np.sqrt(variance))


TOOLS = {
    "sm_multilevel": Ours,
    "yardstick": Yardstick,
    "glmm": Glmm,
    "gpboost": GPBoost,
    "mixedlm": Mixedlm,
}
