"""Forks management commands for `testing.manage`. A fork already has the libraries, whose import takes a new process
most of its time.

The libraries are imported without settings, and none reads a variable that a test gives to a command. A command then
starts as in a new process: with its own environment, arguments and streams, and with nothing of the project imported.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
from importlib import import_module

from demo.children import ROOT, end_with_parent

LIBRARIES = (
    "argon2", "cryptography.hazmat.primitives.serialization", "django.contrib.admin",
    "django.core.management.commands.shell", "django.db.backends.sqlite3.base", "django.db.migrations.loader",
    "django.template.defaulttags", "jinja2", "jwt", "lark", "orjson", "pydantic_settings", "redis", "requests",
    "rest_framework.serializers", "segno", "structlog", "unittest.mock", "yaml",
)  # fmt: skip
REQUEST_BYTES = 1 << 18
LAST_DESCRIPTOR = 1 << 16


def import_libraries() -> None:
    """Import what most commands need, for the garbage collector to skip: it would take half of the time of a fork."""
    for library in LIBRARIES:
        import_module(library)
    gc.collect()
    gc.freeze()


def serve(requests: socket.socket) -> list[str]:
    """Fork for each request, and exit when the test process has ended. Return only in a fork: the arguments of its
    command, whose environment and streams are in place.

    A request is the environment and the arguments, with the descriptors of the streams and of a socket for the status.
    """
    forks: dict[int, tuple[int, int]] = {}  # descriptor of the process -> its id, and the socket for the status
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in forks:
                poll.unregister(descriptor)
                report(descriptor, *forks.pop(descriptor))
                continue
            request, descriptors, *_ = socket.recv_fds(requests, REQUEST_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
            if not request:
                sys.exit()
            *streams, status = descriptors
            pid = os.fork()
            if pid == 0:
                requests.detach()
                return become(request, streams)
            for stream in streams:
                os.close(stream)
            fork = os.pidfd_open(pid)
            forks[fork] = pid, status
            poll.register(fork, select.POLLIN)


def report(fork: int, pid: int, status: int) -> None:
    """Send the status of a fork that has ended, in the form of `Popen.returncode`."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the test was interrupted
        os.write(status, str(code).encode())
    os.close(status)
    os.close(fork)


def become(request: bytes, streams: list[int]) -> list[str]:
    """Give this fork the environment and the streams of its command; return the command's arguments."""
    end_with_parent(signal.SIGKILL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(len(streams), LAST_DESCRIPTOR)
    env, arguments = json.loads(request)
    os.environ.clear()
    os.environ.update(env)
    return list(arguments)


if __name__ == "__main__":
    import_libraries()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the test process, whose end is enough
    sys.argv[1:] = serve(socket.socket(fileno=sys.stdin.fileno()))
    signal.signal(signal.SIGINT, interrupt)
    runpy.run_path(str(ROOT / "manage.py"), run_name="__main__")
