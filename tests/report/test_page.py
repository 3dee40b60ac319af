from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from relax_tapml.errors import StoreError
from relax_tapml.report.page import render

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


def page_of(result: dict[str, Any], folder: Path) -> Page:
    render(result, out=folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_page_says_verdict_culprit_and_why(result: dict[str, Any], tmp_path: Path) -> None:
    """The answer stands on the page in words."""
    text = page_of(result, tmp_path).text
    assert "1 of 26 units is wrong on cuda: fused_reshape10_gelu_reshape11." in text
    assert "first at [0, 3, 811]: expected 47.3125, got nan. Tolerance 3.1e-06." in text
    assert "756 calls, 41 MB stored, 520 MB seen" in text
    for version in result["versions"].values():
        assert version in text


def test_every_unit_has_a_row_culprits_first(result: dict[str, Any], tmp_path: Path) -> None:
    """No unit is left out, and what needs attention comes first."""
    rows = page_of(result, tmp_path).unit_rows()
    assert sorted(str(r["data-name"]) for r in rows) == sorted(u["name"] for u in result["units"])
    assert rows[0]["data-name"] == "fused_reshape10_gelu_reshape11"
    assert (rows[0]["data-error"], rows[0]["class"]) == ("nan", "culprit")


def test_page_needs_nothing_from_outside(result: dict[str, Any], tmp_path: Path) -> None:
    """No address, no file, and a policy that forbids fetching any."""
    page = page_of(result, tmp_path)
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe"}
        assert not {"src", "href"} & attributes.keys()
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "http://" not in html
    assert "https://" not in html
    assert re.findall(r"url\((.*?)\)", html) == ["#hatch"]


def test_all_text_is_escaped(result: dict[str, Any], tmp_path: Path) -> None:
    """Names and messages come from models and devices; none of them is markup."""
    evil = "\"'><script>alert(1)</script>&amp;"
    hostile = _replace_strings(result, evil)
    hostile["skipped"] = [{"site": evil, "reason": evil}]
    page = page_of(hostile, tmp_path)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "<script>alert(1)</script>&amp;" in page.text
    assert {row["data-name"] for row in page.unit_rows()} == {evil}


def _replace_strings(value: Any, text: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _replace_strings(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace_strings(v, text, key) for v in value]
    keep = key in {"error", "tolerance", "actual"}
    return text if isinstance(value, str) and not keep else value


def test_bars_show_error_against_tolerance(result: dict[str, Any], tmp_path: Path) -> None:
    """A passing bar ends before the tolerance mark; a wrong one is red and passes it."""
    tolerance, error = 1e-6, 1e-3
    result["units"] = [
        {**result["units"][0], "name": "good", "error": 1e-8, "tolerance": tolerance},
        {
            **result["units"][0],
            "name": "bad",
            "error": error,
            "tolerance": tolerance,
            "verdict": "mismatch",
        },
        {**result["units"][0], "name": "zero", "error": 0.0, "tolerance": tolerance},
    ]
    result["culprits"] = ["bad"]
    page = page_of(result, tmp_path)
    (over,) = page.with_class("over")
    assert float(over["width"] or 0) == pytest.approx(192)
    marks = {round(float(line["x1"] or 0) - 4, 1) for line in page.with_class("limit")}
    assert marks == {round(192 * 2 / 5, 1)}
    assert page.with_class("within") == []  # 1e-8 is the start of the scale, 0 has no place


def test_the_origin_of_a_tolerance_is_on_the_page(result: dict[str, Any], tmp_path: Path) -> None:
    """Escaped like all other text."""
    result["units"][0]["tolerance_origin"] = "measured <on> 4 inputs"
    assert "measured <on> 4 inputs" in page_of(result, tmp_path).text


@pytest.mark.parametrize("error", [float("nan"), float("inf"), "nan", "inf"])
def test_non_finite_error_is_hatched(
    result: dict[str, Any], tmp_path: Path, error: float | str
) -> None:
    """NaN and infinity are drawn as such, however the document spells them."""
    result["units"] = [{**result["units"][0], "error": error}]
    page = page_of(result, tmp_path)
    assert [a for tag, a in page.elements if tag == "rect" and a.get("fill") == "url(#hatch)"]


def test_failing_steps_are_marked(result: dict[str, Any], tmp_path: Path) -> None:
    """One red column and one red cell for each step that did not pass."""
    page = page_of(result, tmp_path)
    assert len(page.with_class("failing")) == 1
    assert "step 24: mismatch moving fused_reshape10_gelu_reshape11" in page.text


def test_only_contract_keys_are_needed(result: dict[str, Any], tmp_path: Path) -> None:
    """Every optional key may be absent."""
    units = ("name", "verdict", "reason", "error", "tolerance", "sites", "cases")
    steps = ("boundary", "verdict", "seconds", "kernels_built", "bytes_moved")
    bare = {k: result[k] for k in ("schema", "verdict", "culprits", "versions", "seconds")}
    bare["units"] = [{k: unit[k] for k in units} for unit in result["units"]]
    bare["steps"] = [{k: step[k] for k in steps} for step in result["steps"]]
    bare["skipped"] = [{"site": "main/003/call_packed", "reason": "opaque argument"}]
    text = page_of(bare, tmp_path).text
    assert "1 of 26 units is wrong on the target" in text
    assert "main/003/call_packed" in text
    assert "opaque argument" in text


def test_what_did_not_happen_may_be_none(result: dict[str, Any], tmp_path: Path) -> None:
    """A run that ended early has no captures and no check against a framework."""
    result.update(captures=None, import_check=None, device_pipeline=None, reason="")
    text = page_of(result, tmp_path).text
    assert "against the framework" not in text
    assert "Captures" not in text


def test_empty_run_is_not_a_pass(result: dict[str, Any], tmp_path: Path) -> None:
    """With nothing compared the page says so."""
    result.update(verdict="skipped", culprits=[], units=[], steps=[], seconds={})
    text = page_of(result, tmp_path).text
    assert "Inconclusive on cuda: skipped, 0 of 0 units pass" in text
    assert "no unit was compared" in text
    assert "No step was tried." in text


def test_a_wrong_schema_is_refused_and_leaves_the_old_page(
    result: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("old", encoding="utf-8")
    with pytest.raises(StoreError, match="expected a result of schema 1, got 7"):
        render({**result, "schema": 7}, out=tmp_path)
    assert page.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [page]


def test_a_failed_write_leaves_nothing_behind(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page appears in one move or not at all."""

    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        render(result, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
