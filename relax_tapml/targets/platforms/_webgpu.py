"""WebGPU, in a browser or in Node."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.targets.platforms.platform import START_S, TRACKER, Opener, Platform
from relax_tapml.targets.session.attempts import open_with_retries
from relax_tapml.targets.session.rpc_session import Server
from relax_tapml.targets.session.session import DeviceSession
from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.gpu_limits import check_limits
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath
from relax_tapml.targets.toolchain.requirement import Requirement
from relax_tapml.targets.web.launch import HeadlessBrowser, Launcher, Node, UserBrowser
from relax_tapml.targets.web.server import WebServer
from relax_tapml.targets.web.session import WebSession
from relax_tapml.targets.web.side_module import FLAGS, PACKER, TRIPLE, prefix_of, with_prefix
from relax_tapml.targets.web.toolchain import browser, linker, node, npm_packages, requirements
from relax_tapml.targets.web.wasm_runtime import wasm_runtime

# Without a width LLVM takes 128 bits, and TVM warns of that for every kernel.
_HOST = {"kind": "llvm", "mtriple": TRIPLE, "vector-width": 128}
_LOW_PRECISION = LowPrecisionMath(
    names=frozenset({"sin", "cos", "tan", "asin", "acos", "atan"}),
    reason="WGSL allows sine and cosine to be off by 2**-11, and arcs by 4096 ULP",
)
# The user has to open the page.
_PAGE_S = 600.0


class WebGPU(Platform):
    """Kernels in WGSL, and WebAssembly that launches them."""

    name = "webgpu"
    summary = "WebGPU in a browser, or in Node"
    tried_on = "Chromium and Node (Dawn) with software adapters; no GPU"
    suffix = ".wasm"
    copy_alignment = 4
    remote_sessions = (TRACKER,)  # The page of TVM's RPC proxy cannot load kernels.

    def owns(self, target: Any) -> bool:
        """Whether kernels of a ``tvm.target.Target`` are this platform's."""
        return target.kind.name == "webgpu" or "wasm32" in str(target.attrs.get("mtriple", ""))

    def lacks_waiting(self, target: Any) -> bool:
        """Return whether it is a GPU, for which only JavaScript can wait."""
        return bool(target.kind.name == "webgpu")

    def complete(self, target: Any) -> Any:
        """Return a target with a host that runs in a browser."""
        if target.kind.name != "webgpu" or target.host is not None:
            return target
        return tvm.target.Target(target, host=_HOST)

    def low_precision_math(self, target: Any) -> LowPrecisionMath | None:
        """Return which functions are computed less accurately under the options in use, and why."""
        return _LOW_PRECISION if target.kind.name == "webgpu" else None

    def compile(self, module: Any, target: Any, path: Path) -> None:
        """Schedule and compile a module of one PrimFunc to a file that the device loads."""
        scheduled = schedule(module, target)
        if target.kind.name == "webgpu":  # not for functions that run beside the VM
            check_limits(scheduled, target)
        built = tvm.tirx.build(with_prefix(scheduled, prefix_of(path)), target=target)
        built.export_library(str(path), fcompile=PACKER)

    def sessions(self) -> Mapping[str, Opener]:
        """Return how to open a device on this machine, by the name of ``--session``."""
        return {
            "process": lambda target, timeout_s: self._open(HeadlessBrowser(), target, timeout_s),
            "browser": lambda target, timeout_s: self._open(UserBrowser(), target, timeout_s),
            "node": lambda target, timeout_s: self._open(Node(), target, timeout_s),
        }

    def server_command(self, options: str) -> str:
        """Return the command that starts a server on the device's machine, for messages."""
        return f"'relax-tapml fleet up 1 --target webgpu {options}'"

    def prepare_client(self) -> None:
        """Compile TVM's runtime, unless it is in the cache: a page would not wait for it."""
        wasm_runtime()

    def connect(
        self, server: Server, target: Any, *, timeout_s: float, start_s: float | None = None
    ) -> DeviceSession:
        """Return a session on a server. Raises ``DeviceUnavailable``."""
        runtime = wasm_runtime().read_bytes()
        return WebSession(server, target, runtime=runtime, timeout_s=timeout_s, start_s=start_s)

    def requirements(self) -> list[Requirement]:
        """Return what it needs on this machine beside Python packages, found or missing."""
        return requirements()

    def compiler(self, target: Any) -> AbstractContextManager[Mapping[str, str]]:
        """Set up the compiler of kernels; yields facts that become part of a kernel's cache key."""
        del target
        return nullcontext({"linker": f"{linker()} {' '.join(FLAGS)}"})

    def has_device_here(self) -> bool:
        """Whether this machine has a device to run kernels on, or a stand-in for one."""
        return self._launcher() is not None

    def start(self) -> Server:
        """Start a browser without a window, or else Node. Raises ``DeviceUnavailable``."""
        self._demand([npm_packages()])
        return WebServer(self._launcher() or HeadlessBrowser())

    def _launcher(self) -> Launcher | None:
        return HeadlessBrowser() if browser() else Node() if node() else None

    def _open(self, launcher: Launcher, target: Any, timeout_s: float) -> DeviceSession:
        start_s = max(timeout_s, _PAGE_S if isinstance(launcher, UserBrowser) else START_S)
        return open_with_retries(
            lambda: self.connect(WebServer(launcher), target, timeout_s=timeout_s, start_s=start_s)
        )
