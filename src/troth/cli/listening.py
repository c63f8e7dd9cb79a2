"""Where a server listens: sockets bound before anything slow is done, and addresses as text."""

import contextlib
import resource
import socket


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything slow is done. Raises OSError where the address is wrong or in use."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {host} port {port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. The system would keep megabytes for a client that does not read; streams need little.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**18)
        listener.bind(address)
        # Listening finds out about a port that another process listens on.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def authority(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def allow_many_connections() -> None:
    """Each is an open file; shells allow few by default, and let a process ask for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS names no limit, but refuses to be asked for that.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
