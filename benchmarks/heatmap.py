# SPDX-License-Identifier: Apache-2.0
"""Do heatmaps show what the network looks at? And what do they cost?

    python benchmarks/heatmap.py > heatmap.md

takes 100 test scans of each modality out of ``../shared/data`` (or COVID_EDGE_DATA) and

- compares the map, Spearman, with Grad-CAM by Keras of the same network in float
  (`covid_edge_convert.gradcam`);
- blacks out the tenth of the scan that speaks most for the answer, and the same shape moved by a
  random step in each direction (it leaves the scan on one side and enters on the other), four
  times, and compares how far the log-odds and the probability move, the mean of the four being
  what chance does (Wilcoxon, one-sided);
- times answers of a warm `Predictor` with neither, with the map, and with its picture, in turns.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr, wilcoxon

from covid_edge import Predictor
from covid_edge.bundle import Bundle
from covid_edge.heatmap import GRID, contributions
from covid_edge.interpreter import Interpreter
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.gradcam import grad_cam, restored

DATA = Path(os.environ.get("COVID_EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SCANS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
TENTH = GRID * GRID // 10
MOVES = 4


def blacked_out(pixels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The scan without the cells that are true: uint8, as large."""
    rows, columns = (np.arange(n) * GRID // n for n in pixels.shape)
    return np.where(cells[rows][:, columns], 0, pixels).astype(np.uint8)


def faithfulness(name: str, bundle: Bundle, files: list[Path]) -> None:
    modality = bundle.modalities[name]
    model, spec = modality.models[0], modality.preprocess
    calibration, recipe = model.calibration, bundle.extra["training"]["recipe"]
    network = Interpreter(model.file.path)
    scans = [read_scan(path).pixels for path in files]
    seen = np.stack([preprocess(pixels, spec) for pixels in scans])
    full = restored(model.file.path, recipe["encoders"][name], recipe["halved"], seen[:16])

    def calibrated(logit: float) -> float:
        return calibration.scale * logit + calibration.bias

    def of_look(pixels: np.ndarray) -> float:
        return calibrated(network.run(pixels).item())

    def log_odds(pixels: np.ndarray) -> float:
        return calibrated(modality.logit(network, pixels))

    def upright(maps: list[np.ndarray]) -> np.ndarray:
        """The mean of the scan's map and of its mirror image's, if that was seen."""
        return np.mean([one[..., ::-1] if k else one for k, one in enumerate(maps)], 0)

    def explained(pixels: np.ndarray) -> np.ndarray:
        looks = modality.looks(pixels)
        return upright(
            [contributions(network, model.heatmap, of_look(x), calibration.scale) for x in looks]
        )

    looks = [np.stack(same) for same in zip(*map(modality.looks, seen))]
    maps, full_logits = zip(*(grad_cam(full, look, GRID) for look in looks))
    rng = np.random.default_rng(0)
    ranks, logits, moved = [], [], []
    for pixels, small, reference, logit in zip(scans, seen, upright(maps), np.mean(full_logits, 0)):
        before, heatmap = log_odds(small), explained(small)
        ranks.append(spearmanr(heatmap.ravel(), reference.ravel())[0])
        logits.append((before, logit))
        evidence = heatmap if before >= 0 else -heatmap
        hottest = np.zeros(GRID * GRID, bool)
        hottest[np.argsort(evidence, axis=None)[-TENTH:]] = True
        hottest = hottest.reshape(GRID, GRID)
        anywhere = [np.roll(hottest, rng.integers(1, GRID, 2), (0, 1)) for _ in range(MOVES)]
        after = np.array(
            [log_odds(preprocess(blacked_out(pixels, c), spec)) for c in (hottest, *anywhere)]
        )
        steps = np.abs([after - before, expit(after) - expit(before)])
        moved.append([(step[0], step[1:].mean()) for step in steps])
    odds, chance = np.moveaxis(np.array(moved), 1, 0)  # each (scans, [hottest, random])
    print(
        f"| {name}, {len(files)} | {np.mean(ranks):.3f} | {np.quantile(ranks, 0.05):.3f} "
        f"| {np.corrcoef(*np.transpose(logits))[0, 1]:.4f} "
        + "".join(
            f"| {hot.mean():.3f} / {other.mean():.3f} "
            f"| {wilcoxon(hot, other, alternative='greater').pvalue:.1e} "
            for hot, other in (odds.T, chance.T)
        )
        + "|",
        flush=True,
    )


def cost(name: str, bundle: Bundle, files: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ways = [{}, {"heatmap": True}, {"heatmap_dir": folder}]
        predictors = [Predictor(bundle, modality=name, **way) for way in ways]
        for predictor in predictors:
            predictor.predict(files[0])
        rng, spent = np.random.default_rng(0), np.zeros((len(files), len(ways)))
        for k, path in enumerate(files):
            for way in rng.permutation(len(ways)):
                start = time.process_time()
                predictors[way].predict(path)
                spent[k, way] = 1000 * (time.process_time() - start)
    plain, mapped, drawn = np.median(spent, 0)
    print(
        f"| {name} | {plain:.1f} | {mapped:.1f} ({mapped / plain:.2f}) "
        f"| {drawn:.1f} ({drawn / plain:.2f}) |",
        flush=True,
    )


def main() -> None:
    with open(DATA / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    bundle, rng = Bundle.load(os.environ.get("COVID_EDGE_BUNDLE")), np.random.default_rng(0)
    chosen = {}
    for name in bundle.modalities:
        files = [DATA / row["file"] for row in rows if row["modality"] == name]
        chosen[name] = [files[k] for k in rng.permutation(len(files))[:SCANS]]
    print(
        "| scans | rank correlation with Keras | of the lowest 5 % | of logits "
        "| log-odds moved: hottest / random tenth | p | probability moved | p |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, files in chosen.items():
        faithfulness(name, bundle, files)
    print("\n| processor time, ms (ratio) | plain | with map | with picture |\n|---|---|---|---|")
    for name, files in chosen.items():
        cost(name, bundle, files)


if __name__ == "__main__":
    main()
