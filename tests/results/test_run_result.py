import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.migrate.in_context import InContext
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.passes.origin import Origin
from relax_tapml.passes.site import Site
from relax_tapml.replay.replay import UnitReplay
from relax_tapml.report.findings import verdict_text
from relax_tapml.results.json_number import json_number
from relax_tapml.results.run_result import (
    INCONCLUSIVE,
    Result,
    allowed_number,
    inconclusive_reason,
    overall_verdict,
    unit_document,
    unit_summary,
    without_explained,
    write_result,
)

ALONE = {
    "verdict": "pass",
    "reason": "",
    "error": 1e-7,
    "tolerance": 1e-5,
    "cases": 2,
    "first": None,
}
ENTRIES = [
    SiteEntry(
        site=Site(function="main", ordinal=n, unit="a"),
        kind="a",
        layer="",
        origins=(Origin(module=f"h.{n}.mlp", node="mm"),),
    )
    for n in range(3)
]


def units(*verdicts):
    return [{"name": f"u{i}", "verdict": verdict} for i, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "culprits", "code"),
    [
        (["pass", "pass"], "pass", [], ExitCode.PASS),
        (["pass", "skipped"], "pass", [], ExitCode.PASS),
        (["skipped"], INCONCLUSIVE, [], ExitCode.INCONCLUSIVE),
        ([], INCONCLUSIVE, [], ExitCode.INCONCLUSIVE),
        (["pass", "mismatch"], "mismatch", ["u1"], ExitCode.MISMATCH),
        (["build_error", "mismatch"], "mismatch", ["u0", "u1"], ExitCode.MISMATCH),
        (["build_error", "flaky"], "flaky", ["u0", "u1"], ExitCode.MISMATCH),
        (["mismatch", "flaky"], "mismatch", ["u0", "u1"], ExitCode.MISMATCH),
        (["mismatch", "timeout"], "timeout", ["u0", "u1"], ExitCode.MISMATCH),
        (["timeout", "crash", "skipped"], "crash", ["u0", "u1"], ExitCode.MISMATCH),
        (["build_error", "skipped"], "build_error", ["u0"], ExitCode.MISMATCH),
    ],
)
def test_the_gravest_unit_decides(tmp_path, verdicts, verdict, culprits, code):
    """Everything wrong is a culprit, in order; nothing compared is no pass."""
    assert overall_verdict(units(*verdicts)) == (verdict, culprits)
    result = Result(out=tmp_path, document={"verdict": verdict, "culprits": culprits})
    assert (result.verdict, result.culprits, result.exit_code) == (verdict, culprits, code)


@pytest.mark.parametrize("context", [InContext(on_device=True), InContext(on_device=False), None])
def test_a_unit_that_nothing_speaks_against_passes(context):
    """On the device or not, to be moved or not: what it did alone stands."""
    assert unit_document("a", ALONE, context, sites=ENTRIES[:3]) == {
        **ALONE,
        "name": "a",
        "sites": 3,
        "origin": "h.*.mlp",
        "origins": {f"main/{n:03d}/a": [f"h.{n}.mlp:mm"] for n in range(3)},
        "alone": "pass",
        "dims_seen_once": [],
        "on_device": context is not None and context.on_device,
        "together": [],
    }


def test_a_unit_wrong_in_company_only_is_told_so():
    """Isolated and compound errors are told apart; the numbers are the model's."""
    context = InContext(
        on_device=False, verdict=Verdict.MISMATCH, reason="fails", error=2.0, together=("b",)
    )
    flaky = InContext(on_device=False, verdict=Verdict.FLAKY, runs=10, failures=3)
    assert verdict_text(unit_document("a", ALONE, flaky, sites=ENTRIES[:1])) == "flaky(3/10)"
    document = unit_document("a", ALONE, context, sites=ENTRIES[:1])
    assert (document["verdict"], document["alone"], document["on_device"]) == (
        "mismatch",
        "pass",
        False,
    )
    assert (document["reason"], document["error"], document["tolerance"]) == ("fails", 2.0, None)
    assert document["together"] == ["b"]


def test_what_a_unit_did_alone_stands_if_it_was_wrong():
    """It is not moved, so no step speaks of it."""
    alone = {**ALONE, "verdict": "crash", "reason": "died of SIGSEGV", "error": None}
    document = unit_document("a", alone, None, sites=ENTRIES[:1])
    assert (document["verdict"], document["reason"]) == ("crash", "died of SIGSEGV")


def test_nan_and_infinity_are_strings():
    """Strict JSON has no such numbers; others keep their type."""
    assert [json_number(x) for x in (math.nan, math.inf, -math.inf)] == ["nan", "inf", "-inf"]
    assert json_number(None) is None
    assert json_number(np.float32(0.5)) == 0.5
    assert isinstance(json_number(np.float32(0.5)), float)
    assert json_number(3) == 3


@pytest.mark.parametrize("actual", [1.5, math.nan, math.inf])
def test_a_unit_is_summed_up_by_its_decisive_comparison(actual):
    """Error and tolerance are of one value; the origin and all metrics stand beside them."""
    tolerance = RuleTolerance(atol=0.25, rtol=0.0, origin="test")
    right = compare(np.ones(2), np.ones(2), tolerance)
    wrong = compare(np.ones(2), np.array([1.0, actual]), tolerance)
    case = SimpleNamespace(
        comparisons=(right, wrong), case=SimpleNamespace(name="c", is_probe=False)
    )
    detail = UnitReplay(
        unit="a", verdict=Verdict.MISMATCH, reason="wrong", cases=(case,), decisive_case="c"
    )
    document = unit_summary(detail)
    assert (document["error"], document["tolerance"]) == (json_number(abs(actual - 1)), 0.25)
    assert document["tolerance_origin"] == "test"
    assert (document["cases"], document["probes"]) == (1, 0)
    assert document["first"]["index"] == [1]
    assert document["metrics"]["values"] == 2
    assert document["metrics"]["mismatches"] == 1
    json.dumps(document, allow_nan=False)


def test_the_numbers_of_a_unit_are_of_the_case_that_its_reason_is_about():
    """Another case may be off by more, where more is allowed."""
    cases = [
        SimpleNamespace(
            comparisons=(compare(np.ones(1), np.full(1, 1 + off), tolerance),),
            case=SimpleNamespace(name=name, is_probe=name == "large"),
        )
        for name, off, tolerance in (
            ("small", 0.5, RuleTolerance(atol=0.25, rtol=0.0, origin="fine")),
            ("large", 1e6, RuleTolerance(atol=2.0, rtol=0.0, origin="coarse")),
        )
    ]
    detail = UnitReplay(
        unit="a",
        verdict=Verdict.MISMATCH,
        reason="differs by up to 0.5",
        cases=tuple(cases),
        decisive_case="small",
    )
    document = unit_summary(detail)
    assert [document[key] for key in ("case", "error", "tolerance", "tolerance_origin")] == [
        "small",
        0.5,
        0.25,
        "fine",
    ]


def test_what_judged_no_value_has_no_tolerance():
    """An empty output, or one of another shape."""
    for actual in (np.ones(0), np.ones(3)):
        assert allowed_number(compare(np.ones(0), actual)) is None


def test_a_result_says_what_wrote_it(tmp_path):
    """Schema and versions are added; the file is what is returned."""
    result = write_result(tmp_path, {"verdict": "pass", "culprits": []})
    assert json.loads((tmp_path / "result.json").read_text()) == result.document
    assert result.document["schema"] == 1
    assert {"relax-tapml", "apache-tvm", "numpy", "python"} <= result.document["versions"].keys()


def test_a_number_json_cannot_hold_is_refused(tmp_path):
    """Rather no file than one other programs cannot read."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, {"seconds": math.nan})
    assert not list(tmp_path.iterdir())


def test_devices_that_disagree_are_no_pass_and_accuse_nobody():
    """The reason names the units; a unit that is wrong for sure comes first."""
    units = [{"name": "u0", "verdict": "pass"}, {"name": "u1", "verdict": "inconclusive"}]
    assert overall_verdict(units) == ("inconclusive", [])
    assert inconclusive_reason(units) == "devices disagree about u1"
    wrong = {"name": "u2", "verdict": "mismatch"}
    assert overall_verdict([*units, wrong]) == ("mismatch", ["u2"])


def test_a_unit_is_reconsidered_when_the_migration_convicts_what_it_runs():
    """Accused alone, its kernel in company only: the kernel is the one culprit."""
    alone = {**ALONE, "verdict": "mismatch", "reason": "differs"}
    context = InContext(on_device=False, verdict=Verdict.MISMATCH, reason="passes alone, but")
    found = [
        unit_document("attention", alone, None, sites=[]),
        unit_document("decode", ALONE, context, sites=[]),
    ]
    judged = without_explained(found, {"attention": {"decode"}})
    assert overall_verdict(judged) == ("mismatch", ["decode"])
    assert (judged[0]["verdict"], judged[0]["alone"]) == ("skipped", "mismatch")
    assert judged[0]["reason"] == "mismatch; not judged, since it runs decode (mismatch)"
    assert judged[1] == found[1]
    assert without_explained(found, {}) == found
