"""The bundled data: shapes, types, a few known numbers, and nothing read before it is asked for."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sm_multilevel import datasets

REFERENCE = Path(__file__).parents[1] / "reference"

SHAPES = {
    "achievement_awards": (16526, 13),
    "cbpp": (56, 4),
    "chem97": (31022, 7),
    "contraception": (1934, 6),
    "dietox": (861, 8),
    "epil": (236, 9),
    "insteval": (73421, 7),
    "mathachieve": (7185, 11),
    "mmmec": (354, 6),
    "owls": (599, 8),
    "pastes": (60, 4),
    "penicillin": (144, 3),
    "randhie": (15728, 14),
    "sleepstudy": (180, 3),
    "toenail": (1908, 5),
    "verbagg": (7584, 9),
    "wine": (72, 6),
}

# Levels of the factors, as R's nlevels() counts them.
LEVELS = {
    "achievement_awards": {"school": 39, "school_type": 3, "pair": 19, "sex": 2},
    "cbpp": {"herd": 15, "period": 4},
    "chem97": {"lea": 131, "school": 2410, "gender": 2},
    "contraception": {"woman": 1934, "district": 60, "use": 2, "livch": 4, "urban": 2},
    "dietox": {"Pig": 72, "Evit": 3, "Cu": 3, "Litter": 21},
    "epil": {"trt": 2},
    "insteval": {"s": 2972, "d": 1128, "studage": 4, "lectage": 6, "service": 2, "dept": 14},
    "mathachieve": {"school": 160, "minority": 2, "sex": 2, "sector": 2, "himinty": 2},
    "mmmec": {"nation": 9, "region": 78, "county": 354},
    "owls": {"Nest": 27, "FoodTreatment": 2, "SexParent": 2},
    "pastes": {"batch": 10, "cask": 3, "sample": 30},
    "penicillin": {"plate": 24, "sample": 6},
    "randhie": {"person": 4748, "site": 5, "plan": 5, "sex": 2},
    "sleepstudy": {"Subject": 18},
    "toenail": {"patientID": 294, "outcome": 2, "treatment": 2},
    "verbagg": {"Gender": 2, "item": 24, "resp": 3, "id": 316, "btype": 3, "situ": 2, "mode": 2, "r2": 2},
    "wine": {"rating": 5, "temp": 2, "contact": 2, "bottle": 8, "judge": 9},
}

# Columns with missing values; all others have none.
MISSING = {"achievement_awards": ["quartile"], "dietox": ["Feed"]}

# Means of the numeric columns, from R.
MEANS = {
    "achievement_awards": {"bagrut": 0.25596030497398037, "lagscore": 38.4005774034940757},
    "cbpp": {"incidence": 99 / 56, "size": 842 / 56},
    "chem97": {"score": 5.8125846173683193, "gcsescore": 6.2856842885694020, "age": -0.46776481206885434},
    "contraception": {"age": 0.00219788004136514},
    "dietox": {"Weight": 60.7257686062718, "Feed": 80.728645041825089},
    "epil": {"y": 8.25423728813559, "base": 31.2203389830508},
    "insteval": {"y": 3.2057449503548},
    "mathachieve": {"mathach": 12.7478526096033, "ses": 0.000143354210160057, "size": 1056.8617954071},
    "mmmec": {"deaths": 27.8276836158192, "expected": 27.7982488700565, "uvb": 0.000203954802259905},
    "owls": {"SiblingNegotiation": 6.7195325542571, "ArrivalTime": 24.75762938230384},
    "pastes": {"strength": 60.0533333333333},
    "penicillin": {"diameter": 22.9722222222222},
    "randhie": {"outpatient": 780525.66 / 15728, "visits": 41762 / 15728},
    "sleepstudy": {"Reaction": 298.507891666667, "Days": 4.5},
    "toenail": {"time": 4.6911125682914},
    "verbagg": {"Anger": 20.003164556962},
    "wine": {"response": 47.2222222222222},
}


@pytest.fixture(scope="module")
def loaded():
    return {name: getattr(datasets, name).load_pandas() for name in datasets.__all__}


def test_all_are_listed():
    assert datasets.__all__ == sorted(SHAPES)
    assert set(SHAPES) <= set(dir(datasets))


def test_unknown_name_is_refused_with_the_list():
    with pytest.raises(AttributeError, match=r"sleepstudi.*sleepstudy"):
        datasets.sleepstudi  # noqa: B018


@pytest.mark.parametrize("name", SHAPES)
def test_module_texts(name):
    module = getattr(datasets, name)
    for text in ("TITLE", "SOURCE", "COPYRIGHT", "DESCRSHORT", "DESCRLONG", "NOTE"):
        assert getattr(module, text).strip(), text
    assert "R package" in module.SOURCE
    for column in module.load_pandas().names:
        assert f"{column} " in module.NOTE
    assert module.load is module.load_pandas


@pytest.mark.parametrize("name", SHAPES)
def test_shape_names_and_parts(loaded, name):
    dataset = loaded[name]
    data = dataset.data
    assert data.shape == SHAPES[name]
    assert data.columns[data.isna().any()].tolist() == MISSING.get(name, [])
    assert isinstance(data.index, pd.RangeIndex)
    assert dataset.names == list(data.columns)
    pd.testing.assert_series_equal(dataset.endog, data[dataset.endog_name])
    if dataset.exog is None:
        assert dataset.exog_name == []
    else:
        pd.testing.assert_frame_equal(dataset.exog, data[dataset.exog_name])
    assert list(pd.DataFrame(dataset.groups).columns) == dataset.groups_name


@pytest.mark.parametrize("name", SHAPES)
def test_factors(loaded, name):
    data = loaded[name].data
    factors = {c: len(data[c].cat.categories) for c in data if isinstance(data[c].dtype, pd.CategoricalDtype)}
    assert factors == LEVELS[name]
    assert all(data[c].nunique() == count for c, count in factors.items())
    assert all(pd.api.types.is_numeric_dtype(data[c]) for c in data if c not in factors)


@pytest.mark.parametrize("name", SHAPES)
def test_means(loaded, name):
    for column, mean in MEANS[name].items():
        np.testing.assert_allclose(loaded[name].data[column].mean(), mean, rtol=1e-12, atol=1e-14)


def test_levels_are_in_the_order_of_r(loaded):
    def levels(name, column):
        return list(loaded[name].data[column].cat.categories)

    assert levels("sleepstudy", "Subject")[:3] == [308, 309, 310]
    assert levels("insteval", "dept") == [15, 5, 10, 12, 6, 7, 4, 8, 9, 14, 1, 3, 11, 2]
    assert levels("chem97", "gender") == ["M", "F"]
    assert levels("mathachieve", "sex") == ["Male", "Female"]
    assert levels("mathachieve", "sector") == ["Public", "Catholic"]
    assert levels("mathachieve", "school")[:2] == [1224, 1288]
    assert levels("contraception", "livch") == ["0", "1", "2", "3+"]
    assert levels("mmmec", "nation")[:3] == ["Belgium", "W.Germany", "Denmark"]
    assert levels("randhie", "plan") == ["free", "25%", "50%", "95%", "deductible"]
    assert levels("toenail", "outcome") == ["none or mild", "moderate or severe"]
    assert levels("owls", "Nest")[2:5] == ["Champmartin", "ChEsard", "Chevroux"]
    assert levels("verbagg", "resp") == ["no", "perhaps", "yes"]
    assert levels("verbagg", "mode") == ["want", "do"]
    ordered = {(name, c) for name, dataset in loaded.items() for c in LEVELS[name] if dataset.data[c].cat.ordered}
    assert ordered == {("insteval", "studage"), ("insteval", "lectage"), ("verbagg", "resp"), ("wine", "rating")}


def test_counts_by_level(loaded):
    assert (loaded["sleepstudy"].data["Subject"].value_counts() == 10).all()
    assert (loaded["penicillin"].data.groupby(["plate", "sample"], observed=True).size() == 1).all()
    pastes = loaded["pastes"].data
    assert (pastes["batch"].astype(str) + ":" + pastes["cask"].astype(str) == pastes["sample"].astype(str)).all()
    assert loaded["mathachieve"].data.groupby("sector", observed=True)["school"].nunique().to_dict() == {
        "Public": 90,
        "Catholic": 70,
    }
    assert loaded["contraception"].data["use"].value_counts().to_dict() == {"N": 1175, "Y": 759}
    assert loaded["wine"].data["rating"].value_counts(sort=False).tolist() == [5, 22, 26, 12, 7]


def test_school_columns_do_not_vary_within_a_school(loaded):
    data = loaded["mathachieve"].data
    columns = ["meanses", "size", "sector", "pracad", "disclim", "himinty"]
    assert (data.groupby("school", observed=True)[columns].nunique() == 1).all().all()


def test_every_load_is_a_fresh_copy():
    first = datasets.pastes.load_pandas()
    first.data.loc[0, "strength"] = -1.0
    assert first.endog.iloc[0] != -1.0
    assert datasets.pastes.load_pandas().data.loc[0, "strength"] != -1.0


def test_insteval_is_under_a_megabyte():
    assert (Path(datasets.__file__).parent / "insteval.csv.gz").stat().st_size < 1_000_000


def test_nothing_is_read_at_import():
    program = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from sm_multilevel import datasets
from sm_multilevel.datasets import sleepstudy
for name in datasets.__all__:
    getattr(datasets, name)
assert not [name for name in opened if ".csv" in name], opened
sleepstudy.load_pandas()
assert any(name.endswith("sleepstudy.csv") for name in opened)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_levels_agree_with_the_reference_fits():
    """The R side of tests/reference codes the factors of the bundled data as the loaders do."""
    cases = json.loads((REFERENCE / "lmm_cases.json").read_text())
    for entry in cases["data"].values():
        if "loader" in entry:
            data = getattr(datasets, entry["loader"]).load_pandas().data
            for column, levels in entry.get("factors", {}).items():
                expected = levels or sorted(data[column].unique())
                assert list(data[column].cat.categories) == expected
