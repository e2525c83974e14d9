# SPDX-License-Identifier: Apache-2.0
"""What people and programs read: one line a scan, as text or as JSON, and `covid-edge info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from . import __version__
from .delegates import DEVICES
from .errors import BundleError, DeviceError, ScanError

if TYPE_CHECKING:
    from .bundle import Bundle
    from .predictor import Prediction
    from .study import Study

__all__ = [
    "contradictions",
    "describe",
    "error_record",
    "info_text",
    "json_line",
    "printable",
    "record",
    "scan_name",
    "study_line",
    "text_line",
]


def printable(name: str) -> str:
    """Return a file's name such that it stays on one line of any terminal."""
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def scan_name(file: str, dicom: dict[str, Any] | None) -> str:
    """Return what people read for a scan: `file`, and which frame of several."""
    several = dicom is not None and dicom["frames"] > 1
    return printable(f"{file} frame {dicom['frame']}" if several else file)


def contradictions(dicom: dict[str, Any] | None) -> list[str]:
    """Return in words what a DICOM file's tags say that its picture does not show."""
    if dicom is None or not dicom["contradictions"]:
        return []
    from .predictor import CONTRADICTIONS

    return [CONTRADICTIONS[code] for code in dicom["contradictions"]]


def text_line(prediction: Prediction, width: int = 0) -> str:
    """Return one line for people; names are padded to `width` so that lines align."""
    answered = prediction.status == "ok"
    columns = [
        f"{scan_name(prediction.file, prediction.dicom):<{width}}",
        f"{prediction.modality or '-':<4}",
        f"{prediction.label if answered else prediction.status:<9}",
        f"P(covid) {prediction.probability:.3f}" if answered else f"{'-':<14}",
        f"{prediction.latency_ms.total:7.1f} ms",
    ]
    if prediction.reason:
        columns.append(prediction.reason)
    elif answered and len(prediction.labels) > 1:
        columns.append(f"{' and '.join(prediction.labels)} both remain possible")
    return "  ".join(columns + contradictions(prediction.dicom))


def study_line(study: Study, width: int = 0) -> str:
    """Return one line for people on a CT series, aligned with those of its slices."""
    answered = study.answered > 0
    counts = [f"{study.answered} answered"]
    counts += [f"{study.refused} refused"] * (study.refused > 0)
    counts += [f"{study.failed} not read"] * (study.failed > 0)
    columns = [
        f"{study.file:<{width}}",
        f"{study.modality or '-':<4}",
        f"{study.label or '-':<9}",
        f"P(covid) {study.probability:.3f}" if answered else f"{'-':<14}",
        f"{'':10}",
        f"{study.slices} slices together: {', '.join(counts)}",
    ]
    return "  ".join(columns)


def json_line(record: dict[str, Any]) -> str:
    """Return one line for programs: ASCII, no line break inside."""
    return json.dumps(record, allow_nan=False)


def error_record(error: ScanError, bundle: dict[str, str]) -> dict[str, Any]:
    """Return the record of a file that could not be read: the same keys as an answer's."""
    return {
        "file": error.path,
        "status": "error",
        "modality": None,
        "label": None,
        "labels": None,
        "probability": None,
        "threshold": None,
        "operating_point": None,
        "network": None,
        "refusal": None,
        "reason": error.reason,
        "dicom": None,
        "latency_ms": dict.fromkeys(("read", "preprocess", "inference", "total")),
        "bundle": bundle,
        "heatmap": None,
        "series": error.series and error.series._asdict(),
    }


def record(outcome: Prediction | ScanError | Study, bundle: dict[str, str]) -> dict[str, Any]:
    """Return the keys and values of a JSON line, whichever the outcome."""
    return error_record(outcome, bundle) if isinstance(outcome, ScanError) else outcome.to_dict()


def describe(bundle: Bundle) -> tuple[dict[str, Any], BundleError | DeviceError | None]:
    """Return everything `covid-edge info` says, and what is wrong with it if anything is."""
    import platform

    from . import imgproc
    from .interpreter import runtime, runtime_version

    problem: BundleError | DeviceError | None = None
    interpreter = None
    try:
        name, _ = runtime()
        interpreter = {"name": name, "version": runtime_version(name)}
    except DeviceError as error:
        problem = error
    devices = _devices(bundle) if interpreter else {}
    files = []
    for use, file in bundle.files.items():
        try:
            file.verify()
            sound = True
        except BundleError as error:
            sound, problem = False, error
        files.append(
            {
                "use": use,
                "file": file.path.name,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "ok": sound,
            }
        )
    return {
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "interpreter": interpreter,
        "kernels": imgproc.kernel_variants(),
        "devices": devices,
        "bundle": {
            "name": bundle.name,
            "version": bundle.version,
            "sha256": bundle.sha256,
            "path": str(bundle.path),
            "system": bundle.system,
            "notice": bundle.notice,
            "modalities": {
                name: {
                    "labels": list(modality.labels),
                    "preprocess": modality.preprocess.to_dict(),
                    "mirrored": modality.mirrored,
                    "models": {
                        model.target: {
                            "file": model.file.path.name,
                            "operating_points": {
                                "balanced": model.balanced._asdict(),
                                "sensitive": model.sensitive._asdict(),
                            },
                            "conformal": model.conformal._asdict(),
                        }
                        for model in modality.models
                    },
                }
                for name, modality in bundle.modalities.items()
            },
            "files": files,
        },
    }, problem


def _devices(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return of each device which file it runs for each modality, or what is missing.

    What runs elsewhere than on the CPU is loaded there, since nothing else tells that it works.
    """
    from .predictor import Predictor

    found: dict[str, dict[str, Any]] = {}
    for device in DEVICES:
        runs, files, missing = None, None, None
        try:
            predictor = Predictor(bundle, device=device)
            if predictor.device != "cpu":
                predictor.load()
            runs = predictor.device
            files = {name: model.file.path.name for name, model in predictor.models.items()}
        except (BundleError, DeviceError) as error:
            missing = str(error)
        found[device] = {"runs_on": runs, "files": files, "missing": missing}
    return found


def info_text(info: dict[str, Any]) -> str:
    """Return `describe`'s dictionary as aligned lines for people."""
    bundle, interpreter = info["bundle"], info["interpreter"]
    kernels = ", ".join(f"{name} {variant}" for name, variant in info["kernels"].items())
    rows = [
        ("covid-edge", info["version"]),
        ("python", f"{info['python']} on {info['machine']}"),
        (
            "interpreter",
            f"{interpreter['name']} {interpreter['version']}" if interpreter else "none installed",
        ),
        ("kernels", kernels),
        ("bundle", f"{bundle['name']} {bundle['version']}, system {bundle['system']}"),
        ("", bundle["path"]),
        ("", f"sha256 {bundle['sha256']}"),
    ]
    models = [
        (name, part["labels"], part["mirrored"], model)
        for name, part in bundle["modalities"].items()
        for model in part["models"].values()
    ]
    for name, (negative, positive), mirrored, model in models:
        sets = model["conformal"]
        rows += [
            (name, model["file"] + ", on the scan and its mirror image" * mirrored),
            (
                "",
                f"conformal: {positive} possible from P = {sets['covid_from']:.3f} on, {negative} "
                f"up to P = {sets['non_covid_to']:.3f}; both possible: uncertain",
            ),
            (
                "",
                f"at most {100 * sets['alpha']:g}% of either class lose their label, among scans "
                f"like those that set the bounds ({sets['fitted_on']}), not other hospitals'",
            ),
        ]
        for point, threshold in model["operating_points"].items():
            rows.append(
                (
                    "",
                    f"{point}: {positive} from P = {threshold['value']:.3f} on "
                    f"({threshold['chosen']})",
                )
            )
    for file in bundle["files"]:
        state = "sound" if file["ok"] else "DAMAGED"
        rows.append((file["use"] + " file", f"{file['file']}  {file['bytes']:,} bytes  {state}"))
    for name, device in info["devices"].items():
        files = device["files"] and ", ".join(device["files"].values())
        on = f" (on {device['runs_on']})" if name == "auto" else ""
        rows.append(
            ("device " + name, f"runs {files}{on}" if files else f"no: {device['missing']}")
        )
    rows.append(("notice", bundle["notice"]))
    width = max(len(title) for title, _ in rows)
    return "\n".join(f"{title:<{width}}  {text}" for title, text in rows)
