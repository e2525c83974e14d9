# SPDX-License-Identifier: Apache-2.0
"""Everything a training run must decide, in one frozen record, with three presets."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from covid_edge.preprocess import PreprocessSpec

# Paper, "final choice": (task-specific encoder, shared encoder) of each modality.
PAPER_ENCODERS = {
    "xray": ("EfficientNetB0", "ResNet50"),
    "ct": ("EfficientNetB1", "ResNet50V2"),
}


@dataclass(frozen=True)
class Recipe:
    """How MMTL is trained.

    ``input_size`` is the device's (the paper's 224); ``encoder_size`` is what the encoders look at:
    the same, or half of it, in which case the graph itself takes the mean of each 2x2 block.
    ``schedule`` names, per encoder, the sizes of its pretraining epochs (``"80x4,112x5"``).
    """

    encoders: dict[str, tuple[str, str]]
    schedule: dict[str, str]
    input_size: int = 224
    encoder_size: int = 112
    grow: dict[str, str] = dataclasses.field(default_factory=dict)  # deeper encoder: shallower one
    weights: str | None = None  # "imagenet" needs internet
    learning_rate: float = 1.5e-3  # of the encoders
    views: int = 2  # augmented views of a training scan that the modules learn from, beside itself
    noise: float = 0.1  # noise on features while training modules, in standard deviations
    module_epochs: int = 25
    module_rate: float = 3e-4
    game_epochs: int = 150
    game_rate: float = 5e-5
    batch_size: int = 32
    router_epochs: int = 30
    seed: int = 1

    def __post_init__(self):
        if self.input_size not in (self.encoder_size, 2 * self.encoder_size):
            raise ValueError(
                f"encoder size {self.encoder_size} must be the input size {self.input_size} "
                "or half of it"
            )

    @property
    def halved(self) -> bool:
        """Whether the graph halves its input before the encoders."""
        return self.input_size != self.encoder_size

    def order(self) -> list[str]:
        """Each encoder once, those that another grows from first."""
        names = dict.fromkeys(name for pair in self.encoders.values() for name in pair)
        return sorted(names, key=lambda name: name in self.grow)

    def spec(self, paper: PreprocessSpec) -> PreprocessSpec:
        """The paper's preprocessing of a modality, at this recipe's input size."""
        return dataclasses.replace(paper, size=(self.input_size, self.input_size))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Recipe:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["encoders"] = {m: tuple(pair) for m, pair in fields["encoders"].items()}
        return cls(**fields)


PRESETS = {
    # What the shipped bundle was trained with: an hour and a half on two CPU cores.
    "default": Recipe(
        encoders=PAPER_ENCODERS,
        schedule={
            "EfficientNetB0": "96x10",
            "EfficientNetB1": "96x5",
            "ResNet50": "80x4,96x1",
            "ResNet50V2": "80x4,96x1",
        },
        grow={"EfficientNetB1": "EfficientNetB0"},
    ),
    # The paper's sizes and hyperparameters; a GPU's work.
    "paper": Recipe(
        encoders=PAPER_ENCODERS,
        schedule={name: "224x100" for pair in PAPER_ENCODERS.values() for name in pair},
        encoder_size=224,
        noise=0.0,
        views=0,
        module_epochs=100,
        module_rate=1e-3,
        game_epochs=1000,
        game_rate=1e-5,
    ),
    # Every stage in seconds, for tests and first trials; learns little.
    "toy": Recipe(
        encoders={"xray": ("Tiny", "Tiny"), "ct": ("Tiny", "Tiny")},
        schedule={"Tiny": "32x6"},
        input_size=64,
        encoder_size=32,
        learning_rate=1e-2,
        views=1,
        module_epochs=6,
        module_rate=1e-3,
        game_epochs=3,
        router_epochs=40,
        batch_size=16,
    ),
}
