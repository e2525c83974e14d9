# SPDX-License-Identifier: Apache-2.0
"""What this machine or interpreter makes of scans, to compare with another.

    python answers.py [--bundle DIR] SCAN... > here.json
    python answers.py --compare here.json there.json [STEPS PROBABILITY]

For each scan, of the router and of each network file of the scan's modality: the SHA-256 of the
preprocessed pixels, which must be the same everywhere, and the numbers that it answers, in steps of
its output. Of int8 files, whose kernels round differently, they may be STEPS apart, and the
probability that a user is told PROBABILITY; of float32 they may be 0.001 apart. One label in 200
may be another.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

STEPS, PROBABILITY = 8, 0.02
FLOAT_STEP = 0.001
LABELS = 0.005  # share of them that may differ


def answer_all(scans: list[str], folder: str | None = None) -> dict:
    from covid_edge.bundle import Bundle
    from covid_edge.imgproc import kernel_variants
    from covid_edge.interpreter import Interpreter, runtime, runtime_version
    from covid_edge.predictor import Predictor
    from covid_edge.preprocess import preprocess
    from covid_edge.scan import read_scan

    bundle = Bundle.load(folder)
    whole = Predictor(bundle, force=True)
    files = {("router", "router"): (bundle.router.model, bundle.router.preprocess)}
    predictors = {}
    for name, part in bundle.modalities.items():
        for model in part.models:
            files[name, model.target] = model.file, part.preprocess
            only = (
                Predictor(bundle.only(model.target), force=True) if len(part.models) > 1 else whole
            )
            predictors[name, model.target] = only
    networks = {key: Interpreter(file.path) for key, (file, _) in files.items()}

    answers = {}
    for path in map(Path, scans):
        pixels, said = read_scan(path).pixels, whole.predict(path)
        modality = said.modality
        for (name, target), (_, spec) in files.items():
            if name not in ("router", modality):
                continue
            network, given = networks[name, target], preprocess(pixels, spec)
            step = network._output["quantization"][0]
            entry = {
                "pixels": hashlib.sha256(given.tobytes()).hexdigest(),
                "integers": step != 0,
                "steps": (network.run(given) / (step or FLOAT_STEP)).tolist(),
            }
            if name == modality:
                predictor = predictors[name, target]
                answer = said if predictor is whole else predictor.predict(path)
                entry |= {"probability": answer.probability, "label": answer.label}
            answers[f"{path.name} {name} {target}"] = entry
    package, _ = runtime()
    return {
        "machine": f"{platform.machine()} {package} {runtime_version(package)}",
        "variants": kernel_variants(),
        "answers": answers,
    }


def compare(here: dict, there: dict, steps: float, probability: float) -> list[str]:
    """Print both, return what is too far apart."""
    print(f"{here['machine']} {here['variants']}\n{there['machine']} {there['variants']}")
    assert here["answers"].keys() == there["answers"].keys()
    wrong, turned, labels = [], [], 0
    for name, a in here["answers"].items():
        b = there["answers"][name]
        same = a["pixels"] == b["pixels"]
        apart = max(abs(x - y) for x, y in zip(a["steps"], b["steps"]))
        said = [round(x["probability"], 4) for x in (a, b) if "probability" in x]
        print(f"{name}: pixels {'the same' if same else 'DIFFER'}, {apart:.3g} steps apart", *said)
        if not same:
            wrong.append(f"{name}: pixels")
        if apart > (steps if a["integers"] else 1):
            wrong.append(f"{name}: answer of the network")
        if said and abs(said[0] - said[1]) > (probability if a["integers"] else FLOAT_STEP):
            wrong.append(f"{name}: probability")
        labels += "label" in a
        if a.get("label") != b.get("label"):
            turned.append(f"{name}: {a['label']} or {b['label']}")
    print(f"{labels - len(turned)} of {labels} labels the same")
    return wrong + (turned if len(turned) > LABELS * labels else [])


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        here, there = (json.loads(Path(path).read_text()) for path in sys.argv[2:4])
        steps, probability = map(float, sys.argv[4:6] or (STEPS, PROBABILITY))
        wrong = compare(here, there, steps, probability)
        sys.exit("too far apart: " + ", ".join(wrong) if wrong else 0)
    bundle, scans = (
        (sys.argv[2], sys.argv[3:]) if sys.argv[1] == "--bundle" else (None, sys.argv[1:])
    )
    print(json.dumps(answer_all(scans, bundle), indent=1))
