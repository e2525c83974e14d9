# SPDX-License-Identifier: Apache-2.0
"""``covid-edge info``, ``--version`` and ``--help``."""

from __future__ import annotations

import json

from covid_edge import __version__


def test_version(run):
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"covid-edge {__version__}\n")


def test_no_command_shows_the_help(run):
    done = run()
    assert "Usage: covid-edge" in done.stdout + done.stderr  # where it goes is click's affair
    assert "predict" in done.stdout + done.stderr


def test_help_names_the_exit_codes(run):
    done = run("predict", "--help")
    assert done.returncode == 0
    for code in "023456":
        assert f"\n    {code}  " in done.stdout


def test_info_says_what_is_installed_and_which_bundle(run, toy):
    done = run("info", "--bundle", toy)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        f"covid-edge          {__version__}\n",
        "interpreter         ",
        "kernels             ",
        "toy 0.0.1",
        "conformal: covid possible from P = 0.450 on, non-covid up to P = 0.550; both possible: "
        "uncertain\n",
        "at most 10% of either class lose their label, among scans like those that set the bounds "
        "(nothing), not other hospitals'\n",
        "balanced: covid from P = 0.500 on",
        "sensitive: covid from P = 0.300 on",
        "xray.int8.tflite  ",
        "device cpu          runs xray.int8.tflite, ct.int8.tflite\n",
        "device edgetpu      no: bundle toy holds no file of xray for device 'edgetpu' (edgetpu); ",
        "Toy bundle: its answers mean nothing.",
    ):
        assert words in done.stdout
    assert done.stdout.count("sound") == 7


def test_info_as_json(run, toy):
    done = run("info", "--json", "--bundle", toy)
    about = json.loads(done.stdout)
    assert about["version"] == __version__
    assert set(about) == {
        "version",
        "python",
        "machine",
        "interpreter",
        "kernels",
        "devices",
        "bundle",
    }
    assert list(about["devices"]) == ["cpu", "gpu", "edgetpu", "auto"]
    assert about["devices"]["cpu"] == {
        "runs_on": "cpu",
        "files": {"xray": "xray.int8.tflite", "ct": "ct.int8.tflite"},
        "missing": None,
    }
    assert about["devices"]["edgetpu"]["files"] is None
    assert "no file of xray" in about["devices"]["edgetpu"]["missing"]
    assert about["kernels"]
    ct = about["bundle"]["modalities"]["ct"]
    assert list(ct["models"]) == ["cpu-int8", "fp32", "gpu-fp16"]
    int8 = ct["models"]["cpu-int8"]
    assert (int8["file"], int8["operating_points"]["balanced"]["value"]) == ("ct.int8.tflite", 0.5)
    assert (int8["conformal"]["alpha"], int8["conformal"]["covid_from"]) == (0.1, 0.45)
    assert all(file["ok"] for file in about["bundle"]["files"])


def test_info_shows_a_damaged_file_and_ends_with_5(run, toy_copy):
    path = toy_copy / "ct.int8.tflite"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    done = run("info", "--bundle", toy_copy)
    assert done.returncode == 5
    assert "ct.int8.tflite  1,752 bytes  DAMAGED" in done.stdout
    assert "ct.int8.tflite is not the file" in done.stderr


def test_info_without_a_bundle_ends_with_5(run, tmp_path):
    done = run("info", "--bundle", tmp_path / "nothing")
    assert done.returncode == 5
    assert "no bundle there" in done.stderr


def test_info_of_the_shipped_bundle(run, shipped):
    done = run("info")
    assert done.returncode == 0
    assert "DAMAGED" not in done.stdout
    assert "ct.int8.tflite, on the scan and its mirror image\n" in done.stdout
    assert "xray.int8.tflite\n" in done.stdout
