"""The formula functions: ``import sm_multilevel.formula.api as smf``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from patsy.eval import EvalEnvironment

from sm_multilevel.models.base import MultilevelModel
from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.models.linear import MixedLM

__all__ = [
    "mecloglog",
    "megamma",
    "meglm",
    "melogit",
    "menbreg",
    "meologit",
    "meoprobit",
    "mepoisson",
    "meprobit",
    "mixed",
    "mixedlm",
]

# Bound classmethods, not wrappers: a `def` would add a frame, and local variables in
# formulas would not be found.
mixedlm = MixedLM.from_formula
mixed = MixedLM.from_formula
meglm = MixedGLM.from_formula
menbreg = MENegBin.from_formula


def _special(name: str, what: str, cls: type[MultilevelModel], general: str, fixed: dict, **defaults) -> Callable:
    """A model's `from_formula` with some options decided.

    Parameters
    ----------
    name, what : str
        Of the function, and of its model.
    general : str
        What has these options.
    fixed : dict
        Options that are not to be given again.
    **defaults
        Options that may be.
    """

    def function(formula, data, *args, eval_env=None, **kwargs):
        for option in fixed:
            if option in kwargs:
                raise TypeError(f"{name}() has no option {option!r}: it is the {what}. Use {general}.")
        if eval_env is None or (isinstance(eval_env, int) and eval_env >= 0):
            eval_env = EvalEnvironment.capture((eval_env or 0) + 1)  # the caller's frame, not this one
        return cls.from_formula(formula, data, *args, eval_env=eval_env, **{**defaults, **fixed, **kwargs})

    function.__name__ = function.__qualname__ = name
    function.__signature__ = inspect.signature(cls.from_formula)  # type: ignore[attr-defined]
    function.__doc__ = f"Create the {what} from a formula; options as in `{cls.__name__}.from_formula`."
    return function


def _binomial(name, what, link):
    return _special(name, what, MixedGLM, "meglm()", {"family": "binomial", "link": link})


melogit = _binomial("melogit", "logistic model for binary or binomial responses", "logit")
meprobit = _binomial("meprobit", "probit model for binary or binomial responses", "probit")
mecloglog = _binomial("mecloglog", "complementary log-log model for binary or binomial responses", "cloglog")
mepoisson = _special("mepoisson", "Poisson model for counts", MixedGLM, "meglm()", {"family": "poisson"})
megamma = _special(
    "megamma", "gamma model for positive responses", MixedGLM, "meglm()", {"family": "gamma"}, link="log"
)
_ORDINAL = "sm_multilevel.api.MEOLogit.from_formula()"
meologit = _special(
    "meologit", "cumulative logit model for ordered categories", MEOLogit, _ORDINAL,
    {"distr": "logit"},
)  # fmt: skip
meoprobit = _special(
    "meoprobit", "cumulative probit model for ordered categories", MEOLogit, _ORDINAL,
    {"distr": "probit"},
)  # fmt: skip
