"""The pytest plugin that carved suites run with.

It is loaded by every pytest run of its environment, so it imports nothing but pytest until a
carved test runs, prints nothing, and adds only the options and the fixture below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from relax_tapml.testing.carved import CarvedSuites


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


@pytest.fixture(scope="session")
def tapml(request: pytest.FixtureRequest) -> Iterator[CarvedSuites]:
    """Give carved tests the devices and kernels of their suites, shared by all of them."""
    from relax_tapml.testing.carved import CarvedSuites  # imports TVM

    option = request.config.option
    suites = CarvedSuites(
        test_files=frozenset(item.path for item in request.session.items),
        target=option.tapml_target,
        session=option.tapml_session,
        device_pipeline=option.tapml_device_pipeline,
        timeout_s=option.tapml_timeout,
    )
    try:
        yield suites
    finally:
        suites.close()
