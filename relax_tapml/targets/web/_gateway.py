"""Serves the page that is a device, and forwards one RPC client to it; run by ``WebServer``.

It replaces TVM's RPC proxy, which listens on every interface, accepts any page, and does not end
with its parent. It serves one session. Its arguments are the file descriptors of two listening
sockets, for the page and for the client; its secret is a line of JSON, ``Settings``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from relax_tapml.processes.child import end_with_parent, ending_text
from relax_tapml.targets.server.handshake import SUCCESS, KeyedListener, success_message

REPORT = "page: "
"""In the log, before the page's report of its end."""

BROWSER = "the browser "
"""In the log, before how the browser ended by itself."""

_HERE = Path(__file__).parent
_LOOK_S = 0.2
_ENDING_S = 0.5
_CHUNK_BYTES = 1 << 20
_MESSAGE_BYTES = 1 << 30
_TYPES = {".html": "text/html", ".js": "text/javascript"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to serve, and what to start.

    Parameters
    ----------
    key
        The client's key; also part of the page's address.
    runtime
        The file of TVM's JavaScript runtime.
    command
        Opens the page; empty where the user does.
    environment
        Added to the environment of this process.
    """

    key: str
    runtime: str
    command: list[str]
    environment: dict[str, str]


class _File(RequestHandler):
    """Serves one of the page's files."""

    def initialize(self, path: Path) -> None:
        self._path = path

    def get(self) -> None:
        self.set_header("Content-Type", f"{_TYPES[self._path.suffix]}; charset=utf-8")
        # The page loads nothing from elsewhere, and no other page may embed it.
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
            f"style-src 'unsafe-inline'; connect-src 'self' ws://{self.request.host}; "
            "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        )
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.finish(self._path.read_bytes())


class _Page(WebSocketHandler):
    """The connection to the page: binary messages are RPC, a text message is a report."""

    def initialize(self, session: Session) -> None:
        self._session = session
        self._header = b""

    def open(self, *_: str) -> None:
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            _log(REPORT + message)
            self._session.on_report()
        elif self._session.page is self:
            self._session.to_client(message)
        else:
            self._header += message
            self._answer_handshake()

    def _answer_handshake(self) -> None:
        """Answer the RPC handshake of the page when it is complete."""
        if len(self._header) < 8:
            return
        _, length = struct.unpack("<ii", self._header[:8])
        if len(self._header) >= 8 + length:
            name = b"client:relax_tapml"
            self.write_message(struct.pack("<ii", SUCCESS, len(name)) + name, binary=True)
            self._session.on_page(self)

    def on_close(self) -> None:
        self._session.on_page_closed(self)


class Session:
    """One client and one page, and the bytes between them."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._client: IOStream | None = None
        self._arrival: asyncio.Future[_Page] = asyncio.get_running_loop().create_future()
        self.page: _Page | None = None
        self.ended = asyncio.Event()

    def on_page(self, page: _Page) -> None:
        """Accept the first page; close the connection of a second one."""
        if self._arrival.done():
            page.close(reason="another page has this session")
            return
        self.page = page
        self._arrival.set_result(page)

    def on_report(self) -> None:
        """End the session if its page reports an error before the handshake."""
        if self.page is None:
            self.ended.set()

    def on_page_closed(self, page: _Page) -> None:
        """End the session with its page."""
        if page is self.page:
            _log("the page closed its connection")
            self.ended.set()

    def to_client(self, message: bytes) -> None:
        """Forward a message of the page."""
        if self._client is not None:
            with suppress(StreamClosedError):
                self._client.write(message)

    async def serve(self, listener: socket.socket) -> None:
        """Forward for the first client that presents the key, until it leaves."""
        with KeyedListener(listener) as keyed:
            while True:
                accept = partial(keyed.accept, f"client:{self._key}", wait_s=_LOOK_S)
                client = await asyncio.to_thread(accept)
                if client is not None:
                    break
        with suppress(StreamClosedError):
            await self._forward(IOStream(client.connection, max_buffer_size=_MESSAGE_BYTES))

    async def _forward(self, stream: IOStream) -> None:
        page = await self._arrival
        await stream.write(success_message())
        self._client = stream
        with suppress(StreamClosedError, WebSocketClosedError):
            while True:
                chunk = await stream.read_bytes(_CHUNK_BYTES, partial=True)
                await page.write_message(chunk, binary=True)


def main() -> None:
    """Serve one session, then return."""
    pages, clients = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    settings = Settings(**json.loads(end_with_parent()))
    try:
        asyncio.run(_run(pages, clients, settings))
    finally:
        # The browser and all of its processes, which nothing else would end.
        os.killpg(os.getpid(), signal.SIGKILL)


async def _run(pages: socket.socket, clients: socket.socket, settings: Settings) -> None:
    session = Session(settings.key)
    files = {
        "": _HERE / "page.html",
        "device.js": _HERE / "device.js",
        "tvmjs.js": Path(settings.runtime),
    }
    routes = [(f"/{settings.key}/{name}", _File, {"path": path}) for name, path in files.items()]
    application = Application(
        [*routes, (f"/{settings.key}/rpc", _Page, {"session": session})],
        websocket_max_message_size=_MESSAGE_BYTES,
        log_function=lambda _: None,
    )
    for listener in (pages, clients):
        listener.setblocking(False)
    server = HTTPServer(application)
    server.add_socket(pages)
    ends = [asyncio.create_task(session.serve(clients)), asyncio.create_task(session.ended.wait())]
    browser = []
    if settings.command:
        # In the process group of this process, so that it ends with that.
        process = await asyncio.create_subprocess_exec(
            *settings.command,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **settings.environment},
        )
        browser = [asyncio.create_task(_watch(process))]
    await asyncio.wait([*ends, *browser], return_when=asyncio.FIRST_COMPLETED)
    if browser:  # The connection of a browser that crashed is closed before its process has ended.
        await asyncio.wait(browser, timeout=_ENDING_S)


async def _watch(process: asyncio.subprocess.Process) -> None:
    _log(f"{BROWSER}{ending_text(await process.wait())}")


def _log(line: str) -> None:
    sys.stdout.write(line.replace("\n", " | ") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
