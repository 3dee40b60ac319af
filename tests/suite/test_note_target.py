"""A suite carries the kernels that its units have on other targets, and says where it has none."""

from __future__ import annotations

import pytest
import tvm
import tvm_ffi
from broken_pipelines import mirror, scale
from edited_suite import edited

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError
from relax_tapml.partition.target_kernels import SAME, TargetKernels
from relax_tapml.replays.replay import replay
from relax_tapml.suite.manifest import MANIFEST
from relax_tapml.suite.merge import merge_suites
from relax_tapml.suite.note_target import note_target
from relax_tapml.suite.open_suite import open_suite

THERE = tvm.target.Target({"kind": "llvm", "num-cores": 2})
ELSEWHERE = tvm.target.Target("webgpu")
UNIT = "add"
WHY = "it is made for the source"


def noted(folder, fault, target=THERE):
    """Give ``add`` a kernel with a fault on a target."""
    opened = open_suite(folder)
    kernels = {UNIT: fault(opened.module(UNIT)[UNIT])}
    return note_target(opened, target, TargetKernels(kernels=kernels, names={UNIT: "plus"}))


def test_a_replay_runs_the_kernels_of_its_target(suite):
    """And of no other one."""
    noted(suite, scale)
    there = replay(suite, target=THERE, session="inline")
    assert {u for u, verdict in there.units.items() if verdict.is_wrong} == {UNIT}
    assert not any(
        v.is_wrong for v in replay(suite, target="llvm", session="inline").units.values()
    )


def test_a_pipeline_gets_the_kernels_of_its_target(suite):
    seen = []

    @tvm.transform.module_pass(opt_level=0, name="Looks")
    def looks(module, _ctx):
        seen.append(module[UNIT])
        return module

    kernel = noted(suite, scale).for_target(THERE).target_module(UNIT)[UNIT]
    replay(suite, target=THERE, session="inline", device_pipeline=looks, units=[UNIT])
    assert tvm_ffi.structural_equal(seen[-1], kernel, map_free_vars=True)


def test_a_unit_without_a_kernel_for_the_target_is_skipped_with_the_reason(suite):
    note_target(open_suite(suite), THERE, TargetKernels(lacking={UNIT: WHY}))
    report = replay(suite, target=THERE, session="inline")
    assert (report.units[UNIT], report.details[UNIT].reason) == (Verdict.SKIPPED, WHY)


def test_a_suite_without_the_target_says_which_it_has(suite):
    """Where the target is of another kind than the source; the source's kernels are for its own."""
    opened = noted(suite, scale)
    reason = opened.for_target(ELSEWHERE).lacking(UNIT)
    assert '"num-cores": 2' in reason
    assert '"webgpu"' in reason
    assert opened.for_target(tvm.target.Target("llvm")).lacking(UNIT) == ""
    others = set(opened.manifest.units) - {UNIT}
    assert not any(opened.for_target(ELSEWHERE).lacking(unit) for unit in others)


def test_targets_are_added_one_after_another_and_once(suite):
    noted(suite, scale)
    noted(suite, mirror, ELSEWHERE)
    before = (suite / MANIFEST).read_bytes()
    noted(suite, scale)
    assert (suite / MANIFEST).read_bytes() == before
    assert len(open_suite(suite).manifest.units[UNIT].targets) == 2
    assert not open_suite(suite, ELSEWHERE).lacking(next(iter(open_suite(suite).manifest.units)))
    alone = note_target(open_suite(suite), THERE, SAME)
    assert len(alone.manifest.units[UNIT].targets) == 1
    assert replay(suite, target=THERE, session="inline", units=[UNIT]).exit_code == 0


def test_a_merged_suite_has_the_kernels_of_both(suite, tmp_path):
    """Under the name that the unit has there."""
    noted(suite, scale)
    merged = tmp_path / "merged"
    merge_suites(merged, [suite])
    both = open_suite(merged, THERE)
    expected = open_suite(suite, THERE).target_module(UNIT)[UNIT]
    assert tvm_ffi.structural_equal(both.target_module(UNIT)[UNIT], expected)
    assert not tvm_ffi.structural_equal(both.module(UNIT)[UNIT], expected)


def test_kernels_of_another_unit_are_refused(suite):
    """Before anything runs."""
    noted(suite, scale)
    [file] = {k.file for k in open_suite(suite).manifest.units[UNIT].targets.values()}
    with edited(suite) as document:
        targets = document["units"][UNIT].pop("targets")
        other = next(name for name in document["units"] if name != UNIT)
        document["units"][other]["targets"] = targets
    with pytest.raises(StoreError, match=rf"{file}: {UNIT} is no kernel of its unit"):
        open_suite(suite, THERE).target_module(other)
