"""The process of a ``Relay``: forwards one connection both ways until either side closes it.

Its arguments are the file descriptors of a listening socket and of the far connection.
"""

from __future__ import annotations

import socket
import sys

from relax_tapml.targets.child import end_with_parent
from relax_tapml.targets.forward import forward

FAR_CLOSED = 3


def main() -> None:
    """Forward until a side closes; exit with ``FAR_CLOSED`` if it was the far side, else 0."""
    listener, far = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
    end_with_parent()
    near, _ = listener.accept()
    listener.close()
    sys.exit(FAR_CLOSED if forward(near, far) else 0)


if __name__ == "__main__":
    main()
