# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
from click.testing import CliRunner

from covid_edge_convert.cli import cli
from covid_edge_convert.document import Document

PICTURES = (
    "anova",
    "confusion",
    "embeddings",
    "reliability",
    "roc",
    "shortcuts",
    "stages",
    "wasserstein",
)


def evaluate(toy_run, bundle, out) -> dict[str, bytes]:
    """Every file of the report, by name."""
    arguments = ["--data", toy_run.scans.root, "--bundle", bundle, "--out", out, "--quick", "3"]
    result = CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def report(toy_run, tmp_path_factory):
    return evaluate(toy_run, toy_run.bundle, tmp_path_factory.mktemp("report"))


def test_one_command_writes_the_whole_report(report):
    pictures = {f"results/{name}.png" for name in PICTURES}
    assert set(report) == {"results.md", "results.html", "results/metrics.json", *pictures}
    assert all(report[name].startswith(b"\x89PNG") for name in pictures)


def test_the_same_bundle_and_scans_give_the_same_bytes(toy_run, report, tmp_path):
    assert evaluate(toy_run, toy_run.bundle, tmp_path) == report


def test_the_page_needs_no_other_file(report):
    page = report["results.html"].decode()
    assert page.count("data:image/png;base64,") == len(PICTURES)
    assert "http" not in page


def test_the_report_shows_the_figures_of_metrics_json(report):
    metrics = json.loads(report["results/metrics.json"])
    text = report["results.md"].decode()
    value, low, high = metrics["stages"]["figures"]["ct"]["test"]["stages"]["head_adversarial"][
        "accuracy"
    ]
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "Of CT the device also looks at the mirror image" in text
    same = metrics["robustness"]["xray"]["same"]["JPEG quality 60"]
    assert f"{same:.2%}" in text


def test_a_quick_trial_says_that_it_is_none_to_keep(report):
    assert "these are not the bundle's figures" in report["results.md"].decode()


def test_a_bundle_without_evidence_says_what_it_cannot_show(toy_run, tmp_path):
    shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "bundle.json"
    manifest = json.loads(path.read_text())
    del manifest["evidence"]
    path.write_text(json.dumps(manifest))
    report = evaluate(toy_run, tmp_path / "bundle", tmp_path / "out")
    assert "has no evidence of these scans" in report["results.md"].decode()
    assert "results/roc.png" in report
    assert "results/stages.png" not in report


def test_what_is_special_to_html_stays_text():
    document = Document("a < b & c")
    document.table(["x"], [["<i>1</i>"]])
    assert "<i>" not in document.html()
    assert "a &lt; b &amp; c" in document.html()
