"""The tracker of a ``LocalFleet``, started by it: TVM's own, on a socket that is there already.

Its argument is the file descriptor of a listening socket.
"""

from __future__ import annotations

import logging
import socket
import sys

from tvm.rpc import base, tracker

from relax_tapml.targets.child import end_with_parent


def main() -> None:
    """Serve until the parent is gone."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    end_with_parent()
    logging.getLogger("RPCTracker").setLevel(logging.WARNING)
    tracker._tracker_server(listener, base.random_key("stop"))


if __name__ == "__main__":
    main()
