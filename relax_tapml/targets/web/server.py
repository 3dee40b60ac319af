"""The server of a session in a browser or in Node."""

from __future__ import annotations

import errno
import json
import secrets
import socket
import tempfile
from dataclasses import asdict
from pathlib import Path

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import KILLS, Child, ending_text, is_kill
from relax_tapml.targets.server.exit_report import ExitReport
from relax_tapml.targets.web._gateway import BROWSER, REPORT, Settings
from relax_tapml.targets.web.launch import Launcher
from relax_tapml.targets.web.toolchain import javascript_runtime

_ENDING_S = 2.0
_KILLED = frozenset(ending_text(-number) for number in KILLS)
# Chromium binds a socket whose path is 70 characters longer and may have 103 on macOS.
_LONGEST_FOLDER = 33
# A page that stays open must find the next session at the same address.
_kept_key = secrets.token_hex(16)


class WebServer:
    """A gateway and the program that opens its page; a ``Server``.

    The page is served on this machine's loopback interface only, at a URL with a secret, and loads
    nothing from elsewhere.

    Parameters
    ----------
    launcher
        Opens the page.

    Raises
    ------
    DeviceUnavailable
        The program is not installed, or its address is in use.
    """

    folder = None
    hint = "'relax-tapml doctor --try webgpu' tries it with one kernel"

    def __init__(self, launcher: Launcher) -> None:
        self.host = "127.0.0.1"
        self.name = launcher.name
        self.key = _kept_key if launcher.port else secrets.token_hex(16)
        folder = ScratchFolder(_parent())
        try:
            with (
                socket.create_server((self.host, launcher.port)) as pages,
                socket.create_server((self.host, 0)) as clients,
            ):
                self.port = clients.getsockname()[1]
                url = f"http://{self.host}:{pages.getsockname()[1]}/{self.key}/"
                program = launcher.launch(url, folder.path)
                settings = Settings(
                    key=self.key,
                    runtime=str(javascript_runtime()),
                    command=program.command,
                    environment=program.environment,
                )
                self._child = Child(
                    "relax_tapml.targets.web._gateway",
                    [pages, clients],
                    secret=json.dumps(asdict(settings)),
                    folder=folder,
                )
        except BaseException as error:
            folder.close()
            if isinstance(error, OSError):
                is_taken = launcher.port and error.errno == errno.EADDRINUSE
                fix = ". End the other command that runs with --show" if is_taken else ""
                where = f" at {self.host}:{launcher.port}" if launcher.port else ""
                raise DeviceUnavailable(
                    f"{self.name} cannot be served{where}: {error}{fix}"
                ) from error
            raise

    @property
    def pid(self) -> int:
        """The gateway's process id; the browser is its child."""
        return self._child.pid

    def interrupt(self) -> None:
        """Kill the gateway and the browser that it started."""
        self._child.kill()

    def exit_report(self) -> ExitReport:
        """Report how the page ended, after a short wait for one that is ending."""
        code = self._child.exit_code(_ENDING_S)
        text = self._child.log_tail()
        reports = [line.removeprefix(REPORT) for line in text.splitlines() if REPORT in line]
        if reports:
            return ExitReport(cause=f"reported: {reports[-1]}", log="\n".join(reports))
        for line in text.splitlines():
            if line.startswith(BROWSER):
                cause = line.removeprefix(BROWSER)
                return ExitReport(cause=cause, log=text, is_killed=cause in _KILLED)
        if is_kill(code):
            return ExitReport(cause=ending_text(code), log=text, is_killed=True)
        return ExitReport(cause="closed the connection" if code is not None else None, log=text)

    def close(self) -> None:
        """Kill everything, wait for its end and remove its folder. Never raises."""
        self._child.close()


def _parent() -> Path:
    parent = tempfile.gettempdir()
    return Path(parent if len(parent) <= _LONGEST_FOLDER else "/tmp")
