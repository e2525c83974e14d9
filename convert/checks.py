# SPDX-License-Identifier: Apache-2.0
"""What the device asks of a scan before it answers: learned on train, limited by val.

No limit refuses a good scan of ``val``, but for that on turned ones (`UPRIGHT_REFUSED`). Where
spoiled scans are far beyond (too little contrast or sharpness, too many pixels at the ends of the
scale) there is room to spare.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from covid_edge import quality
from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge.interpreter import Interpreter
from covid_edge.predictor import Predictor
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.bundle import amended, write_json
from covid_edge_convert.card import model_card
from covid_edge_convert.data import Scans, load_pixels
from covid_edge_convert.evaluate import answer

# Scans of train that say where training scans lie.
FAMILIAR_SCANS = 600
# How hard the logistic regression's weights are held to zero (scikit-learn's C).
REGULARISATION = 1e-3
# Share of the upright scans of val that may be taken for turned.
UPRIGHT_REFUSED = 0.005
# Of the least contrast and sharpness on val, what a scan must have.
ROOM = 0.5
# Of the curve of each check, the points that are kept: shares of spoiled scans noticed.
NOTICED = (0.9, 0.95, 0.98)

# What a scan is spoiled by, to measure what is noticed.
BLUR = 1 / 40  # deviation of a Gaussian, in longer sides
STRETCH = 8  # contrast, about the median
FADE = 0.03


def turned(pixels: np.ndarray, turns: int) -> np.ndarray:
    """Scans by quarter turns counterclockwise: uint8 (n, s, s)."""
    return np.ascontiguousarray(np.rot90(pixels, turns, (1, 2)))


def blurred(pixels: np.ndarray) -> np.ndarray:
    """A scan out of focus, uint8 (rows, columns): details under a twentieth of it are gone."""
    return cv2.GaussianBlur(pixels, (0, 0), BLUR * max(pixels.shape))


def clipped(pixels: np.ndarray) -> np.ndarray:
    """A scan of far too much contrast."""
    middle = np.median(pixels)
    return np.clip(middle + STRETCH * (pixels - middle), 0, 255).astype(np.uint8)


def faded(pixels: np.ndarray) -> np.ndarray:
    """A scan of next to no contrast, as of a detector that was not exposed."""
    return np.rint(128 + FADE * (pixels - 128.0)).astype(np.uint8)


def learn_turns(pixels: np.ndarray) -> np.ndarray:
    """Weights for `covid_edge.quality.turns`, from upright scans.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, s, s)

    Returns
    -------
    ndarray of float16, shape (4, 257)
    """
    model = _learn([turned(pixels, k) for k in range(4)])
    return np.c_[model.coef_, model.intercept_].astype(np.float16)


def _learn(kinds: Sequence[np.ndarray]) -> LogisticRegression:
    """What tells kinds of scans apart by their thumbnails; each kind uint8 (n, s, s)."""
    model = LogisticRegression(C=REGULARISATION, max_iter=100)
    truth = np.repeat(np.arange(len(kinds)), [len(kind) for kind in kinds])
    return model.fit(np.concatenate([_thumbnails(kind) for kind in kinds]), truth)


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    return np.stack([quality.thumbnail(one) for one in pixels])


def mirrored(pixels: np.ndarray) -> np.ndarray:
    """Scans seen in a mirror: uint8 (n, s, s)."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def try_mirrored(seen: dict[str, np.ndarray]) -> dict[str, Any]:
    """Measure whether mirrored scans could be told as turned ones are. No limit is made of it.

    Parameters
    ----------
    seen : dict of str to ndarray of uint8, shape (n, s, s)
        What the router sees of the scans of train, val and test.

    Returns
    -------
    dict
        As :func:`rates` gives it, for test, with as many upright scans of val refused.
    """
    model = _learn([seen["train"], mirrored(seen["train"])])

    def margins(pixels: np.ndarray) -> np.ndarray:
        return model.decision_function(_thumbnails(pixels))

    limit = np.quantile(margins(seen["val"]), 1 - UPRIGHT_REFUSED)
    return rates(margins(seen["test"]), margins(mirrored(seen["test"])), limit)


def rates(good: np.ndarray, bad: np.ndarray, limit: float) -> dict[str, Any]:
    """How well a measure tells spoiled scans from good ones.

    Parameters
    ----------
    good, bad : ndarray of float, shape (n,)
        Scores, higher the worse a scan is.
    limit : float
        Scores over it are refused.

    Returns
    -------
    dict
        ``noticed`` and ``good_refused`` are shares at the limit; of the ROC curve, ``auc`` is the
        area, and ``good_refused_at`` says what share of good scans would be refused by the limit
        that notices each share of :data:`NOTICED`.
    """
    truth = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    scores = np.r_[good, bad]
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return {
        "noticed": round(float((bad > limit).mean()), 4),
        "good_refused": round(float((good > limit).mean()), 4),
        "auc": round(float(roc_auc_score(truth, scores)), 4),
        "good_refused_at": {
            str(share): round(float(false[true.searchsorted(share)]), 4) for share in NOTICED
        },
    }


def packed(values: np.ndarray) -> str:
    """float16 values as bundle.json holds them."""
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def add_checks(scans: Scans, folder: Path) -> dict:
    """Give a bundle, in place, the limits by which the device refuses scans.

    Parameters
    ----------
    scans : Scans
        With ``other`` among them.
    folder : Path
        A bundle that `covid_edge_convert.explain` has been given. It is replaced whole or not at
        all; its model card is written anew.

    Returns
    -------
    dict
        Modality → ``refused``, shares of good scans by split; ``noticed``, by what was done to
        scans of test: the code, and :func:`rates` against good ones; ``mirrored``, the rates of
        :func:`try_mirrored`.

    Raises
    ------
    BundleError
        ``folder`` is no sound bundle.
    UsageError
        Its files do not give feature maps yet.
    """
    with amended(folder) as (copy, manifest):
        bundle, measured = Bundle.load(copy), {}
        for name, entry in manifest["modalities"].items():
            entry.pop("refusals", None)
            if any("heatmap" not in m for m in entry["models"] if m["target"] != "edgetpu"):
                raise UsageError(f"{folder}: run covid-edge-convert explain {folder} first")
            measured[name] = _modality(scans, bundle, name, entry)
        write_json(copy / "bundle.json", manifest)

        # The shares come from the whole road, as the figures of the bundle do.
        predictor, figures = Predictor(copy), {}
        for name in manifest["modalities"]:
            figures[name] = {"refused": {}, **measured[name]}
            for split in ("val", "test", "probe"):
                good = scans.select(modality=name, split=split)
                if len(good):
                    codes = [one["refusal"] for one in answer(good, predictor)]
                    figures[name]["refused"][split] = {
                        "scans": len(good),
                        **{code: codes.count(code) for code in quality.CODES if code in codes},
                    }
            manifest["modalities"][name]["refusals"] = figures[name]
        others = scans.select(modality="other", split="test")
        codes = [one["refusal"] for one in answer(others, predictor)]
        manifest["router"]["refusals"] = {
            "scans": len(others),
            **{code: codes.count(code) for code in quality.CODES if code in codes},
        }
        (copy / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
    return figures


def _at_least(value: float) -> float:
    """Rounded up: what is within a limit stays so."""
    return math.ceil(1000 * value) / 1000


def _modality(scans: Scans, bundle: Bundle, name: str, entry: dict) -> dict:
    """Set ``checks`` and ``familiar`` of bundle.json's entry, and measure them on test."""
    modality, small = bundle.modalities[name], bundle.router.preprocess
    tables = {split: scans.select(modality=name, split=split) for split in ("train", "val", "test")}
    seen = {split: load_pixels(table, small) for split, table in tables.items()}
    weights = learn_turns(seen["train"])

    def measure(table: Scans, spoil=lambda pixels: pixels) -> dict[str, np.ndarray]:
        found: dict[str, list] = {"contrast": [], "extremes": [], "sharpness": []}
        for file in tqdm(table.file, f"measure {name}", leave=False):
            pixels = spoil(read_scan(table.root / file).pixels)
            tiny = preprocess(pixels, small)
            found["contrast"].append(quality.contrast(tiny))
            found["extremes"].append(quality.extremes(tiny))
            found["sharpness"].append(quality.sharpness(preprocess(pixels, modality.preprocess)))
        return {key: np.array(values) for key, values in found.items()}

    def margins(pixels: np.ndarray) -> np.ndarray:
        return np.array([quality.turns(one, np.float32(weights))[1] for one in pixels])

    val, test = (measure(tables[split]) for split in ("val", "test"))
    upright = {split: margins(seen[split]) for split in ("val", "test")}
    checks = entry["checks"] = {
        "contrast": round(ROOM * float(val["contrast"].min()), 1),
        "extremes": round((1 + float(val["extremes"].max())) / 2, 3),
        "sharpness": round(ROOM * float(val["sharpness"].min()), 2),
        "turned": _at_least(max(0.0, np.quantile(upright["val"], 1 - UPRIGHT_REFUSED))),
        "turns": packed(weights),
        "fitted_on": f"{len(tables['train'])} scans of train, limits: {len(tables['val'])} of val",
    }
    noticed = {}

    def note(what: str, code: str, good: np.ndarray, bad: np.ndarray, limit: float) -> None:
        noticed[what] = {"code": code, **rates(good, bad, limit)}

    spoiled = {spoil: measure(tables["test"], spoil) for spoil in (faded, clipped, blurred)}
    for what, spoil, code, key, sign in (
        ("faded to 3 % of its contrast", faded, "empty", "contrast", -1),
        ("8 times the contrast", clipped, "clipped", "extremes", 1),
        ("blurred by a 40th of its size", blurred, "blurred", "sharpness", -1),
    ):
        note(what, code, sign * test[key], sign * spoiled[spoil][key], sign * checks[key])
    for what, code, turns in (
        ("turned by 90 degrees", "turned-90", (1, 3)),
        ("turned by 180 degrees", "turned-180", (2,)),
    ):
        bad = np.concatenate([margins(turned(seen["test"], k)) for k in turns])
        note(what, code, upright["test"], bad, checks["turned"])

    rng = np.random.default_rng(0)
    some = rng.permutation(len(tables["train"]))[:FAMILIAR_SCANS]
    other = scans.select(modality="other", split="test")
    for k, model in enumerate(entry["models"]):
        if model["target"] == "edgetpu":  # it gives the logit alone
            continue
        file = modality.models[k]
        # The last branch is the shared encoder's, which tells what is no chest scan far better
        # than the task-specific one does.
        tensor = file.heatmap.branches[-1].map
        network = Interpreter(file.file.path)

        def embeddings(table: Scans, network=network, tensor=tensor) -> np.ndarray:
            found = []
            for one in load_pixels(table, modality.preprocess):
                network.run(one)
                found.append(network.values(tensor)[0].mean((0, 1)))
            return np.array(found)

        learned = embeddings(tables["train"].where(some))
        mean = learned.mean(0).astype(np.float16).astype(np.float32)
        # Features that training scans hardly have must not count for more than all others.
        deviation = np.maximum(learned.std(0), 0.1 * learned.std(0).mean())
        deviation = deviation.astype(np.float16).astype(np.float32)
        far = {
            key: np.array([quality.distance(one, mean, deviation) for one in embeddings(table)])
            for key, table in {"val": tables["val"], "test": tables["test"], "other": other}.items()
        }
        model["familiar"] = {
            "map": tensor,
            "mean": packed(mean),
            "deviation": packed(deviation),
            "limit": _at_least(far["val"].max()),
        }
        if k == 0 and len(other):
            limit = model["familiar"]["limit"]
            what = "not a chest scan, taken for one"
            note(what, "far-from-training", far["test"], far["other"], limit)
    return {"noticed": noticed, "mirrored": try_mirrored(seen)}
