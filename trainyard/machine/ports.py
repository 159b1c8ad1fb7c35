"""TCP ports of this machine."""

import socket


def free_port() -> int:
    """A port that nobody listens on at this moment; the system chooses it."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Could a server be started on this port now? A port in TIME_WAIT counts as free, as it does for a server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
