"""The simulation of sizes and coverages runs, and a replicate can be made again."""

import numpy as np
import pytest
from simulation.inference import STUDIES, main, page, run
from simulation.sizes_lrt import SCENARIOS, table


@pytest.mark.parametrize("name", STUDIES)
def test_a_replicate_can_be_made_again(name):
    first, again = (STUDIES[name].replicate(3) for _ in range(2))
    assert first == again
    assert set(map(type, first.values())) <= {bool, type(None)}


def test_rates_and_page():
    rates = run(STUDIES["df-6x5"], 8, 1)
    assert rates["method"].tolist() == ["z (normal)", "Satterthwaite", "Kenward-Roger"]
    assert (rates["n"] == 8).all()
    ratios = table(["one_variance"], replicates=20)
    text = page({"df-6x5": rates}, ratios, 1.0)
    assert "6 groups of 5** (8 data sets)" in text
    assert "one variance, 10 groups of 5, REML, exact | 20 |" in text
    assert np.isfinite(ratios["size"]).all()
    assert set(SCENARIOS) >= {"one_variance", "slope", "crossed"}


def test_unknown_study(capsys):
    with pytest.raises(SystemExit):
        main(["df-7x5"])
    assert "'df-7x5' is not known" in capsys.readouterr().err
