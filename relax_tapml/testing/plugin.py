"""The pytest plugin that carved suites run with.

It is loaded by every pytest run of its environment, so it imports next to nothing until a
carved test runs, prints nothing, and adds only the options, the mark and the fixtures below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relax_tapml.files.scratch import ScratchFolder

if TYPE_CHECKING:
    from relax_tapml.testing.carved import CarvedSuites
    from relax_tapml.testing.carved_test import CarvedTest

_SHARED = pytest.StashKey[ScratchFolder]()
_WORKER_INPUT = "tapml_kernels"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where carved suites run."""
    group = parser.getgroup("tapml", "carved operator tests (relax_tapml)")
    group.addoption(
        "--tapml-target",
        metavar="TARGET",
        help="TVM target to build the units for (default: the one the suite was recorded on)",
    )
    group.addoption(
        "--tapml-session",
        metavar="SESSION",
        default="process",
        help="where the device is: process (default), inline, rpc:HOST:PORT or "
        "tracker:HOST:PORT:KEY",
    )
    group.addoption(
        "--tapml-device-pipeline",
        metavar="MODULE:ATTR",
        help="a Relax pass applied to the units before they are scheduled and built",
    )
    group.addoption(
        "--tapml-timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how long one call on the device may take (default: 60)",
    )
    group.addoption(
        "--tapml-repeat",
        metavar="N",
        type=int,
        default=1,
        help="run each case N times; one that fails now and then is flaky (default: 1)",
    )
    group.addoption(
        "--tapml-seed",
        metavar="SEED",
        type=int,
        help="of the pattern that memory holds before each call (default: another in each run)",
    )
    group.addoption(
        "--tapml-trust",
        action="store_true",
        help="the suites come from somebody who may run any code here: let them call functions "
        "that are not known to be harmless",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, which ``--strict-markers`` asks for."""
    config.addinivalue_line(
        "markers", "tapml_slow: a carved case that takes about a second or more"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give every worker of pytest-xdist the same folder for its kernels."""
    config: pytest.Config = node.config
    if _SHARED not in config.stash:
        config.stash[_SHARED] = ScratchFolder()
    node.workerinput[_WORKER_INPUT] = str(config.stash[_SHARED].path)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder, when all workers have ended."""
    shared = config.stash.get(_SHARED, None)
    if shared is not None:
        shared.close()


@pytest.fixture(scope="session")
def tapml_suites(request: pytest.FixtureRequest) -> Iterator[CarvedSuites]:
    """Give the devices and kernels of carved suites, shared by all tests of a process."""
    from relax_tapml.testing.carved import CarvedSuites  # imports TVM

    option = request.config.option
    shared = getattr(request.config, "workerinput", {}).get(_WORKER_INPUT)
    suites = CarvedSuites(
        test_files=frozenset(item.path for item in request.session.items),
        target=option.tapml_target,
        session=option.tapml_session,
        device_pipeline=option.tapml_device_pipeline,
        timeout_s=option.tapml_timeout,
        repeat=option.tapml_repeat,
        seed=option.tapml_seed,
        trust=option.tapml_trust,
        shared=None if shared is None else Path(shared),
    )
    try:
        yield suites
    finally:
        suites.close()


@pytest.fixture
def tapml(request: pytest.FixtureRequest, tapml_suites: CarvedSuites) -> CarvedTest:
    """Give a carved test its device, and a place for what came out."""
    from relax_tapml.testing.carved_test import CarvedTest  # imports TVM

    return CarvedTest(suites=tapml_suites, properties=request.node.user_properties)
