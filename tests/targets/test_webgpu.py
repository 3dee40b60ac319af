"""WebGPU, in a browser and in Node: what works, and what each kind of fault becomes."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from argparse import Namespace
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tvm
from broken_pipelines import _map_stores, _store, breaks, scale
from lacked_types import model as lacked_types
from transferred import check_gone, check_round_trip, command_line, led_by
from tvm import relax, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T  # noqa: N812

from relax_tapml import Model, bring_up, replay
from relax_tapml.cli.exit import guarded
from relax_tapml.errors import DeviceCrash, DeviceError, DeviceUnavailable, UsageError
from relax_tapml.frontend.model import Sample
from relax_tapml.repair import search
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.system import install_command
from relax_tapml.targets.fleet.local_fleet import LocalFleet
from relax_tapml.targets.open_session import check_session, open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of
from relax_tapml.targets.web.launch import HeadlessBrowser, Program, UserBrowser
from relax_tapml.targets.web.server import WebServer
from relax_tapml.targets.web.side_module import prefix_of
from relax_tapml.targets.web.toolchain import requirements

WEBGPU = parse_target("webgpu")
UNIT = "fused_gelu"
# A software adapter without shader-f16, which comes with Chromium, and one with it.
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
LAVAPIPE = Path("/usr/share/vulkan/icd.d/lvp_icd.json")

MISSING = [f"{item.name} ({item.install})" for item in requirements() if not item.found]
in_browser = pytest.mark.skipif(bool(MISSING), reason=f"needs {'; '.join(MISSING)}")


@pytest.fixture
def node(monkeypatch):
    """Node with the software adapter that comes with Chromium."""
    if not SWIFTSHADER.exists():
        pytest.skip(f"needs {SWIFTSHADER}")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(SWIFTSHADER))
    return "node"


def bound(kernel, axis, factors):
    """Split all loops in two, and bind them to an axis of the grid and to threads."""
    schedule = Schedule(tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")}))
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        outer, inner = schedule.split(schedule.fuse(*schedule.get_loops(block)), factors)
        schedule.bind(outer, axis)
        schedule.bind(inner, "threadIdx.x")
    scheduled = schedule.mod["main"].without_attr("global_symbol")
    return scheduled.with_attr("tirx.is_scheduled", True)


def wide(kernel):
    """Bind 1024 threads to a block."""
    return bound(kernel, "blockIdx.x", [None, 1024])


def crowded(kernel):
    """Launch more groups in a dimension than the 65535 of WebGPU."""
    return bound(kernel, "blockIdx.y", [70000, 1])


def invalid(kernel):
    """Call a function that no shader has."""
    return _map_stores(
        kernel,
        lambda s: _store(s, tirx.call_pure_extern("float32", "no_such_function", s.value)),
    )


def endless(kernel):
    """Store for ever."""

    def repeat(store):
        stored = store.buffer[tuple(store.indices)]
        return tirx.SeqStmt([store, tirx.While(stored * 0 == 0, store)])

    return _map_stores(kernel, repeat)


def hungry(kernel):
    """Compute nothing, with a buffer of 1 GiB, which is more than SwiftShader gives."""
    del kernel
    return first_of_rows


@T.prim_func(private=True, s_tir=True)
def first_of_rows(n: T.Buffer((4, 8), "float32"), total: T.Buffer((4,), "float32")):
    """The kernel of ``hungry``, in place of ``sum``."""
    T.func_attr({"tirx.is_scheduled": True})
    scratch = T.alloc_buffer((1 << 28,), "float32")
    for i in T.thread_binding(4, thread="threadIdx.x"):
        with T.sblock("scratch"):
            row = T.axis.spatial(4, i)
            scratch[row * 89478485] = n[row, 0]
    for i in T.thread_binding(4, thread="threadIdx.x"):
        with T.sblock("total"):
            row = T.axis.spatial(4, i)
            total[row] = scratch[row * 89478485]


def half_precision() -> Model:
    """A product with an odd number of values, whose bytes do not fill words."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((7, 64), "float16"))
    w = relax.Var("w", relax.TensorType((64, 33), "float16"))
    with builder.function("main", [x, w]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nn.relu(builder.emit(relax.op.matmul(x, w))))
        builder.emit_func_output(y)
    rng = np.random.default_rng(0)
    return Model(
        name="half",
        module=builder.get(),
        params={"w": rng.standard_normal((64, 33)).astype("float16")},
        samples=(Sample(name="one", arrays=(rng.standard_normal((7, 64)).astype("float16"),)),),
    )


def trigonometry() -> Model:
    """Sine and cosine where WGSL defines their accuracy."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4096,), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output((relax.op.sin(x), relax.op.cos(x)))
        builder.emit_func_output(y)
    angles = np.linspace(-np.pi, np.pi, 4096, dtype="float32")
    samples = (Sample(name="one", arrays=(angles,)),)
    return Model(name="trigonometry", module=builder.get(), params={}, samples=samples)


# --- Without a browser ----------------------------------------------------------------------------


def test_a_target_gets_a_host_that_runs_in_a_browser():
    """Also functions for symbolic dimensions, which run beside the VM, are WebAssembly."""
    platform = platform_of(WEBGPU)
    assert "wasm32" in str(WEBGPU.host)
    assert platform.name == "webgpu"
    assert platform_of(platform.host(WEBGPU)) is platform


def test_a_browser_is_the_only_place():
    """Nothing of it is in this process, and a page that is not ours cannot load kernels."""
    for spec in ("inline", "rpc:localhost:9090"):
        with pytest.raises(UsageError, match="webgpu: expected process, browser, node or tracker:"):
            check_session(spec, WEBGPU)


def test_a_missing_tool_is_named_with_the_command_that_installs_it(monkeypatch):
    """Before anything is built."""
    monkeypatch.setenv("PATH", "/nowhere")
    install = install_command(debian="emscripten", macos="brew install lld")
    with pytest.raises(DeviceUnavailable, match=rf"wasm-ld is missing \({re.escape(install)}"):
        platform_of(WEBGPU).check()


def test_kernels_are_distinguished_by_their_content():
    """Symbols of all kernels share one table, so their prefix must be unique."""
    digest = "0123456789abcdef" * 2
    assert prefix_of(Path(f"add-webgpu-{digest}.wasm")) == f"k{digest}_"
    assert prefix_of(Path(f".add-webgpu-{digest}-77.wasm")) == f"k{digest}_"
    with pytest.raises(ValueError, match="digest"):
        prefix_of(Path("add.wasm"))


def test_the_address_of_a_page_for_the_user_is_printed(monkeypatch, capsys):
    """By every command, however deep in it the page is served."""
    monkeypatch.setattr(UserBrowser, "port", 0)

    def command(_):
        with closing(WebServer(UserBrowser())) as server:
            message = rf"open (http://127.0.0.1:\d+/{server.key}/) in a browser .*\n"
            (url,) = re.fullmatch(message, capsys.readouterr().err).groups()
            with urllib.request.urlopen(url) as page:
                assert b"relax_tapml device" in page.read()
        return 0

    assert guarded(command)(Namespace(verbose=True)) == 0


def test_the_settings_of_a_gateway_are_no_business_of_the_browser(tmp_path, monkeypatch):
    """Its environment has the user's, and what its launcher sets; no secret besides."""
    script = f"env > {tmp_path / 'env'}; sleep 60"
    program = Program(command=["sh", "-c", script], environment={"OWN": "1"})
    monkeypatch.setattr(_Nobody, "launch", lambda *_: program)
    with closing(WebServer(_Nobody())) as server:
        end = time.monotonic() + 600
        while not (tmp_path / "env").exists() or "OWN=1" not in (tmp_path / "env").read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert server.key not in (tmp_path / "env").read_text()


def test_a_page_that_another_command_shows_is_reported_with_the_fix(monkeypatch):
    """Its address must be the same each time, so only one can be open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(UserBrowser, "port", port)
        message = f"your browser cannot be served at 127.0.0.1:{port}: .*End the other command"
        with pytest.raises(DeviceUnavailable, match=message):
            WebServer(UserBrowser())


# --- In a browser or in Node ----------------------------------------------------------------------


@in_browser
def test_a_browser_gets_every_unit(finished):
    """Replay and migration, in the same tab and the same instance of TVM's runtime."""
    from tiny_model import model

    result = bring_up(model(), target="webgpu", out=finished / "web")
    assert result.verdict == "pass", result.document["units"]
    assert {unit["verdict"] for unit in result.document["units"]} == {"pass"}


@in_browser
@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        (scale, "mismatch", "differs by up to"),
        (invalid, "build_error", "unresolved call target 'no_such_function'"),
        (wide, "build_error", "binds 1024 threads to a block .* webgpu allows 256"),
        (crowded, "crash", r"workgroup count Y \(70000\) exceeds .* dimension \(65535\)"),
        (endless, "timeout", "did not end in 8 s"),
    ],
)
def test_a_faulty_kernel_is_named_and_the_others_run(fault, verdict, reason, finished):
    """The browser's message is the reason."""
    report = replay(
        finished,
        target="webgpu",
        device_pipeline=breaks(UNIT, fault),
        units=[UNIT, "softmax", "matmul"],
        timeout_s=8,
    )
    assert report.units == {UNIT: verdict, "softmax": "pass", "matmul": "pass"}
    assert re.search(reason, report.details[UNIT].reason)


@in_browser
def test_a_tracker_lends_browsers(finished):
    """Each session has one of its own, so that a kernel that never ends is no trouble to others."""
    with closing(LocalFleet(1, key="web", platform="webgpu")) as fleet:
        fleet.wait(240)
        report = replay(
            finished,
            target="webgpu",
            session=fleet.session,
            device_pipeline=breaks(UNIT, endless),
            units=[UNIT, "softmax"],
            timeout_s=20,
        )
    assert report.units == {UNIT: "timeout", "softmax": "pass"}
    assert set(report.devices) == set(fleet.servers)


@in_browser
def test_a_browser_that_crashes_on_a_tracker_is_reported(tmp_path, monkeypatch):
    """Although the server has no more of it than the client has."""
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\necho no display; exit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("RELAX_TAPML_BROWSER", str(program))
    with (
        closing(LocalFleet(1, key="web", platform="webgpu")) as fleet,
        pytest.raises(DeviceUnavailable, match=r"(?s)no display.*exited with code 7"),
    ):
        open_session(fleet.session, WEBGPU)


@in_browser
def test_a_kernel_that_needs_more_memory_than_there_is_is_named(finished, node):
    """The browser reports what it lacks, and the session continues."""
    report = replay(
        finished,
        target="webgpu",
        session=node,
        device_pipeline=breaks("sum", hungry),
        units=["sum", "softmax"],
    )
    assert report.units == {"sum": "crash", "softmax": "pass"}
    assert "out of memory: vkAllocateMemory failed" in report.details["sum"].reason


@in_browser
def test_an_array_larger_than_a_buffer_is_an_error_of_its_upload(node):
    """With the limit, before anything is sent; what comes next works."""
    with closing(open_session(node, WEBGPU)) as session:
        with pytest.raises(DeviceError, match=r"upload of int8.* exceeds the max buffer size"):
            session.upload(np.zeros((1 << 30) + 4, np.int8))
        array = np.arange(5, dtype=np.float32)
        assert (session.download(session.upload(array)) == array).all()


@in_browser
def test_node_does_the_same_without_a_browser(finished, node):
    """The quick way."""
    report = replay(finished, target="webgpu", session=node, device_pipeline=breaks(UNIT, scale))
    assert {unit for unit, verdict in report.units.items() if verdict != "pass"} == {UNIT}


@in_browser
def test_what_tvm_cannot_generate_is_repaired_and_runs(tmp_path, node, monkeypatch):
    """64-bit integers, bytes, infinity, and the start of a maximum, which has seven digits."""
    generated = [one for one in ALTERNATIVES if one.layer is Layer.CODE_GENERATION]
    defaults = {**search.repair_unit.__kwdefaults__, "alternatives": generated[:4]}
    monkeypatch.setattr(search.repair_unit, "__kwdefaults__", defaults)
    result = bring_up(lacked_types(), target="webgpu", session=node, out=tmp_path / "run")
    verdicts = {unit["verdict"] for unit in result.document["units"]}
    assert verdicts == {"build_error", "mismatch"}
    assert {unit.name: unit.repair.chosen for unit in result.units} == {
        "add": "int64-as-words",
        "greater": "generated-otherwise",
        "where": "packed-bytes",
        "softmax": "exact-constants",
        "bounded": "exact-constants",
    }
    assert result.repair.verdict == "pass"
    assert result.repair.repaired_on_device == len(result.units)


@in_browser
def test_float16_is_refused_where_the_adapter_lacks_it(tmp_path, node):
    """WebGPU itself would run nothing and leave zeros."""
    bring_up(half_precision(), session="inline", out=tmp_path / "half")
    report = replay(tmp_path / "half", target="webgpu", session=node)
    (detail,) = report.details.values()
    assert detail.verdict == "build_error"
    assert "extension 'f16' is not allowed" in detail.reason


@in_browser
@pytest.mark.skipif(not LAVAPIPE.exists(), reason=f"needs {LAVAPIPE}, of Mesa 25")
def test_float16_runs_where_the_adapter_has_it(tmp_path, monkeypatch):
    """Through Dawn, on Mesa's software adapter."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(LAVAPIPE))
    bring_up(half_precision(), session="inline", out=tmp_path / "half")
    report = replay(tmp_path / "half", target="webgpu", session="node")
    assert set(report.units.values()) == {"pass"}


@in_browser
@pytest.mark.parametrize(
    ("adapter", "low", "high"),
    [(SWIFTSHADER, 1e-4, 2**-11), (LAVAPIPE, 0, 1e-6)],
    ids=["swiftshader", "lavapipe"],
)
def test_a_sine_as_inaccurate_as_wgsl_allows_is_right(adapter, low, high, tmp_path, monkeypatch):
    """SwiftShader makes use of it; a kernel that is wrong by more is still seen."""
    if not adapter.exists():
        pytest.skip(f"needs {adapter}")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(adapter))
    out = tmp_path / "trigonometry"
    result = bring_up(trigonometry(), target="webgpu", session="node", out=out)
    for unit in result.document["units"]:
        assert unit["verdict"] == "pass"
        assert low <= unit["error"] <= high, unit
    report = replay(out, target="webgpu", session="node", device_pipeline=breaks("tir_sin", scale))
    assert report.units == {"tir_sin": "mismatch", "tir_cos": "pass"}


@in_browser
def test_tensors_come_back_as_they_went(node):
    """Of any size: WebGPU copies whole words only."""
    with closing(open_session(node, WEBGPU)) as session:
        rng = np.random.default_rng(0)
        for dtype in ("float32", "float16", "int32", "uint32", "int8", "uint8", "bool"):
            for shape in ((), (1,), (3,), (5, 7), (1000, 33)):
                array = rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
                check_round_trip(session, array)


@in_browser
def test_the_page_is_for_who_knows_the_secret():
    """Other addresses of its server lead nowhere."""
    server = WebServer(_Nobody())
    try:
        with urllib.request.urlopen(_Nobody.url) as page:
            assert b"relax_tapml device" in page.read()
        port = int(_Nobody.url.split(":")[2].split("/")[0])
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/")
    finally:
        server.close()


@in_browser
def test_a_session_listens_on_loopback_only():
    """The gateway for the page and the client, and all ports of the browser."""
    listening = set()
    with closing(open_session("process", WEBGPU)) as session:
        for process in family(session):
            with suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        listening.add(connection.laddr.ip)
    assert listening == {"127.0.0.1"}


@in_browser
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["false"], "exited with code 1"),
        (["sh", "-c", "kill -40 $$"], "was terminated by signal 40"),  # which has no name
    ],
)
def test_a_browser_that_does_not_start_is_no_device(command, message, monkeypatch):
    """It is reported at once, and is no verdict about any unit."""
    monkeypatch.setattr(HeadlessBrowser, "launch", lambda *_: Program(command=command))
    with pytest.raises(DeviceUnavailable, match=rf"(?s)no device session .* {message}"):
        open_session("process", WEBGPU)


def family(session) -> list[psutil.Process]:
    """The gateway of a session, and the processes of the browser that it started."""
    gateway = psutil.Process(session._server._child.pid)
    return [gateway, *gateway.children(recursive=True)]


def download_for_ever(session, tensor):
    while True:
        session.download(tensor)


@in_browser
@pytest.mark.parametrize(
    ("victim", "message"),
    [
        ("browser", "was terminated by SIGKILL"),
        ("gpu-process", r"device is lost: .* \(\d+ MB of buffers\)"),
    ],
)
def test_a_browser_that_ends_is_a_crash_and_leaves_nothing(victim, message):
    """As a whole, or the process of it that runs kernels, which loses the device."""
    with closing(open_session("process", WEBGPU, timeout_s=30)) as session:
        tensor = session.upload(np.zeros(10, np.float32))
        gateway, *browser = family(session)
        kinds = {process: line for process in browser if (line := command_line(process))}
        chosen = [p for p, line in kinds.items() if f"--type={victim}" in line] or [
            p for p, line in kinds.items() if "--type=" not in line
        ]
        for process in chosen:
            process.kill()
        with pytest.raises(DeviceCrash, match=message):
            download_for_ever(session, tensor)
    check_gone({gateway, *browser, *led_by([gateway.pid])})


@in_browser
def test_a_gateway_that_ends_takes_its_browser_along():
    """Killed from outside, such as by Linux for want of memory."""
    with closing(open_session("process", WEBGPU)) as session:
        gateway, *browser = family(session)
        assert len(browser) > 1
        gateway.kill()
        with pytest.raises(DeviceCrash, match=r"closed the connection|was terminated by SIGKILL"):
            session.upload(np.zeros(1000, np.float32))
    check_gone(browser)


class _Nobody:
    """A launcher that opens no page, and remembers where it would be."""

    name = "nobody"
    port = 0
    url = ""

    def launch(self, url, folder):
        _Nobody.url = url
        return Program()
