"""``relax-tapml fleet``: devices behind a TVM RPC tracker, of our own or of others."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import closing
from types import FrameType
from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.report.quantities import count_text

_STATUS_S = 10.0


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
        help="start a tracker and servers here, until Ctrl-C",
        description="Start a TVM RPC tracker and N servers that only this machine can reach, print "
        "the session to give to others commands, and run until Ctrl-C or SIGTERM.",
    )
    up.add_argument("count", type=int, metavar="N", help="how many servers")
    up.add_argument("--key", default="local", help="what they register as (default: local)")
    up.add_argument(
        "--port", type=int, default=9190, help="of the tracker; 0 for any (default: 9190)"
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
    from relax_tapml.targets.local_fleet import LocalFleet  # imports TVM

    if args.count < 1:
        raise UsageError(f"fleet up {args.count}: expected at least 1 server")
    # SIGINT too: a shell starts what it puts in the background with SIGINT ignored.
    previous = {n: signal.signal(n, _interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with closing(LocalFleet(args.count, key=args.key, port=args.port)) as fleet:
            fleet.wait()
            for address in fleet.servers:
                sys.stdout.write(f"server {address}\n")
            sys.stdout.write(f"--session {fleet.session}\n")
            sys.stdout.flush()
            sys.stderr.write("Ctrl-C ends the tracker and its servers.\n")
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _status(args: argparse.Namespace) -> int:
    from relax_tapml.targets.tracker import tracker_status  # imports TVM

    host, _, port = args.tracker.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"fleet status {args.tracker}: expected HOST:PORT")
    keys = tracker_status(host, int(port), timeout_s=_STATUS_S)
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
