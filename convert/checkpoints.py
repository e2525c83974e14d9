# SPDX-License-Identifier: Apache-2.0
"""Training states on disk: complete or absent, named by the epochs that they hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def save_weights(model: keras.Model, path: Path) -> None:
    """Write ``path`` (``….weights.h5``) whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial-" + path.name)
    model.save_weights(partial)
    os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial-" + path.name)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write ``path`` (``….npy``) whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.npy")
    np.save(partial, array)
    os.replace(partial, path)


class Checkpoints:
    """The last training state of a compiled model: weights, optimiser, number of epochs done.

    Parameters
    ----------
    folder : Path
    model : keras.Model
        Compiled; its optimiser's variables are part of the state.
    """

    def __init__(self, folder: Path, model: keras.Model):
        self.folder, self.model = folder, model
        model.optimizer.build(model.trainable_variables)

    def _found(self) -> dict[int, Path]:
        files = self.folder.glob("epoch-*.weights.h5")
        return {int(path.name[6 : path.name.index(".")]): path for path in files}

    def restore(self) -> int:
        """Load the last state, if there is one, and return how many epochs it has behind it."""
        found = self._found()
        if not found:
            return 0
        done = max(found)
        self.model.load_weights(found[done])
        return done

    def save(self, epochs: int) -> None:
        """Keep the state after ``epochs`` epochs, then drop the older ones."""
        older = self._found()
        save_weights(self.model, self.folder / f"epoch-{epochs:04d}.weights.h5")
        for number, path in older.items():
            if number != epochs:
                path.unlink()

    def clear(self) -> None:
        """Drop every state: what was trained is kept elsewhere."""
        for path in self._found().values():
            path.unlink()
