# SPDX-License-Identifier: Apache-2.0
"""Does a scan get the same answer at a higher resolution? The reason for PreprocessSpec.max_side.

    python benchmarks/resolution.py > resolution.md

enlarges the test scans of ``../shared/data`` (or COVID_EDGE_DATA) 2 and 4 times, cubic, smooth and
with grain as a detector adds (normal, 8 levels), and answers with and without the reduction.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from covid_edge.bundle import Bundle
from covid_edge.interpreter import Interpreter
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.robustness import resized

DATA = Path(os.environ.get("COVID_EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))
GRAIN = 8


def versions(pixels: np.ndarray, rng: np.random.Generator):
    """Yield (what was done, pixels)."""
    for times in (2, 4):
        large = resized(pixels, times * max(pixels.shape))
        yield f"x{times}", large
        grain = rng.normal(0, GRAIN, large.shape)
        yield f"x{times}, grain", np.clip(large + grain, 0, 255).astype(np.uint8)


def main() -> None:
    with open(DATA / "manifest.csv", newline="") as file:
        scans = [row for row in csv.DictReader(file) if row["split"] == "test"]
    print("| scans | | reduced | AUC | same verdict as unchanged | mean change of probability |")
    print("|---|---|---|---|---|---|")
    for name, modality in Bundle.load().modalities.items():
        model = modality.model("cpu-int8")
        network = Interpreter(model.file.path)
        specs = {"no": replace(modality.preprocess, max_side=None), "yes": modality.preprocess}

        def logit(pixels, spec, modality=modality, network=network):
            return modality.logit(network, preprocess(pixels, spec))

        rows = [row for row in scans if row["modality"] == name]
        covid = np.array([row["label"] == "covid" for row in rows])
        rng = np.random.default_rng(0)
        logits = defaultdict(list)
        for row in rows:
            pixels = read_scan(DATA / row["file"]).pixels
            logits["unchanged", "yes"].append(logit(pixels, specs["yes"]))
            for change, changed in versions(pixels, rng):
                for reduced, spec in specs.items():
                    logits[change, reduced].append(logit(changed, spec))
        scale, bias = model.calibration.scale, model.calibration.bias
        answers = {key: 1 / (1 + np.exp(-scale * np.array(x) - bias)) for key, x in logits.items()}
        before = answers["unchanged", "yes"]
        threshold = model.balanced.value
        for (change, reduced), after in answers.items():
            same = np.mean((after >= threshold) == (before >= threshold))
            print(
                f"| {name}, {len(rows)} | {change} | {reduced} | {roc_auc_score(covid, after):.4f} "
                f"| {same:.2%} | {np.abs(after - before).mean():.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
