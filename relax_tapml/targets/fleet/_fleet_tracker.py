"""The tracker of a ``LocalFleet``, which starts it: TVM's tracker on a socket that it inherits.

Its arguments are the file descriptor of a listening socket, and which users it serves:
``own-user`` or ``any-user``.
"""

from __future__ import annotations

import logging
import sys

from tvm.rpc import base, tracker

from relax_tapml.processes.child import end_with_parent
from relax_tapml.targets.fleet._own_user import listener_for


def main() -> None:
    """Serve until the parent ends."""
    listener = listener_for(sys.argv[2], int(sys.argv[1]))
    end_with_parent()
    logging.getLogger("RPCTracker").setLevel(logging.WARNING)
    tracker._tracker_server(listener, base.random_key("stop"))


if __name__ == "__main__":
    main()
