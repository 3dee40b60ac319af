"""The process of a ``Relay``: forwards one connection both ways until either side closes it.

Its arguments are the file descriptors of a listening socket and of the far connection. Its secret
is the key that the near side must present and, after a space, the key to send to the far side.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

from relax_tapml.processes.child import end_with_parent
from relax_tapml.targets.server.forward import forward
from relax_tapml.targets.server.handshake import KeyedListener, send_key

FAR_CLOSED = 3
_WAIT_S = 3600.0


def main() -> None:
    """Forward until a side closes; exit with ``FAR_CLOSED`` if it was the far side, else 0."""
    listener, far = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
    near_key, _, far_key = end_with_parent().partition(" ")
    with listener, KeyedListener(listener) as keyed:
        while (client := keyed.accept(f"client:{near_key}", wait_s=_WAIT_S)) is None:
            pass
    near = client.connection
    with suppress(OSError):  # forwarding fails again, and finds which side closed
        send_key(far, "client", far_key, client.options)
    sys.exit(FAR_CLOSED if forward(near, far) else 0)


if __name__ == "__main__":
    main()
