"""Bring up five ONNX models with real weights, from llvm to llvm.

    pip install --no-deps rapidocr-onnxruntime magika silero-vad
    python scripts/onnx_models.py [NAME ...] [--out DIR]

The files come with packages of the registry, which are found but not imported: a text detector,
recogniser and classifier of directions (PP-OCR), a classifier of files (Magika), and a voice
detector (Silero VAD, with LSTM and If). Inputs are made here: pictures of digits, the bytes of this
script, a sound. Prints for each the operators and units, the verdict, seconds, the distance from
onnxruntime, and its answer. Exit code 1 if a verdict is not pass.
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
import onnx

from relax_tapml import bring_up, from_onnx

Arrays = dict[str, Any]
_HEIGHT, _WIDTH = 48, 192
_GLYPHS = {  # 5 x 7, a row each number
    "0": (14, 17, 19, 21, 25, 17, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "6": (6, 8, 16, 30, 17, 17, 14),
}
_TEXT = "2026"


@dataclass(frozen=True, kw_only=True)
class Real:
    """A model of a package.

    Parameters
    ----------
    name, package, file
        Where it is.
    inputs
        Makes a sample.
    answer
        What its outputs mean.
    """

    name: str
    package: str
    file: str
    inputs: Callable[[], Arrays]
    answer: Callable[[Path, list[Any]], str]

    def path(self) -> Path | None:
        """Return the file, if the package is installed; it is not imported."""
        found = find_spec(self.package)
        if found is None or found.origin is None:
            return None
        return Path(found.origin).parent / self.file


def line(height: int = _HEIGHT, width: int = _WIDTH) -> Any:
    """Draw a text, black on white, as PP-OCR takes it: (1, 3, height, width) from -1 to 1."""
    picture = np.ones((height, width), "float32")
    scale = (height - 8) // 7
    for number, character in enumerate(_TEXT):
        rows = [[(row >> bit) & 1 for bit in (4, 3, 2, 1, 0)] for row in _GLYPHS[character]]
        glyph = np.kron(np.array(rows), np.ones((scale, scale)))
        left = 8 + number * 6 * scale
        if left + glyph.shape[1] <= width:
            picture[4 : 4 + glyph.shape[0], left : left + glyph.shape[1]] -= 2 * glyph
    return np.broadcast_to(picture, (1, 3, height, width)).copy()


def page() -> Arrays:
    """A line of text on a page."""
    picture = np.ones((1, 3, 160, 256), "float32")
    picture[:, :, 56 : 56 + _HEIGHT, 32 : 32 + _WIDTH] = line()
    return {"x": picture}


def sound() -> Arrays:
    """A vowel: a tone and its overtones, 36 ms at 16 kHz."""
    time_s = np.arange(576) / 16000
    wave = sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 12))
    state = np.zeros((2, 1, 128), "float32")
    return {"input": (0.2 * wave)[None].astype("float32"), "state": state, "sr": np.array(16000)}


def this_file() -> Arrays:
    """The start and the end of this script, 1,024 bytes each."""
    content = Path(__file__).read_bytes().strip()
    tokens = [*content[:1024], *content[-1024:]]
    return {"bytes": np.array([tokens], "int32")}


def _text(file: Path, outputs: list[Any]) -> str:
    kept = {item.key: item.value for item in onnx.load(file).metadata_props}
    characters = ["", *kept["character"].splitlines(), " "]
    best = outputs[0][0].argmax(-1)
    different = np.flatnonzero(np.diff(best, prepend=-1))
    return "reads " + repr("".join(characters[i] for i in best[different]))


def _area(_: Path, outputs: list[Any]) -> str:
    rows, columns = np.nonzero(outputs[0][0, 0] > 0.3)
    if not rows.size:
        return "no text"
    return f"text in rows {rows.min()}-{rows.max()}, columns {columns.min()}-{columns.max()}"


def _class(_: Path, outputs: list[Any]) -> str:
    best = int(outputs[0][0].argmax())
    return f"class {best}, {float(outputs[0][0, best]):.3f}"


def _voice(_: Path, outputs: list[Any]) -> str:
    return f"voice {float(outputs[0][0, 0]):.3f}"


_OCR = "rapidocr_onnxruntime"
MODELS = (
    Real(
        name="detector",
        package=_OCR,
        file="models/ch_PP-OCRv4_det_infer.onnx",
        inputs=page,
        answer=_area,
    ),
    Real(
        name="recogniser",
        package=_OCR,
        file="models/ch_PP-OCRv4_rec_infer.onnx",
        inputs=lambda: {"x": line()},
        answer=_text,
    ),
    Real(
        name="direction",
        package=_OCR,
        file="models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        inputs=lambda: {"x": line()},
        answer=_class,
    ),
    Real(
        name="file type",
        package="magika",
        file="models/standard_v3_3/model.onnx",
        inputs=this_file,
        answer=_class,
    ),
    Real(
        name="voice",
        package="silero_vad",
        file="data/silero_vad.onnx",
        inputs=sound,
        answer=_voice,
    ),
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
    if file is None or not file.exists():
        print(f"{real.name:12}not installed: pip install --no-deps {real.package}")
        return True
    began = time.time()
    model = from_onnx(file, samples=[real.inputs()], name=real.name)
    assert model.reference is not None
    answer = real.answer(file, model.reference(model.samples[0]))
    result = bring_up(model, out=out, force=True)
    document = result.document
    sites = sum(unit["sites"] for unit in document["units"])
    apart = (document.get("import_check") or {}).get("max_abs", float("nan"))
    nodes = len(onnx.load(file, load_external_data=False).graph.node)
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
