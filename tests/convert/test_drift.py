# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from covid_edge_convert.drift import BUDGET, DriftError, check_drift, drift, layer_noise
from covid_edge_convert.quantize import as_input, write_fp16, write_fp32
from networks import drawn_pixels, leaky, write_leaky


def figures(**changes) -> dict:
    same = np.linspace(-4, 4, 1000)
    chance = 1 / (1 + np.exp(-same))
    return {**drift(same > 0, same, same, chance, chance), **changes}


def test_equal_answers_have_no_drift():
    found = figures()
    assert (found["scans"], found["accuracy_difference"], found["auc_difference"]) == (1000, 0, 0)
    assert (found["labels_flipped"], found["probability_difference"]) == (0, 0)
    check_drift("cpu-int8", {"xray": found})


def test_drift_is_counted_by_hand():
    covid = np.array([0, 0, 1, 1])
    fp32, quantized = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([-2.0, 1.5, 1.0, 2.0])
    found = drift(
        covid, fp32, quantized, np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.1, 0.6, 0.8, 0.9])
    )
    assert (found["accuracy_fp32"], found["accuracy_quantized"]) == (1, 0.75)
    assert (found["auc_fp32"], found["auc_quantized"]) == (1, 0.75)
    assert (found["label_agreement"], found["labels_flipped"]) == (0.75, 0.25)
    assert found["probability_difference"] == 0.1


@pytest.mark.parametrize(
    ("figure", "limit"),
    [
        ("accuracy_difference", BUDGET.accuracy),
        ("auc_difference", BUDGET.auc),
        ("labels_flipped", BUDGET.labels),
        ("probability_difference", BUDGET.probability),
    ],
)
def test_each_budget_holds_at_its_limit_and_not_above(figure, limit):
    check_drift("edgetpu", {"ct": figures(**{figure: limit})})
    with pytest.raises(DriftError, match="edgetpu is too far from fp32 on the test split"):
        check_drift("edgetpu", {"xray": figures(), "ct": figures(**{figure: limit + 1e-5})})


def test_what_is_no_number_is_over_budget():
    with pytest.raises(DriftError):
        check_drift("cpu-int8", {"ct": figures(probability_difference=float("nan"))})


def test_the_refusal_has_the_figures_of_the_modality_that_drifts_alone():
    over = figures(labels_flipped=0.0321)
    with pytest.raises(DriftError) as error:
        check_drift("cpu-int8", {"xray": figures(), "ct": over})
    assert "ct: accuracy 1.0000 → 1.0000, AUC 1.0000 → 1.0000, 3.21% of labels" in str(error.value)
    assert "xray" not in str(error.value)


def test_a_graph_is_without_noise_to_itself(tmp_path):
    write_fp32(leaky(), tmp_path / "fp32.tflite")
    content = (tmp_path / "fp32.tflite").read_bytes()
    assert layer_noise(content, content, as_input(drawn_pixels(4))) == []


def test_the_layer_that_a_coarse_range_spoils_is_named_first(tmp_path):
    """The range of the scan says 0 to 255: a hundred times that leaves three steps of it."""
    scans = as_input(drawn_pixels(4))
    path = tmp_path / "int8.tflite"
    full = write_leaky(path, fixed={"scan": (0.0, 25500.0)})
    spoilt = layer_noise(full, path.read_bytes(), scans)
    full = write_leaky(path)
    good = layer_noise(full, path.read_bytes(), scans)
    assert {row["op"] for row in good} >= {"AVERAGE_POOL_2D", "CONV_2D", "FULLY_CONNECTED", "PRELU"}
    assert [row["snr_db"] for row in good] == sorted(row["snr_db"] for row in good)
    of_pool = [next(r for r in rows if r["op"] == "AVERAGE_POOL_2D") for rows in (good, spoilt)]
    assert of_pool[0]["snr_db"] > 40
    assert of_pool[1]["snr_db"] < 15
    # Noise that is there already is not the next layer's fault.
    assert all(row["lost_db"] < 10 for row in spoilt if row["lost_db"] is not None)


def test_float16_weights_are_compared_too(tmp_path):
    model = leaky()
    write_fp32(model, tmp_path / "fp32.tflite")
    write_fp16(model, tmp_path / "fp16.tflite")
    contents = [(tmp_path / f"{kind}.tflite").read_bytes() for kind in ("fp32", "fp16")]
    rows = layer_noise(*contents, as_input(drawn_pixels(4)))
    assert {row["op"] for row in rows} >= {"CONV_2D", "FULLY_CONNECTED"}
    assert min(row["snr_db"] for row in rows) > 50
