# SPDX-License-Identifier: Apache-2.0
"""The networks run where they were asked to, by the file that is best there, or not at all.

A GPU is any that Vulkan finds. Without one, SwiftShader computes as one: it comes with Chromium
(Debian: the package chromium-common, of which two files are enough, without installing it):

    apt-get download chromium-common
    dpkg-deb --fsys-tarfile chromium-common_*.deb |
        tar -x --wildcards './usr/lib/chromium/*swiftshader*' './usr/lib/chromium/libvulkan*'
    export LD_LIBRARY_PATH=$PWD/usr/lib/chromium
    export VK_ICD_FILENAMES=$LD_LIBRARY_PATH/vk_swiftshader_icd.json
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import DARK, TOY
from covid_edge import Predictor, predictor
from covid_edge.delegates import DEVICES, delegate_library, runnable_targets
from covid_edge.errors import BundleError, DeviceError, UsageError
from covid_edge.interpreter import GpuNetwork, Interpreter, runtime
from toolchain import run, tool

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
BIAS = {"int8": 0.25, "fp32": 0.5, "fp16": 0.75}  # of the toy's calibrations
ANSWER = 1.5


def probability(logit: float, kind: str) -> float:
    return 1 / (1 + math.exp(-(0.5 * logit + BIAS[kind])))


def keep(folder: Path, *targets: str, **renamed: str) -> None:
    """Leave only files of these targets in bundle.json, some under another target."""
    path = folder / "bundle.json"
    root = json.loads(path.read_text())
    for modality in root["modalities"].values():
        modality["models"] = [m for m in modality["models"] if m["target"] in targets]
        for model in modality["models"]:
            model["target"] = renamed.get(model["target"].replace("-", "_"), model["target"])
    path.write_text(json.dumps(root))


@pytest.fixture(scope="session")
def gpu() -> None:
    """Skip where LiteRT finds no GPU; fail if one was named and does not work."""
    if runtime()[0] != "ai-edge-litert":
        pytest.skip("only ai-edge-litert has a GPU accelerator")
    try:
        GpuNetwork(TOY / "xray.fp32.tflite")
    except DeviceError as error:
        if "VK_ICD_FILENAMES" in os.environ:
            raise
        pytest.skip(f"no GPU, and no Vulkan driver named in VK_ICD_FILENAMES: {error}")


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile delegate.c to behave in one way; return the library."""

    def compiled(behaviour: int) -> str:
        library = tmp_path_factory.mktemp("delegate") / f"libtest{behaviour}.so"
        source = Path(__file__).with_name("delegate.c")
        run(tool("cc"), "-shared", "-fPIC", f"-DBEHAVIOUR={behaviour}", source, "-o", library)
        return str(library)

    return compiled


@pytest.mark.parametrize(
    ("device", "package", "targets"),
    [
        ("cpu", "ai-edge-litert", ("cpu-int8", "fp32", "gpu-fp16")),
        ("cpu", "tflite-runtime", ("fp32", "cpu-int8", "gpu-fp16")),
        ("gpu", "ai-edge-litert", ("gpu-fp16", "fp32")),
        ("gpu", "tflite-runtime", ("gpu-fp16", "fp32")),
        ("edgetpu", "tflite-runtime", ("edgetpu",)),
    ],
)
def test_files_are_preferred_in_this_order(device, package, targets):
    assert runnable_targets(device, package) == targets


@pytest.mark.parametrize("package", ["ai-edge-litert", "tflite-runtime"])
def test_the_best_file_there_is_answers(toy, toy_copy, flat, monkeypatch, package):
    monkeypatch.setattr(predictor, "runtime", lambda: (package, None))
    kinds = {"cpu-int8": "int8", "fp32": "fp32", "gpu-fp16": "fp16"}
    order = runnable_targets("cpu", package)
    for k, target in enumerate(order):
        keep(toy_copy, *order[k:])
        answer = Predictor(toy_copy).predict(flat("a.png", 60))
        kind = kinds[target]
        assert answer.network == {"file": f"xray.{kind}.tflite", "device": "cpu"}
        assert answer.probability == pytest.approx(probability((60 - 40) / 8, kind), abs=0.01)


def test_only_the_file_that_answers_is_read(toy_copy, flat):
    asked = Predictor(toy_copy)
    for path in toy_copy.glob("xray.*.tflite"):
        if path != asked.models["xray"].file.path:
            path.write_bytes(bytes(path.stat().st_size))
    assert asked.predict(flat("a.png", DARK)).status == "ok"


@pytest.mark.parametrize("device", ["gpu", "edgetpu"])
def test_a_device_for_which_the_bundle_has_no_file(toy_copy, device):
    keep(toy_copy, "cpu-int8")
    with pytest.raises(DeviceError, match=f"bundle toy holds no file of xray for .*'{device}'"):
        Predictor(toy_copy, device=device, delegate="any.so")


def test_load_finds_a_damaged_file_before_any_scan(toy_copy):
    asked = Predictor(toy_copy)
    path = asked.models["ct"].file.path
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=rf"{path.name} is not the file"):
        asked.load()


def test_auto_is_the_cpu_where_the_bundle_has_files_for_nothing_else(toy_copy, flat):
    keep(toy_copy, "cpu-int8")
    found = Predictor(toy_copy, device="auto")
    assert found.device == "cpu"
    assert found.predict(flat("a.png", DARK)).status == "ok"


def test_auto_passes_over_what_does_not_work(toy_copy, flat, monkeypatch):
    def broken(*_):
        raise DeviceError("no such device")

    monkeypatch.setattr(predictor, "GpuNetwork", broken)
    keep(toy_copy, "cpu-int8", "fp32", "gpu-fp16", gpu_fp16="edgetpu")
    monkeypatch.setattr("covid_edge.delegates._EDGETPU", "libnothing.so.1")
    assert Predictor(toy_copy, device="auto").device == "cpu"


@pytest.mark.parametrize(("slow", "device"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_auto_is_the_quickest(toy, monkeypatch, slow, device):
    """By a clock that runs on only while the slow one computes."""
    now = [0.0]

    class Timed(Interpreter):
        def __init__(self, path, *_):
            super().__init__(path)
            self.cost = 2.0 if ("fp16" in str(path)) == (slow == "gpu") else 1.0

        def run(self, pixels):
            now[0] += self.cost
            return super().run(pixels)

    monkeypatch.setattr(predictor, "runtime", lambda: ("ai-edge-litert", None))
    monkeypatch.setattr(predictor, "Interpreter", Timed)
    monkeypatch.setattr(predictor, "GpuNetwork", Timed)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    assert Predictor(toy, device="auto").device == device


def test_a_library_that_is_not_there(toy_copy, flat):
    keep(toy_copy, "cpu-int8", cpu_int8="edgetpu")
    missing = Predictor(toy_copy, device="edgetpu", delegate="libnothing.so.1")
    with pytest.raises(DeviceError, match=r"delegate library libnothing\.so\.1 cannot be loaded"):
        missing.predict(flat("a.png", DARK))


def test_a_library_that_is_no_delegate(toy, flat):
    other = Predictor(toy, device="gpu", delegate="libm.so.6")
    with pytest.raises(DeviceError, match=r"libm\.so\.6 is no delegate library"):
        other.predict(flat("a.png", DARK))


def test_the_edgetpu_is_used_through_libedgetpu():
    assert delegate_library("edgetpu", "ai-edge-litert") == "libedgetpu.so.1"
    assert delegate_library("edgetpu", "ai-edge-litert", "other.so") == "other.so"


def test_tflite_runtime_has_no_gpu_of_its_own():
    with pytest.raises(DeviceError, match="tflite-runtime has no GPU accelerator"):
        delegate_library("gpu", "tflite-runtime")
    assert delegate_library("gpu", "tflite-runtime", "other.so") == "other.so"


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_delegate_belongs_to_a_device(toy, device):
    with pytest.raises(UsageError, match=f"device '{device}' takes no delegate library"):
        Predictor(toy, device=device, delegate="other.so")


def test_a_delegate_library_computes_the_answer(toy, flat, build):
    answer = Predictor(toy, device="gpu", delegate=build(0)).predict(flat("a.png", DARK))
    assert answer.network == {"file": "xray.fp16.tflite", "device": "gpu"}
    assert answer.probability == pytest.approx(probability(ANSWER, "fp16"), abs=1e-6)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (1, r"computes no operation of .*xray\.fp16\.tflite"),
        (2, "cannot be loaded: .*; install it, name another"),
        (3, "a network cannot be run"),
    ],
)
def test_a_delegate_that_does_not_serve_is_refused(toy, flat, build, behaviour, words):
    with pytest.raises(DeviceError, match=words):
        Predictor(toy, device="gpu", delegate=build(behaviour)).predict(flat("a.png", DARK))


def test_the_interpreters_own_delegate_is_seen(toy):
    """What `_check_delegated` looks for is what delegates leave behind."""
    network = Interpreter(toy / "xray.fp32.tflite")._network
    assert "DELEGATE" in {op["op_name"] for op in network._get_ops_details()}


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_the_gpu_gives_what_the_cpu_gives(toy, gpu, kind):
    path = toy / f"xray.{kind}.tflite"
    on_gpu, on_cpu = GpuNetwork(path), Interpreter(path)
    assert (on_gpu.input_shape, on_gpu.output_size) == ((32, 32), 1)
    for pixels in (PIXELS, 255 - PIXELS, np.zeros_like(PIXELS)):
        answer = on_gpu.run(pixels)
        assert (answer.dtype, answer.shape) == (np.float32, (1,))
        assert answer == pytest.approx(on_cpu.run(pixels), abs=1e-4)


def test_the_gpu_answers_on_a_scan(toy, gpu, flat):
    answer = Predictor(toy, device="gpu").predict(flat("a.png", DARK))
    assert answer.network == {"file": "xray.fp16.tflite", "device": "gpu"}
    assert answer.probability == pytest.approx(probability((DARK - 40) / 8, "fp16"), abs=1e-3)


def test_a_network_that_the_gpu_cannot_run_whole_is_refused(toy, gpu):
    with pytest.raises(DeviceError, match=r"cumsum\.tflite"):
        GpuNetwork(toy / "types" / "cumsum.tflite")


def test_a_gpu_file_of_integers_is_refused(toy, gpu):
    with pytest.raises(BundleError, match=r"xray\.int8\.tflite does not take and give float32"):
        GpuNetwork(toy / "xray.int8.tflite")


def test_pixels_of_another_shape_are_refused_by_the_gpu(toy, gpu):
    with pytest.raises(ValueError, match="shape"):
        GpuNetwork(toy / "xray.fp32.tflite").run(np.zeros((16, 16), np.uint8))


def test_without_a_gpu_one_sentence_says_what_is_missing(toy, monkeypatch):
    litert = pytest.importorskip("ai_edge_litert.compiled_model")

    def refuse(*_, **__):
        raise RuntimeError("ERROR: [./litert/cc/litert_compiled_model.h]\nmore")

    monkeypatch.setattr(litert.CompiledModel, "from_file", refuse)
    with pytest.raises(DeviceError, match="there is no GPU with a Vulkan driver here") as caught:
        GpuNetwork(toy / "xray.fp32.tflite")
    assert "\n" not in str(caught.value)


def test_the_command_offers_these_devices():
    from covid_edge.cli import cli

    (option,) = (o for o in cli.commands["predict"].params if o.name == "device")
    assert tuple(option.type.choices) == DEVICES
