"""Calls that read a KV cache are judged in every state that engines bring caches into."""

from __future__ import annotations

import dataclasses
import random

import cache_drives
import numpy as np
import paged_llm
import pytest
import tvm
import tvm_ffi
from broken_pipelines import breaks
from cache_drives import ATTENTION, LLVM
from tvm import tirx
from tvm.relax.frontend.nn.llm.kv_cache import RopeMode

from relax_tapml import replay
from relax_tapml._compat import IS_TVM_026, TensorLoad, buffer_of
from relax_tapml.compare.verdict import Verdict
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit.unit_programs import UnitPrograms

pytestmark = pytest.mark.skipif(IS_TVM_026, reason="caches of TVM 0.26 tell no lengths")

DECODE = "batch_decode_paged_kv_cpu"
WINDOW = f"{DECODE}_sliding_window"

BATCH = (
    ("add", 7),
    ("add", 2),
    ("forward", {7: 37, 2: 18}),
    ("forward", {2: 1, 7: 1}),
    ("add", 4),
    ("forward", {4: 5, 7: 1}),
    ("remove", 2),
    ("add", 2),
    ("forward", {2: 3}),
    ("pop", 7, 20),
    ("forward", {4: 1, 7: 1, 2: 1}),
)
"""Sequences of different lengths together, one that ends, and one that begins under its number."""

FORKS = (
    ("add", 0),
    ("forward", {0: 40}),
    ("fork", 0, 1, 21),
    ("fork", 0, 2, 32),
    ("forward", {1: 3}),
    ("fork", 1, 3, -1),
    ("forward", {0: 1, 1: 1, 2: 1, 3: 1}),
    ("remove", 0),
    ("pop", 3, 6),
    ("forward", {3: 2, 1: 1}),
)
"""Forks within a page, at its end and of a fork; tokens taken back that are shared."""

TREES = (
    ("add", 0),
    ("add", 1),
    ("forward", {0: 19, 1: 9}),
    ("tree", {0: (-1, 0, 0, 1), 1: (-1, 0)}),
    ("accept", {0: 3, 1: -1}),
    ("forward", {0: 1, 1: 1}),
)

WINDOWS = (
    ("add", 0),
    ("window", 0, 20, 0),
    ("add", 1),
    ("window", 1, 24, 5),
    ("add", 2),
    ("forward", {0: 14, 1: 17, 2: 30}),
    ("forward", {0: 17, 1: 11, 2: 3}),
    ("forward", {0: 1, 1: 1, 2: 1}),
)
"""With a sink, without one, and none; short of it, and moved."""


@pytest.fixture(scope="module")
def kernels(clean_paged):
    """Where right kernels are, built."""
    return clean_paged.out / "kernels"


def judged(folder, kernels, **options):
    given = {"session": "inline", "target": LLVM.target, "kernels": kernels, **options}
    return replay(folder, units=[ATTENTION], **given)


def differences(folder, kernels):
    """How far each result of each case is from what was recorded."""
    report = judged(folder, kernels)
    assert report.units == {ATTENTION: Verdict.PASS}
    return [c.max_abs for case in report.details[ATTENTION].cases for c in case.comparisons]


def random_steps(seed, **options):
    return cache_drives.random_steps(random.Random(seed), length=12, **options)


@pytest.fixture(scope="module")
def recorded(kernels, tmp_path_factory):
    """Chosen steps, and whatever steps TVM allows."""
    drawn = [random_steps(0, window=False, trees=2), random_steps(1, window=True, trees=0)]
    model = cache_drives.driven([BATCH, FORKS, TREES, WINDOWS, *drawn])
    folder = tmp_path_factory.mktemp("states")
    return cache_drives.Recorded.of(model, folder, kernels)


@pytest.fixture(scope="module")
def suite(recorded):
    return recorded.suite(recorded.cases())


def test_a_state_of_each_kind_becomes_a_case(recorded):
    states = {case.reason.split(";")[0].removeprefix("its KV cache: ") for case in recorded.cases()}
    assert states >= {
        "prefill of several sequences",
        "prefill after others of several sequences as a token tree",
        "prefill and decode of several sequences",
        "decode of several sequences",
        "decode of several sequences after tokens were popped",
        "decode of several sequences with a fork",
        "prefill and decode of several sequences with a fork after tokens were popped",
        "prefill of several sequences with a window and a sink",
        "decode of several sequences with a window and a sink that has moved",
    }


def test_a_rebuilt_state_gives_what_was_recorded_to_the_bit(recorded, kernels):
    """In each call, not only in those that become cases."""
    suite = recorded.suite(recorded.cases(most=1000), "all")
    assert not suite.manifest.skipped_sites
    assert len(suite.manifest.units[ATTENTION].cases) > 40
    assert set(differences(suite.folder, kernels)) == {0}


def scaled_where(condition):
    """Be 1 % off in those sequences of a batch for which a condition holds."""

    def fault(kernel):
        def changed(store):
            if store.buffer.name != "output":
                return store
            wrong = store.value * tirx.const(1.01, store.value.ty)
            value = tirx.Select(condition(kernel, store.indices[0]), wrong, store.value)
            return tirx.BufferStore(store.buffer, value, store.indices)

        return tvm_ffi.structural_map(kernel, (tirx.BufferStore, changed))

    return fault


def begins_behind_others(kernel, _sequence):
    """Whether the part of a sequence that a kernel looks at is behind one that others share."""
    found = []
    tvm_ffi.structural_walk(kernel, (TensorLoad, found.append))
    return next(load for load in found if buffer_of(load).name == "k_rope_pos_offset") > 0


def without_sink(kernel):
    """Take sinks for tokens of the window."""

    def changed(load):
        is_sink = buffer_of(load).name == "length_info" and int(load.indices[0]) == 2
        return tirx.const(0, "int32") if is_sink else load

    return tvm_ffi.structural_map(kernel, (TensorLoad, changed))


def one_token_short(kernel):
    """Leave the last token out."""

    def changed(loop):
        if loop.loop_var.name != "row_idx":
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent - 1, loop.kind, loop.body)

    return tvm_ffi.structural_map(kernel, (tirx.For, changed))


@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        pytest.param(DECODE, scaled_where(lambda _, n: n == 1), id="only the second sequence"),
        pytest.param(DECODE, scaled_where(begins_behind_others), id="only behind a fork"),
        pytest.param(WINDOW, without_sink, id="a window without its sink"),
        pytest.param(WINDOW, one_token_short, id="a window one token short"),
    ],
)
def test_what_is_wrong_in_some_states_only_is_seen(kernel, fault, suite, kernels):
    report = judged(suite.folder, kernels, device_pipeline=breaks(kernel, fault))
    assert report.units == {ATTENTION: Verdict.MISMATCH}


def test_it_is_skipped_where_the_runtime_cannot_wait_for_the_device(suite, tmp_path):
    """On WebGPU, where a copy that TVM makes by itself would end the call."""
    for kind, is_judged in (("webgpu", False), ("opencl", True)):
        target = tvm.target.Target(kind)
        library = KernelLibrary(tmp_path)
        programs = UnitPrograms(
            suite, target=target, pipeline=None, library=library, units=[ATTENTION]
        )
        assert ("wait for the device" in programs.unjudged.get(ATTENTION, "")) is not is_judged


def test_caches_of_several_kinds_of_layers(kernels, tmp_path):
    """Layers with a window of their own beside full ones, and no rope."""
    model = cache_drives.driven(
        [BATCH, FORKS],
        kinds=("mha_sliding", "mha"),
        layer_window=20,
        rope=RopeMode.NONE,
    )
    recorded = cache_drives.Recorded.of(model, tmp_path, kernels)
    cases = recorded.cases()
    sliding = [case for case in cases if "in a layer with a window of its own" in case.reason]
    assert 0 < len(sliding) < len(cases)
    assert set(differences(recorded.suite(cases).folder, kernels)) == {0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("pops", "something changed it that was not seen"),
        ("imports", "vm.builtin.attention_kv_cache_prepare_import changed it"),
    ],
)
def test_what_is_not_known_is_told(change, reason, kernels, tmp_path):
    """The kernels that the call runs are carved anyway."""
    popped = tvm.get_global_func("vm.builtin.kv_state_popn")  # Nobody watches what was had before.

    def drive(functions, sample):
        (cache,) = functions["create_cache"]((1,), (64,), (64,), (16,), (0,))

        def run(name, *values):
            shapes = [tvm_ffi.Shape(v) if isinstance(v, tuple) else v for v in values]
            return tvm.get_global_func(f"vm.builtin.{name}")(cache, *shapes)

        def forward(count):
            run("kv_state_begin_forward", (0,), (count,))
            embeds = functions["embed"](sample.arrays[0][:, :count])[0]
            logits = functions["prefill"](embeds, cache)[0]
            run("kv_state_end_forward")
            return logits

        run("kv_state_add_sequence", 0)
        forward(9)
        if change == "pops":
            popped(cache, 0, 4)
        else:
            about = run("attention_kv_cache_get_checkpoint_metadata", 0)
            run("attention_kv_cache_prepare_import", 0, about)
            for layer in range(paged_llm.LAYERS):
                shape = (1, 1, 2, paged_llm.KV_HEADS, 16, paged_llm.HEAD_DIM)
                pages = tvm.runtime.tensor(np.zeros(shape, "float32"))
                run("attention_kv_cache_import_page_group", 0, layer, pages)
            run("attention_kv_cache_finish_import", 0)
        return [forward(1)]

    model = dataclasses.replace(paged_llm.model(prompts=(20,)), drive=drive)
    recorded = cache_drives.Recorded.of(model, tmp_path, kernels)
    append = "tir_kv_cache_transpose_append"
    suite = recorded.suite([*recorded.cases(), *recorded.cases(unit=append)])
    assert set(suite.manifest.skipped_sites.values()) == {
        f"its KV cache cannot be recorded: {reason}"
    }
    assert len(suite.manifest.units[ATTENTION].cases) == 1  # The pass before the change.
    assert suite.manifest.units[append].cases
