# SPDX-License-Identifier: Apache-2.0
import numpy as np

from covid_edge_convert.sources import source_accuracy

GROUP = np.repeat(np.arange(40), 5)
SOURCE = np.where(GROUP < 20, "north", "south")


def test_a_source_that_the_features_hold_is_told():
    features = (SOURCE == "north")[:, None] + np.random.default_rng(0).normal(0, 0.1, (200, 3))
    assert source_accuracy(features, SOURCE, GROUP)["balanced"] == 1


def test_knowing_the_groups_does_not_tell_the_source():
    told = source_accuracy(np.eye(40)[GROUP], SOURCE, GROUP)
    assert told["chance"] == 0.5
    assert told["balanced"] <= 0.6


def test_sources_of_few_scans_are_not_asked_for():
    source = np.where(GROUP < 3, "tiny", SOURCE)
    told = source_accuracy(np.random.default_rng(0).normal(size=(200, 2)), source, GROUP)
    assert (told["sources"], told["scans"]) == (2, 185)
    assert source_accuracy(np.zeros((15, 2)), source[:15], GROUP[:15]) is None
