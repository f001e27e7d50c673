"""Serves the demo clusters in one process: `python -m demo.clusters --help`."""

import argparse
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIHandler, WSGIServer

from demo.blockchain_core import blockchain_core
from demo.routing import Cluster
from demo.session_management import session_management
from demo.tron_payment import tron_payment

CLUSTERS: dict[str, Callable[[], Cluster]] = {
    "blockchain_core": blockchain_core,
    "session_management": session_management,
    "tron_payment": tron_payment,
}
BACKLOG = 4096  # connections the kernel holds while the process is busy accepting
OPEN_FILES = 65_536


class Handler(WSGIHandler):  # type: ignore[misc]  # gevent ships no types
    """Adds what WSGI leaves out: the header lines and the request target as received."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["demo.headers"] = list(self.headers.items())
        environ["demo.target"] = self.path
        return environ


class Server(WSGIServer):  # type: ignore[misc]  # gevent ships no types
    """Sends headers and body without waiting for an acknowledgement in between (TCP_NODELAY)."""

    def handle(self, sock: socket.socket, address: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` as a pair; port 0 lets the system choose."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host, int(port)


def start(addresses: dict[str, tuple[str, int]]) -> dict[str, Server]:
    """Start a server for each named cluster; raise OSError if an address is in use."""
    servers = {}
    for name, address in addresses.items():
        known = {"SERVER_NAME": address[0]}  # saves looking up the host's name
        servers[name] = Server(
            address, CLUSTERS[name](), backlog=BACKLOG, handler_class=Handler, log=None, environ=known
        )
        servers[name].start()
    return servers


def _urls(servers: dict[str, Server]) -> dict[str, str]:
    return {name: f"http://{server.server_host}:{server.server_port}" for name, server in servers.items()}


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_without(parent_pid: int, stop: Event) -> None:
    while os.getppid() == parent_pid:
        gevent.sleep(1)
    stop.set()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.clusters", description=__doc__)
    for name in CLUSTERS:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=parse_address, metavar="HOST:PORT", help="port 0 lets the system choose")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="stop when this is no longer the parent")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; prints one JSON line with the addresses once all listen."""
    options = _arguments(arguments)
    addresses = {name: address for name in CLUSTERS if (address := getattr(options, name))}
    _allow_many_connections()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    try:
        servers = start(addresses)
    except OSError as error:
        print(f"demo clusters: {error}", file=sys.stderr)
        return 1
    print(json.dumps(_urls(servers)), flush=True)
    if options.parent_pid:
        gevent.spawn(_stop_without, options.parent_pid, stop)
    stop.wait()
    for server in servers.values():
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
