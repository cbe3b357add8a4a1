"""Mistakes that a type checker finds: each `type: ignore` is needed, or the check fails. Nothing here is run."""

from __future__ import annotations

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import sleepstudy

df = sleepstudy.load_pandas().data
model = smf.melogit("y ~ x + (1 | g)", df)
res = model.fit()

res.varcor()  # type: ignore[attr-defined]
res.odds_ratio()  # type: ignore[attr-defined]
print(res.parms)  # type: ignore[attr-defined]
model.fitt()  # type: ignore[attr-defined]
smf.mixedlm("y ~ x + (1 | g)", df).fit(nAGQ="seven", reml="ML")  # type: ignore[arg-type]
smf.mixedlm("y ~ x + (1 | g)", df).fit().odds_ratios()  # type: ignore[attr-defined]
smf.melogit(42, df)  # type: ignore[arg-type]
smm.lrtest(res)  # type: ignore[call-arg]
smm.lrtes(res, res)  # type: ignore[attr-defined]
