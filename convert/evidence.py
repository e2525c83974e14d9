# SPDX-License-Identifier: Apache-2.0
"""What a report needs and the int8 files cannot give again: it travels in the bundle.

``stages.csv``    per scan of val, test and probe, the full-precision COVID logit of every stage
``features.npz``  principal components (float16) of the embeddings before and after the generator,
                  X-ray and CT together, and of each modality's final 1280 features; row k is the
                  k-th row of stages.csv whose split is val or test
``protocols.csv`` per scan, the logits of the folds of `covid_edge_convert.protocols`, if the run
                  has any; ``folds.csv`` says what was trained in each

bundle.json names them, with their hashes, under ``evidence``. The device reads none of them.
Students have no such stages, and no evidence.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from covid_edge.bundle import Bundle, ModelFile
from covid_edge_convert import systems
from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.recipes import Recipe
from covid_edge_convert.runs import RunFolder

SPLITS = ("val", "test", "probe")
FEATURE_SPLITS = ("val", "test")
STAGES = (
    "task_specific_encoder",
    "shared_encoder",
    "task_specific",
    "shared_adversarial",
    "shared_non_adversarial",
    "head_adversarial",
    "head_non_adversarial",
)
COMPONENTS = {"before": 16, "after": 16, "final": 32}
FOLD_COLUMNS = ("protocol", "fold", "modality", "trained", "train", "val", "test")
LOGIT_COLUMNS = ("protocol", "fold", "modality", "split", "file", "logit")


@dataclass(frozen=True)
class Evidence:
    """A bundle's evidence, as far as it has any.

    Attributes
    ----------
    stages : dict of ndarray, or None
        ``file``, ``modality``, ``split`` (str) and each of `STAGES` (float64; NaN where the run
        did not train it), one entry a scan.
    features : dict of ndarray of float32, or None
        ``before``, ``after``, ``final``: shape (rows of stages in val and test, components).
    protocols : dict of ndarray, or None
        `LOGIT_COLUMNS`; ``logit`` is float64.
    folds : list of dict of str
        `FOLD_COLUMNS`.
    """

    stages: dict[str, np.ndarray] | None = None
    features: dict[str, np.ndarray] | None = None
    protocols: dict[str, np.ndarray] | None = None
    folds: list[dict[str, str]] = field(default_factory=list)


def write_evidence(scans: Scans, recipe: Recipe, run: RunFolder, folder: Path) -> list[Path]:
    """Write what a trained run can show.

    Parameters
    ----------
    scans : Scans
        The table that the run was trained with.
    recipe : Recipe
    run : RunFolder
        Trained to its end; the stages of the other way of mixing are written if it has them too.
    folder : Path

    Returns
    -------
    list of Path
        The files, in ``folder``; of students none.
    """
    if recipe.teacher is not None:
        return []
    rows: list[dict] = []
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in COMPONENTS}
    for modality in MODALITIES:
        table = scans.select(modality=modality)
        kept = np.flatnonzero(np.isin(table.split, SPLITS))
        logits, features = stage_logits(table, kept, modality, recipe, run)
        for k, row in enumerate(kept):
            known = {"file": table.file[row], "modality": modality, "split": table.split[row]}
            rows.append({**known, **{name: f"{part[k]:.4f}" for name, part in logits.items()}})
        shown = np.isin(table.split[kept], FEATURE_SPLITS)
        for name, part in features.items():
            vectors[name].append(part[shown])
    paths = [write_csv(folder / "stages.csv", ("file", "modality", "split", *STAGES), rows)]
    features = {
        "before": _components(np.concatenate(vectors["before"]), COMPONENTS["before"]),
        "after": _components(np.concatenate(vectors["after"]), COMPONENTS["after"]),
        # Each modality has its own task-specific module: nothing but width is common to them.
        "final": np.concatenate([_components(v, COMPONENTS["final"]) for v in vectors["final"]]),
    }
    paths.append(folder / "features.npz")
    np.savez_compressed(paths[-1], **{k: v.astype(np.float16) for k, v in features.items()})

    return paths + write_folds(run, folder)


def write_folds(run: RunFolder, folder: Path) -> list[Path]:
    """Write ``protocols.csv`` and ``folds.csv`` of the folds that a run has, if it has any."""
    folds, answers = [], []
    for path in sorted(run.protocols.glob("*/*/fold.csv")):
        folds += _rows(path)
        answers += _rows(path.with_name("logits.csv"))
    if not folds:
        return []
    return [
        write_csv(folder / "protocols.csv", LOGIT_COLUMNS, answers),
        write_csv(folder / "folds.csv", FOLD_COLUMNS, folds),
    ]


def stage_logits(
    table: Scans, rows: np.ndarray, modality: str, recipe: Recipe, run: RunFolder
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a trained run's stages say, at full precision.

    Parameters
    ----------
    table : Scans
        All scans of one modality that the run was trained with.
    rows : ndarray of int
        The scans asked for.
    modality : str
    recipe : Recipe
    run : RunFolder

    Returns
    -------
    logits : dict of ndarray of float32, shape (len(rows),)
        Those of `STAGES` that are trained.
    vectors : dict of ndarray of float32, shape (len(rows), 1280)
        What `COMPONENTS` names, by the run's own way of mixing.
    """
    logits, embeddings = {}, []
    for role, name in zip(recipe.roles, recipe.encoders[modality]):
        # The first rows are the scans themselves; augmented views follow.
        vectors = np.load(run.vectors(modality, name), mmap_mode="r")[: len(table)][rows]
        kernel, bias = systems.load_embedding(modality, name, run).layers[-1].get_weights()
        logits[f"{role}_encoder"] = (vectors @ kernel + bias)[:, 0]
        embeddings.append(vectors)
    specific, common = embeddings
    features = {"before": common}

    def predict(model, x):
        return model.predict(x, batch_size=512, verbose=0)

    own, logit = predict(systems.load_task_specific(modality, run), specific)
    logits["task_specific"] = logit[:, 0]
    for adversarial, kind in ((True, "adversarial"), (False, "non_adversarial")):
        mixed = RunFolder(run.root, adversarial)
        if not mixed.head(modality).is_file():
            continue
        module = systems.load_shared(mixed)
        feature, logit = predict(module, common)
        head = predict(systems.load_head(modality, mixed), [own, feature])
        logits[f"shared_{kind}"], logits[f"head_{kind}"] = logit[:, 0], head[:, 0]
        if adversarial == run.adversarial:
            features["after"] = predict(module.get_layer("generator"), common)
            features["final"] = np.concatenate([own, feature], axis=1)
    return logits, features


def _components(vectors: np.ndarray, count: int) -> np.ndarray:
    """Principal components, the vectors' total variance brought to 1: float64 (n, count)."""
    vectors = np.asarray(vectors, np.float64)
    vectors = (vectors - vectors.mean(axis=0)) / np.sqrt(vectors.var(axis=0).sum())
    count = min(count, *vectors.shape)
    return PCA(count, svd_solver="randomized", random_state=0).fit_transform(vectors)


def load_evidence(bundle: Bundle) -> Evidence:
    """Read a bundle's evidence; each file is checked against its SHA-256 first.

    Raises
    ------
    BundleError
        A file that bundle.json names is missing or another.
    """
    entries = bundle.extra.get("evidence", {})
    paths = {}
    for name, entry in entries.items():
        path = bundle.path / Path(entry["file"]).name
        ModelFile(path, entry["sha256"], entry["xxh3"], entry["bytes"]).verify()
        paths[name] = path
    stages = features = protocols = None
    if "stages" in paths:
        stages = _columns(_rows(paths["stages"]), STAGES)
    if "features" in paths:
        with np.load(paths["features"], allow_pickle=False) as arrays:
            features = {name: arrays[name].astype(np.float32) for name in COMPONENTS}
    if "protocols" in paths:
        protocols = _columns(_rows(paths["protocols"]), ("logit",))
    return Evidence(stages, features, protocols, _rows(paths["folds"]) if "folds" in paths else [])


def _columns(rows: list[dict[str, str]], numbers: tuple[str, ...]) -> dict[str, np.ndarray]:
    def column(name: str) -> np.ndarray:
        values = [row[name] for row in rows]
        return np.array([float(v or "nan") for v in values] if name in numbers else values)

    return {name: column(name) for name in rows[0]}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> Path:
    """Write a table whole or not at all; what a row lacks is left empty."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
    return path
