"""The process of a ``Relay``: forwards one connection both ways until either side closes it.

Its arguments are the file descriptors of a listening socket and of the far connection, its secret
the key that the near side presents and, after a space, the one that the far side gets for it.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from relax_tapml.processes.child import end_with_parent
from relax_tapml.targets.server.forward import forward
from relax_tapml.targets.server.handshake import Entrance, introduce

FAR_CLOSED = 3
_WAIT_S = 3600.0


def main() -> None:
    """Forward until a side closes; exit with ``FAR_CLOSED`` if it was the far side, else 0."""
    listener, far = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
    ours, _, theirs = end_with_parent().partition(" ")
    with listener, Entrance(listener) as entrance:
        while (client := entrance.meet(f"client:{ours}", wait_s=_WAIT_S)) is None:
            pass
    near = client.connection
    with suppress(OSError):  # forwarding meets it again, and tells who it was
        introduce(far, "client", theirs, client.options)
    sys.exit(FAR_CLOSED if forward(near, far) else 0)


if __name__ == "__main__":
    main()
