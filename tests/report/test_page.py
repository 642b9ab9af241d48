"""The page as a reader and a browser meet it: whole, safe, the same every time, and right about the numbers."""

import base64
import dataclasses
import hashlib
import html
import re
import time

import numpy as np
import pytest
from contents import make
from page_reader import PageReader

from deepclust_accel.report import render

SECTIONS = ["map", "training", "sizes", "confidence", "confusion", "examples", "details", "reproduce"]


@pytest.fixture(scope="module")
def content():
    return make()


@pytest.fixture(scope="module")
def page(content):
    return PageReader(render(content))


def test_every_section_is_there_once_and_linked(page):
    assert list(page.sections) == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert [a["href"] for a in page.all("a")] == [f"#{name}" for name in SECTIONS]


def test_every_picture_section_says_what_it_shows_and_what_not(page):
    for name in SECTIONS[:6]:
        assert "Shows" in page.sections[name] and "Does not show" in page.sections[name], name


def test_header_has_the_facts_and_the_scores(page):
    for text in ("dvae on blobs", "300", "standardize", "2026-10-01 12:30 UTC", "87.6 %", "50.0 %", "45.0 %", "0.31"):
        assert text in page.text, text
    assert "not defined" in page.text  # davies_bouldin is None
    assert "silhouette rows" not in page.text


def test_pictures_have_descriptions(page):
    pictures = page.all("svg")
    assert len(pictures) == 2 + 2 + 1 + 1 + 1  # maps, terms, sizes, confidence, confusion
    assert all(p["role"] == "img" and p["aria-label"] for p in pictures)


def test_nothing_is_loaded_from_anywhere(content):
    images = make(image_shape=(2, 3))
    for made in (content, images):
        text = render(made)
        assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
        assert not re.search(r"url\(|@import|<(?:iframe|object|embed|base)\b", text)
        assert "http://" not in text and "https://" not in text
        assert "default-src 'none'" in html.unescape(text)


def test_the_script_is_the_one_the_policy_allows(content):
    text = render(content)
    script = re.search(r"<script>(.*)</script>", text, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in text


def test_same_content_same_bytes(content):
    assert render(content) == render(make())


def test_command_is_copyable_as_typed(page, content):
    assert len(page.all("pre")) == 1 and page.all("button", **{"class": "copy"})
    assert content.run["command"] in page.sections["reproduce"]


def test_details_mark_what_is_not_default_and_say_why_a_kernel_ran(page):
    assert len(page.all("tr", **{"class": "changed"})) == 1
    for text in ("epochs", "--set", "wasserstein_similarity", "native kernel, avx2", "2.13.0", "pretrain", "runs/x"):
        assert text in page.sections["details"], text


def test_without_labels_there_is_no_confusion_and_no_score():
    content = make(labeled=False)
    page = PageReader(render(dataclasses.replace(content, run={**content.run, "scores": None})))
    assert "confusion" not in page.sections and "No labels given" in page.text and "Accuracy" not in page.text
    assert len(page.all("svg", **{"class": "map"})) == 1


def test_method_without_epochs_says_so():
    page = PageReader(render(make(history=[])))
    assert "without epochs" in page.sections["training"]


EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;\x00\ud800"


def test_text_from_users_stays_text(content):
    run = {
        "method": EVIL,
        "n_clusters": 4,
        "seed": EVIL,
        "params": {EVIL: {"value": {EVIL: [EVIL]}, "origin": EVIL}},
        "data": {"name": EVIL, "rows": 300, "shape": [EVIL], "feature_names": [EVIL] * 6, EVIL: EVIL},
        "scaling": EVIL,
        "versions": {EVIL: EVIL, "deepclust_accel": EVIL},
        "kernels": {EVIL: {"kernel": "reference", "why": EVIL}},
        "scores": {EVIL: 0.5},
        "label_free": {EVIL: 1.0},
        "seconds": {EVIL: 1.0},
        "command": EVIL,
        "created": EVIL,
        "out": EVIL,
        "plugin": {EVIL: EVIL},
        "labels": EVIL,
        "device": EVIL,
    }
    history = [{"stage": EVIL, "epoch": 0, "seconds": 1.0, EVIL: float("nan")}, {"stage": EVIL, "epoch": 1, EVIL: 2.0}]
    names = np.array([f"<script>{i}</script>" for i in range(4)])[np.arange(300) % 4]
    text = render(dataclasses.replace(content, run=run, history=history, truth=names))
    page = PageReader(text)
    assert len(page.all("script")) == 1 and not page.all("img")
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "alert('x')" in page.text  # shown, not run
    text.encode("utf-8")
    assert not re.search(r"[\x00-\x08]", text)


@pytest.mark.parametrize(
    "run", [{}, {"params": None, "kernels": [], "seconds": 3, "scores": [], "data": "x", "versions": None}]
)
def test_a_record_with_missing_or_odd_entries_still_makes_a_page(content, run):
    page = PageReader(render(dataclasses.replace(content, run=run)))
    assert list(page.sections) == SECTIONS


def test_a_million_rows_and_two_hundred_clusters_are_quick_and_small():
    content = make(
        1_000_000, 200, sample=np.arange(0, 1_000_000, 100), embedding=np.random.default_rng(0).normal(size=(10_000, 8))
    )
    begin = time.perf_counter()
    text = render(content)
    assert time.perf_counter() - begin < 5
    assert len(text) < 2_000_000
    page = PageReader(text)
    assert "1,000,000" in page.text and len(page.all("image")) == 1  # the large confusion matrix is a picture


def test_colors_in_use_are_defined(content):
    text = render(content)
    for name in set(re.findall(r'class="(?:\w+ )?(c\d+)"', text)):
        assert f".{name}{{--k:" in text
