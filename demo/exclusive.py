"""The port and the folder of a running gateway, which no second one may use at the same time."""

import contextlib
import errno
import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path

from demo.children import Failed


def parse_port(text: str) -> int:
    """Return the value of HTTP_PORT as a number; raise Failed if it is not a port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise Failed(f"HTTP_PORT: {text} is not a port; expected 1 to 65535")
    return int(text)


@contextlib.contextmanager
def listening_port(port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on the port of the loopback address, for gunicorn; raise Failed if it is in use."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise Failed(f"port {port} {reason}; choose another one: HTTP_PORT={port + 10} make run") from error
        yield listener


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Create the folder if it is missing and lock it; raise Failed if another gateway has locked it.

    The kernel releases the lock when the process ends, for whatever reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failed(f"{folder} is in use by another gateway; stop that one first") from error
        yield
