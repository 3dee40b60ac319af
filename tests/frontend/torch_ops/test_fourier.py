"""Transforms, and complex numbers between real ones."""

from __future__ import annotations

import pytest
from refusals import refused
from torch_functions import agrees, module_of

from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

X = torch.linspace(-3, 9, 144).sin().reshape(3, 8, 6)
SOUND = torch.linspace(0, 90, 320).sin().reshape(2, 160)
WINDOW = torch.hann_window(32)
B = torch.export.Dim("b", min=2, max=40)


def spectrum(x, **named):
    return torch.stft(x, 32, 16, window=WINDOW, return_complex=True, **named)


def test_a_spectrogram_of_any_number_of_sounds(run_on_llvm):
    """As models of speech begin, and with every argument that changes a value."""

    def function(x):
        return (
            torch.log10((torch.ones(4, 17) @ spectrum(x)[..., :-1].abs() ** 2).clamp(1e-10)),
            torch.view_as_real(spectrum(x, normalized=True, onesided=False, center=False)),
            spectrum(x, pad_mode="constant").imag,
            torch.stft(x, 32, 16, window=WINDOW, return_complex=False),
        )

    samples = [(SOUND,), (torch.cat([SOUND, SOUND.flip(1)]),)]
    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: B},),)
    )
    agrees(model, run_on_llvm, rtol=1e-4, atol=1e-4)


def test_transforms_there_and_back(run_on_llvm):
    """Along one axis and two, of even and odd lengths, with each norm, in float64."""
    fft = torch.fft

    def function(x):
        return (
            torch.view_as_real(fft.rfft2(x, norm="forward")),
            fft.irfft2(fft.rfft2(x, norm="ortho") * 2j, norm="ortho"),
            fft.irfft(fft.rfft(x) * 2),
            fft.irfft(fft.rfft(x), n=5),
            (fft.fft(x, dim=1) * fft.fft(x.flip(0), dim=1) + 3).angle().cos(),
            fft.ifft(fft.fft(x, dim=-2).conj() - x, dim=-2).real,
        )

    agrees(from_torch(module_of(function), (X.double(),)), run_on_llvm, rtol=1e-9, atol=1e-9)


def test_a_rotation_by_complex_numbers(run_on_llvm):
    """As rotary embeddings are written."""

    def rotated(x, angles):
        turns = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.reshape(3, 8, 3, 2))
        return torch.view_as_real(pairs * turns[None]).flatten(2)

    angles = torch.linspace(0, 7, 24).reshape(8, 3)
    model = from_torch(module_of(rotated), (X, angles))
    agrees(model, run_on_llvm, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "given", "error", "named"),
    [
        (torch.fft.rfft, X, UsageError, "output 0 is complex"),
        (lambda x: x.real, torch.complex(X, X), UsageError, "complex numbers in"),
        (lambda x: torch.fft.rfft(x).exp().abs(), X, LoweringError, "exp.default"),
        (lambda x: torch.fft.rfft(x).abs(), torch.ones(5000), LoweringError, "5000 points"),
    ],
)
def test_complex_numbers_without_a_formula_are_refused(function, given, error, named):
    with refused(error, named):
        from_torch(module_of(function), (given,))
