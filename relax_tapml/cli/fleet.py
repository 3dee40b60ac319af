"""``relax-tapml fleet``: start a TVM RPC tracker with servers, or list the devices of one."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from contextlib import closing, suppress
from typing import Any

from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.report.quantities import count_text

_STATUS_S = 10.0
_LAST_PORT = 65535


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "fleet",
        help="devices behind a TVM RPC tracker",
        description="Start a tracker with servers on this machine, to try one, or look at any.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser(
        "up",
        help="start servers here and a tracker, until Ctrl-C",
        description="Start a TVM RPC tracker and N servers that only this machine can reach, print "
        "the session to give to other commands, and run until Ctrl-C, SIGTERM or SIGHUP. A client "
        "of a server can run code as you, so only your own user is served, unless --any-user or "
        "--host is given.",
    )
    up.add_argument("count", type=int, metavar="N", help="how many servers")
    up.add_argument(
        "--target", default="llvm", help="what device each has, as 'doctor' lists (default: llvm)"
    )
    up.add_argument("--key", help="what they register as (default: the target's name)")
    up.add_argument(
        "--port", type=int, default=9190, help="of the tracker; 0 for any (default: 9190)"
    )
    up.add_argument(
        "--tracker", metavar="HOST:PORT", help="one that runs already, to register with instead"
    )
    up.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="what servers listen on: 0.0.0.0 lets other machines run code on this one "
        "(default: 127.0.0.1)",
    )
    up.add_argument(
        "--any-user",
        action="store_true",
        help="serve all users of this machine, who can then run code as you",
    )
    status = actions.add_parser(
        "status",
        help="what a tracker has",
        description="Print each key of a tracker, with its servers and how many are free.",
    )
    status.add_argument("tracker", metavar="HOST:PORT", help="the tracker's address")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return _up(args) if args.action == "up" else _status(args)


def _up(args: argparse.Namespace) -> int:
    from relax_tapml.targets.fleet.local_fleet import LocalFleet  # imports TVM
    from relax_tapml.targets.platforms.registry import platform_named

    if args.key and not re.fullmatch(r"[!-~]+", args.key):
        raise UsageError(f"--key {args.key!r}: expected a word of ASCII")
    if args.count < 1:
        raise UsageError(f"fleet up {args.count}: expected at least 1 server")
    _check_port(args.port, f"--port {args.port}")
    platform = platform_named(args.target)
    if not platform.has_device_here():
        raise DeviceUnavailable(
            f"target {platform.name}: there is no such device here; see 'relax-tapml doctor "
            f"{platform.name}'"
        )
    tracker = _address(args.tracker, "--tracker") if args.tracker else None
    # A shell starts background commands with SIGINT ignored.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        fleet = LocalFleet(
            args.count,
            key=args.key or platform.name,
            port=args.port,
            platform=platform.name,
            tracker=tracker,
            host=args.host,
            is_shared=args.any_user,
        )
        with closing(fleet):
            fleet.wait()
            for address in fleet.servers:
                sys.stdout.write(f"server {address}\n")
            sys.stdout.write(f"--session {fleet.session}\n")
            sys.stdout.flush()
            what = "the servers" if tracker else "the tracker and its servers"
            sys.stderr.write(f"{fleet.reach}. Ctrl-C ends {what}.\n")
            with suppress(KeyboardInterrupt):  # raised for SIGTERM and SIGHUP, too
                while True:
                    signal.pause()
            return 0
    finally:
        signal.signal(signal.SIGINT, previous)


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{option} {text}: expected HOST:PORT")
    _check_port(int(port), f"{option} {text}")
    return host, int(port)


def _check_port(port: int, option: str) -> None:
    if not 0 <= port <= _LAST_PORT:
        raise UsageError(f"{option}: expected a port of at most {_LAST_PORT}")


def _status(args: argparse.Namespace) -> int:
    from relax_tapml.targets.fleet.tracker import tracker_status  # imports TVM

    keys = tracker_status(*_address(args.tracker, "fleet status"), timeout_s=_STATUS_S)
    if not keys:
        sys.stdout.write(f"no server is registered at {args.tracker}\n")
    for key, status in keys.items():
        sys.stdout.write(
            f"{key}: {count_text(len(status.servers), 'server')}, {status.free} free, "
            f"{status.busy} busy\n"
        )
        for address in status.servers:
            sys.stdout.write(f"  {address}\n")
    return 0
