#!/usr/bin/env bash
# Does every network file answer alike under ai-edge-litert and under tflite-runtime 2.14?
#
#     PYTHON=.venv/bin/python tests/interpreters.sh [SCAN...]
#
# PYTHON is one that covid_edge and ai-edge-litert are installed for. The other interpreter needs
# Python 3.11 at most and NumPy 1, so it gets an environment of its own. Answers are compared on the
# examples and on the scans given: pixels are the same to the bit, logits of float32 files within
# 0.001. Those of int8 files may be 24 steps apart and probabilities 0.05, since tflite-runtime
# rounds at other places than LiteRT's XNNPACK, whose logits the files are calibrated by.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="$(realpath -s "$(command -v "${PYTHON:-python3}")")"
scans=("$here"/examples/{ct,xray}.png "$@")
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mkdir "$work/source"  # pip builds in it
git -C "$here" ls-files -z | (cd "$here" && xargs -0 cp --parents -t "$work/source")
python3.11 -m venv "$work/venv"
# Without the dependency on ai-edge-litert, which would be preferred.
sed -i 's/"ai-edge-litert", //' "$work/source/pyproject.toml"
"$work/venv/bin/pip" install -q "$work/source[tflite-runtime]" hypothesis pytest

cd "$work/source/tests"
"$work/venv/bin/python" -m pytest -q -p no:cacheprovider \
    runtime/test_devices.py runtime/test_interpreter.py
for bundle in "$here/covid_edge/models/mmtl" "$here/tests/toy_bundle"; do
    "$python" arm64/answers.py --bundle "$bundle" "${scans[@]}" >"$work/litert.json"
    "$work/venv/bin/python" arm64/answers.py --bundle "$bundle" "${scans[@]}" >"$work/other.json"
    "$python" arm64/answers.py --compare "$work/litert.json" "$work/other.json" 24 0.05
done
