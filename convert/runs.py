# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: where everything lies, and what the run was begun with."""

from __future__ import annotations

from pathlib import Path

from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import DataError, Scans
from covid_edge_convert.recipes import Recipe, RecipeError


class RunFolder:
    """Where a training run keeps what it makes.

    Parameters
    ----------
    root : Path
    adversarial : bool or None
        Which of the two ways of mixing is meant; the rest of the run serves both. None for
        students, which mix nothing.
    """

    def __init__(self, root: Path, adversarial: bool | None = True):
        self.root = root
        self.adversarial = adversarial
        self.cache = root / "cache"
        self.recipe = root / "recipe.json"
        self.fingerprint = root / "scans.sha256"
        self.router = root / "router" / "router.weights.h5"
        self.teacher = root / "teacher.json"
        self.router_file = root / "router" / "router.int8.tflite"  # a bundle's, as it is
        self.protocols = root / "protocols"
        kinds = {True: "adversarial", False: "non-adversarial", None: ""}
        self.mixing = root / kinds[adversarial]
        self.generator = self.mixing / "generator.weights.h5"
        self.shared = self.mixing / "shared.weights.h5"
        self.distances = self.mixing / "wasserstein.json"
        self.models = self.mixing / "models"

    def encoder(self, name: str) -> Path:
        """Folder of an encoder: checkpoints, log, final weights."""
        return self.root / "encoders" / name

    def student(self, modality: str) -> Path:
        """Folder of a student: checkpoints, log, final weights."""
        return self.root / "students" / modality

    def embedding(self, modality: str, name: str) -> Path:
        """Weights of an embedding module."""
        return self.root / "embeddings" / f"{modality}-{name}.weights.h5"

    def vectors(self, modality: str, name: str) -> Path:
        """Embeddings of every view, in the order of `covid_edge_convert.train.Views`."""
        return self.root / "embeddings" / f"{modality}-{name}.npy"

    def task_specific(self, modality: str) -> Path:
        """Weights of a task-specific module."""
        return self.root / "task-specific" / f"{modality}.weights.h5"

    def head(self, modality: str) -> Path:
        """Weights of a head."""
        return self.mixing / f"head-{modality}.weights.h5"

    def begin(self, recipe: Recipe, scans: Scans) -> None:
        """Note what the run is made with, or check that it is what the run was begun with.

        Raises
        ------
        RecipeError, DataError
            The run was begun with another recipe, or with other scans.
        """
        if not self.recipe.is_file():
            write_text(self.fingerprint, scans.fingerprint())
            recipe.save(self.recipe)
        elif Recipe.load(self.recipe) != recipe:
            raise RecipeError(
                f"{self.recipe}: this run was begun with another recipe; "
                "give the same options again, or another --run folder."
            )
        self.check(scans)

    def check(self, scans: Scans) -> None:
        """Raise a DataError if the run was begun with other scans: its results are not theirs."""
        if self.fingerprint.read_text(encoding="utf-8") != scans.fingerprint():
            raise DataError(
                f"{scans.root}: not the scans that {self.root} was begun with; "
                "give the same --data again, or another --run folder."
            )
