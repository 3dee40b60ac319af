"""A run that a full disk ended says so, accuses nobody, and goes on when there is room."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_model import model

from relax_tapml import bring_up
from relax_tapml.errors import MachineError
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.platform import Platform

OTHER = '{"kind": "llvm", "mcpu": "core2"}'
OPTIONS: dict[str, Any] = {"target": OTHER, "session": "inline", "strategy": "bisect"}


def no_room(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return told(bring_up(model(), out=tmp_path_factory.mktemp("out") / "run", **OPTIONS))


def told(result) -> Any:
    """What a run found, without what differs from run to run."""
    document = result.document
    steps = [{**step, "seconds": 0, "kernels_built": 0} for step in document["steps"]]
    return document["verdict"], document["culprits"], document["units"], steps


@pytest.mark.parametrize("side", ["source", "device"])
def test_kernels_that_no_room_is_for_are_built_later(side, tmp_path, monkeypatch, undisturbed):
    """The run that is resumed ends as one that nothing has happened to."""
    full = parse_target("llvm" if side == "source" else OTHER, "process")
    compiled = Platform.compile

    def compile_(self, module, target, path):
        if str(target) == str(full) and "softmax" in {g.name_hint for g in module.functions}:
            raise no_room(path)
        compiled(self, module, target, path)

    with monkeypatch.context() as patch:
        patch.setattr(Platform, "compile", compile_)
        with pytest.raises(MachineError, match=r"softmax: No space left.*MB free.*--resume"):
            bring_up(model(), out=tmp_path / "run", **OPTIONS)
    assert told(bring_up(model(), out=tmp_path / "run", resume=True, **OPTIONS)) == undisturbed
