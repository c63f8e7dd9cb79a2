"""Where a server listens: sockets bound before anything slow is done, and addresses as text."""

import contextlib
import resource
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def listening(host: str, port: int, uds: Path | None) -> Iterator[socket.socket]:
    """A bound socket while open, at a path of the file system where there is one. Raises OSError as `listen` does."""
    with listen(host, port) if uds is None else _listen_at(uds) as listener:
        try:
            yield listener
        finally:
            if uds is not None:
                uds.unlink(missing_ok=True)


def _listen_at(path: Path) -> socket.socket:
    """In the place of a socket that a server has left behind, too."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {path}: {error.strerror or error}") from error
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Raises ValueError naming the setting where TLS could not be spoken by these files."""
    for name, path in (("ssl_certfile", certificate), ("ssl_keyfile", key)):
        if path is not None and not path.is_file():
            raise ValueError(f"serve.{name}={path}: no such file")
    if certificate is None:
        if key is not None:
            raise ValueError("serve.ssl_keyfile is the key of serve.ssl_certfile, which is not given")
        return
    try:
        # Without a password to give, OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise ValueError(
            f"serve.ssl_certfile={certificate}: no certificate and key in PEM that belong together and need no "
            f"password ({error})"
        ) from error


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
