"""Programs that open the page of a ``WebServer``, or do without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.web.toolchain import browser, node, npm_command, npm_folder

_HERE = Path(__file__).parent
_START = "start.html"


class Launcher(Protocol):
    """What connects to a server's URL."""

    name: str
    """For messages."""

    port: int
    """Where the server has to listen; 0 for any port that is free."""

    def command(self, url: str, folder: Path) -> list[str]:
        """Return the program to run with its arguments, which others on this machine can read.

        Parameters
        ----------
        url
            The server's, with its secret.
        folder
            A folder of its own, which only this user can read.

        Raises
        ------
        DeviceUnavailable
            It is not installed.
        """

    def environment(self, url: str) -> dict[str, str]:
        """Return what to set for it, which only this user can read."""


class HeadlessBrowser:
    """Chromium without a window.

    Where the machine has no GPU, SwiftShader is its WebGPU adapter: slow, correct, and without
    ``shader-f16``.
    """

    name = "headless browser"
    port = 0

    def command(self, url: str, folder: Path) -> list[str]:
        """Return the program to run with its arguments, which others on this machine can read."""
        found = browser()
        if found is None:
            raise DeviceUnavailable(
                "session process of target webgpu: there is no browser. "
                "'apt-get install -y chromium', or set RELAX_TAPML_BROWSER to a Chromium"
            )
        # The URL's secret is no argument: it stands in a file that only this user can read.
        start = folder / _START
        start.write_text(f'<meta http-equiv="refresh" content="0; url={url}">\n')
        flags = [
            *("--headless=new", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--disable-background-timer-throttling", "--disable-extensions"),
            *("--enable-unsafe-webgpu", "--ignore-gpu-blocklist"),
            # A kernel may run for long; the caller's timeout ends it.
            *("--disable-gpu-watchdog", "--disable-hang-monitor"),
            "--enable-features=Vulkan",
            f"--user-data-dir={folder / 'profile'}",
        ]
        if not list(Path("/dev").glob("dri/renderD*")):
            flags.append("--use-webgpu-adapter=swiftshader")
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        return [found, *flags, start.as_uri()]

    def environment(self, url: str) -> dict[str, str]:
        """Return what to set for it, which only this user can read."""
        del url
        return {}


class ShownBrowser:
    """The user's own browser, with the user who opens the page that is printed.

    The page stays open between sessions: it asks for the next one at the same address.
    """

    name = "your browser"
    port = 8787

    def command(self, url: str, folder: Path) -> list[str]:
        """Return no program: the URL is printed."""
        del folder
        sys.stderr.write(f"open {url} in a browser with WebGPU, and leave it open\n")
        sys.stderr.flush()
        return []

    def environment(self, url: str) -> dict[str, str]:
        """Return what to set for it, which only this user can read."""
        del url
        return {}


class Node:
    """Node with Dawn, the WebGPU of Chromium: quicker to start, and with any Vulkan driver."""

    name = "Node"
    port = 0

    def command(self, url: str, folder: Path) -> list[str]:
        """Return the program to run with its arguments, which others on this machine can read."""
        del url, folder
        found = node()
        if found is None:
            raise DeviceUnavailable(
                "session node of target webgpu: Node or its packages are missing. "
                f"'apt-get install -y nodejs npm', then '{npm_command()}'"
            )
        return [found, str(_HERE / "node.cjs")]

    def environment(self, url: str) -> dict[str, str]:
        """Return what to set for it, which only this user can read."""
        return {"RELAX_TAPML_URL": url, "NODE_PATH": str(npm_folder() / "node_modules")}
