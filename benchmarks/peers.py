# SPDX-License-Identifier: Apache-2.0
"""The network of a modality for other engines: fp32 TFLite, and int8 by their own tools.

All are made of one fp32 TFLite file, so all are one graph. It is the file that the shipped one was
quantised from, where COVID_EDGE_FP32 (or ``work/mmtl/adversarial/models``) has it; otherwise the
same architecture, by the bundle's own recipe, with random weights: what the weights are makes no
difference to how long they take. For the same reason the ranges of activations are those of noise.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from covid_edge.bundle import Bundle

ROOT = Path(__file__).parent.parent
FP32 = Path(os.environ.get("COVID_EDGE_FP32", ROOT / "work/mmtl/adversarial/models"))
CALIBRATION = 8  # pictures

Call = Callable[[], object]


def noise(shape: tuple[int, int], count: int = CALIBRATION) -> np.ndarray:
    """Pictures, uint8, shape (count, height, width)."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def as_float(pictures: np.ndarray) -> np.ndarray:
    """As a float32 graph takes them: shape (count, 1, height, width, 1), each a batch of one."""
    return pictures[:, None, :, :, None].astype(np.float32)


def fp32_file(modality: str, folder: Path) -> Path:
    """Return the fp32 TFLite file; if it has to be made, in `folder`."""
    trained = FP32 / f"{modality}.fp32.tflite"
    if trained.is_file():
        return trained
    bundle = Bundle.load()
    untrained = folder / f"{modality}-{bundle.sha256[:12]}.fp32.tflite"
    if not untrained.is_file():
        _write_untrained(modality, bundle, untrained)
    return untrained


def _write_untrained(modality: str, bundle: Bundle, path: Path) -> None:
    from covid_edge_convert import modules, systems
    from covid_edge_convert.backbones import ENCODERS, build_encoder
    from covid_edge_convert.quantize import write_fp32
    from covid_edge_convert.recipes import Recipe
    from covid_edge_convert.runs import RunFolder

    run = RunFolder(path.with_suffix(".run"))
    recipe_file = path.with_suffix(".json")
    recipe_file.write_text(json.dumps(bundle.extra["training"]["recipe"]))
    recipe = Recipe.load(recipe_file)
    models = {
        run.task_specific(modality): modules.task_specific(modality),
        run.shared: modules.shared(modules.generator()),
        run.head(modality): modules.head(modality),
    }
    for name in recipe.encoders[modality]:
        models[run.encoder(name) / "encoder.weights.h5"] = build_encoder(name)
        models[run.embedding(modality, name)] = modules.embedding(ENCODERS[name].features, "any")
    for file, model in models.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(file)
    write_fp32(systems.fused(modality, recipe, run), path)
    shutil.rmtree(run.root)
    recipe_file.unlink()


def onnxruntime_int8(fp32: Path, shape: tuple[int, int], folder: Path) -> Call:
    """ONNX Runtime, one thread, int8 by its own static quantisation (QDQ).

    The graph comes by tf2onnx. Weights are int8 by channel, activations uint8, which its
    documentation recommends for x86-64.
    """
    import onnxruntime
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / f"{fp32.stem}.qdq.onnx"
    if not path.is_file():
        import tf2onnx.convert

        plain, ready = folder / "plain.onnx", folder / "ready.onnx"
        tf2onnx.convert.from_tflite(str(fp32), opset=17, output_path=str(plain))
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        (name,) = (entry.name for entry in onnxruntime.InferenceSession(ready).get_inputs())

        class Pictures(quantization.CalibrationDataReader):
            left = [{name: picture} for picture in as_float(noise(shape))]

            def get_next(self):
                return self.left.pop() if self.left else None

        quantization.quantize_static(
            str(ready),
            str(path),
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        plain.unlink()
        ready.unlink()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    feed = {session.get_inputs()[0].name: as_float(noise(shape, 1))[0]}
    return lambda: session.run(None, feed)


def openvino_int8(fp32: Path, shape: tuple[int, int], folder: Path) -> Call:
    """OpenVINO, one thread, int8 by NNCF's post-training quantisation."""
    import openvino

    core = openvino.Core()
    path = folder / f"{fp32.stem}.nncf.xml"
    if not path.is_file():
        import nncf

        pictures = nncf.Dataset(list(as_float(noise(shape))))
        model = nncf.quantize(core.read_model(fp32), pictures, subset_size=CALIBRATION)
        openvino.save_model(model, path, compress_to_fp16=False)
    compiled = core.compile_model(
        path, "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    )
    request, picture = compiled.create_infer_request(), as_float(noise(shape, 1))[0]
    return lambda: request.infer([picture])
