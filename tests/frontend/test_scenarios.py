"""Scenarios make the calls of an engine, and all kernels of a cache run and are right."""

from __future__ import annotations

import dataclasses

import numpy as np
import paged_llm
import pytest
import tvm
from tvm import relax

from relax_tapml.errors import UsageError
from relax_tapml.frontend.drives import with_drive
from relax_tapml.frontend.model import Sample
from relax_tapml.frontend.paged_drive import PagedDrive, scenario_named
from relax_tapml.frontend.paged_engine import SlidingWindow
from relax_tapml.frontend.scenarios import SCENARIOS, batch_parts, fork_place, prompts_of
from relax_tapml.partition.built_functions import BuiltFunctions, weight_names
from relax_tapml.partition.lower import mark_inputs
from relax_tapml.passes.cache_creation import cache_creations
from relax_tapml.passes.correct_tree_kernels import CorrectTreeKernels

ALL = ["chat", "batch", "fork", "tree", "grow", "window", "hidden", "softmax"]
PROMPT = np.random.default_rng(0).integers(0, paged_llm.VOCABULARY, 40, "int32")
FOLLOWING = np.random.default_rng(1).integers(0, paged_llm.VOCABULARY, 4, "int32")


@pytest.fixture(scope="module")
def model():
    return paged_llm.model(is_engine=True)


@pytest.fixture(scope="module")
def engine(model):
    """Its functions, built by TVM."""
    module = CorrectTreeKernels()(mark_inputs(model.module, model.params))
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    weights = {name: tvm.runtime.tensor(array) for name, array in model.params.items()}
    functions = BuiltFunctions(
        machine, tvm.runtime.tensor, weights.__getitem__, weight_names(module)
    )
    return dataclasses.replace(model.drive, chunk=13).engine(functions, 1)


def logits_of(engine, *ids):
    """Logits after all of these tokens, prefilled at once."""
    tokens = np.concatenate([np.atleast_1d(part) for part in ids]).astype("int32")
    cache = engine.cache([len(tokens)])
    cache.add(0)
    return cache.prefill(0, tokens)[0, -1]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def ran(name, engine, prompt=PROMPT, following=FOLLOWING):
    return scenario_named(name).run(engine, prompt, following)


def test_all_scenarios_are_run_where_the_functions_allow(model):
    assert [one.name for one in model.drive.scenarios] == ALL
    few = paged_llm.model()
    drive = few.drive.with_all(few.module)
    assert [one.name for one in drive.scenarios] == ["chat", "fork", "window"]
    assert [one.name for one in few.drive.scenarios] == ["chat"]


def test_a_batch_computes_what_single_sequences_do(engine):
    """Each row is the logits of one sequence, whatever is beside it; so is the forked one."""
    prefilled, decoded = ran("batch", engine)
    prompts = prompts_of(PROMPT, 2)
    assert prefilled.shape[1] == sum(map(len, batch_parts(prompts, engine.chunk)))
    assert len(decoded) == 3 * 3 + 2  # The first sequence ends before the last step.
    close(prefilled[0, -1], logits_of(engine, PROMPT))
    forked = prompts[1][: fork_place(len(prompts[1]), 16)]
    for n, ids in enumerate([PROMPT, prompts[1], forked]):
        steps = [np.roll(FOLLOWING, -step - n)[:1] for step in range(2)]
        close(decoded[n, 0], logits_of(engine, ids, steps[0]))
        close(decoded[3 + n, 0], logits_of(engine, ids, *steps))


def test_a_fork_goes_on_from_the_shared_prefix(engine):
    prefilled, decoded = ran("fork", engine)
    forked = PROMPT[: fork_place(len(PROMPT), 16)]
    close(prefilled[0, -1], logits_of(engine, forked, FOLLOWING))
    close(decoded[0, 0], logits_of(engine, PROMPT[:-1], FOLLOWING[:1]))
    close(decoded[0, 1], logits_of(engine, forked, FOLLOWING, FOLLOWING[:1]))


def test_a_tree_computes_each_of_its_paths(engine):
    """Before it is committed, and after a path is kept."""
    _, verified, decoded = ran("tree", engine)
    drafted = np.concatenate([FOLLOWING, PROMPT])
    tree = drafted[:5]  # Parents -1, 0, 0, 1, 2.
    close(verified[0, 3], logits_of(engine, PROMPT, tree[[0, 1, 3]]))
    kept = np.concatenate([PROMPT, tree[[0, 2, 4]]])
    close(verified[0, 4], logits_of(engine, kept))
    close(decoded[0, 0], logits_of(engine, kept, drafted[:1]))


def test_a_tree_grows_on_one_in_the_cache(engine):
    """Each leaf attends to the root that another pass has appended."""
    _, verified, decoded = ran("grow", engine)
    drafted = np.concatenate([FOLLOWING, PROMPT])
    close(verified[0, 0], logits_of(engine, PROMPT, drafted[:1]))
    for leaf in (0, 1):
        close(decoded[leaf, 0], logits_of(engine, PROMPT, drafted[:1], drafted[leaf]))


def test_a_model_with_a_window_forks_and_drafts_without(engine, model):
    """With full attention, and the result says so; other scenarios have the window."""
    narrow = dataclasses.replace(engine, window=SlidingWindow(size=20, sink=1))
    for name in ("fork", "tree", "grow"):
        close(ran(name, narrow)[-1], ran(name, engine)[-1])
    drive = dataclasses.replace(model.drive, window=narrow.window)
    assert drive.with_all(model.module).scenarios == model.drive.scenarios
    (note,) = drive.notes
    assert note.startswith(
        "scenarios fork, tree, grow ran without the model's sliding window of 20 "
    )
    assert model.drive.notes == dataclasses.replace(drive, scenarios=()).notes == ()


def test_a_window_slides(engine):
    """Logits are those of full attention until it slides, and others then."""
    prefilled, decoded = ran("window", engine)
    whole, steps = ran("chat", engine)
    close(prefilled[0, :13], whole[0, :13])
    assert abs(decoded - steps).max() > 0.05
    wide = dataclasses.replace(engine, window=SlidingWindow(size=100))
    close(ran("chat", wide)[0], whole)
    narrow = dataclasses.replace(engine, window=SlidingWindow(size=20, sink=1))
    alone = narrow.cache([len(PROMPT)])
    alone.add(0)
    size = engine.chunk // 3
    parts = [PROMPT[at : at + size] for at in range(0, len(PROMPT), size)]
    last = [alone.prefill(0, part) for part in parts][-1]
    close(ran("batch", narrow)[0][0, -1], last[0, -1])


def test_hidden_states_and_temperatures(engine):
    (logits,) = ran("hidden", engine)
    close(logits[0], logits_of(engine, PROMPT[: engine.chunk // 2]))
    (probabilities,) = ran("softmax", engine)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert probabilities[0].max() > probabilities[1].max()  # The lower temperature.


def sampled(noise):
    """What MLC's sampler computes, with probabilities that are a little off."""

    def argsort(probs):
        places = np.argsort(-probs, axis=-1, kind="stable").astype("int32")
        return [np.take_along_axis(probs, places, -1), places]

    def draw(probs, uniform, rows):
        sums = np.cumsum(noise(probs[rows]), axis=-1, dtype="float64")
        return [(sums <= uniform[:, None]).sum(-1).astype("int32")]

    def top_p(ordered, places, uniform, rows, bounds):
        sums = np.cumsum(noise(ordered), axis=-1, dtype="float64")
        ends = (sums < bounds[:, None]).sum(-1)
        parts = sums[rows] / sums[rows, ends[rows]][:, None]
        return [places[rows, (parts <= uniform[:, None]).sum(-1)]]

    def take(probs, places, rows, tokens, offsets):
        row, at = offsets // probs.shape[1], offsets % probs.shape[1]
        return [probs[rows, tokens], probs[row, places[row, at]], places[row, at]]

    def renormalize(probs, bounds, pivots):
        assert (np.diff(pivots) <= 0).all()
        ordered = argsort(noise(probs))[0]
        ends = (np.cumsum(ordered, axis=-1, dtype="float64") < bounds[:, None]).sum(-1)
        kept = np.where(probs >= np.take_along_axis(ordered, ends[:, None], -1) * 0.999, probs, 0)
        return [kept / kept.sum(-1, keepdims=True)]

    def verify(drafts, tokens, probs, children, siblings, uniform, ends):
        probs, ends = probs.copy(), ends.copy()
        for n, node in enumerate(ends):
            child = children[node]
            while child != -1:
                token = tokens[child]
                if probs[node, token] >= uniform[child] * drafts[child, token]:
                    node, child = child, children[child]
                else:
                    left = np.maximum(noise(probs[node]) - drafts[child], 0)
                    probs[node], child = left / left.sum(), siblings[child]
            ends[n] = node
        return [probs, ends]

    return {
        "argsort_probs": argsort,
        "multinomial_from_uniform": draw,
        "sample_with_top_p": top_p,
        "sampler_take_probs": take,
        "renormalize_by_top_p": renormalize,
        "sampler_verify_draft_tokens": verify,
    }


class Sampling:
    """The functions of an engine with those of a sampler."""

    def __init__(self, functions, noise):
        self.functions, self.sampler, self.runtime = functions, sampled(noise), functions.runtime

    def __getitem__(self, name):
        return self.sampler.get(name) or self.functions[name]


@pytest.mark.parametrize(("name", "batch"), [("draw", 3), ("draw", 1), ("top_p", 3), ("verify", 3)])
def test_rounding_changes_no_decision_of_a_sampler(name, batch, engine):
    """Nothing that is drawn is another one where probabilities are a thousandth off."""
    rng = np.random.default_rng(0)

    def noisy(probs):
        return probs * rng.uniform(0.999, 1.001, probs.shape).astype("float32")

    exact, off = (
        ran(
            name,
            dataclasses.replace(engine, functions=Sampling(engine.functions, noise), batch=batch),
        )
        for noise in (lambda probs: probs, noisy)
    )
    for one, other in zip(exact, off, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("name", ["draw", "top_p", "verify"])
def test_a_wrong_sampler_gives_wrong_outputs_and_no_error(name, engine):
    """Whatever its kernels return, later calls get places inside their tensors."""

    class Wild(Sampling):
        def __getitem__(self, name):
            function = super().__getitem__(name)
            if name not in self.sampler:
                return function
            return lambda *args: [
                np.full_like(found, -7 if found.dtype == np.int32 else 0)
                for found in function(*args)
            ]

    functions = Wild(engine.functions, np.copy)
    with np.errstate(all="ignore"):
        assert ran(name, dataclasses.replace(engine, functions=functions))


def test_a_sampler_draws_what_is_likely_and_rejects_a_draft(engine):
    """The most probable token of each row first; one draft of the first sequence is not kept."""
    exact = dataclasses.replace(engine, functions=Sampling(engine.functions, np.copy))
    (found,) = ran("softmax", engine)
    ordered = np.sort(found, axis=-1)[:, ::-1]
    drawn, largest = ran("draw", exact)
    close(drawn[:, 0], [ordered[0, 0], ordered[1, 1], ordered[0, 2]])
    close(largest.reshape(3, 2), ordered[[0, 1, 0], :2])
    _, from_kept = ran("top_p", exact)
    close(from_kept, drawn)
    left, ends, _ = ran("verify", exact)
    assert ends.ravel().tolist() == [2, 4]
    close(left.sum(-1), 1)


def test_trees_need_a_cache_that_runs_them(model):
    """TVM's gives kernels on OpenCL a mask of another shape."""
    drive = model.drive
    for kind, expected in (("opencl", {"tree", "grow"}), ("llvm", set())):
        found = drive.with_all(model.module, tvm.target.Target(kind)).scenarios
        assert {one.name for one in {*drive.scenarios} - {*found}} == expected


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("length", "following"), [(1, 0), (16, 1), (17, 3)])
def test_any_length_runs(name, length, following, engine):
    """Also one token, one page, and nothing to decode."""
    outputs = ran(name, engine, PROMPT[:length], FOLLOWING[:following])
    assert outputs
    assert all(np.isfinite(output).all() for output in outputs)


def test_a_sample_is_run_by_the_named_scenarios(model):
    chosen = with_drive(model, ["fork", "chat"])
    assert [one.name for one in chosen.drive.scenarios] == ["fork", "chat"]
    with pytest.raises(UsageError, match=r"no scenario 'bath'(.|\n)*  batch: up to three"):
        with_drive(model, ["bath"])
    with pytest.raises(UsageError, match="a function runs the whole sample"):
        with_drive(model, ["chat", "a.module:function"])
    other = dataclasses.replace(model, drive=None)
    with pytest.raises(UsageError, match="scenarios are for decoders"):
        with_drive(other, ["chat"])
    assert with_drive(other, []) is other


def test_a_function_may_take_the_place_of_scenarios(model, tmp_path, monkeypatch):
    """It gets functions and sample as they are; what it returns are the outputs."""
    (tmp_path / "own_drive.py").write_text("def run(functions, sample):\n    return [sample.name]")
    monkeypatch.chdir(tmp_path)
    own = with_drive(model, ["own_drive:run"])
    assert own.drive({}, Sample(name="a", arrays=())) == ["a"]
    with pytest.raises(UsageError, match="drive own_drive:walk: own_drive has no 'walk'"):
        with_drive(model, ["own_drive:walk"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page_size": 32}, r"page_size 32: TVM has built .* for pages of 16 .* page_size=16"),
        ({"create": "create"}, "the module has no create"),
        ({"batch": 1, "scenarios": SCENARIOS}, "batch cannot be run: it needs 2 sequences"),
    ],
)
def test_what_cannot_run_is_told_before_anything_runs(change, message, model):
    drive = dataclasses.replace(model.drive, **change)
    with pytest.raises(UsageError, match=message):
        drive.check(model.module)


def test_what_the_cache_refuses_is_told_in_its_words(engine):
    """Without the condition that TVM puts before them."""
    cache = engine.cache([16])
    with pytest.raises(UsageError, match=r'popn: The sequence "5" cannot be found in KV cache\.$'):
        cache.pop(5, 1)
    cache.add(0)
    with pytest.raises(UsageError, match=r"begin_forward: The KV cache is full\. No page can be"):
        cache.prefill(0, PROMPT)


def test_layers_that_have_windows_only_are_told(model):
    """TVM's cache would end the process."""
    module = paged_llm.exported(kinds=("mha_sliding", "mha_sliding"))
    with pytest.raises(UsageError, match=r"all layers .* kind mha"):
        PagedDrive(create="create_cache").check(module)
    mixed = paged_llm.exported(kinds=("mha", "mha_sliding"))
    drive = PagedDrive(create="create_cache").with_all(mixed)
    assert [one.name for one in drive.scenarios] == ["chat", "fork"]
    grow, tree = scenario_named("grow"), scenario_named("tree")
    (made,) = cache_creations(mixed)
    assert tree.misfit(tree.needs, made, batch=2) is None
    assert "layers with a window of their own" in str(grow.misfit(grow.needs, made, batch=2))
