"""The pictures: right marks for the numbers, and no input that breaks them."""

import dataclasses
import math
import re

import numpy as np
import pytest
from contents import make
from page_reader import PageReader

from deepclust_accel.report import render
from deepclust_accel.report.chart import log_ticks, ticks
from deepclust_accel.report.facts import digest
from deepclust_accel.report.figures import confusion, curve, sizes
from deepclust_accel.report.palette import DARK, LIGHT
from deepclust_accel.report.projection import project

SPANS = [("pretrain", 0, 3), ("joint", 3, 6)]


def test_projection_keeps_the_variance_it_claims():
    x = np.random.default_rng(0).normal(size=(400, 6)) * [5, 3, 1, 1, 1, 1]
    plane = project(x)
    variance = x.var(0).sum()
    np.testing.assert_allclose(plane.shares, plane.points.var(0) / variance, rtol=1e-9)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(plane.shares, values[:2] / values.sum(), rtol=1e-9)


def test_projection_of_wide_codes_agrees_with_svd():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8)) * np.arange(16, 0, -2) @ rng.normal(size=(8, 700))
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(project(x).shares, values[:2] / values.sum(), rtol=1e-6)


def test_two_values_are_shown_as_they_are_and_one_as_a_strip():
    x = np.random.default_rng(0).normal(size=(20, 2))
    assert np.array_equal(project(x).points, x) and project(x).shares == ()
    assert project(x[:, :1]).strip
    assert "as they are" in PageReader(render(make(embedding=make().embedding[:, :2]))).sections["map"]
    assert "one lane a cluster" in PageReader(render(make(embedding=make().embedding[:, :1]))).sections["map"]


def test_map_draws_every_distinct_row_once():
    content = make(50, 3)
    text = render(content)
    dots = sum(path.count("M") for path in re.findall(r'<path d="(M[^"]*h0)" class="c\d+" data-g', text)) or sum(
        a["d"].count("M") for a in PageReader(text).all("path") if "data-g" in a
    )
    assert dots == 100  # two maps


def test_curve_breaks_at_values_that_are_not_finite_and_marks_them():
    picture = PageReader(curve("loss", [3.0, math.nan, 2.0, 1.0, math.inf, None], SPANS))
    assert len(picture.all("path", **{"class": "broken"})) == 2
    assert not re.search(r"nan|inf[^i]", " ".join(a.get("d", "") for a in picture.all("path")))
    assert "1 pretrain" in picture.text and "2 joint" in picture.text


@pytest.mark.parametrize(
    "values",
    [
        [None] * 6,
        [math.nan] * 6,
        [0.0] * 6,
        [-1e308, 1e308, 0, 0, 0, 0],
        [5e-324, 1.7e308, 1, 1, 1, 1],
        [1e-320] * 6,
        [-0.0] * 6,
        [1e9, 1e9 + 1e-7, 1e9, 1e9, 1e9, 1e9],
        [2**80, 1, 1, 1, 1, 1],
        [np.float32(1.5)] * 6,
    ],
)
def test_curve_survives(values):
    PageReader(curve("x", values, SPANS))


def test_curve_is_logarithmic_only_for_wide_positive_terms():
    assert "log scale" in curve("x", [100.0, 1, 1, 1, 1, 1], SPANS)
    assert "log scale" not in curve("x", [100.0, 1, 1, 1, 1, -1], SPANS)
    assert "log scale" not in curve("x", [10.0, 1, 1, 1, 1, 1], SPANS)


def test_long_curves_are_thinned_but_keep_their_peaks():
    values = [1.0] * 50_000
    values[33_333] = 9.0
    picture = curve("x", values, [("a", 0, 50_000)])
    assert len(picture) < 20_000
    top = min(float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", re.search(r'd="(M[^"]+)" class="line"', picture)[1]))
    assert top < 40  # the peak near the upper edge is still drawn


def test_bars_have_heights_in_proportion():
    facts = digest(make(6, 3, labels=np.array([0, 0, 0, 0, 1, 1]), truth=None))
    heights = [float(a["height"]) for a in PageReader(sizes(facts)).all("rect", **{"class": "bar"})]
    assert len(heights) == 2 and heights[0] == pytest.approx(2 * heights[1], abs=0.02)


def test_confusion_writes_counts_up_to_twenty_and_draws_cells_up_to_sixty():
    def drawn(clusters):
        return PageReader(confusion(digest(make(4000, clusters)).truth))

    small, medium, large = drawn(12), drawn(40), drawn(80)
    assert small.all("text", **{"class": "count"}) and small.all("text", **{"class": "share"})
    assert medium.all("rect", **{"class": "hit"}) and not medium.all("text", **{"class": "count"})
    assert len(medium.all("rect", **{"class": "hit"})) == 40
    assert large.all("image") and not large.all("rect", **{"class": "hit"})


EDGES = {
    "one cluster": dict(clusters=1),
    "two rows": dict(rows=2, clusters=2),
    "two rows in one cluster": dict(rows=2, clusters=1),
    "constant embedding": dict(embedding=np.zeros((300, 5))),
    "constant pair": dict(embedding=np.full((300, 2), 1e30)),
    "one value, constant": dict(embedding=np.zeros((300, 1))),
    "embedding not finite": dict(embedding=np.where(np.arange(300)[:, None] % 3 == 0, np.nan, np.eye(300)[:, :5])),
    "embedding nowhere finite": dict(embedding=np.full((300, 5), np.inf)),
    "huge embedding": dict(embedding=np.random.default_rng(0).normal(size=(300, 5)) * 1e200),
    "empty map": dict(sample=np.zeros(0, int), embedding=np.zeros((0, 5))),
    "far row": dict(embedding=np.vstack([np.random.default_rng(0).normal(size=(299, 5)), np.full((1, 5), 1e6)])),
    "no examples": dict(examples=np.zeros((4, 0, 6)), example_rows=np.zeros((4, 0), int)),
    "examples not finite": dict(examples=np.full((4, 5, 6), np.nan)),
    "constant confidence": dict(confidence=np.ones(300)),
    "confidence out of range": dict(confidence=np.linspace(-1, 2, 300)),
    "two hundred clusters": dict(clusters=200),
    "text in history": dict(history=[{"stage": "a", "epoch": 0, "x": "y", "z": True}, {"note": None}]),
    "many terms": dict(history=[{"stage": "a", "epoch": 0, **{f"t{i}": float(i) for i in range(100)}}]),
}


@pytest.mark.parametrize("changes", EDGES.values(), ids=EDGES)
def test_edges(changes):
    text = render(make(**changes))
    page = PageReader(text)
    assert len(page.sections) == 8
    drawing = " ".join(f"{a.get('d', '')} {a.get('x', '')} {a.get('y', '')}" for _, a in page.elements)
    assert not re.search(r"nan|inf", drawing)


def test_names_of_features_and_their_deviation():
    content = make()
    examples = np.zeros((4, 5, 6))
    examples[1, :, 3] = 7.0
    run = {**content.run, "data": {"feature_names": ["a", "b", "c", "weight", "e", "f"]}}
    page = PageReader(render(dataclasses.replace(content, examples=examples, run=run)))
    assert "weight ▲ 7 (1.75)" in page.sections["examples"]


def test_ticks():
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10] and ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1.0]
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert ticks(3, 3) == [3] and ticks(0, math.inf) == [0]


def test_palette_is_told_apart_with_any_color_vision():
    for table in (LIGHT, DARK):
        assert len(table) == 100 and len(set(table)) == 100
        for vision in (np.eye(3), DEUTERANOPE, PROTANOPE):
            lab = oklab(np.clip(linear(table[:10]) @ np.array(vision).T, 0, 1))
            distance = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(10)
            assert distance.min() > 0.07  # a just noticeable difference is about 0.02


def linear(colors):
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in colors])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    cone = np.cbrt(
        rgb
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return (
        cone
        @ np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        ).T
    )


DEUTERANOPE = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPE = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
