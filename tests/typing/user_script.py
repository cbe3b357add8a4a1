"""A user's script: it passes ``mypy --strict``, and runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import statsmodels.api as sm

import sm_multilevel
import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel import graphics, sp
from sm_multilevel.datasets import cbpp, epil, mathachieve, sleepstudy, wine


def linear(df: pd.DataFrame) -> float:
    """Fits, tables, tests and predictions of a linear model."""
    centre = df["Days"].mean()
    model = smf.mixedlm("Reaction ~ I(Days - centre) + (Days | Subject)", df)  # a local variable in the formula
    assert centre > 0
    res = model.fit(reml=True, df="satterthwaite")
    print(res.summary())
    print(res.params["Intercept"], res.bse["Intercept"], res.llf, res.aic, res.bic)
    print(res.varcorr(conf_int=True), res.cov_re, res.icc(conf_int=True))
    effects, errors = res.ranef(conditional_se=True)
    print(effects.head(2), errors.head(2))
    new = df.head(3).assign(Days=[1.0, 2.0, 3.0])
    print(res.predict(new).mean(), res.get_prediction(new).summary_frame())
    print(res.wald_test({"Intercept": 0}), res.t_test("Intercept = 0"), res.conf_int(alpha=0.1))
    print(res.with_df("kenward-roger").df_coef, model.fit().get_robustcov_results("CR2").bse)
    print(res.profile("beta").conf_int(), res.bootstrap(20, seed=1, disp=False).bse)
    smaller = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df, covariance="diagonal").fit(disp=False)
    test = smm.lrtest(smaller, smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit())
    print(test.p_value, smm.anova(smaller, res.update(". ~ Days + (Days | Subject)")))
    print(smm.tidy(res), smm.glance(res), smm.augment(res), res.to_markdown())
    res.plot(kind="caterpillar")
    graphics.qq(res)
    return res.llf


def generalised(cows: pd.DataFrame) -> dict[str, float]:
    """Fits of other responses."""
    res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit(nAGQ=9)
    print(res.odds_ratios().loc["period[T.2]", "OR"], res.predict(cows, include_random="marginal").mean())
    fits: dict[str, float] = {"logit": res.llf}
    seizures = epil.load_pandas().data
    fits["negbin"] = smf.menbreg("y ~ trt + (1 | subject)", seizures).fit().llf
    bottles = wine.load_pandas().data
    ordinal = smf.meologit("rating ~ temp + (1 | judge)", bottles).fit(nAGQ="auto", maxiter=50)
    print(ordinal.thresholds, ordinal.predict(type="prob"))
    family = sm.families.Poisson()
    fits["poisson"] = smf.meglm("y ~ trt + (1 | subject)", seizures, family=family).fit().llf
    return fits


def arrays(df: pd.DataFrame) -> float:
    """The same from arrays."""
    y, codes = df["Reaction"].to_numpy(), df["Subject"].to_numpy()
    x = np.column_stack([np.ones(len(df)), df["Days"]])
    res = smm.MixedLM(y, x, groups=codes, exog_re=x, covariance="unstructured").fit()
    return float(res.predict(x[:2])[0])


def with_statspai() -> float:
    """In StatsPAI's spelling."""
    schools = mathachieve.load_pandas().data
    res = sp.mixed(schools, y="mathach", x=["ses", "sex"], group="school", re_formula="1 + ses")
    print(sp.icc(res).estimate if not res.is_singular else None)
    return res.llf


def main() -> None:
    """All of it."""
    sm_multilevel.register()
    df = sleepstudy.load_pandas().data
    print(linear(df), generalised(cbpp.load_pandas().data), arrays(df), with_statspai())


if __name__ == "__main__":
    main()
