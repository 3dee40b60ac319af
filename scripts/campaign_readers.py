"""What reads artefacts in the campaigns: commands, and functions of the Python API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign_model import an_input

Work = Callable[[], int]
"""Returns the exit code of a command."""


def command(*argv: Any) -> Work:
    """Return the work of a ``relax-tapml`` command, or of ``build``."""
    verb, *words = map(str, argv)

    def work() -> int:
        from relax_tapml import build
        from relax_tapml.cli.main import main

        return build.main(words) if verb == "build" else main([verb, *words])

    return work


def called(function: Callable[[], Any]) -> Work:
    """Return work that calls the Python API, whose documented errors are refusals."""

    def work() -> int:
        from relax_tapml.errors import TapmlError

        try:
            function()
        except TapmlError as error:
            # Only what is printed by a command is made printable.
            text = str(error).encode("unicode_escape").decode()
            sys.stderr.write(f"error: {type(error).__name__}: {text}\n")
            return int(error.exit_code)
        return 0

    return work


def read_suite(folder: Path | str) -> None:
    """Open a suite and read everything in it."""
    from relax_tapml.suite.open_suite import open_suite

    opened = open_suite(folder)
    for unit in opened.manifest.units:
        opened.module(unit)
    for digest in opened.manifest.tensors:
        opened.tensor(digest)


def read_store(folder: Path | str) -> None:
    """Open a store and read everything in it."""
    from relax_tapml.capture.store import CaptureStore
    from relax_tapml.capture.values import TensorValue

    with CaptureStore.open(Path(folder)) as opened:
        opened.sites(), opened.stats()
        incomplete = set(opened.incomplete_samples())
        for name in opened.samples():
            if name not in incomplete:
                opened.sample_outputs(name)
        for call in opened.calls():
            for value in (*call.inputs, *(call.outputs or ())):
                if isinstance(value, TensorValue):
                    opened.tensor(value.digest, verify=True)
        for name in opened.parameters():
            opened.parameter(name, verify=True)


def replay_suite(folder: str) -> None:
    """Replay a suite by the Python API."""
    import relax_tapml

    relax_tapml.replay(folder, target="llvm", session="inline")


def run_bundle(folder: str, session: str) -> None:
    """Load a bundle and run it."""
    import relax_tapml

    with relax_tapml.load(folder, session=session) as opened:
        opened["main"](an_input())


def read_model(spec: str, *files: str) -> None:
    """Load a model and lower it."""
    from relax_tapml.frontend.load.load_model import load_model
    from relax_tapml.partition.lower import lower, mark_inputs

    loaded = load_model(spec, inputs=[Path(file) for file in files])
    lower(mark_inputs(loaded.module, loaded.params))


def read_boundary(file: str) -> None:
    """Read which units may move."""
    from relax_tapml.partition import boundary

    boundary.read_boundary(file)


FUNCTIONS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        read_suite,
        read_store,
        replay_suite,
        run_bundle,
        read_model,
        read_boundary,
    )
}
