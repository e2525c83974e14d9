# SPDX-License-Identifier: Apache-2.0
"""The shipped int8 networks against fp32, other engines and each other, on one thread."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import pytest

import peers
from covid_edge.bundle import Bundle, Modality
from covid_edge.errors import BundleError
from covid_edge.interpreter import Interpreter

# What the tools of other engines warn of among themselves is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["xray", "ct"])
def network(request):
    """(what runs the shipped file, the fp32 file, size of the picture, folder for what is made)."""
    pytest.importorskip("tensorflow", reason="nothing here can write the fp32 network")
    entry = Bundle.load().modalities[request.param]
    folder = request.config.cache.mkdir("covid-edge-peers")
    shape = entry.preprocess.size
    ours = partial(Interpreter(entry.model("cpu-int8").file.path).run, peers.noise(shape, 1)[0])
    return ours, peers.fp32_file(request.param, folder), shape, folder


def test_inference_int8_against_fp32(versus, network):
    ours, fp32, shape, _ = network
    versus(ours, partial(Interpreter(fp32).run, peers.noise(shape, 1)[0]), "fp32")


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_inference_lite_against_mmtl(versus, modality):
    try:
        entries = [Bundle.load(name).modalities[modality] for name in ("lite", "mmtl")]
    except BundleError as error:
        pytest.skip(str(error))
    versus(*map(inference, entries), "mmtl")


def inference(entry: Modality) -> Callable[[], None]:
    """All that one answer of a modality asks of its network."""
    network = Interpreter(entry.model("cpu-int8").file.path)
    return partial(entry.logit, network, peers.noise(entry.preprocess.size, 1)[0])


@pytest.mark.parametrize(
    ("rival", "engine", "needed"),
    [
        ("ORT int8", peers.onnxruntime_int8, ("onnxruntime", "tf2onnx")),
        ("OpenVINO int8", peers.openvino_int8, ("openvino", "nncf")),
    ],
    ids=["onnxruntime", "openvino"],
)
def test_inference_int8_against_other_engines(versus, network, rival, engine, needed):
    for package in needed:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[bench]'")
    ours, *graph = network
    versus(ours, engine(*graph), rival)
