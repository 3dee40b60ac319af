"""Runs an ONNX model in float64, to judge where float32 leaves its own outputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from relax_tapml.arrays import Array


def run_wide(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    raise NotImplementedError
