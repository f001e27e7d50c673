"""The edge under test: nginx with the deployed Lua and configuration, in front of a gateway of its own."""

import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backends import nginx_binary
from benchmarks.gateway import HEALTH, Gateway, GatewayKit, Upstreams
from benchmarks.load import Target
from benchmarks.processes import LOAD_CORE, SERVER_CORE, START_SECONDS, DidNotStart, Process
from demo.children import free_port
from demo.edge import edge_settings, nginx_command

ACCESS_LINE = b'"event":"request"'
WRITTEN_SECONDS = 0.2  # within which the gateway writes the line of a request that has its answer


@dataclass(frozen=True)
class Edge(Gateway):
    """A running edge. `process` is nginx, and `gateway_log` is the log of the gateway behind it."""

    gateway_log: Path

    def left_to_gateway(self) -> int:
        """How many requests the gateway has answered so far."""
        return self.gateway_log.read_bytes().count(ACCESS_LINE)

    def wait_until_it_decides(self, target: Target) -> None:
        """Send the request until the edge decides it without the gateway, which must have taught it before; raise
        `DidNotStart` if it never does.
        """
        began = time.monotonic()
        while time.monotonic() - began < START_SECONDS:
            before = self.left_to_gateway()
            _ask(target)
            time.sleep(WRITTEN_SECONDS)
            if 0 < before == self.left_to_gateway():
                return
        raise DidNotStart(f"the edge leaves {target.url} to the gateway")


def start_edge(
    kit: GatewayKit, upstreams: Upstreams, *, settings: Mapping[str, str] | None = None, core: int = SERVER_CORE
) -> Edge:
    """Start an edge with one worker on the core, and its gateway on the load's core: once it has taught the edge who
    the callers are, it has almost nothing to do. Wait until both are healthy.
    """
    folder = new_folder(kit)
    shared = edge_settings(folder) | dict(settings or {})
    behind, _ = kit.launch(upstreams, cores=(LOAD_CORE,), settings=shared | {"WEB_CONCURRENCY": "1"})
    process, base, seconds = start_edge_nginx(kit, folder, shared, core)
    return Edge(process, base, kit.token, seconds, kit.stage.log(behind))


def new_folder(kit: GatewayKit) -> Path:
    """A new folder for the files of an edge, and for the socket between it and its gateway."""
    return Path(tempfile.mkdtemp(prefix="edge-", dir=kit.stage.directory))


def start_edge_nginx(
    kit: GatewayKit, folder: Path, settings: Mapping[str, str], core: int = SERVER_CORE
) -> tuple[Process, str, float]:
    """Configure the edge in its folder, with its access log there, and start it on the core. Return the
    process, the base URL and the seconds until it was healthy.
    """
    port = free_port()
    if nginx_binary() is None:
        raise FileNotFoundError("nginx is not installed")
    options = [f"--listen=127.0.0.1:{port}", "--workers=1", "--debian"]
    options += [f"--access-log={folder}/access.log", "--error-log-level=error"]
    kit.manage("configure_edge", str(folder), *options, settings=settings)
    process = kit.stage.start(folder.name, nginx_command(folder), cores=(core,), env=os.environ | {"TZ": "UTC"})
    base = f"http://127.0.0.1:{port}"
    return process, base, kit.stage.wait(folder.name, process, base + HEALTH)


def _ask(target: Target) -> None:
    request = urllib.request.Request(target.url)
    if target.token:
        request.add_header("Authorization", f"Bearer {target.token}")
    if target.client:
        request.add_header("X-Forwarded-For", target.client)
    try:
        urllib.request.urlopen(request, timeout=START_SECONDS).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()
