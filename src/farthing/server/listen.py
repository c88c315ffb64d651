"""The socket, taken before a model is loaded: an address that is in use must not cost minutes to learn.

It listens at once, because Linux lets two processes bind one port as long as neither listens. Knows no HTTP.
"""

import errno
import socket

from farthing.errors import UsageError

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one (`getsockname` tells). "::" serves IPv4 too."""
    if not 0 <= port <= 65535:
        raise UsageError(f"there is no port {port}", fix="--port takes 1 to 65535, or 0 for a free one")
    family, address = _resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where this machine reaches it; an address that stands for all is shown as localhost."""
    address, port = listener.getsockname()[:2]
    if address in ("0.0.0.0", "::"):
        address = "localhost"
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _resolve(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """The first address of the name, an IPv4 one where it has both: that is what 'localhost' is taken for."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host} is no address of this machine", fix="try --host 127.0.0.1") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(address[0]), port)


def _explained(error: OSError, host: str, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} of {host} is in use", fix="stop what uses it, or take another with --port")
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is kept for the system", fix="take one from 1024 up with --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host {host} is no address of this machine", fix="try --host 127.0.0.1")
    return UsageError(f"port {port} of {host} can't be served: {error.strerror}", fix="try another --host or --port")
