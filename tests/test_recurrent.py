"""A recurrent state stays on the host, and the kernels that read and write it can move."""

from __future__ import annotations

import numpy as np
import pytest
import recurrent
from broken_pipelines import breaks, mirror, scale

from relax_tapml import bring_up, load
from relax_tapml.suite.open_suite import open_suite


def run(out, **options):
    given = {
        "session": "inline",
        "strategy": "bisect",
        "is_probed": False,
        "repair": False,
        **options,
    }
    return bring_up(recurrent.model(), out=out, **given)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A run with right kernels."""
    return run(tmp_path_factory.mktemp("recurrent") / "run")


def expected(x, w):
    h, outputs = np.full((2, recurrent.WIDTH), 0.25, "float32"), []
    for row in x:
        h = np.tanh(h @ w + row)
        outputs.append(h)
    return np.stack(outputs)


def test_its_kernels_move_and_are_carved_with_the_state_they_met(clean):
    """State, slots of sequences and of their history, before the call and after it."""
    assert (clean.verdict, clean.culprits) == ("pass", [])
    units = {unit["name"]: unit for unit in clean.document["units"]}
    assert units["state_get"]["on_device"]
    assert units["state_set"]["on_device"]
    suite = open_suite(clean.out)
    for case in suite.manifest.units["state_set"].cases:
        storage, sequences, slots, data = (suite.tensor(item.tensor) for item in case.inputs)
        (after,) = (suite.tensor(item.tensor) for item in case.outputs)
        assert sequences.tolist() == [0, 1]
        for row, (sequence, slot) in enumerate(zip(sequences, slots, strict=True)):
            storage[sequence, (slot + 1) % recurrent.HISTORY] = data[row]
        assert after.tobytes() == storage.tobytes()


def test_what_it_computes_is_what_a_loop_does(clean):
    """So the state is kept from step to step."""
    model = recurrent.model()
    with load(clean.out / "bundle") as bundle:
        (found,) = model.run(bundle, model.samples[0])
    np.testing.assert_allclose(
        found, expected(model.samples[0].arrays[0], model.params["w"]), atol=1e-6
    )


@pytest.mark.parametrize("unit", ["state_get", "state_set"])
@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_wrong_one_is_named(unit, session, clean):
    """Alone, with what it was given, and nothing else."""
    fault = scale if unit == "state_set" else mirror
    result = run(clean.out, session=session, resume=True, device_pipeline=breaks(unit, fault))
    assert (result.verdict, result.culprits) == ("mismatch", [unit])


def test_the_state_moves_last(clean):
    """And with it the calls that do nothing but call these kernels."""
    assert (clean.document["cache"]["verdict"], clean.document["skipped"]) == ("pass", [])
    assert clean.document["steps"][-1]["purpose"] == "cache"


def test_a_drive_that_calls_the_runtime_of_this_process_is_told_what_to_do(clean):
    """The state would be in another one; everything before is judged."""
    result = run(clean.out, resume=True, session="process")
    assert (result.verdict, result.cache.verdict) == ("pass", "skipped")
    assert "functions.runtime" in result.cache.reason


def test_calls_that_take_the_state_are_told_where_it_stays(clean):
    """With a wrong kernel the state is not moved."""
    pipeline = breaks("state_set", scale)
    result = run(clean.out, resume=True, device_pipeline=pipeline)
    reasons = {item["site"]: item["reason"] for item in result.document["skipped"]}
    assert reasons == {
        f"step/{site}": f"{site[4:]} is a function of the runtime ({kind}), not a kernel"
        for site, kind in {
            "000/vm.builtin.rnn_state_get": "call_dps_packed",
            "002/vm.builtin.rnn_state_set": "call_pure_packed",
        }.items()
    } | {
        "create_state/000/vm.builtin.rnn_state_create": "vm.builtin.rnn_state_create is a function "
        "of the runtime (call_pure_packed), not a kernel"
    }
