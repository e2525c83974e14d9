# SPDX-License-Identifier: Apache-2.0
"""A bundle: a folder with bundle.json and the TFLite files that it describes.

``bundle.json`` says everything that the device must not guess. It is read strictly: a field that is
missing or of the wrong kind is a :class:`~covid_edge.errors.BundleError` naming the field. Fields
that the device does not use (metrics, drift, training) are kept as they are in `Bundle.extra`.

It is named tuples throughout: making a dataclass takes several times as long, which each new
process would pay.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .errors import BundleError
from .preprocess import PreprocessSpec

if TYPE_CHECKING:
    import numpy as np

    from .interpreter import Chain, GpuNetwork, Interpreter

__all__ = [
    "OPERATING_POINTS",
    "OTHER",
    "SCHEMA",
    "TARGETS",
    "UNCERTAIN",
    "Bundle",
    "Calibration",
    "Checks",
    "Conformal",
    "FamiliarRange",
    "HeadBranch",
    "HeadLayer",
    "HeadPlan",
    "Modality",
    "Model",
    "ModelFile",
    "Router",
    "Threshold",
]

#: The schema of bundle.json that this version reads.
SCHEMA = 5

#: What a network's file was made for: 8-bit integers; float32; float32 with weights of 16 bits; or
#: 8-bit integers of which the EdgeTPU can run every operation.
TARGETS = ("cpu-int8", "fp32", "gpu-fp16", "edgetpu")

#: The router's label for whatever is not a chest scan.
OTHER = "other"

#: The answer where neither label can be excluded.
UNCERTAIN = "uncertain"

#: How a probability becomes an answer: by the conformal bounds, or by one of two thresholds.
OPERATING_POINTS = ("conformal", "balanced", "sensitive")

# Logits of upright and three turns, by the pixels of a thumbnail and a bias.
_TURNS = (4, 257)

_SHIPPED = Path(__file__).parent / "models"
_DEFAULT = "mmtl"
_REMEDY = "install covid-edge again, or make the bundle again with covid-edge-convert"


def file_digest(path: str | os.PathLike[str], digest: Any) -> str:
    """Return the hexadecimal digest of a file's bytes; `digest` is new, of hashlib or xxhash.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        block = memoryview(bytearray(1 << 18))  # stays in the processor's cache
        while length := file.readinto(block):
            digest.update(block[:length])
    return digest.hexdigest()


class ModelFile(NamedTuple):
    """One file of a bundle: where it lies and what it must contain."""

    path: Path
    sha256: str
    xxh3: str
    bytes: int

    def check(self) -> None:
        """Check every byte of the file by XXH3-128, at the speed of memory.

        It finds any damage. Against a forger no check of the device's own helps, since bundle.json
        is not signed: compare the SHA-256 of bundle.json with one from a source that you trust,
        and call :meth:`verify`.

        Raises
        ------
        BundleError
            The file is missing, unreadable or not the one that bundle.json describes.
        """
        import xxhash

        self._compare("XXH3", xxhash.xxh3_128(), self.xxh3)

    def verify(self) -> None:
        """Check the file against its SHA-256, which takes several times as long as `check`.

        Raises
        ------
        BundleError
            As :meth:`check`.
        """
        self._compare("SHA-256", hashlib.sha256(), self.sha256)

    def _compare(self, name: str, digest: Any, expected: str) -> None:
        self.check_size()
        try:
            found = file_digest(self.path, digest)
        except OSError as error:
            raise BundleError(f"{self.path} cannot be read: {error.strerror}") from None
        if found != expected:
            raise BundleError(
                f"{self.path} is not the file that bundle.json describes "
                f"(its {name} differs); {_REMEDY}"
            )

    def check_size(self) -> None:
        """Check that the file is there and as long as it should be: the cheap part of `check`.

        Raises
        ------
        BundleError
            It is not.
        """
        try:
            size = os.stat(self.path).st_size
        except OSError as error:
            raise BundleError(f"{self.path} is missing ({error.strerror}); {_REMEDY}") from None
        if size != self.bytes:
            raise BundleError(
                f"{self.path} has {size} bytes where bundle.json says {self.bytes}; {_REMEDY}"
            )


class Router(NamedTuple):
    """The network that says what kind of scan this is.

    The answer is the likeliest of `labels` by ``softmax(logits / temperature)``; it stands if it is
    not ``"other"`` and its probability is at least `accept`.
    """

    model: ModelFile
    preprocess: PreprocessSpec
    labels: tuple[str, ...]
    temperature: float
    accept: float


class Calibration(NamedTuple):
    """Platt scaling: probability of COVID-19 = sigmoid(scale * logit + bias)."""

    method: str
    scale: float
    bias: float
    fitted_on: str


class Threshold(NamedTuple):
    """The positive label from this probability on, and how that was chosen."""

    value: float
    chosen: str


class Conformal(NamedTuple):
    """Split-conformal bounds with a promise for each class (Vovk, 2012; "Mondrian").

    The positive label cannot be excluded from probability `covid_from` on, the negative one not up
    to `non_covid_to`. Among scans exchangeable with those of `fitted_on`, at most the share `alpha`
    of either class has its true label excluded.
    """

    alpha: float
    covid_from: float
    non_covid_to: float
    fitted_on: str


class HeadLayer(NamedTuple):
    """A dense layer, then LeakyReLU of `slope`, then a factor. Tensors of the file go by number.

    `sum`, what enters LeakyReLU, is an output of the file; None if there is no LeakyReLU. `scale`
    holds a factor for each unit; None if there are none.
    """

    weights: int
    sum: int | None
    slope: float
    scale: int | None


class HeadBranch(NamedTuple):
    """What follows one encoder: the mean over its last feature `map` (an output), and `layers`."""

    map: int
    layers: tuple[HeadLayer, ...]


class HeadPlan(NamedTuple):
    """The way from the encoders' last maps to the logit, which heatmaps go backwards.

    What leaves the `branches` is concatenated in their order, and enters `head`.
    """

    branches: tuple[HeadBranch, ...]
    head: tuple[HeadLayer, ...]


class FamiliarRange(NamedTuple):
    """Where the embeddings of training scans lie; :func:`covid_edge.quality.distance`.

    The embedding is the mean over the feature map that output `map` of the file is. A scan is
    refused if its distance is over `limit`.
    """

    map: int
    mean: np.ndarray
    deviation: np.ndarray
    limit: float


class Checks(NamedTuple):
    """The limits of a good scan of a modality; the measures are in :mod:`covid_edge.quality`.

    A scan is refused under `contrast` or `sharpness`, over `extremes`, or if its log-odds of being
    turned, by the weights `turns`, are over `turned`.
    """

    contrast: float
    extremes: float
    sharpness: float
    turned: float
    turns: np.ndarray


class Model(NamedTuple):
    """One file of a modality's network, and how that very file's logits become answers.

    `target` is one of :data:`TARGETS`; `labels`, the modality's, are (negative, positive);
    `heatmap` is None if the file has no outputs for heatmaps, `familiar` if nothing is known of
    where training scans lie. With `encoders`, the scan enters each of those files, and what they
    give enters `file`, in their order.
    """

    target: str
    file: ModelFile
    labels: tuple[str, str]
    calibration: Calibration
    balanced: Threshold
    sensitive: Threshold
    conformal: Conformal
    heatmap: HeadPlan | None = None
    familiar: FamiliarRange | None = None
    encoders: tuple[ModelFile, ...] = ()

    def threshold(self, operating_point: str) -> float:
        """Return the threshold of an operating point; that of "conformal" is the balanced one."""
        return (self.sensitive if operating_point == "sensitive" else self.balanced).value

    def possible(self, probability: float, operating_point: str) -> tuple[str, ...]:
        """Return the labels that an operating point does not exclude, in the order of `labels`.

        Parameters
        ----------
        probability : float
            Calibrated probability of the positive label, 0 to 1.
        operating_point : str
            One of :data:`OPERATING_POINTS`. The thresholds leave one label; "conformal" leaves one
            or both.

        Notes
        -----
        A network good enough makes the bounds cross (`non_covid_to` < `covid_from`). Between them
        both labels are excluded: there the balanced threshold decides, which can only add to the
        share of scans whose true label is left.
        """
        if operating_point == "conformal":
            positive = probability >= self.conformal.covid_from
            negative = probability <= self.conformal.non_covid_to
            if positive and negative:
                return self.labels
            if positive or negative:
                return (self.labels[positive],)
        return (self.labels[probability >= self.threshold(operating_point)],)


class Modality(NamedTuple):
    """The network for one kind of scan, in one file or several. `labels` are (negative, positive).

    No two of `models` have the same target. The first is the one whose figures the model card
    gives in full. `checks` is None if scans are not looked at before they are answered on.
    `mirrored` says that the network also sees the mirror image of a scan as it was preprocessed:
    the mean of both logits counts.
    """

    preprocess: PreprocessSpec
    labels: tuple[str, str]
    models: tuple[Model, ...]
    checks: Checks | None
    mirrored: bool

    def looks(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what a network is to see of a scan.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width)
            As `preprocess` says.

        Returns
        -------
        tuple of ndarray of uint8, shape (height, width)
            The scan itself, then its mirror image if that counts.
        """
        return (pixels, pixels[:, ::-1].copy()) if self.mirrored else (pixels,)

    def logit(self, network: Interpreter | Chain | GpuNetwork, pixels: np.ndarray) -> float:
        """Return the mean of a network's logits over all that it is to see of a scan.

        Parameters
        ----------
        network : Interpreter, Chain or GpuNetwork
            Of one of `models`.
        pixels : ndarray of uint8, shape (height, width)
            As `preprocess` says.

        Returns
        -------
        float
            What a Predictor calibrates; it also asks for more between the looks.
        """
        logits = [network.run(look).item() for look in self.looks(pixels)]
        return sum(logits) / len(logits)

    def model(self, target: str) -> Model:
        """Return the file made for `target`; a KeyError if there is none."""
        return {model.target: model for model in self.models}[target]


class Bundle(NamedTuple):
    """A bundle whose bundle.json is sound and whose files are there.

    Load one with :meth:`Bundle.load`. File contents are not read until :meth:`ModelFile.check` or
    :meth:`ModelFile.verify` is called, so a scan pays only for the files it needs.

    Attributes
    ----------
    path : Path
        The folder.
    sha256 : str
        SHA-256 of bundle.json itself: the identity of the whole bundle, since bundle.json holds
        the SHA-256 of every other file.
    extra : dict
        All of bundle.json, as it was read.
    """

    path: Path
    sha256: str
    name: str
    version: str
    system: str
    notice: str
    router: Router
    modalities: dict[str, Modality]
    reference: ModelFile | None
    extra: dict[str, Any]

    @classmethod
    def load(cls, source: str | os.PathLike[str] | None = None) -> Bundle:
        """Read and check a bundle.

        Parameters
        ----------
        source : str or path-like, optional
            A folder, or the name of a bundle that ships with covid-edge; None is the default one.

        Returns
        -------
        Bundle

        Raises
        ------
        BundleError
            There is no such bundle, bundle.json is not sound, or a file is missing or of the
            wrong length.
        """
        folder = _folder(source)
        path = folder / "bundle.json"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read ({error.strerror}): no bundle there; {_REMEDY}"
            ) from None
        try:
            root = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path} is not JSON ({error}); {_REMEDY}") from None
        bundle = _bundle(_Object(path, "", root), hashlib.sha256(text).hexdigest())
        for file in bundle.files.values():
            file.check_size()
        return bundle

    @property
    def files(self) -> dict[str, ModelFile]:
        """Every file that the device may need, by what it is for: "router", "ct cpu-int8"..."""
        files = {"router": self.router.model}
        for name, modality in self.modalities.items():
            for model in modality.models:
                files[f"{name} {model.target}"] = model.file
                for number, encoder in enumerate(model.encoders, 1):
                    files[f"{name} {model.target} encoder {number}"] = encoder
        if self.reference is not None:
            files["reference"] = self.reference
        return files

    def only(self, target: str) -> Bundle:
        """Return the same bundle without the networks' files for other targets.

        Raises
        ------
        KeyError
            A modality has no file for `target`.
        """
        modalities = {
            name: modality._replace(models=(modality.model(target),))
            for name, modality in self.modalities.items()
        }
        return self._replace(modalities=modalities)


def _folder(source: str | os.PathLike[str] | None) -> Path:
    if source is None:
        return _SHIPPED / _DEFAULT
    folder = Path(source)
    if len(folder.parts) != 1 or folder.exists():
        return folder
    names = sorted(path.parent.name for path in _SHIPPED.glob("*/bundle.json"))
    if folder.name not in names:
        raise BundleError(
            f"{folder} is no folder here and no bundle that ships with covid-edge "
            f"({' and '.join(names) or 'none does'}); name one of those, or a bundle's folder"
        )
    return _SHIPPED / folder


class _Object:
    """One JSON object of bundle.json; it knows its place, so that a message can name the field."""

    def __init__(self, source: Path, place: str, fields: Any) -> None:
        self.source = source
        self.place = place
        if not isinstance(fields, dict):
            raise BundleError(
                f"{source} is wrong: {place or 'the whole'} must be an object; {_REMEDY}"
            )
        self.fields = fields

    def fail(self, key: str, wanted: str) -> NoReturn:
        place = f"{self.place}.{key}" if self.place else key
        found = repr(self.fields[key]) if key in self.fields else "missing"
        raise BundleError(
            f"{self.source} is wrong: {place} must be {wanted}, and is {found[:80]}; {_REMEDY}"
        )

    def text(self, key: str) -> str:
        value = self.fields.get(key)
        if not isinstance(value, str):
            self.fail(key, "text")
        return value

    def hexadecimal(self, key: str, digits: int) -> str:
        value = self.text(key).lower()
        if len(value) != digits or not set(value) <= set("0123456789abcdef"):
            self.fail(key, f"{digits} hexadecimal digits")
        return value

    def whole(self, key: str) -> int:
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, "a whole number")
        return value

    def truth(self, key: str) -> bool:
        value = self.fields.get(key)
        if not isinstance(value, bool):
            self.fail(key, "true or false")
        return value

    def index(self, key: str) -> int:
        value = self.whole(key)
        if value < 0:
            self.fail(key, "a whole number of at least 0")
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(key, "a number")
        if not (math.isfinite(value) and low <= value <= high):
            self.fail(key, f"a finite number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str) -> np.ndarray:
        """Return float32 values that stand there as Base64 of little-endian float16."""
        import binascii

        import numpy as np

        try:
            values = np.frombuffer(binascii.a2b_base64(self.text(key)), "<f2").astype(np.float32)
        except ValueError:
            values = np.full(1, np.nan)
        if not (values.size and np.isfinite(values).all()):
            self.fail(key, "numbers of 16 bits in Base64")
        return values

    def positive(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            self.fail(key, "more than 0")
        return value

    def rate(self, key: str) -> float:
        value = self.number(key)
        if not 0 < value < 1:
            self.fail(key, "more than 0 and less than 1")
        return value

    def labels(self, key: str) -> tuple[str, ...]:
        value = self.fields.get(key)
        if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
            self.fail(key, "a list of texts")
        if len(set(value)) != len(value) or len(value) < 2:
            self.fail(key, "two or more different labels")
        return tuple(value)

    def child(self, key: str) -> _Object:
        if key not in self.fields:
            self.fail(key, "an object")
        place = f"{self.place}.{key}" if self.place else key
        return _Object(self.source, place, self.fields[key])

    def children(self, key: str) -> list[_Object]:
        value = self.fields.get(key)
        if not isinstance(value, list) or not value:
            self.fail(key, "a list of one object or more")
        return [_Object(self.source, f"{self.place}.{key}[{i}]", v) for i, v in enumerate(value)]


def _bundle(root: _Object, sha256: str) -> Bundle:
    schema = root.whole("schema")
    if schema != SCHEMA:
        remedy = "upgrade covid-edge" if schema > SCHEMA else _REMEDY
        raise BundleError(
            f"{root.source} is of schema {schema} and this version of covid-edge reads schema "
            f"{SCHEMA}; {remedy}"
        )
    named = root.child("modalities")
    modalities = {name: _modality(named.child(name)) for name in named.fields}
    if not modalities:
        root.fail("modalities", "one modality or more")
    return Bundle(
        path=root.source.parent,
        sha256=sha256,
        name=root.text("name"),
        version=root.text("version"),
        system=root.text("system"),
        notice=root.text("notice"),
        router=_router(root.child("router"), modalities),
        modalities=modalities,
        reference=_file(root.child("reference")) if root.fields.get("reference") else None,
        extra=root.fields,
    )


def _file(entry: _Object) -> ModelFile:
    name = entry.text("file")
    # A bundle is data from elsewhere: it may name its own files only.
    if name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name or "\0" in name:
        entry.fail("file", "the name of a file in the bundle's own folder")
    return ModelFile(
        path=entry.source.parent / name,
        sha256=entry.hexadecimal("sha256", 64),
        xxh3=entry.hexadecimal("xxh3", 32),
        bytes=entry.whole("bytes"),
    )


def _spec(entry: _Object) -> PreprocessSpec:
    fields = entry.child("preprocess").fields
    try:
        return PreprocessSpec.from_dict(fields)
    except ValueError as error:
        raise BundleError(f"{entry.source} is wrong: {entry.place}: {error}; {_REMEDY}") from None


def _router(entry: _Object, modalities: dict[str, Modality]) -> Router:
    labels = entry.labels("labels")
    if not set(labels) <= {OTHER, *modalities}:
        entry.fail("labels", f"of {sorted({OTHER, *modalities})}")
    return Router(
        model=_file(entry),
        preprocess=_spec(entry),
        labels=labels,
        temperature=entry.positive("temperature"),
        accept=entry.number("accept", 0, 1),
    )


def _modality(entry: _Object) -> Modality:
    labels = entry.labels("labels")
    if len(labels) != 2:
        entry.fail("labels", "two labels, the negative one first")
    if UNCERTAIN in labels:
        entry.fail("labels", f"other words than {UNCERTAIN!r}, which means both")
    models = tuple(_model(child, labels) for child in entry.children("models"))
    if len({model.target for model in models}) < len(models):
        entry.fail("models", "files of different targets")
    checks = _checks(entry.child("checks")) if "checks" in entry.fields else None
    return Modality(
        preprocess=_spec(entry),
        labels=labels,
        models=models,
        checks=checks,
        mirrored=entry.truth("mirrored"),
    )


def _checks(entry: _Object) -> Checks:
    turns = entry.numbers("turns")
    if turns.size != _TURNS[0] * _TURNS[1]:
        entry.fail("turns", f"{_TURNS[0]} times {_TURNS[1]} numbers")
    return Checks(
        contrast=entry.number("contrast"),
        extremes=entry.number("extremes"),
        sharpness=entry.number("sharpness"),
        turned=entry.number("turned"),
        turns=turns.reshape(_TURNS),
    )


def _familiar(entry: _Object) -> FamiliarRange:
    mean, deviation = entry.numbers("mean"), entry.numbers("deviation")
    if mean.size != deviation.size or (deviation <= 0).any():
        entry.fail("deviation", "as many numbers as mean has, all over 0")
    return FamiliarRange(entry.index("map"), mean, deviation, entry.number("limit"))


def _model(entry: _Object, labels: tuple[str, str]) -> Model:
    if entry.text("target") not in TARGETS:
        entry.fail("target", f"one of {', '.join(TARGETS)}")
    calibration, conformal = entry.child("calibration"), entry.child("conformal")
    points = entry.child("operating_points")
    encoders: tuple[ModelFile, ...] = ()
    if "encoders" in entry.fields:
        encoders = tuple(map(_file, entry.children("encoders")))
        if entry.text("target") != "edgetpu" or {"heatmap", "familiar"} & set(entry.fields):
            entry.fail("encoders", "absent but for an edgetpu, without heatmap and familiar")
    return Model(
        target=entry.text("target"),
        file=_file(entry),
        labels=labels,
        calibration=Calibration(
            method=calibration.text("method"),
            scale=calibration.positive("scale"),
            bias=calibration.number("bias"),
            fitted_on=calibration.text("fitted_on"),
        ),
        balanced=_threshold(points.child("balanced")),
        sensitive=_threshold(points.child("sensitive")),
        conformal=Conformal(
            alpha=conformal.rate("alpha"),
            covid_from=conformal.number("covid_from", 0, 1),
            non_covid_to=conformal.number("non_covid_to", 0, 1),
            fitted_on=conformal.text("fitted_on"),
        ),
        heatmap=_head_plan(entry.child("heatmap")) if "heatmap" in entry.fields else None,
        familiar=_familiar(entry.child("familiar")) if "familiar" in entry.fields else None,
        encoders=encoders,
    )


def _head_plan(entry: _Object) -> HeadPlan:
    branches = tuple(
        HeadBranch(branch.index("map"), _head_layers(branch, "layers"))
        for branch in entry.children("branches")
    )
    # A network of one encoder has all its layers in its branch.
    return HeadPlan(branches, _head_layers(entry, "head") if entry.fields.get("head") else ())


def _head_layers(entry: _Object, key: str) -> tuple[HeadLayer, ...]:
    return tuple(
        HeadLayer(
            weights=layer.index("weights"),
            sum=layer.index("sum") if "sum" in layer.fields else None,
            slope=layer.number("slope") if "sum" in layer.fields else 1.0,
            scale=layer.index("scale") if "scale" in layer.fields else None,
        )
        for layer in entry.children(key)
    )


def _threshold(entry: _Object) -> Threshold:
    return Threshold(entry.number("value", 0, 1), entry.text("chosen"))
