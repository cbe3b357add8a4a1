"""StatsPAI's fits, and the frames and calls that our tests share with them: see README.md.

Run by hand, with StatsPAI in an environment of its own (about three minutes):

    python -m venv /tmp/spai && /tmp/spai/bin/pip install StatsPAI==1.40.2
    cd tests && OMP_NUM_THREADS=1 /tmp/spai/bin/python -m reference.statspai          # writes reference/statspai.json

StatsPAI is called, never read. Importing this module needs neither StatsPAI nor our package.
"""

import json
import platform
import time
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
TARGET = HERE / "statspai.json"
FOLDERS = (HERE.parents[1] / "sm_multilevel" / "datasets", HERE.parent / "data")


# -- frames ---------------------------------------------------------------------------------------


def _csv(name):
    """A data set of the package or of the tests."""
    found = [folder / f"{name}{end}" for folder in FOLDERS for end in (".csv", ".csv.gz")]
    return pd.read_csv(next(path for path in found if path.exists()))


def schools():
    """High School and Beyond."""
    d = _csv("mathachieve").rename(columns={"mathach": "math_score", "sex": "gender"})
    return d.assign(female=(d["gender"] == "Female") * 1)


def pupils():
    """US Sustaining Effects Study: years in children in schools."""
    d = _csv("egsingle").rename(columns={"schoolid": "school", "childid": "child"})
    return d.assign(female=(d["female"] == "Female") * 1)


def women():
    """Use of contraception in districts of Bangladesh."""
    d = _csv("contraception")
    return d.assign(y=(d["use"] == "Y") * 1, x1=(d["urban"] == "Y") * 1, x2=d["age"] / 10)


def cows():
    """New cases of a disease in herds, with the periods as columns."""
    d = _csv("cbpp")
    return d.assign(**{f"p{k}": (d["period"] == k) * 1 for k in (2, 3, 4)})


def cows_one_by_one():
    """`cows`, a row for each animal."""
    d = cows()
    rows = d.loc[d.index.repeat(d["size"])]
    rank = rows.groupby(level=0).cumcount()
    return rows.assign(incidence=(rank < rows["incidence"]) * 1).reset_index(drop=True)


def regions():
    """Deaths by melanoma in Europe."""
    d = _csv("mmmec").rename(columns={"deaths": "count", "uvb": "x1"})
    return d.assign(log_pop=np.log(d["expected"]))


def hospitals():
    """Costs of treatments (simulated, gamma)."""
    return _csv("hospital_costs")


def seizures():
    """Seizures of epileptics."""
    d = _csv("epil").rename(columns={"y": "events", "lbase": "exposure", "subject": "county"})
    return d.assign(treated=(d["trt"] != "placebo") * 1)


def bottles():
    """Bitterness of wine."""
    d = _csv("wine")
    return d.assign(temp=(d["temp"] == "warm") * 1, contact=(d["contact"] == "yes") * 1)


LABELS = ["least", "low", "middle", "much", "most"]


def bottles_text():
    """`bottles` with words for the ratings."""
    d = bottles()
    return d.assign(rating=d["rating"].map(dict(zip(range(1, 6), LABELS, strict=True))))


def bottles_unused():
    """`bottles` with two categories that nobody chose."""
    d = bottles()
    return d.assign(rating=pd.Categorical(d["rating"], range(7), ordered=True))


def tasters():
    """Sureness of people who tasted soups."""
    d = _csv("soup")
    return d.assign(female=(d["GENDER"] == "Female") * 1, test=(d["PROD"] == "Test") * 1)


def toenails():
    """Toenail infections, few visits a patient."""
    d = _csv("toenail")
    treated = (d["treatment"] == "terbinafine") * 1
    return d.assign(y=(d["outcome"] == "moderate or severe") * 1, treated=treated, slower=treated * d["time"])


def sleep():
    """Reaction times without sleep."""
    return _csv("sleepstudy")


def sleep_text():
    """`sleep` with days that look like numbers and are text."""
    return sleep().assign(Days=lambda d: d["Days"].astype(str))


def sleep_missing():
    """`sleep` with holes, its rows labelled from 1000."""
    d = sleep().astype({"Reaction": float, "Days": float})
    d.loc[[3, 50], "Reaction"] = np.nan
    d.loc[9, "Days"] = np.nan
    return d.set_axis(range(1000, 1000 + len(d)))


def pastes():
    """Strength of pastes: casks in batches; `cask` repeats its labels in each batch, `sample` does not."""
    return _csv("pastes")


def exam():
    """Exam scores in London schools."""
    d = _csv("exam")
    return d.assign(girl=(d["sex"] == "F") * 1.0)


def states():
    """Gross product of states of the USA by calendar year, in million dollars."""
    d = _csv("produc")
    return d.assign(log_gsp=np.log(d["gsp"]))


def passes():
    """`schools`, with a score above 12 as the outcome."""
    d = schools()
    return d.assign(passed=(d["math_score"] > 12) * 1)


def dyestuff2():
    """Made so that the variance of batches is zero."""
    return _csv("dyestuff2")


def poisson_counts():
    """Simulated Poisson counts, in which alpha is zero."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200)})
    return d.assign(y=rng.poisson(np.exp(1 + 0.3 * d["x"])))


def separated():
    """A predictor that divides the outcomes without error."""
    d = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": np.tile(np.arange(10), 20)})
    return d.assign(y=(d["x"] > 4) * 1)


def changed(frame, **columns):
    """A frame with columns multiplied by (a number) or moved by (a number in a tuple)."""

    def make():
        d = frame()
        for name, by in columns.items():
            d[name] = d[name] + by[0] if isinstance(by, tuple) else d[name] * by
        return d

    return make


# -- calls ----------------------------------------------------------------------------------------

_MIXED = {"group": "school", "y": "math_score", "x_fixed": ["ses", "female"]}
_SLEEP = {"group": "Subject", "y": "Reaction", "x_fixed": ["Days"]}
_WOMEN = {"group": "district", "y": "y", "x_fixed": ["x1", "x2"]}
_EPIL = {"group": "county", "y": "events", "x_fixed": ["treated", "exposure", "V4"]}
_COSTS = {"group": "hospital", "y": "cost", "x_fixed": ["severity"]}
_NAILS = {"group": "patientID", "y": "y", "x_fixed": ["treated", "time", "slower"]}
_WINE = {"group": "judge", "y": "rating", "x_fixed": ["temp", "contact"]}
_SURE = {"group": "RESP", "y": "SURENESS", "x_fixed": ["test", "female"]}
_COWS = {"group": "herd", "y": "incidence", "x_fixed": ["p2", "p3", "p4"], "trials": "size"}
_DEATHS = {"group": "region", "y": "count", "x_fixed": ["x1"], "offset": "log_pop"}
_STATES = {"group": "state", "y": "log_gsp", "x_fixed": ["year", "unemp"], "x_random": ["year"]}
_PUPILS = {"group": ["school", "child"], "y": "math", "x_fixed": ["year"]}

# Where StatsPAI is right: name -> (function, frame, options).
AGREE = {
    "schools_intercept": ("mixed", schools, _MIXED),
    "schools_intercept_ml": ("mixed", schools, _MIXED | {"method": "ml"}),
    "schools_slope": ("mixed", schools, _MIXED | {"x_random": ["ses"]}),
    "schools_slope_ml": ("mixed", schools, _MIXED | {"x_random": ["ses"], "method": "ml"}),
    "schools_diagonal": ("mixed", schools, _MIXED | {"x_random": ["ses"], "cov_type": "diagonal"}),
    "schools_diagonal_ml": ("mixed", schools, _MIXED | {"x_random": ["ses"], "cov_type": "diagonal", "method": "ml"}),
    "schools_identity": ("mixed", schools, _MIXED | {"x_random": ["ses"], "cov_type": "identity"}),
    "sleep_intercept": ("mixed", sleep, _SLEEP),
    "sleep_slope": ("mixed", sleep, _SLEEP | {"x_random": ["Days"]}),
    "sleep_slope_ml": ("mixed", sleep, _SLEEP | {"x_random": ["Days"], "method": "ml"}),
    "states_years_from_1970": ("mixed", changed(states, year=(-1970,)), _STATES),
    "exam_slope": (
        "mixed",
        exam,
        {"group": "school", "y": "normexam", "x_fixed": ["standLRT"], "x_random": ["standLRT"]},
    ),
    "pupils_levels": ("mixed", pupils, _PUPILS),
    "pupils_levels_ml": ("mixed", pupils, _PUPILS | {"method": "ml"}),
    "pastes_levels": ("mixed", pastes, {"group": ["batch", "sample"], "y": "strength", "x_fixed": []}),
    "sleep_gaussian": ("meglm", sleep, _SLEEP | {"family": "gaussian"}),
    **{f"women_{k}": ("melogit", women, _WOMEN | {"nAGQ": k}) for k in (1, 7, 11, 15)},
    "women_meglm": ("meglm", women, _WOMEN | {"nAGQ": 7, "family": "binomial"}),
    "women_slope": ("melogit", women, _WOMEN | {"x_random": ["x1"]}),
    "women_diagonal": ("melogit", women, _WOMEN | {"x_random": ["x1"], "cov_type": "diagonal"}),
    **{f"cows_{k}": ("melogit", cows, _COWS | {"nAGQ": k}) for k in (1, 7)},
    **{f"toenails_{k}": ("melogit", toenails, _NAILS | {"nAGQ": k}) for k in (1, 7, 11, 15)},
    "seizures_poisson_1": ("mepoisson", seizures, _EPIL),
    "seizures_poisson_11": ("mepoisson", seizures, _EPIL | {"nAGQ": 11}),
    "seizures_slope": ("mepoisson", seizures, _EPIL | {"x_random": ["V4"]}),
    "seizures_nb_1": ("menbreg", seizures, _EPIL),
    "seizures_nb_7": ("menbreg", seizures, _EPIL | {"nAGQ": 7}),
    "seizures_negbin": ("meglm", seizures, _EPIL | {"nAGQ": 7, "family": "negbin"}),
    "regions_11": ("mepoisson", regions, _DEATHS | {"nAGQ": 11}),
    "hospitals_1": ("megamma", hospitals, _COSTS),
    "hospitals_15": ("megamma", hospitals, _COSTS | {"nAGQ": 15}),
    "hospitals_slope": ("megamma", hospitals, _COSTS | {"x_random": ["severity"]}),
    "bottles_1": ("meologit", bottles, _WINE),
    "bottles_7": ("meologit", bottles, _WINE | {"nAGQ": 7}),
    "tasters_7": ("meologit", tasters, _SURE | {"nAGQ": 7}),
}

# Where it is not, or refuses.
_SLOPE = _SLEEP | {"x_random": ["Days"]}
FAULTS = {
    "women_age": ("melogit", women, _WOMEN | {"x_fixed": ["x1", "age"]}),
    "women_age_7": ("melogit", women, _WOMEN | {"x_fixed": ["x1", "age"], "nAGQ": 7}),
    "passes_size": ("melogit", passes, {"group": "school", "y": "passed", "x_fixed": ["ses", "size"]}),
    "states_years": ("mixed", states, _STATES),
    "states_dollars": ("mixed", changed(states, year=(-1970,)), _STATES | {"y": "gsp"}),
    "sleep_y_thousand": ("mixed", changed(sleep, Reaction=1e3), _SLOPE),
    "sleep_y_million": ("mixed", changed(sleep, Reaction=1e6), _SLOPE),
    "sleep_y_millionth": ("mixed", changed(sleep, Reaction=1e-6), _SLOPE),
    "sleep_x_moved": ("mixed", changed(sleep, Days=(1e4,)), _SLOPE),
    "sleep_gamma": ("megamma", sleep, _SLEEP),
    "sleep_gamma_x_scaled": ("megamma", changed(sleep, Days=1e4), _SLEEP),
    "sleep_gamma_x_moved": ("megamma", changed(sleep, Days=(1e4,)), _SLEEP),
    "sleep_text": ("mixed", sleep_text, _SLEEP),
    "sleep_collinear": (
        "mixed",
        lambda: sleep().assign(twice=lambda d: 2 * d["Days"]),
        _SLEEP | {"x_fixed": ["Days", "twice"]},
    ),
    "bottles_text": ("meologit", bottles_text, _WINE | {"nAGQ": 7}),
    "bottles_unused": ("meologit", bottles_unused, _WINE | {"nAGQ": 7}),
    "cows_more_than_trials": ("melogit", changed(cows, incidence=(50,)), _COWS),
    "cows_counts_as_outcomes": ("melogit", cows, {k: v for k, v in _COWS.items() if k != "trials"}),
    "outcomes_of_1_and_2": ("melogit", changed(women, y=(1,)), _WOMEN),
    "counts_below_zero": ("mepoisson", changed(seizures, events=(-5,)), _EPIL),
    "counts_with_halves": ("mepoisson", changed(seizures, events=(0.5,)), _EPIL),
    "costs_of_zero": ("megamma", seizures, _EPIL),
    "poisson": ("mepoisson", poisson_counts, {"group": "g", "y": "y", "x_fixed": ["x"]}),
    "poisson_by_menbreg": ("menbreg", poisson_counts, {"group": "g", "y": "y", "x_fixed": ["x"]}),
    "separated": ("melogit", separated, {"group": "g", "y": "y", "x_fixed": ["x"]}),
    "dyestuff2": ("mixed", dyestuff2, {"group": "Batch", "y": "Yield", "x_fixed": []}),
    "text_predictor": ("mixed", schools, _MIXED | {"x_fixed": ["ses", "gender"]}),
    "text_outcome": ("melogit", women, _WOMEN | {"y": "use"}),
    "slope_quadrature": ("melogit", women, _WOMEN | {"x_random": ["x1"], "nAGQ": 7}),
    "levels_slope": ("mixed", pupils, _PUPILS | {"x_random": ["year"]}),
    "levels_glmm": ("melogit", women, _WOMEN | {"group": ["district", "urban"]}),
    "tasters_one_column_less": ("meologit", tasters, _SURE | {"x_fixed": ["test"], "nAGQ": 7}),
}

# The calls of its page as they stand there, on a release that should know them.
PAGE = {
    "mixed_x": ("mixed", schools, {"y": "math_score", "x": ["ses", "female"], "group": "school"}),
    "mixed_re_formula": ("mixed", schools, _MIXED | {"re_formula": "1 + ses"}),
    "meglm_link": ("meglm", women, _WOMEN | {"family": "binomial", "link": "logit", "nAGQ": 7}),
}


# -- what is written down -------------------------------------------------------------------------


def _plain(value):
    """The value in words that JSON has, at full precision."""
    if isinstance(value, pd.DataFrame):
        columns = {str(c): _plain(value[c].to_numpy()) for c in value.columns}
        return {
            "columns": list(columns),
            "index_name": value.index.name,
            "shape": list(value.shape),
            "index": [str(i) for i in value.index[:5]],
            "values": {c: v[:5] for c, v in columns.items()},
        }
    if isinstance(value, pd.Series):
        return dict(zip(map(str, value.index), _plain(value.to_numpy()), strict=True))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else str(value)
    return value.item() if isinstance(value, np.generic) else value


def _try(function):
    """What a call gives, or how it fails; with its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = function(), None
        except Exception as e:  # a black box: anything may come
            value, error = None, {"error": type(e).__name__, "message": str(e)[:200]}
    said = [str(w.message)[:200] for w in caught]
    return value, error, said


ATTRIBUTES = [
    "params", "bse", "tvalues", "log_likelihood", "variance_components", "aic", "bic", "n_obs", "n_groups", "n_params",
    "dispersion", "thresholds", "thresholds_se", "random_effects",
]  # fmt: skip


def _record(sp, name, function, frame, options):
    data = frame()
    start = time.process_time()
    result, error, said = _try(lambda: getattr(sp, function)(data, **options))
    entry = {"id": name, "function": function, "options": options, "seconds": round(time.process_time() - start, 2)}
    if said:
        entry["warnings"] = said
    if error:
        return entry | error
    for key in ATTRIBUTES:
        value = getattr(result, key, None)
        if value is not None:
            entry[key] = _plain(value)
            entry.setdefault("types", {})[key] = type(value).__name__
    entry["converged"] = "Converged:       True" in result.summary()
    calls = {
        "ranef_se": lambda: result.ranef(conditional_se=True)[1],
        "r_squared": lambda: result.r_squared(),
        "fitted": lambda: result.predict(data).iloc[:5],
        "fitted_in_sample": lambda: result.predict().iloc[:5],
        "population": lambda: result.predict(data.head(), include_random=False),
        "linear": lambda: result.predict(data.head(), type="linear"),
        "wald": lambda: result.wald_test([c for c in result.params.index if c != "_cons"]),
        "conf_int": lambda: result.conf_int(),
        "odds_ratios": lambda: result.odds_ratios(),
        "incidence_rate_ratios": lambda: result.incidence_rate_ratios(),
        "icc": lambda: {k: getattr(sp.icc(result), k) for k in ("estimate", "se", "ci_lower", "ci_upper")},
    }
    for key, call in calls.items():
        value, error, _ = _try(call)
        if error is None:
            entry["types"][key] = type(value).__name__
        entry[key] = error or _plain(value)
    return entry


def _specials(sp):
    """What is not in one fit."""

    def fit(table, name, **changes):
        function, frame, options = table[name]
        return getattr(sp, function)(frame(), **(options | changes))

    def test(restricted, full, **options):
        value, error, said = _try(lambda: sp.lrtest(restricted, full, **options))
        numbers = (
            {k: _plain(getattr(value, k)) for k in ("chi2", "df", "p_value", "boundary_corrected")} if value else {}
        )
        return {**numbers, **(error or {}), **({"warnings": said} if said else {})}

    sleepers = {k: fit(AGREE, k) for k in ("sleep_intercept", "sleep_slope")}
    diagonal = fit(AGREE, "sleep_slope", cov_type="diagonal")
    days = {"group": "Subject", "y": "Reaction", "method": "ml"}
    intercept, slope = sleepers["sleep_intercept"], sleepers["sleep_slope"]
    slopes = {"group": "school", "y": "normexam", "x_fixed": ["girl", "standLRT"]}
    both = {"x_random": ["girl", "standLRT"]}
    short = sleep().query("Days < 5")
    ordinal = [fit(FAULTS, "tasters_one_column_less"), fit(AGREE, "tasters_7")]
    out = {
        "lrtest": {
            "intercept_slope": test(intercept, slope),
            "intercept_slope_naive": test(intercept, slope, boundary=False),
            "intercept_diagonal": test(intercept, diagonal),
            "diagonal_slope": test(diagonal, slope),
            "swapped": test(slope, intercept),
            "ml_reml": test(fit(AGREE, "sleep_intercept", method="ml"), slope),
            "other_groups": test(
                sp.mixed(sleep().assign(half=lambda d: d["Days"] // 5), **(_SLEEP | {"group": "half"})), slope
            ),
            "other_rows": test(sp.mixed(short, **_SLEEP), slope),
            "fixed_and_random": test(
                sp.mixed(sleep(), x_fixed=[], **days), sp.mixed(sleep(), x_fixed=["Days"], x_random=["Days"], **days)
            ),
            "two_slopes_diagonal": test(
                sp.mixed(exam(), **slopes), sp.mixed(exam(), cov_type="diagonal", **both, **slopes)
            ),
            "two_slopes": test(sp.mixed(exam(), **slopes), sp.mixed(exam(), **both, **slopes)),
            "fixed_effect_ordinal": test(*ordinal),
            "poisson_negbin": test(fit(AGREE, "seizures_poisson_1"), fit(AGREE, "seizures_nb_1")),
        },
        "against_ols": {
            name: [line.strip() for line in fit(AGREE, name).summary().splitlines() if "LR test vs" in line]
            for name in ("sleep_intercept", "sleep_slope", "sleep_slope_ml")
        },
    }
    levels = {}
    for name, inner in (("distinct", "sample"), ("reused", "cask")):
        r = sp.mixed(pastes(), group=["batch", inner], y="strength", x_fixed=[])
        levels[name] = {
            "variance_components": _plain(r.variance_components), "in_sample": _plain(r.predict().to_numpy()[:12]),
            "data": _plain(r.predict(pastes()).to_numpy()), "ranef_index": [str(i) for i in r.ranef().index],
            "icc": {c: _plain(vars(_try(lambda c=c, r=r: sp.icc(r, component=c))[0])) for c in ("batch", inner)},
        }  # fmt: skip
    out["levels"] = levels
    new = pd.DataFrame({"Days": [0.0, 1.0, 2.0], "Subject": [308.0, 9999.0, np.nan]})
    value, error, said = _try(lambda: slope.predict(new))
    out["new_levels"] = error or {"values": _plain(value.to_numpy()), "warnings": said}
    text = sleep().head(3).assign(Subject=lambda d: d["Subject"].astype(str))
    value, error, said = _try(lambda: slope.predict(text))
    out["labels_as_text"] = error or {"values": _plain(value.to_numpy()), "warnings": said}
    value, error, _ = _try(lambda: slope.wald_test({"Days": 0}))
    out["wald_dict"] = error
    gaps = sp.mixed(sleep_missing(), **_SLOPE)
    out["missing"] = {"n_obs": gaps.n_obs, "index": [int(i) for i in gaps.predict().index[:12]]}
    out["icc_slope"] = _try(lambda: sp.icc(slope))[1]
    return out


def content():
    """What is in statspai.json."""
    return json.loads(TARGET.read_text())


def main():
    import statspai as sp

    packages = ("StatsPAI", "numpy", "scipy", "pandas", "statsmodels")
    header = {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}
    tables = {"agree": AGREE, "faults": FAULTS, "page": PAGE}
    written = {"header": header}
    for table, cases in tables.items():
        written[table] = {name: _record(sp, name, *case) for name, case in cases.items()}
    written["specials"] = _specials(sp)
    lines = []
    for key, value in written.items():
        if key == "header":
            lines.append(f'"{key}": {json.dumps(value)}')
        else:
            inner = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f'"{key}": {{\n{inner}\n}}')
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
