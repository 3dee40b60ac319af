"""A model with two states that live on the device: both are marked, or the wrong one is named."""

from __future__ import annotations

import pytest
import two_states
from broken_pipelines import scale
from two_states import CREATE, CREATE_OTHER, OTHER_SET

from relax_tapml import bring_up
from relax_tapml.migrate import cache_step

THERE = '{"kind": "llvm", "num-cores": 2}'


def run(out, model, **options):
    given = {"session": "inline", "strategy": "bisect", "is_probed": False, **options}
    return bring_up(model, out=out, **given)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return run(tmp_path_factory.mktemp("states") / "run", two_states.model())


@pytest.fixture
def wrong_there(monkeypatch):
    """Make kernels wrong that are called where a state is on the device, and nowhere else."""
    right = cache_step.shipped

    def wrong(*names):
        def shipped(side):
            module = right(side)
            for name in names:
                module.update_func(module.get_global_var(name), scale(module[name]))
            return module

        monkeypatch.setattr(cache_step, "shipped", shipped)

    return wrong


def test_what_makes_either_is_marked_after_a_pass(clean):
    assert (clean.verdict, clean.document["skipped"]) == ("pass", [])
    makers = {unit.name: unit for unit in clean.units if unit.name in (CREATE, CREATE_OTHER)}
    assert [(u.verdict, u.on_device) for u in makers.values()] == [("pass", True)] * 2


@pytest.mark.parametrize(
    ("kernels", "named", "right"),
    [([OTHER_SET], CREATE_OTHER, CREATE), (["state_set"], CREATE, CREATE_OTHER)],
)
def test_the_wrong_one_is_found_with_each_alone_on_the_device(
    kernels, named, right, clean, wrong_there
):
    """Functions of the model run where the state is that they take."""
    wrong_there(*kernels)
    cache = run(clean.out, two_states.model(), resume=True, target=THERE).cache
    assert cache.unit == named
    assert cache.reason.endswith(
        f"as well as {named}; with what {right} makes there alone it is right"
    )
