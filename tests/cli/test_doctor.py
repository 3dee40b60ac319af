"""``relax-tapml doctor``: the platforms, what they need, and whether they work."""

from __future__ import annotations

import json
import re

import pytest

from relax_tapml.cli.main import main
from relax_tapml.system import IS_MACOS, install_command
from relax_tapml.targets.platforms.registry import PLATFORMS


def doctor(capsys, *args):
    code = main(["doctor", *args, "--json"])
    return code, json.loads(capsys.readouterr().out)["targets"]


def test_every_platform_is_listed_with_what_it_was_tried_on(capsys):
    """Also those without hardware to run on, which is printed."""
    code, targets = doctor(capsys)
    assert code == 0
    assert [item["name"] for item in targets] == [platform.name for platform in PLATFORMS]
    tried = {item["name"]: item["tried_on"] for item in targets}
    assert all(tried[name].startswith("no hardware") for name in ("metal", "rocm"))
    assert not tried["cuda"].startswith("no hardware")


def test_what_is_missing_comes_with_the_command_that_installs_it(capsys, monkeypatch):
    """As text, and exit code 3 for scripts that named this target."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["doctor", "webgpu"]) == 3
    message = capsys.readouterr().out
    assert "here      missing: wasm-ld" in message
    assert install_command(debian="emscripten", macos="brew install lld") in message


@pytest.mark.skipif(IS_MACOS, reason="AMD's libraries are not for macOS")
def test_parts_of_rocm_are_packages(capsys, monkeypatch):
    """The rest of ROCm is not needed to make kernels."""
    monkeypatch.setenv("ROCM_PATH", "/nowhere")
    code, (target,) = doctor(capsys, "rocm")
    assert (code, target["state"]) == (3, "missing")
    libraries, linker = target["requirements"]
    assert libraries["found"] is None
    assert "rocm-device-libs" in libraries["install"]
    assert re.search(r"lld-\d\d$", linker["install"])


def test_a_platform_is_tried_with_a_kernel(capsys):
    """Built, loaded, run and compared."""
    code, (target,) = doctor(capsys, "llvm", "--try")
    assert (code, target["state"]) == (0, "works"), target


def test_a_platform_without_a_device_here_is_not_ready(capsys):
    """Its kernels can be made all the same."""
    code, (target,) = doctor(capsys, "metal", "--try")
    assert (code, target["state"]) == (3, "kernels only")


def test_an_unknown_target_is_wrong_usage(capsys):
    """With those there are."""
    assert main(["doctor", "gameboy"]) == 2
    assert "expected one of webgpu" in capsys.readouterr().err
