"""What becomes of a record: figures of a row, who is best, what is said of gaps, and the page."""

import json
import math
import re
import sys
from pathlib import Path

import pytest

from deepclust_accel.bench.quality import summarize, write
from deepclust_accel.bench.quality.page import render
from deepclust_accel.bench.quality.summary import published

sys.path.append(str(Path(__file__).parent.parent / "report"))
sys.path.append(str(Path(__file__).parent.parent / "cli"))
from command_line import dcaccel, ok, refused  # noqa: E402
from page_reader import PageReader  # noqa: E402


def made(data, label, seed, acc=None, *, scale=1.0, params=None, status="ok", reason=""):
    cell = {"data": data, "label": label, "method": label.split()[0], "seed": seed, "epochs_scale": scale}
    cell |= {"params": params or {}, "fingerprint": data, "status": status, "reason": reason}
    if acc is not None:
        cell |= {"acc": acc, "nmi": acc / 2, "nmi_max": acc / 4, "ari": acc / 8}
        cell |= {"seconds": 10.0 * (seed + 1), "wall_seconds": 99.0, "peak_bytes": (seed + 1) * 2**20}
    return cell


CELLS = [
    *(made("usps", "dvae", s, a) for s, a in enumerate((0.8, 0.7, 0.9))),
    made("usps", "kmeans", 0, 0.6),
    made("usps", "vade", 0, 0.75, scale=0.25),
    made("usps", "vade", 1, scale=0.25, status="failed", reason="a loss is not finite & <odd>"),
    made("digits", "kmeans", 0, 0.7),
    made("digits", "dvae", 0, 0.75),
    made("digits", "dcec", 0, status="unfit", reason="image_shape: expected one"),
]


def row_of(summary, data, label):
    (row,) = [row for row in summary["rows"] if (row["data"], row["label"]) == (data, label)]
    return row


def test_a_row_has_mean_spread_best_median_and_peak():
    row = row_of(summarize(CELLS), "usps", "dvae")
    assert (
        row["acc"]["mean"] == pytest.approx(0.8)
        and row["acc"]["std"] == pytest.approx(0.1)
        and row["acc"]["best"] == 0.9
    )
    assert row["seconds"] == 20.0 and row["peak_bytes"] == 3 * 2**20 and row["seeds"] == [0, 1, 2]
    assert row_of(summarize(CELLS), "usps", "kmeans")["acc"]["std"] is None


def test_the_best_of_a_data_set_is_marked_and_baselines_come_first():
    summary = summarize(CELLS)
    assert [(r["data"], r["label"]) for r in summary["rows"] if r["best_of_data"]] == [
        ("digits", "dvae"),
        ("usps", "dvae"),
    ]
    assert [r["label"] for r in summary["rows"]] == ["kmeans", "dvae", "dcec", "kmeans", "dvae", "vade"]


def test_failed_and_unfit_cells_are_shown_and_take_no_part():
    summary = summarize(CELLS)
    vade = row_of(summary, "usps", "vade")
    assert vade["seeds"] == [0] and vade["failed"] == [{"seed": 1, "reason": "a loss is not finite & <odd>"}]
    assert row_of(summary, "digits", "dcec")["acc"] is None
    assert summary["significance"]["left_out"] == ["vade"]
    assert summary["significance"]["ranks"] == {"dvae": 1.0, "kmeans": 2.0}


def test_a_row_never_mixes_settings():
    mixed = [made("usps", "dec", s, 0.5, params={"rate": 1}) for s in range(3)] + [
        made("usps", "dec", 3, 0.9, params={"rate": 2})
    ]
    row = row_of(summarize(mixed), "usps", "dec")
    assert row["seeds"] == [3] and row["acc"]["mean"] == 0.9 and row["other_settings"] == 3


def test_of_two_epochs_scales_the_larger_is_ranked():
    cells = [made("usps", "dec", 0, 0.9, scale=0.1), made("usps", "dec", 0, 0.5), made("usps", "kmeans", 0, 0.6)]
    assert summarize(cells)["significance"]["ranks"] == {"kmeans": 1.0, "dec": 2.0}


def test_published_numbers_have_a_source_and_are_percentages():
    quotes = published()
    assert row_of(summarize(CELLS), "usps", "dvae")["published"][0]["acc"] == 93.15
    for quote in quotes:
        assert quote["paper"] and quote["where"] and quote["url"].startswith("https://")
        assert all(1 < quote[m] <= 100 for m in ("acc", "nmi", "nmi_max", "ari") if m in quote)
        assert quote.get("nmi_max", 0) <= 100 and ("nmi" in quote) + ("nmi_max" in quote) <= 1
    assert len({(q["label"], q["data"], q["paper"], q["where"]) for q in quotes}) == len(quotes)


def test_the_page_is_whole_and_says_what_failed():
    text = render(summarize(CELLS))
    page = PageReader(text)
    assert text == render(summarize(CELLS))
    assert list(page.sections) == ["data-0", "data-1", "ranks", "published"]
    assert [a["href"] for a in page.all("a", href="#ranks")] == ["#ranks"]
    assert "seed 1: failed: a loss is not finite & <odd>" in page.sections["data-1"]
    assert "dcec: does not fit" in page.sections["data-0"] and "too few" in page.sections["ranks"]
    assert "93.15 / 86.67" in page.sections["published"]
    assert not page.all("img") and not page.all("link", rel="stylesheet")
    assert len(page.all("svg")) == 2 * 2 + 1


def test_bars_and_dots_are_as_long_as_the_figures():
    text = render(summarize(CELLS))
    (bar,) = re.findall(r'<rect x="([\d.]+)"[^>]*width="([\d.]+)"[^>]*><title>dvae: 80.0 over 3 seeds', text)
    (full,) = re.findall(r'<rect x="[\d.]+"[^>]*width="([\d.]+)"[^>]*><title>kmeans: 60.0 over', text)
    assert float(bar[1]) / float(full) == pytest.approx(80 / 60, abs=2e-3)
    spots = re.findall(
        r'cx="([\d.]+)" cy="[\d.]+" r="4"[^>]*><title>(dvae|kmeans|vade)[^:]*: [\d.]+ in ([\d.]+) s', text
    )
    by_name = {name: float(x) for x, name, seconds in spots[-3:]}
    assert set(by_name) == {"dvae", "kmeans", "vade"}
    assert by_name["dvae"] - by_name["kmeans"] == pytest.approx(
        540 * math.log10(2), abs=0.1
    )  # 20 s, 10 s, one decade wide


def test_nothing_recorded_is_a_page_too(tmp_path):
    write(summarize([]), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == []
    assert "nothing yet" in (tmp_path / "quality.html").read_text()


def test_the_command_runs_a_grid_records_it_and_shows_it_again(tmp_path):
    arguments = (
        "bench",
        "quality",
        "--methods",
        "kmeans",
        "--epochs-scale",
        0.001,
        "--seeds",
        0,
        "--out",
        tmp_path / "q",
    )
    done = ok(*arguments, "--workers", 2)
    assert "5 cells, 0 of them recorded" in done.stderr and "ae-kmeans" in done.stdout
    again = json.loads(ok(*arguments, "--json").stdout)
    assert again["schema"] == "deepclust_accel.bench.quality" and len(again["rows"]) == 5
    shown = ok("bench", "quality", "--show", "--out", tmp_path / "q")
    assert "ae-gmm" in shown.stdout and shown.stderr == ""


def test_a_folder_without_cells_is_refused_and_left_alone(tmp_path):
    assert "cells.jsonl" in refused("bench", "quality", "--show", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_failed_cell_makes_the_command_end_with_1(tmp_path):
    (tmp_path / "cells.jsonl").write_text("\n".join(map(json.dumps, CELLS)) + "\n")
    done = dcaccel("bench", "quality", "--show", "--out", tmp_path)
    assert done.returncode == 1 and "vade, seed 1: failed: a loss" in done.stdout


def test_seeds_that_are_no_numbers_are_refused(tmp_path):
    assert refused("bench", "quality", "--seeds", "0-4", "--out", tmp_path).startswith(
        "dcaccel: --seeds: expected whole"
    )
