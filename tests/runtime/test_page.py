# SPDX-License-Identifier: Apache-2.0
"""The page of ``--report``: what it holds, and that nothing gets into it or out of it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import BRIGHT, DARK, DOUBTFUL, MIDDLE
from covid_edge.bundle import Bundle
from covid_edge.errors import CovidEdgeError, ScanError
from covid_edge.page import Page
from covid_edge.page.pictures import colour_bar
from covid_edge.predictor import Predictor

VOID = {"meta", "img", "input", "link", "br", "hr"}
HOSTILE = [
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "' onmouseover='alert(1).png",
    "a&lt;b&amp;.png",
    "-->]]>.png",
    "</title></style>.png",
]


class Tree(HTMLParser):
    """Every tag with its attributes, the text of each section, and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "section":
            self._section = dict(attributes).get("id", "overview")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        self.words[self._section] = self.words.get(self._section, "") + data

    def all(self, tag: str, name: str | None = None) -> list[dict[str, str | None]]:
        found = [attributes for found, attributes in self.tags if found == tag]
        return found if name is None else [each for each in found if each.get("class") == name]


@pytest.fixture(scope="module")
def predictor():
    from conftest import TOY

    return Predictor(TOY)


@pytest.fixture
def page_of(predictor, tmp_path):
    def write(*outcomes, bundle: Bundle = predictor.bundle) -> str:
        path = tmp_path / "report.html"
        page = Page(str(path), bundle)
        for outcome in outcomes:
            page.add(outcome)
        page.finish()
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture
def answers(predictor, flat):
    """An X-ray, a CT, an uncertain X-ray, a refused picture and a file that is none."""
    scans = [("a", DARK), ("b", MIDDLE), ("c", DOUBTFUL), ("d", BRIGHT)]
    found = [predictor.predict(flat(f"{name}.png", brightness)) for name, brightness in scans]
    return [*found, ScanError("e.png", "the PNG is cut short")]


def with_heatmap(prediction, heatmap):
    """The same answer with a heatmap."""
    return replace(prediction, heatmap=heatmap)


def picture(address: str) -> Image.Image:
    kind, data = re.fullmatch("data:(image/[a-z]+);base64,(.+)", address).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert f"image/{image.format.lower()}" == kind
    return image


def test_one_section_a_scan_and_an_overview_with_links_to_them(page_of, answers):
    tree = Tree(page_of(*answers))
    assert [section["id"] for section in tree.all("section", "scan")] == [
        f"scan-{number}" for number in range(1, 6)
    ]
    links = [link["href"] for link in tree.all("a") if link["href"] != "#top"]
    assert links == [f"#scan-{number}" for number in range(1, 6)]
    assert "Overview of 5 files" in tree.words["overview"]


def test_a_single_scan_needs_no_overview(page_of, answers):
    tree = Tree(page_of(answers[0]))
    assert "overview" not in tree.words
    assert len(tree.all("section")) == 1


def test_the_answer_in_words(page_of, answers):
    words = Tree(page_of(*answers)).words
    assert f"P(COVID-19) {answers[0].probability:.3f}" in words["scan-1"]
    assert "the absence of COVID-19 cannot be excluded; COVID-19 can." in words["scan-1"]
    assert "At an error rate of 10 %, neither COVID-19 nor its absence" in words["scan-3"]
    assert "Not a chest X-ray or chest CT." in words["scan-4"]
    assert "The PNG is cut short." in words["scan-5"]
    assert "P(COVID-19)" not in words["scan-4"] + words["scan-5"]


def test_a_threshold_excludes_nothing(page_of, answers):
    answer = replace(answers[2], operating_point="balanced", label="covid", labels=("covid",))
    words = Tree(page_of(answer)).words["scan-1"]
    assert "Chosen by the threshold 0.500 alone (operating point balanced), which exclu" in words
    assert "error rate" not in words.lower()


def test_the_scale_shows_probability_threshold_and_what_is_answered_where(page_of, answers):
    tree = Tree(page_of(replace(answers[0], probability=0.314)))
    (scale,) = tree.all("svg", "scale")
    assert scale["aria-label"] == "P(COVID-19) 0.314 on a scale from 0 to 1; threshold 0.500"
    (threshold,) = tree.all("line", "threshold")
    assert threshold["x1"] == threshold["x2"] == "50.00%"
    assert "31.40%" in [svg.get("x") for svg in tree.all("svg")]
    # The toy's bounds: COVID-19 is possible from 0.45 on, its absence up to 0.55.
    zones = [rect for rect in tree.all("rect") if "x" in rect]
    assert [(zone["class"], zone["x"], zone["width"]) for zone in zones] == [
        ("non-covid", "0.00%", "45.00%"),
        ("uncertain", "45.00%", "10.00%"),
        ("covid", "55.00%", "45.00%"),
    ]


def test_where_the_bounds_cross_the_threshold_parts_the_scale(page_of, predictor, answers):
    modality = predictor.bundle.modalities["xray"]
    model = modality.models[0]
    crossed = model._replace(conformal=model.conformal._replace(covid_from=0.8, non_covid_to=0.3))
    modalities = {"xray": modality._replace(models=(crossed,))}
    tree = Tree(page_of(answers[0], bundle=predictor.bundle._replace(modalities=modalities)))
    zones = [rect for rect in tree.all("rect") if "x" in rect]
    assert [zone["class"] for zone in zones] == ["non-covid", "covid"]
    assert zones[1]["x"] == "50.00%"


def test_the_scan_is_in_the_page_smaller_than_it_is(page_of, predictor, tmp_path):
    pixels = np.linspace(0, 60, 1000, dtype=np.uint8)[np.newaxis].repeat(2000, axis=0)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    tree = Tree(page_of(predictor.predict(tmp_path / "tall.png")))
    (image,) = tree.all("img")
    assert (image["width"], image["height"]) == ("320", "640")
    assert image["alt"] == f"Chest X-ray {tmp_path}/tall.png"
    shown = picture(image["src"])
    assert shown.size == (320, 640)
    small = np.asarray(Image.fromarray(pixels).resize((320, 640), Image.BOX), float)
    assert np.abs(np.asarray(shown, float) - small).max() < 3


def test_a_scan_that_has_gone_is_said_to_have(page_of, answers, tmp_path):
    (tmp_path / "a.png").unlink()
    tree = Tree(page_of(answers[0]))
    assert not tree.all("img")
    assert "could not be read again" in tree.words["scan-1"]


def test_without_a_heatmap_there_is_no_slider(page_of, answers):
    tree = Tree(page_of(*answers))
    assert not tree.all("input")
    assert not tree.all("img", "map")


def test_a_heatmap_lies_over_the_scan_with_a_slider_that_a_script_shows(page_of, answers):
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[:, 0] = 1
    tree = Tree(page_of(with_heatmap(answers[0], heatmap)))
    (over,) = tree.all("img", "map")
    colours = np.asarray(picture(over["src"]).convert("RGBA")).astype(int)
    assert colours.shape[0] == colours.shape[1]  # as the scan
    assert (colours[:, 0, 3] > 250).all()
    assert (colours[:, -1, 3] == 0).all()
    assert colours[0, 0, :3].sum() > 600  # light yellow
    (slider,) = tree.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "100")
    assert "hidden" in tree.all("label")[0]  # until the script runs


def test_the_colours_get_lighter_all_the_way():
    bar = np.asarray(picture(colour_bar().address).convert("RGBA"))[0, :, :3]
    assert (np.diff(bar @ (0.299, 0.587, 0.114)) > 0).all()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_reasons_are_escaped(page_of, answers, name):
    plain = Tree(page_of(replace(answers[0], file="a.png"), ScanError("a.png", "a")))
    tree = Tree(page_of(replace(answers[0], file=name), ScanError(name, name)))
    assert [tag for tag, _ in tree.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(given) for _, given in tree.tags] == [sorted(given) for _, given in plain.tags]
    assert name in tree.words["scan-1"]
    assert name.removesuffix(".png").lower() in tree.words["scan-2"].lower()


def test_what_the_bundle_says_is_escaped(page_of, predictor, answers):
    bundle = predictor.bundle._replace(notice="<b>Not</b>", name="<i>toy</i>")
    tree = Tree(page_of(*answers, bundle=bundle))
    assert not tree.all("b") + tree.all("i")


def test_names_that_are_no_text_or_turn_its_direction_are_shown_escaped(page_of):
    text = page_of(ScanError("odd\udcff\u202e\n.png", "no such file"))
    assert r"odd\udcff\u202e\n.png" in Tree(text).words["scan-1"]


def test_nothing_is_loaded_from_elsewhere(page_of, answers):
    text = page_of(with_heatmap(answers[0], np.eye(7, dtype=np.float32)), *answers[1:])
    tree = Tree(text)
    for tag, attributes in tree.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "style"):
            if value := attributes.get(name):
                assert value.startswith(("data:image/", "#")), (tag, name, value[:50])
        assert not [name for name in attributes if name.startswith("on")]
    words = re.sub('data:image/[a-z]+;base64,[^"]+', "", text)
    assert not re.search(r"https?:|//|url\(|@import", words)


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(page_of, answers):
    text = page_of(*answers)
    (policy,) = (
        meta["content"]
        for meta in Tree(text).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_model_card_line_has_what_bundle_json_has_and_lacks_what_it_lacks(page_of, shipped):
    predictor = Predictor(shipped)
    xray = predictor.predict(shipped.parents[2] / "examples" / "xray.png")
    figures = predictor.bundle.extra["modalities"]["xray"]
    test = figures["models"][0]["metrics"]["test"]
    _, low, high = figures["shortcuts"]["auc"]["as it is"]["all"]
    words = Tree(page_of(xray, bundle=predictor.bundle)).words["scan-1"]
    assert f"{predictor.bundle.name} {predictor.bundle.version}, SHA-256" in words
    assert f"accuracy {test['accuracy']:.3f}, AUC {test['auc']:.3f}" in words
    assert f"95 % interval {low:.3f} to {high:.3f} ({test['scans']} scans)" in words
    assert "a hospital that it never learned from" in words


def test_a_bundle_without_figures_gives_none(page_of, answers):
    assert "accuracy" not in Tree(page_of(answers[0])).words["scan-1"]


def test_a_section_is_on_the_disk_before_the_next_scan(predictor, answers, tmp_path):
    page = Page(str(tmp_path / "report.html"), predictor.bundle)
    for number, answer in enumerate(answers, start=1):
        page.add(answer)
        text = (tmp_path / "report.html.part").read_text()
        assert text.count('<section class="scan"') == text.count("</section>") == number
    page.finish()
    assert [path.name for path in tmp_path.glob("report*")] == ["report.html"]


def test_a_page_that_cannot_be_put_together_leaves_its_sections(
    predictor, answers, tmp_path, monkeypatch
):
    from covid_edge import outfile

    page = Page(str(tmp_path / "report.html"), predictor.bundle)
    page.add(answers[0])

    def full(self, file):
        raise CovidEdgeError("no room")

    monkeypatch.setattr(outfile.OutFile, "copy", full)
    with pytest.raises(CovidEdgeError, match="no room"):
        page.finish()
    assert page.stop() == f"{tmp_path}/report.html.part"
    assert [path.name for path in tmp_path.glob("report*")] == ["report.html.part"]
    kept = Tree((tmp_path / "report.html.part").read_text())
    assert len(kept.all("section", "scan")) == 1
    assert kept.all("p", "broken")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_overview_without_room_is_one_sentence(predictor, answers, tmp_path, monkeypatch):
    full = open("/dev/full", "w+b")  # noqa: SIM115 (closed by stop)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    monkeypatch.setattr("covid_edge.page._ROWS", 1)
    page = Page(str(tmp_path / "report.html"), predictor.bundle)
    with pytest.raises(CovidEdgeError, match=r"report.html cannot be written: No space left"):
        page.add(answers[0])
    assert Tree(Path(page.stop()).read_text()).all("section", "scan")
    assert not (tmp_path / "report.html").exists()


def test_a_page_of_nothing_is_not_kept(predictor, tmp_path):
    page = Page(str(tmp_path / "report.html"), predictor.bundle)
    assert page.stop() is None
    assert not list(tmp_path.iterdir())
