"""A suite on several devices at once: nothing is lost, and a wrong device is no wrong unit."""

from __future__ import annotations

import threading
from contextlib import closing

import moody_kernels
import pytest
from broken_pipelines import abort, breaks, off_by_half

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, ExitCode, StoreError
from relax_tapml.replays.fleet import fleet_replay
from relax_tapml.replays.replay import replay
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.session.rpc_session import RPCSession
from relax_tapml.targets.session.traffic import Traffic

# Of the recorded model, the units that a process without its sine can run.
UNITS = ["increment", "cumsum", "add_and_subtract", "vm.builtin.reshape", "add", "double_inplace"]


@pytest.fixture
def on(fleet, suite):
    """A function that replays units of the suite on the devices of a key."""

    def run(key, *, units=UNITS, **options):
        return replay(suite, session=fleet.session(key), units=units, **options)

    return run


@pytest.fixture
def moody(on, first_served):
    """A function that replays the moody units, of which the first device of a key gets one.

    The others wait with their first until it has.
    """

    def run(key):
        first = first_served(key)
        units = moody_kernels.UNITS
        return first, on(key, units=units, device_pipeline="moody_kernels:pipeline")

    return run


def test_verdicts_and_their_order_are_those_of_one_device(on, suite):
    """Each unit names the device that decided, and a failure happened on two."""
    wrong = breaks("increment", off_by_half)
    one = replay(suite, session="inline", device_pipeline=wrong, units=UNITS)
    report = on("three", device_pipeline=wrong)
    assert list(report.units.items()) == list(one.units.items())
    assert report.units["increment"] is Verdict.MISMATCH
    assert report.details["increment"].reason == one.details["increment"].reason
    assert {detail.device for detail in one.details.values()} == {"inline"}
    assert {detail.device for detail in report.details.values()} <= set(report.devices)
    assert sum(record.units for record in report.devices.values()) > len(UNITS)
    assert report.suspects == {}


def test_a_kernel_that_crashes_everywhere_is_a_crash_of_its_unit(on, fleet):
    """Two devices are enough to know; the rest of the suite goes on, and all servers are there."""
    report = on("three", device_pipeline=breaks("increment", abort))
    assert report.units == dict.fromkeys(UNITS, Verdict.PASS) | {"increment": Verdict.CRASH}
    assert sum(record.faults for record in report.devices.values()) == 2
    assert "was terminated by SIGABRT; so on " in report.details["increment"].reason
    assert report.suspects == {}
    fleet.wait("three")


def test_a_device_that_lies_is_named_and_the_units_pass(moody, fleet):
    """Two others agree, so it is the device; what it got right it got right."""
    outvoted, report = moody("three")
    assert report.units == dict.fromkeys(moody_kernels.UNITS, Verdict.PASS)
    assert report.exit_code is ExitCode.PASS
    assert list(report.suspects) == [outvoted]
    assert report.suspects[outvoted].startswith("gave wrong answers for ")
    for address in fleet.addresses["three"][1:]:
        assert address in report.suspects[outvoted]
    assert outvoted not in {detail.device for detail in report.details.values()}


def test_two_devices_that_disagree_leave_it_open(moody, fleet):
    """Neither the unit nor a device is judged; both are named."""
    outvoted, report = moody("two")
    assert report.exit_code is ExitCode.INCONCLUSIVE
    assert report.suspects == {}
    open_units = [unit for unit, verdict in report.units.items() if verdict != Verdict.PASS]
    assert open_units
    for unit in open_units:
        detail = report.details[unit]
        assert detail.verdict is Verdict.INCONCLUSIVE
        assert detail.reason.startswith(
            f"mismatch on {outvoted}, but it passes on {fleet.addresses['two'][1]}: one of two "
            "devices"
        )


def test_what_a_server_that_dies_had_in_hand_goes_to_another(moody, fleet, suite):
    """The verdicts are those of one device; when no device is left, the report states it."""
    dying, report = moody("mortal")
    assert report.units == dict.fromkeys(moody_kernels.UNITS, Verdict.PASS)
    assert report.devices[dying].lost.startswith("its server is gone, after ")
    assert report.devices[dying].faults == 1
    assert report.suspects == {}
    fleet.local.servers[fleet.addresses["mortal"][1]].kill()
    with pytest.raises(DeviceUnavailable, match=r"no server (of that key )?is registered"):
        replay(suite, session=fleet.session("mortal"), timeout_s=1)


@pytest.mark.needs_forks  # whose sessions start at once
def test_what_was_judged_is_kept_when_all_devices_are_lost(on, doom, fleet):
    """What is wrong is wrong, on one device if need be; the rest is open, with the reason."""
    doom("doomed", {"increment", "cumsum"})
    report = on("doomed", device_pipeline=breaks("increment", off_by_half))
    assert list(report.units) == UNITS
    assert report.units["increment"] is Verdict.MISMATCH
    assert report.units["cumsum"] is Verdict.PASS
    assert report.exit_code is ExitCode.MISMATCH
    assert report.unavailable.startswith("no device of key 'doomed' is left: 127.0.0.1:")
    assert report.unjudged == [u for u, v in report.units.items() if v is Verdict.INCONCLUSIVE]
    assert "double_inplace" in report.unjudged
    for unit in report.unjudged:
        assert report.details[unit].reason == f"not judged: {report.unavailable}"
    for address in fleet.addresses["doomed"]:
        assert report.devices[address].lost.startswith("its server ")
        assert f"{address}: its server " in report.unavailable


@pytest.mark.needs_forks  # whose sessions start at once
def test_a_kernel_that_ends_every_server_is_named(fleet, on, monkeypatch):
    """Both servers are gone, so nothing is known of any unit."""
    both = threading.Barrier(2)
    call = RPCSession.call

    def together(session, *args):
        both.wait(120)
        return call(session, *args)

    monkeypatch.setattr(RPCSession, "call", together)
    monkeypatch.setattr("relax_tapml.replays.fleet.fleet_replay._RETURN_S", 0.5)  # None returns.
    with pytest.raises(DeviceUnavailable) as caught:
        on("fatal", units=moody_kernels.UNITS, device_pipeline="moody_kernels:pipeline")
    message = str(caught.value)
    assert message.startswith("no device of key 'fatal' is left: ")
    for unit in ("increment", "add_and_subtract"):
        assert f"its server is gone, after {unit} began there; " in message


def test_devices_in_use_are_counted_and_left_alone(on, fleet):
    """A replay uses those that are free; where none is, it reports how many are in use."""
    llvm = parse_target("llvm")
    with closing(open_session(fleet.session("two"), llvm)):
        report = on("two", units=["add", "cumsum"])
        assert len(report.devices) == 1
        with (
            closing(open_session(fleet.session("two"), llvm)),
            pytest.raises(DeviceUnavailable, match="2 of that key are registered, none is free"),
        ):
            on("two", units=["add"], timeout_s=1)


class SlowDevice:
    """A device whose calls take until they are interrupted."""

    name, is_open, traffic = "slow:1", True, Traffic()

    def __init__(self, *_, **__):
        self.interrupted = threading.Event()

    def interrupt(self):
        self.interrupted.set()


class SlowReplayer:
    """Replays on such a device; the first of two cannot read the suite."""

    count = 0

    def __init__(self, device):
        self.device, self.traffic, self.is_fresh = device, Traffic(), True
        SlowReplayer.count += 1
        self.number = SlowReplayer.count

    def open(self, *, is_fresh):
        return ""

    def close(self):
        pass


def test_no_thread_is_left_when_a_replay_ends_with_an_error(monkeypatch):
    """A call that is running on another device is interrupted."""

    def replay_unit(replayer, unit, repeat):
        if replayer.number == 1:
            raise StoreError("the suite cannot be read")
        replayer.device.interrupted.wait()
        raise DeviceUnavailable("interrupted")

    monkeypatch.setattr(fleet_replay, "LeasedDevice", SlowDevice)
    monkeypatch.setattr(fleet_replay, "replay_unit", replay_unit)
    monkeypatch.setattr(fleet_replay, "_ENDING_S", 0.1)
    before = threading.active_count()
    replays = fleet_replay.FleetReplay(
        None,
        None,
        timeout_s=60,
        count=2,
        open_replayer=SlowReplayer,
        units=["one", "two"],
        repeat=1,
    )
    with pytest.raises(StoreError, match="the suite cannot be read"):
        replays.run()
    assert threading.active_count() == before
