from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import changed, run_of, step, unit

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.page import render
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.failing_kernels import write_failing_kernel
from relax_tapml.results.import_result import ImportResult
from relax_tapml.results.json_codec import decode
from relax_tapml.results.run_result import (
    CaptureResult,
    RunResult,
    SkippedSite,
    StageSeconds,
    UnjudgedUnit,
)
from relax_tapml.results.unit_result import CasePower

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Collects what the tests ask about; raises where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]

    def unit_rows(self) -> list[dict[str, str | None]]:
        return [a for tag, a in self.elements if tag == "tr" and "data-name" in a]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(result: RunResult, folder: Path) -> Page:
    render(result, out=folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_page_has_verdict_culprit_and_why(result: RunResult, tmp_path: Path) -> None:
    """The answer stands on the page in words."""
    text = page_of(result, tmp_path).text
    assert "1 of 26 units is wrong on cuda: fused_reshape10_gelu_reshape11." in text
    assert "first at [0, 3, 811]: expected 47.3125, got nan. Tolerance 3.1e-06." in text
    assert "756 calls, 41 MB stored, 520 MB seen" in text
    for version in result.versions.values():
        assert version in text


def test_every_unit_has_a_row_culprits_first(result: RunResult, tmp_path: Path) -> None:
    """No unit is left out, and what needs attention comes first."""
    rows = page_of(result, tmp_path).unit_rows()
    assert sorted(str(r["data-name"]) for r in rows) == sorted(unit.name for unit in result.units)
    assert rows[0]["data-name"] == "fused_reshape10_gelu_reshape11"
    assert (rows[0]["data-error"], rows[0]["class"]) == ("nan", "culprit")


def test_page_needs_nothing_from_outside(result: RunResult, tmp_path: Path) -> None:
    """No address, no file, and a policy that forbids fetching any."""
    page = page_of(result, tmp_path)
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "http://" not in html
    assert "https://" not in html
    assert re.findall(r"url\((.*?)\)", html) == ["#hatch"]


def test_all_text_is_escaped(document: dict[str, Any], tmp_path: Path) -> None:
    """Names and messages come from models and devices; none of them is markup."""
    evil = "\"'><script>alert(1)</script>&amp;"
    document["skipped"] = [{"site": "main/003/x", "reason": "opaque"}]
    page = page_of(decode(_replace_strings(document, evil), RunResult), tmp_path)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "<script>alert(1)</script>&amp;" in page.text
    assert {row["data-name"] for row in page.unit_rows()} == {evil}


def _replace_strings(value: Any, text: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _replace_strings(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace_strings(v, text, key) for v in value]
    keep = key in {"error", "tolerance", "actual", "verdict", "alone", "purpose"}
    return text if isinstance(value, str) and not keep else value


def test_bars_show_error_against_tolerance(result: RunResult, tmp_path: Path) -> None:
    """A passing bar ends before the tolerance mark; a wrong one is red and passes it."""
    tolerance, error = 1e-6, 1e-3
    good = replace(result.units[0], name="good", error=1e-8, tolerance=tolerance)
    bad = replace(good, name="bad", error=error, verdict=Verdict.MISMATCH)
    zero = replace(good, name="zero", error=0.0)
    page = page_of(replace(result, units=(good, bad, zero), culprits=["bad"]), tmp_path)
    (over,) = page.with_class("over")
    assert float(over["width"] or 0) == pytest.approx(192)
    marks = {round(float(line["x1"] or 0) - 4, 1) for line in page.with_class("limit")}
    assert marks == {round(192 * 2 / 5, 1)}
    assert page.with_class("within") == []  # 1e-8 is the start of the scale, 0 has no place


def test_the_origin_of_a_tolerance_is_on_the_page(result: RunResult, tmp_path: Path) -> None:
    """Escaped like all other text."""
    origin = "measured <on> 4 inputs"
    assert origin in page_of(changed(result, {0: {"tolerance_origin": origin}}), tmp_path).text


def test_all_metrics_are_on_the_page(result: RunResult, tmp_path: Path) -> None:
    """By name, so that a new one needs no change of the page."""
    metrics = {"values": 12, "brand_new": 0.5}
    text = page_of(changed(result, {0: {"metrics": metrics}}), tmp_path).text
    assert "values 12, brand_new 0.5" in text


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_non_finite_error_is_hatched(result: RunResult, tmp_path: Path, error: float) -> None:
    """NaN and infinity have no place on a scale."""
    page = page_of(replace(result, units=(replace(result.units[0], error=error),)), tmp_path)
    assert [a for tag, a in page.elements if tag == "rect" and a.get("fill") == "url(#hatch)"]


def test_failing_steps_are_marked(result: RunResult, tmp_path: Path) -> None:
    """One red column and one red cell for each step that did not pass."""
    page = page_of(result, tmp_path)
    assert len(page.with_class("failing")) == 1
    assert "step 24: mismatch moving fused_reshape10_gelu_reshape11" in page.text


def test_only_contract_keys_are_needed(document: dict[str, Any], tmp_path: Path) -> None:
    """Every optional key may be absent."""
    keys = ("schema", "verdict", "culprits", "versions", "seconds", "source", "target", "session")
    units = ("name", "verdict", "reason", "error", "tolerance", "sites", "cases")
    steps = ("boundary", "verdict", "seconds", "kernels_built", "bytes_moved")
    bare = {k: document[k] for k in keys}
    bare["units"] = [{k: unit[k] for k in units} for unit in document["units"]]
    bare["steps"] = [{k: step[k] for k in steps} for step in document["steps"]]
    bare["skipped"] = [{"site": "main/003/call_packed", "reason": "opaque argument"}]
    text = page_of(decode(bare, RunResult), tmp_path).text
    assert "1 of 26 units is wrong on cuda" in text
    assert "main/003/call_packed" in text
    assert "opaque argument" in text


def test_what_did_not_happen_may_be_none(result: RunResult, tmp_path: Path) -> None:
    """A run that ended early has no captures and no check against a framework."""
    text = page_of(replace(result, captures=CaptureResult(), import_check=None), tmp_path).text
    assert "against the framework" not in text
    assert "Captures" not in text


def test_empty_run_is_not_a_pass(result: RunResult, tmp_path: Path) -> None:
    """With nothing compared the page states that."""
    text = page_of(run_of(verdict=Verdict.INCONCLUSIVE), tmp_path).text
    assert "Inconclusive on cuda: inconclusive, 0 of 0 units pass" in text
    assert "no unit was compared" in text
    assert "No step was tried." in text


def test_a_culprit_has_its_kernel_and_the_command_that_reproduces_it(
    result: RunResult, tmp_path: Path
) -> None:
    """As text, escaped, and only the beginning of a large file."""
    (tmp_path / "tests").mkdir()
    (name,) = result.culprits
    write_failing_kernel(tmp_path, name, "<script>kernel", ".ll", "; <b>source" + "x" * 200_000)
    page = page_of(result, tmp_path)
    assert "<script>kernel" in page.text
    assert "; <b>source" in page.text
    assert "of which the beginning" in page.text
    assert f"relax-tapml reproduce {tmp_path} {name}" in page.text
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_wrong_values_are_drawn(result: RunResult, tmp_path: Path) -> None:
    """Of the culprit, and of an import that the framework does not agree with."""
    found = ErrorMapResult.of(compare(np.zeros((4, 4)), np.eye(4)).error_map)
    number = next(n for n, one in enumerate(result.units) if one.name in result.culprits)
    page = page_of(changed(result, {number: {"error_map": found}}), tmp_path)
    assert len(page.with_class("h6")) == 4 + 1  # and the key
    failed = ImportResult(verdict=Verdict.MISMATCH, error_map=found)
    page = page_of(run_of(verdict=Verdict.INCONCLUSIVE, import_=failed), tmp_path)
    assert len(page.with_class("h6")) == 4 + 1
    assert "axis 0 at 3, axis 1 at 3: 1 wrong value" in page.text


def test_a_run_that_judged_nothing_has_its_units(tmp_path: Path) -> None:
    """Not an empty table: the reason first, then what the model has."""
    unjudged = tuple(
        UnjudgedUnit(name=name, origins={f"main/{number:03d}/{name}": (f"layers.{number}:x",)})
        for number, name in enumerate(("matmul", "softmax"))
    )
    run = run_of(verdict=Verdict.INCONCLUSIVE, reason="the source crashed", unjudged=unjudged)
    page = page_of(run, tmp_path)
    assert "Inconclusive on cuda: the source crashed." in page.text
    assert "The run ended before any unit was judged. These are the 2 units" in page.text
    assert "layers.1" in page.text
    assert page.unit_rows() == []


def test_skipped_sites_are_listed_by_reason(tmp_path: Path) -> None:
    skipped = [SkippedSite(site=f"main/{n:03d}/a", reason="opaque") for n in range(3)]
    text = page_of(run_of(skipped=tuple(skipped)), tmp_path).text
    assert text.count("opaque") == 1
    assert "main/002/a" in text


def test_every_number_in_the_time_of_a_run_is_once(tmp_path: Path) -> None:
    """Loading is part of lowering; the page has both apart, and the peak of memory."""
    seconds = StageSeconds(load=3.0, lower=5.0, carve=2.0, total=7.5)
    text = page_of(run_of(seconds=seconds, peak_bytes=1_500_000_000), tmp_path).text
    for part in ("loading the model 3.0 s", "lowering 2.0 s", "carve 2.0 s", "in all 7.5 s"):
        assert part in text
    assert "1.5 GB" in text


def test_the_page_of_a_large_model_is_bounded(tmp_path: Path) -> None:
    """2,000 sites, each a unit of its own, moved one by one: below 2 MB."""
    power = tuple(
        CasePower(case=f"case{n}", output=0, share=0.1, terms=3, sees=("zeros",), blunt=False)
        for n in range(8)
    )
    units = [
        unit(
            f"fused_matmul{n}_add{n}",
            origins={f"main/{n:03d}/fused_matmul{n}_add{n}": (f"model.layers.{n}.mlp.up:mm_{n}",)},
            origin=f"model.layers.{n}.mlp.up",
            error=1e-6,
            tolerance=1e-5,
            tolerance_origin="float64 evaluation with the errors of: rounding of each operation",
            metrics={"values": 12, "max_abs": 1e-6},
            power=power,
        )
        for n in range(2000)
    ]
    boundary: tuple[str, ...] = ()
    steps = [step(boundary, unit=one.name) for one in units]
    page = page_of(run_of(units, steps=tuple(steps)), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
    assert len(page.unit_rows()) == 2000
    assert "Details and bars of 1850 units that pass are left out here" in page.text
    assert "Of 2000 steps: those that did not pass, and the first others" in page.text


def test_headings_and_tables_are_for_screen_readers(result: RunResult, tmp_path: Path) -> None:
    """No level of headings is left out, every column and row has a head with its scope."""
    (tmp_path / "tests").mkdir()
    page = page_of(result, tmp_path)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert tag != "svg" or "aria-label" in attributes or "aria-hidden" in attributes


def test_a_failed_write_leaves_nothing_behind(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page appears in one move or not at all."""

    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        render(result, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
