"""Programs that open the page of a ``WebServer``, or run its script without a page."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.system import IS_MACOS
from relax_tapml.targets.web.toolchain import (
    BROWSER_COMMAND,
    NODE_COMMAND,
    browser,
    node,
    npm_command,
    npm_folder,
)

_HERE = Path(__file__).parent
_START = "start.html"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, if anything.

    Parameters
    ----------
    command
        The program with its arguments, which all users of this machine can read; empty for none.
    environment
        Added to its environment; only this user can read it.
    """

    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


class Launcher(Protocol):
    """Starts a program that connects to a server's URL."""

    name: str
    """For messages."""

    port: int
    """The port on which the server has to listen; 0 for any free one."""

    def launch(self, url: str, folder: Path) -> Program:
        """Return the program to run.

        Parameters
        ----------
        url
            The server's, with its secret.
        folder
            A folder for the program, which only this user can read.

        Raises
        ------
        DeviceUnavailable
            It is not installed.
        """


class HeadlessBrowser:
    """Chromium without a window.

    Where the machine has no GPU, SwiftShader is its WebGPU adapter: slow, correct, and without
    ``shader-f16``.
    """

    name = "headless browser"
    port = 0

    def launch(self, url: str, folder: Path) -> Program:
        """Return Chromium, after writing the URL to a file for it."""
        found = browser()
        if found is None:
            raise DeviceUnavailable(
                "session process of target webgpu: there is no browser. "
                f"'{BROWSER_COMMAND}', or set RELAX_TAPML_BROWSER to a Chromium"
            )
        # The URL has a secret: it is in a file that only this user can read, not an argument.
        start = folder / _START
        start.write_text(f'<meta http-equiv="refresh" content="0; url={url}">\n')
        flags = [
            *("--headless=new", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--disable-background-timer-throttling", "--disable-extensions"),
            *("--enable-unsafe-webgpu", "--ignore-gpu-blocklist"),
            # A kernel may take long; the caller's timeout ends it.
            *("--disable-gpu-watchdog", "--disable-hang-monitor"),
            f"--user-data-dir={folder / 'profile'}",
        ]
        if not IS_MACOS:  # whose browsers use Metal
            flags.append("--enable-features=Vulkan")
            if not list(Path("/dev").glob("dri/renderD*")):
                flags.append("--use-webgpu-adapter=swiftshader")
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        return Program(command=[found, *flags, start.as_uri()])


class UserBrowser:
    """The user's own browser: the URL is logged, and the user opens it.

    The page stays open between sessions: it requests the next one at the same address.
    """

    name = "your browser"
    port = 8787

    def launch(self, url: str, folder: Path) -> Program:
        """Log the URL, as a warning so that it is always printed; return no program."""
        del folder
        _LOG.warning("open %s in a browser with WebGPU, and leave it open", url)
        return Program()


class Node:
    """Node with Dawn, the WebGPU of Chromium: starts faster, and works with any Vulkan driver."""

    name = "Node"
    port = 0

    def launch(self, url: str, folder: Path) -> Program:
        """Return Node with ``node.cjs``, which reads the URL from its environment."""
        del folder
        found = node()
        if found is None:
            raise DeviceUnavailable(
                "session node of target webgpu: Node or its packages are missing. "
                f"'{NODE_COMMAND}', then '{npm_command()}'"
            )
        return Program(
            command=[found, str(_HERE / "node.cjs")],
            environment={"RELAX_TAPML_URL": url, "NODE_PATH": str(npm_folder() / "node_modules")},
        )
