"""Each stage of the main job alone: from Python, and from what an earlier run left."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_model import UNITS, model

from relax_tapml import bringup, read_result
from relax_tapml.capture.store import CaptureStore
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.suite.open_suite import open_suite

LLVM = bringup.SideSpec.of("llvm")
INLINE = bringup.DeviceSpec(session="inline")


def test_the_stages_find_what_the_main_job_finds(tmp_path, finished):
    """One after another, by hand, without an output folder."""
    tiny, kernels = model(), tmp_path / "kernels"
    lowered = bringup.lower_model(tiny)
    trusted = bringup.trust_source(bringup.build_source(tiny, lowered, LLVM, kernels))
    store = bringup.capture(trusted, tmp_path / "captures")
    suite = bringup.carve(store, lowered, LLVM, tmp_path / "tests", kernels)
    build = bringup.build_target(bringup.prepare_target(lowered, LLVM), kernels)
    alone = bringup.replay_alone(suite, build, INLINE)
    moved = bringup.migrate(trusted, suite, build, alone, INLINE, bringup.MigrationPlan())
    found = bringup.Findings(
        model=tiny,
        lowered=lowered,
        trusted=trusted,
        store=store,
        suite=suite,
        alone=alone,
        migrated=moved,
    )
    known = read_result(finished)
    result = bringup.summarise(found, bringup.Options(session="inline"), known.seconds)
    assert (result.verdict, result.culprits) == (known.verdict, known.culprits)
    assert [unit.name for unit in result.units] == [unit.name for unit in known.units]
    assert [step.boundary for step in result.steps] == [step.boundary for step in known.steps]


def test_a_stage_starts_from_what_an_earlier_run_left(tmp_path, finished):
    """Carve from its captures, build from its kernels, replay its suite: the model is not run."""
    lowered = bringup.read_lowered(finished / "lowered.json")
    assert set(lowered.units) == set(UNITS)
    store = CaptureStore.open(finished / "captures")
    kernels = finished / "kernels"
    plan = bringup.CarvePlan(cases_per_unit=1, is_probed=False)
    carved = bringup.carve(store, lowered, LLVM, tmp_path / "tests", kernels, plan)
    assert all(len(unit.cases) == 1 for unit in carved.manifest.units.values())
    build = bringup.build_target(bringup.prepare_target(lowered, LLVM), kernels)
    assert build.kernels.built == ()
    for suite in (carved, open_suite(finished / "tests")):
        alone = bringup.replay_alone(suite, build, INLINE)
        assert {unit.verdict for unit in alone.units.values()} == {Verdict.PASS}


def test_the_ir_of_each_phase_is_dumped(tmp_path):
    """A folder a phase, a file a pass; a folder with files is left alone."""
    dump = bringup.IrDump(tmp_path / "ir")
    lowered = bringup.lower_model(model(), dump=dump)
    bringup.prepare_target(lowered, LLVM, dump=dump)
    assert [folder.name for folder in sorted((tmp_path / "ir").iterdir())] == [
        "00_lower",
        "01_target",
    ]
    texts = [path.read_text() for path in sorted((tmp_path / "ir" / "00_lower").iterdir())]
    assert "R.matmul" in texts[0]
    assert "R.matmul" not in texts[-1]
    with pytest.raises(UsageError, match="--dump-ir"):
        bringup.IrDump(tmp_path / "ir")


def test_options_have_the_fields_that_functions_take_one_by_one():
    """So that none is forgotten in either place."""
    fields = {field.name for field in dataclasses.fields(bringup.Options)}
    from relax_tapml.bringup.options import OptionFields

    assert set(OptionFields.__annotations__) == fields
