"""A PyTorch computation in a wider dtype, without a copy of the module."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

from relax_tapml.frontend._wide_run import run_wide  # noqa: E402 - needs torch


class Layers(torch.nn.Module):
    """Functions that compare dtypes in Python, in C++ before they are dispatched, and nowhere."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.second = torch.nn.ConvTranspose2d(4, 4, 3)
        self.recurrent = torch.nn.LSTM(4, 4, bidirectional=True)
        self.attention = torch.nn.MultiheadAttention(8, 2)
        self.register_buffer("gain", torch.full((8,), 0.3))

    def forward(self, image):
        rows = self.second(torch.relu_(self.norm(self.first(image)))).mean(-1).permute(2, 0, 1)
        hidden, _ = self.recurrent(rows)
        hidden, _ = self.attention(hidden, hidden, hidden)
        scaled = torch.zeros(hidden.shape, dtype=hidden.dtype)
        scaled[1:] = (hidden * self.gain)[1:]
        scaled += 1
        return scaled


class Narrowed(torch.nn.Module):
    """A module whose code names narrow dtypes, as norms and masks of language models do."""

    def forward(self, x):
        mask = torch.full((4, 4), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)
        y = (x.to(torch.float32) * 1.1).to(torch.float16)
        return torch.softmax(y + mask, -1, dtype=torch.float32).half()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_computes_what_a_module_of_doubles_does(dtype):
    """The module itself is left as it is."""
    torch.manual_seed(0)
    module = Layers().to(dtype).eval()
    image = torch.randn(1, 3, 8, 8).to(dtype)
    with torch.no_grad():
        expected = copy.deepcopy(module).double()(image.double())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = run_wide(lambda: module(image), torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert module(image).dtype == dtype


@pytest.mark.parametrize("is_exported", [False, True])
def test_dtypes_in_the_code_and_in_a_graph_are_widened(is_exported):
    """Whatever ``x.half()`` stands for in an exported program."""
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).half()
    module = Narrowed()
    if is_exported:
        module = torch.export.export(module, (x,)).module()
    found = run_wide(lambda: module(x), torch.float64)
    wide = x.double()
    scores = (wide * 1.1).masked_fill(torch.ones(4, 4, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(found, torch.softmax(scores, -1), rtol=1e-12, atol=1e-12)


def test_what_cannot_be_widened_is_refused():
    """Bits of a float, and what would be written to a copy."""
    half = torch.ones(4).half()
    with pytest.raises(RuntimeError, match="reads the bits of a float"):
        run_wide(lambda: half.view(torch.int16), torch.float64)
    with pytest.raises(RuntimeError, match=r"add_\.Tensor writes to a tensor of torch\.float16"):
        run_wide(lambda: half.add_(1), torch.float64)
    assert half.tolist() == [1.0] * 4


def test_a_model_has_an_accurate_run():
    """Integers stay, floats are float64; what float64 does not take is tried in float32."""

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = torch.nn.Embedding(10, 4)

        def forward(self, ids, x):
            return self.rows(ids) * x, ids + 1

    ids, x = torch.tensor([[1, 2]]), torch.randn(1, 2, 4).half()
    model = from_torch(Table().half(), (ids, x))
    (sample,) = model.samples
    values, whole = model.accurate(sample)
    assert (values.dtype, whole.dtype) == (np.float64, np.int64)
    weight = model.params["p_rows_weight"].astype("float64")
    np.testing.assert_array_equal(values, weight[ids.numpy()] * x.double().numpy())


def test_float32_is_taken_where_float64_is_not_supported(monkeypatch):
    """For a float32 model that would be no more accurate, so it is an error."""
    import relax_tapml.frontend._wide_run as wide_run_module

    original = wide_run_module.run_wide

    def only_single(run, dtype):
        if dtype == torch.float64:
            raise RuntimeError("no kernel for double")
        return original(run, dtype)

    monkeypatch.setattr(wide_run_module, "run_wide", only_single)
    half = from_torch(torch.nn.Linear(4, 4).half(), (torch.ones(1, 4).half(),))
    assert half.accurate(half.samples[0])[0].dtype == np.float32
    single = from_torch(torch.nn.Linear(4, 4), (torch.ones(1, 4),))
    with pytest.raises(RuntimeError, match=r"in float64: .*no kernel for double"):
        single.accurate(single.samples[0])
