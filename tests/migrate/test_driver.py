import dataclasses
import re

import numpy as np
import pytest
from tiny_model import UNITS

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceCrash, SourceError, StoreError
from relax_tapml.migrate.driver import migrate
from relax_tapml.migrate.strategies._linear import Linear
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.targets.session.device import Device


class Watcher:
    """Keeps what a stage is told."""

    def __init__(self):
        self.updates = []
        self.texts = []

    def update(self, done, total):
        self.updates.append((done, total))

    def say(self, text):
        self.texts.append(text)


def run(tiny, device, *, steps=None, limit=None, oracles=None):
    search = Search(Linear(), [(unit,) for unit in UNITS])
    watcher, saved, steps = Watcher(), [], [] if steps is None else steps
    migrate(
        tiny.trial(device, oracles=oracles or tiny.oracles),
        search,
        steps=steps,
        on_step=saved.append,
        limit=limit,
        stage=watcher,
    )
    return search, steps, saved, watcher


def test_units_move_one_by_one_and_each_step_is_saved(tiny, failing_session):
    """All units in order; progress counts the steps."""
    search, steps, saved, watcher = run(tiny, Device(failing_session))
    assert search.accepted == set(UNITS)
    assert [step.unit for step in steps] == [None, *UNITS]
    assert saved == steps
    assert watcher.texts[0] == f"step 1 of {len(UNITS) + 1}, nothing on the device"
    assert watcher.texts[1] == f"step 2 of {len(UNITS) + 1}, move: {UNITS[0]}"
    assert watcher.updates == [(done, len(UNITS) + 1) for done in range(len(UNITS) + 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"boundary": ("nobody",)},
        {"boundary": ()},
        {"flaky": {"nobody": (1, 2)}, "verdict": Verdict.FLAKY},
    ],
    ids=str,
)
def test_steps_that_the_search_does_not_make_are_refused(change, tiny, failing_session):
    """They are read from a file, which may be damaged."""
    _, steps, _, _ = run(tiny, Device(failing_session), limit=2)
    wrong = dataclasses.replace(steps[1], **change)
    with pytest.raises(StoreError, match=r"step 1 of the earlier run .*--force"):
        run(tiny, Device(failing_session), steps=[steps[0], wrong, steps[2]])


@pytest.mark.parametrize("limit", [0, 1, 3, 100])
def test_no_more_units_than_asked_for_are_moved(tiny, failing_session, limit):
    """The first step, which moves none, does not count; the next run goes on from there."""
    device = Device(failing_session)
    search, steps, _, _ = run(tiny, device, limit=limit)
    assert search.accepted == set(UNITS[:limit])
    search, steps, saved, _ = run(tiny, device, steps=steps, limit=1)
    assert search.accepted == set(UNITS[: limit + 1])
    assert [step.unit for step in saved] == UNITS[limit : limit + 1]
    assert [step.unit for step in steps] == [None, *UNITS][: limit + 2]


def test_a_unit_that_fails_goes_back_to_the_host(tiny, failing_session):
    """The next step differs from the last good one, not from the failed one."""
    opened = []

    def open_session():
        opened.append(failing_session(DeviceCrash("died") if len(opened) < 2 else None))
        return opened[-1]

    search, steps, _, _ = run(tiny, Device(open_session), limit=2)
    assert [(step.boundary, step.verdict) for step in steps] == [
        ((), Verdict.PASS),
        ((UNITS[0],), Verdict.CRASH),
        ((UNITS[1],), Verdict.PASS),
    ]
    assert search.accepted == {UNITS[1]}


def test_a_partition_that_changes_the_source_accuses_no_unit(tiny, failing_session):
    """With nothing on the device the outputs must be the source's."""
    oracles = [[np.zeros_like(array) for array in outputs] for outputs in tiny.oracles]
    text = (
        "with no unit on the device the partitioned model differs from the source: on 'first', "
        "output "
    )
    with pytest.raises(SourceError, match=f"^{re.escape(text)}") as caught:
        run(tiny, Device(failing_session), oracles=oracles)
    assert "target" in str(caught.value)
