"""The formula functions: ``import sm_multilevel.formula.api as smf``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, cast

from patsy.eval import EvalEnvironment

from sm_multilevel.models.base import Model
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


Options = ParamSpec("Options")

_EXAMPLES = {  # data, call and log-likelihood in the docstrings
    "melogit": ("cbpp", '"incidence ~ period + (1 | herd)", df, n_trials="size"', -92.026),
    "meprobit": ("cbpp", '"incidence ~ period + (1 | herd)", df, n_trials="size"', -92.583),
    "mecloglog": ("cbpp", '"incidence ~ period + (1 | herd)", df, n_trials="size"', -91.758),
    "mepoisson": ("epil", '"y ~ trt + lbase + (1 | subject)", df', -671.712),
    "megamma": ("sleepstudy", '"Reaction ~ Days + (1 | Subject)", df', -883.578),
    "meologit": ("wine", '"rating ~ temp + contact + (1 | judge)", df', -81.565),
    "meoprobit": ("wine", '"rating ~ temp + contact + (1 | judge)", df', -80.931),
}
_DOC = """Create the {what} from a formula.

    Parameters
    ----------
    formula : str
        With its random terms, as ``"y ~ x + (x | g)"``.
    data : DataFrame
    **kwargs
        Options of `{like}`.

    Returns
    -------
    {model}

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import {data}
    >>> df = {data}.load_pandas().data
    >>> model = smf.{name}({call})
    >>> round(float(model.fit().llf), 3)
    {llf}
    """


def _special(
    name: str,
    what: str,
    build: Callable[Options, Model],
    general: str,
    fixed: dict[str, Any],
    **defaults: Any,
) -> Callable[Options, Model]:
    """A model's `from_formula` with some options decided.

    Parameters
    ----------
    name, what : str
        Of the function, and of its model.
    general : str
        What has these options.
    build : callable
        The model's `from_formula`, whose options and types the function has.
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
        return build(formula, data, *args, eval_env=eval_env, **{**defaults, **fixed, **kwargs})

    function.__name__ = function.__qualname__ = name
    function.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
    like, (example, call, llf) = build.__qualname__, _EXAMPLES[name]
    function.__doc__ = _DOC.format(
        what=what, like=like, model=like.split(".")[0], data=example, name=name, call=call, llf=llf
    )
    return cast("Callable[Options, Model]", function)


_BINARY = "model for binary or binomial responses"
melogit = _special(
    "melogit", f"logistic {_BINARY}", MixedGLM.from_formula, "meglm()", {"family": "binomial", "link": "logit"}
)
meprobit = _special(
    "meprobit", f"probit {_BINARY}", MixedGLM.from_formula, "meglm()", {"family": "binomial", "link": "probit"}
)
mecloglog = _special(
    "mecloglog", f"complementary log-log {_BINARY}", MixedGLM.from_formula, "meglm()",
    {"family": "binomial", "link": "cloglog"},
)  # fmt: skip
mepoisson = _special("mepoisson", "Poisson model for counts", MixedGLM.from_formula, "meglm()", {"family": "poisson"})
megamma = _special(
    "megamma", "gamma model for positive responses", MixedGLM.from_formula, "meglm()", {"family": "gamma"}, link="log"
)
_ORDINAL = "sm_multilevel.api.MEOLogit.from_formula()"
meologit = _special(
    "meologit", "cumulative logit model for ordered categories", MEOLogit.from_formula, _ORDINAL,
    {"distr": "logit"},
)  # fmt: skip
meoprobit = _special(
    "meoprobit", "cumulative probit model for ordered categories", MEOLogit.from_formula, _ORDINAL,
    {"distr": "probit"},
)  # fmt: skip
