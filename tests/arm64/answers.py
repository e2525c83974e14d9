# SPDX-License-Identifier: Apache-2.0
"""What this machine makes of the example scans, to compare with another machine.

    python answers.py SCAN... > here.json
    python answers.py --compare here.json there.json

For each scan and each network of the shipped bundle: the SHA-256 of the preprocessed pixels, which
must be the same everywhere, and the integers that the int8 network answers, which may differ by a
few steps since interpreters differ; and the probability that a user is told.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

STEPS, PROBABILITY = 8, 0.02


def answer(scans: list[str]) -> dict:
    from covid_edge.bundle import Bundle
    from covid_edge.imgproc import kernel_variants
    from covid_edge.interpreter import Interpreter, runtime
    from covid_edge.predictor import Predictor
    from covid_edge.preprocess import preprocess
    from covid_edge.scan import read_scan

    bundle, predictor = Bundle.load(None), Predictor()
    parts = {"router": bundle.router, **bundle.modalities}
    networks = {name: Interpreter(part.model.path) for name, part in parts.items()}
    scales = {}
    for name, part in parts.items():
        output = runtime()[1].Interpreter(str(part.model.path)).get_output_details()[0]
        scales[name] = output["quantization"][0]

    answers = {}
    for path in map(Path, scans):
        scan = read_scan(path)
        for name, part in parts.items():
            pixels = preprocess(scan.pixels, part.preprocess)
            steps = (networks[name].run(pixels) / scales[name]).round().astype(int).tolist()
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            answers[f"{path.name} {name}"] = {"pixels": digest, "steps": steps}
        answers[path.name] = {"probability": predictor.predict(path).probability}
    return {"machine": platform.machine(), "variants": kernel_variants(), "answers": answers}


def compare(here: dict, there: dict) -> list[str]:
    """Print both, return what is too far apart."""
    print(f"{here['machine']} {here['variants']}\n{there['machine']} {there['variants']}")
    assert here["answers"].keys() == there["answers"].keys()
    wrong = []
    for name, a in here["answers"].items():
        b = there["answers"][name]
        if "probability" in a:
            print(f"{name}: probability {a['probability']:.4f} {b['probability']:.4f}")
            if abs(a["probability"] - b["probability"]) > PROBABILITY:
                wrong.append(f"{name}: probability")
            continue
        same = a["pixels"] == b["pixels"]
        print(f"{name}: pixels {'the same' if same else 'DIFFER'}, {a['steps']} {b['steps']}")
        if not same:
            wrong.append(f"{name}: pixels")
        if max(abs(x - y) for x, y in zip(a["steps"], b["steps"])) > STEPS:
            wrong.append(f"{name}: answer of the network")
    return wrong


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        wrong = compare(*(json.loads(Path(path).read_text()) for path in sys.argv[2:4]))
        sys.exit("too far apart: " + ", ".join(wrong) if wrong else 0)
    print(json.dumps(answer(sys.argv[1:]), indent=1))
