# SPDX-License-Identifier: Apache-2.0
"""From one file to one answer: read, route, preprocess, run, calibrate, decide."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle import OPERATING_POINTS, OTHER, UNCERTAIN, Bundle, Model, ModelFile
from .delegates import DEVICES, delegate_library, runnable_targets
from .errors import BundleError, DeviceError, ScanError, UsageError
from .files import Source
from .interpreter import Chain, GpuNetwork, Interpreter, runtime
from .preprocess import PreprocessSpec, preprocess
from .quality import Refusal, contrast, distance, sharpness, unfit
from .scan import Scan, read_scan

if TYPE_CHECKING:
    from .dicom import Tags

__all__ = ["CONTRADICTIONS", "MIN_SIDE", "Latency", "Prediction", "Predictor"]

#: A picture with a side shorter than this (pixels) is refused: no lung can be judged on it.
MIN_SIDE = 32

#: Codes of what the tags of a DICOM file and its picture contradict each other in, in words.
CONTRADICTIONS = {
    "modality": "its tags say another modality",
    "body-part": "its tags say another part of the body than the chest",
}

# What is None of a scan that was refused.
_ANSWER = ("label", "labels", "probability", "threshold", "operating_point", "network")


@dataclass(frozen=True)
class Latency:
    """Wall time in milliseconds.

    `read` is opening and decoding the file, `preprocess` and `inference` are those of the router
    and of the modality's network together, its look at the mirror image included. `total` is the
    whole call: on the first scan of a modality it also holds checking and loading its network.
    """

    read: float
    preprocess: float
    inference: float
    total: float


@dataclass(frozen=True)
class Prediction:
    """What covid-edge says of one scan.

    Attributes
    ----------
    file : str
        The path, as it was given.
    status : str
        ``"ok"``, or ``"refused"``: the picture was read, and is none that can be answered on.
    modality : str or None
        ``"xray"`` or ``"ct"``; None if the picture was refused before that was known.
    label : str or None
        ``"covid"``, ``"non-covid"`` or ``"uncertain"``; None if refused.
    labels : tuple of str or None
        What cannot be excluded: the label alone, or both if it is ``"uncertain"``; None if refused.
    probability : float or None
        Calibrated probability of COVID-19, 0 to 1; None if refused.
    threshold : float or None
        Of the operating point: ``"covid"`` from this probability on. ``"conformal"`` shows that of
        ``"balanced"``, which decides there only if the bounds exclude both labels. None if refused.
    operating_point : str or None
        What made a label of the probability: see :class:`Predictor`; None if refused.
    network : dict of str or None
        ``file`` and ``device``: which of the bundle's files answered, and where; None if refused.
    refusal : str or None
        Why it was refused, one of :data:`covid_edge.quality.CODES`; of an answer that was forced,
        why it would have been. None if there is nothing against the scan.
    reason : str or None
        The same in words.
    dicom : dict or None
        Of a DICOM file, `modality` (``"xray"``, ``"ct"``, ``"other"`` or None) by its tags, `frame`
        of `frames`, `contradictions` between tags and picture (a list of the keys of
        :data:`CONTRADICTIONS`), and `ids` if they were asked for.
    heatmap : ndarray of float32, shape (28, 28), or None
        What each place of the scan adds to the log-odds of COVID-19, as
        :func:`covid_edge.heatmap.contributions` says; where the mirror image counts, the mean of
        both maps. None if not asked for, or refused. Not part of a JSON line.
    heatmap_file : str or None
        The picture of it (`heatmap` in a JSON line); None if none was written.
    latency_ms : Latency
    bundle : dict of str
        ``name``, ``version`` and ``sha256`` (of bundle.json) of the bundle that answered.
    source : Source
        What was asked: where the picture is, whatever `file` calls it. Of it, a JSON line has only
        `series`: which slice of a CT series.
    """

    file: str
    status: str
    modality: str | None
    label: str | None
    labels: tuple[str, ...] | None
    probability: float | None
    threshold: float | None
    operating_point: str | None
    network: dict[str, str] | None
    refusal: str | None
    reason: str | None
    dicom: dict[str, Any] | None
    latency_ms: Latency
    bundle: dict[str, str]
    source: Source = field(repr=False)
    heatmap: np.ndarray | None = field(default=None, compare=False, repr=False)
    heatmap_file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the form of a JSON line: plain values, in the order above."""
        record = {**asdict(self), "labels": self.labels and list(self.labels)}
        del record["source"]
        record["heatmap"] = record.pop("heatmap_file")
        record["series"] = self.source.series and self.source.series._asdict()
        return record


class Predictor:
    """Predicts COVID-19 on chest X-rays and chest CT slices.

    Nothing is loaded before a scan needs it, and no network answers before every byte of its
    file has been checked. Any thread may call :meth:`predict`; calls run one after the other.
    For scans in parallel there is :func:`covid_edge.predict_many`.

    Parameters
    ----------
    bundle : str, path-like or Bundle, optional
        Folder or name of the bundle; None is mmtl.
    threads : int
        Threads of the interpreter.
    modality : str, optional
        Take every scan for this (``"xray"`` or ``"ct"``) and do not ask the router, which also
        means that nothing else is told apart: a photograph may be answered on too.
    device : str
        Where the networks run (the small router is always on the CPU): ``"cpu"``; ``"gpu"``, by
        LiteRT's accelerator or a delegate library; ``"edgetpu"``, by libedgetpu; or ``"auto"``, the
        quickest of those that work here and for which the bundle has files, found by trying.
    operating_point : str
        ``"conformal"`` answers ``"uncertain"`` where neither label can be excluded at the bundle's
        error rate for each class (its `alpha`), which holds for scans like those that it was
        calibrated on, not for another hospital's. ``"balanced"`` and ``"sensitive"`` always choose
        one label, by a threshold that balances errors, or that finds 95 % of COVID scans.
    delegate : str, optional
        Library through which the GPU or the EdgeTPU is used, in place of the usual one.
    window : tuple of float, optional
        Center and width at which DICOM files are looked at, whatever they say themselves.
    include_ids : bool
        Whether answers on DICOM files say whose and which they are.
    force : bool
        Answer also on scans that are clipped, turned, blurred or unlike those learned from, and say
        so (:attr:`Prediction.refusal`).
    heatmap : bool, optional
        Also compute what each place of a scan adds to the answer (:attr:`Prediction.heatmap`);
        None: where the bundle and the device give it.
    heatmap_dir : str or path-like, optional
        Folder to draw that into, one PNG a scan; implies `heatmap`. It is made if need be.

    Attributes
    ----------
    bundle : Bundle
    device : str
        Where the networks run: as was asked for, or what ``"auto"`` found.
    models : dict of str to Model
        Of each modality, the file that answers (:func:`covid_edge.delegates.runnable_targets`).
    weight_cache : bool
        Whether large networks that are loaded from now on keep their packed weights in a file for
        the next process (:mod:`covid_edge.weight_cache`), which saves time and memory. False unless
        you set it, since then other threads stand still while a network runs.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or of another schema.
    DeviceError
        No interpreter is installed, or neither it nor the bundle has what the device needs.
    UsageError
        There is no such modality, device or operating point, the device takes no delegate library,
        `threads` is less than 1, the bundle gives no heatmaps, or there is no folder for them.

    Examples
    --------
    >>> from covid_edge import Predictor
    >>> Predictor().predict("examples/xray.png").status
    'ok'
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        threads: int = 1,
        modality: str | None = None,
        device: str = "cpu",
        operating_point: str = "conformal",
        delegate: str | None = None,
        window: tuple[float, float] | None = None,
        include_ids: bool = False,
        force: bool = False,
        heatmap: bool | None = False,
        heatmap_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise UsageError(f"threads must be a whole number of at least 1, not {threads!r}")
        if operating_point not in OPERATING_POINTS:
            known = ", ".join(OPERATING_POINTS)
            raise UsageError(f"no operating point is called {operating_point!r}; there is {known}")
        if window is not None and not (math.isfinite(sum(window)) and window[1] >= 1):
            raise UsageError(f"a window is a center and a width of at least 1, not {window!r}")
        self._window, self._include_ids = window, include_ids
        self._package, _ = runtime()
        delegate_library(device, self._package, delegate)  # refuses what cannot be
        self._delegate = delegate
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        if modality is not None and modality not in self.bundle.modalities:
            known = ", ".join(self.bundle.modalities)
            raise UsageError(f"bundle {self.bundle.name} knows no {modality!r}; it knows {known}")
        self._modality = modality
        self._operating_point = operating_point
        self._threads = threads
        self._force = force
        self.weight_cache = False
        self._networks: dict[tuple[str, str], Interpreter | Chain | GpuNetwork] = {}
        self._lock = threading.Lock()
        self.identity = {
            "name": self.bundle.name,
            "version": self.bundle.version,
            "sha256": self.bundle.sha256,
        }
        self.device = self._quickest() if device == "auto" else device
        self.models = self._models(self.device)
        self._heatmap_dir = heatmap_dir
        why_not = self._no_heatmaps()
        if why_not and (heatmap or heatmap_dir is not None):
            raise UsageError(why_not)
        self._heatmap = not why_not and (heatmap is not False or heatmap_dir is not None)
        if heatmap_dir is not None:
            from .heatmap import make_folder

            make_folder(heatmap_dir)

    def load(self) -> None:
        """Check and load every network now, rather than when a scan first needs it.

        Raises
        ------
        BundleError
            A file of the bundle is damaged.
        DeviceError
            A network cannot be run on the device.
        """
        router = self.bundle.router
        with self._lock:
            self._network(router.model, router.preprocess, len(router.labels), "cpu")
            for name, model in self.models.items():
                spec = self.bundle.modalities[name].preprocess
                self._network(model.file, spec, 1, self.device, model.encoders)

    def predict(self, path: str | os.PathLike[str] | Source) -> Prediction:
        """Answer on one file, or one frame of it.

        What a DICOM file's tags say is not simply believed: the router is asked all the same, and
        refuses what it takes for no chest scan. Where it takes an X-ray for a CT or the other way
        round, the tags decide, and the answer says that they contradict the picture. Files that
        say that they are of another modality (MR, US...) or a localizer are refused.

        Parameters
        ----------
        path : str, path-like or Source
            A chest X-ray or one chest CT slice; see :func:`covid_edge.scan.read_scan`.

        Returns
        -------
        Prediction

        Raises
        ------
        ScanError
            The file could not be read.
        BundleError
            A file of the bundle that this scan needs is damaged.
        DeviceError
            The network that this scan needs cannot be run on the device.
        CovidEdgeError
            The heatmap cannot be written.
        """
        with self._lock:
            clock = _Clock()
            source = Source.of(path)
            scan = self._read(source)
            clock.lap("read")
            found: dict[str, Any] = dict.fromkeys(_ANSWER)
            modality, refusal, shows = self._route(scan, clock)
            if modality is not None and (refusal is None or self._force):
                answer, later = self._classify(scan, modality, clock)
                found, refusal = {**found, **answer}, refusal or later
            return Prediction(
                file=scan.path,
                status="ok" if found["label"] else "refused",
                modality=modality,
                refusal=refusal and refusal.code,
                reason=refusal and refusal.reason,
                dicom=_dicom(scan.tags, shows),
                latency_ms=clock.latency(),
                bundle=dict(self.identity),
                source=source,
                **found,
            )

    def _read(self, source: Source) -> Scan:
        try:
            scan = read_scan(source.path, source.frame, self._window, self._include_ids)
        except ScanError as error:
            if source.alias is None and source.series is None:
                raise
            raise ScanError(source.name, error.reason, source.series) from None
        return scan if source.alias is None else replace(scan, path=source.name)

    def _route(self, scan: Scan, clock: _Clock) -> tuple[str | None, Refusal | None, str | None]:
        """Return the modality or None, why the scan is refused or None, and what it looks like."""
        told = scan.tags.modality if scan.tags else None
        if min(scan.height, scan.width) < MIN_SIDE:
            size = f"{scan.width} x {scan.height}"
            words = f"too small: {size} pixels, and no side may be under {MIN_SIDE}"
            return None, Refusal("too-small", words), told
        router = self.bundle.router
        checks = {name: one.checks for name, one in self.bundle.modalities.items() if one.checks}
        if self._modality is None and told == "other":
            words = "not a chest X-ray or chest CT: its tags say another modality"
            return None, Refusal("not-a-chest-scan", words), told
        if self._modality is None and scan.tags and scan.tags.localizer:
            return None, Refusal("not-a-chest-scan", "a localizer, not a slice of CT"), told
        if self._modality is not None and not checks:
            return self._modality, None, self._modality
        pixels = self._see(scan, router.preprocess, clock)
        if checks and contrast(pixels) < min(one.contrast for one in checks.values()):
            words = "as good as empty: nearly all of it is of one grey"
            return None, Refusal("empty", words), told
        label = shows = self._modality
        if label is None:
            network = self._network(router.model, router.preprocess, len(router.labels), "cpu")
            logits = self._run(network, router.model, pixels, clock)
            probability = _softmax(logits / router.temperature)
            best = int(probability.argmax())
            shows = router.labels[best]
            if shows == OTHER:
                words = "not a chest X-ray or chest CT"
                return None, Refusal("not-a-chest-scan", words), shows
            if probability[best] < router.accept and shows != told:
                words = f"not clearly a chest X-ray or chest CT ({shows} {probability[best]:.2f})"
                return None, Refusal("not-a-chest-scan", words), shows
            label = told or shows
        return label, unfit(pixels, checks[label]) if label in checks else None, shows

    def _classify(
        self, scan: Scan, name: str, clock: _Clock
    ) -> tuple[dict[str, Any], Refusal | None]:
        """Return the answer, empty if there is none, and what is against it."""
        model, modality = self.models[name], self.bundle.modalities[name]
        network = self._network(model.file, modality.preprocess, 1, self.device, model.encoders)
        pixels = self._see(scan, modality.preprocess, clock)
        refusal = None
        if modality.checks is not None and sharpness(pixels) < modality.checks.sharpness:
            refusal = Refusal("blurred", "blurred: it shows no detail that could be judged")
            if not self._force:
                return {}, refusal
        itself, *mirrored = modality.looks(pixels)
        (logit,) = self._run(network, model.file, itself, clock).tolist()
        # Asked of the scan itself alone, since limits are set so.
        if refusal is None and self._is_strange(network, model):
            words = f"unlike the {name} scans learned from: an answer would be a guess"
            refusal = Refusal("far-from-training", words)
            if not self._force:
                return {}, refusal
        heatmap = self._explain(network, model, logit)
        for look in mirrored:
            (other,) = self._run(network, model.file, look, clock).tolist()
            logit = (logit + other) / 2
            if heatmap is not None:
                heatmap = (heatmap + self._explain(network, model, other)[:, ::-1]) / 2
        calibration, point = model.calibration, self._operating_point
        probability = _sigmoid(calibration.scale * logit + calibration.bias)
        labels = model.possible(probability, point)
        return {
            **self._shown(heatmap, scan),
            "label": labels[0] if len(labels) == 1 else UNCERTAIN,
            "labels": labels,
            "probability": probability,
            "threshold": model.threshold(point),
            "operating_point": point,
            "network": {"file": model.file.path.name, "device": self.device},
        }, refusal

    def _is_strange(self, network: Interpreter | Chain | GpuNetwork, model: Model) -> bool:
        """Whether what the network ran last is far from what it learned from.

        LiteRT's GPU accelerator gives the logit alone, so there nothing is.
        """
        familiar = model.familiar
        if familiar is None or not isinstance(network, Interpreter):
            return False
        try:
            embedding = network.values(familiar.map)[0].mean((0, 1))
            return distance(embedding, familiar.mean, familiar.deviation) > familiar.limit
        except (ValueError, KeyError) as error:
            raise BundleError(
                f"{model.file.path} is not as bundle.json's familiar describes it: {error}"
            ) from error

    def _explain(self, network: Interpreter, model: Model, logit: float) -> np.ndarray | None:
        """Return the heatmap of what the network ran last, None if none are wanted."""
        if not self._heatmap:
            return None
        from .heatmap import contributions

        scale, bias = model.calibration.scale, model.calibration.bias
        try:
            return contributions(network, model.heatmap, scale * logit + bias, scale)
        except (ValueError, KeyError) as error:
            raise BundleError(
                f"{model.file.path} is not as bundle.json's heatmap describes it: {error}"
            ) from error

    def _shown(self, heatmap: np.ndarray | None, scan: Scan) -> dict[str, Any]:
        """Return what a Prediction says of the heatmap, which is drawn if that is wanted."""
        if self._heatmap_dir is None:
            return {"heatmap": heatmap}
        from .heatmap import draw, write

        picture = draw(scan.pixels, heatmap, self.bundle.notice)
        name = Path(scan.path).stem
        return {"heatmap": heatmap, "heatmap_file": write(picture, self._heatmap_dir, name)}

    def _see(self, scan: Scan, spec: PreprocessSpec, clock: _Clock) -> np.ndarray:
        clock.skip()
        pixels = preprocess(scan.pixels, spec)
        clock.lap("preprocess")
        return pixels

    def _run(
        self,
        network: Interpreter | Chain | GpuNetwork,
        model: ModelFile,
        pixels: np.ndarray,
        clock: _Clock,
    ) -> np.ndarray:
        clock.skip()
        logits = network.run(pixels)
        clock.lap("inference")
        if not np.isfinite(logits).all():
            raise BundleError(f"{model.path} answers with numbers that are not finite")
        return logits

    def _network(
        self,
        model: ModelFile,
        spec: PreprocessSpec,
        outputs: int,
        device: str,
        encoders: tuple[ModelFile, ...] = (),
    ) -> Interpreter | Chain | GpuNetwork:
        key = model.path.name, device
        if key not in self._networks:
            # Checked before it is loaded, never meanwhile: a damaged file can crash LiteRT.
            for file in (*encoders, model):
                file.check()
            network = self._open(model, device, [file.path for file in encoders])
            if network.input_shape != spec.size or network.output_size != outputs:
                raise BundleError(
                    f"{model.path} takes {network.input_shape} and gives {network.output_size} "
                    f"values, where bundle.json says {spec.size} and {outputs}"
                )
            self._networks[key] = network
        return self._networks[key]

    def _open(
        self, model: ModelFile, device: str, encoders: list[Path]
    ) -> Interpreter | Chain | GpuNetwork:
        library = None
        if device != "cpu":
            library = delegate_library(device, self._package, self._delegate)
        if encoders:
            return Chain(encoders, model.path, self._threads, library)
        if device == "gpu" and library is None:
            return GpuNetwork(model.path)
        if device == "cpu" and self.weight_cache:
            from .weight_cache import cached_interpreter

            if cached := cached_interpreter(model, self._threads):
                return cached
        return Interpreter(model.path, self._threads, library)

    def _models(self, device: str) -> dict[str, Model]:
        """Return the file of each modality that a device runs best."""
        wanted = runnable_targets(device, self._package)
        found = {}
        for name, modality in self.bundle.modalities.items():
            models = {model.target: model for model in modality.models}
            fitting = [models[target] for target in wanted if target in models]
            if not fitting:
                raise DeviceError(
                    f"bundle {self.bundle.name} holds no file of {name} for device {device!r} "
                    f"({' or '.join(wanted)}); make one with covid-edge-convert bundle --target"
                )
            found[name] = fitting[0]
        return found

    def _no_heatmaps(self) -> str | None:
        """Return why there are no heatmaps, None if there are."""
        if self.device == "gpu" and delegate_library("gpu", self._package, self._delegate) is None:
            return "LiteRT's GPU accelerator gives no heatmaps: use device 'cpu' for them"
        for model in self.models.values():
            if model.heatmap is None:
                return (
                    f"{model.file.path} of bundle {self.bundle.name} gives no heatmaps: "
                    "covid-edge-convert explain can add what they need, or use another bundle"
                )
        return None

    def _quickest(self) -> str:
        """Return the device that computes a network soonest, of those that work here.

        Only where the bundle has files for several does that need trying, on one network.
        """
        fitting = {}
        for device in DEVICES[:-1]:
            with suppress(DeviceError):
                fitting[device] = next(iter(self._models(device).items()))
        seconds = {"cpu": math.inf}
        for device, (name, model) in fitting.items() if len(fitting) > 1 else ():
            spec = self.bundle.modalities[name].preprocess
            blank = np.zeros(spec.size, np.uint8)
            with suppress(DeviceError):
                network = self._network(model.file, spec, 1, device, model.encoders)
                network.run(blank)  # the first run also prepares what later ones find ready
                start = time.perf_counter()
                network.run(blank)
                seconds[device] = time.perf_counter() - start
        return min(seconds, key=seconds.__getitem__)


def _dicom(tags: Tags | None, shows: str | None) -> dict[str, Any] | None:
    if tags is None:
        return None
    contradictions = {
        "modality": tags.modality is not None and tags.modality != shows,
        "body-part": tags.chest is False,
    }
    return {
        "modality": tags.modality,
        "frame": tags.frame,
        "frames": tags.frames,
        "contradictions": [code for code in CONTRADICTIONS if contradictions[code]],
        "ids": tags.ids,
    }


class _Clock:
    """Adds up the milliseconds of each stage of one prediction."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._spent = {"read": 0.0, "preprocess": 0.0, "inference": 0.0}

    def skip(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._spent[stage] += 1000 * (now - self._last)
        self._last = now

    def latency(self) -> Latency:
        total = 1000 * (time.perf_counter() - self._begin)
        return Latency(
            **{stage: round(ms, 3) for stage, ms in self._spent.items()}, total=round(total, 3)
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def _sigmoid(x: float) -> float:
    # Two forms of the same value: exp of a large positive number would overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
