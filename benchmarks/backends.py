"""The backends of the measured proxies: nginx with fixed answers, and a sink for uploads."""

import os
import shutil
import sys

from benchmarks.processes import LOAD_CORE, MEBIBYTE, Process, Stage
from demo.children import free_port
from testing.http.cluster import RawCluster, Visit
from testing.http.messages import Ended

GET_PATH = "/api/v1/chain/info"
ANSWER = (
    '{"network": "lucid_blocks", "version": "1.0.0", "height": 5888616, "block_time_seconds": 10, '
    '"latest_block_hash": "b3757883b843173437e5e6651506052018b17f2d8a4b4ab4b3757883b81acd5c"}'
)
BODY_MIB = 1024
DOWNLOAD_PATH = f"/api/v1/consensus/demo/bytes/{BODY_MIB * MEBIBYTE}"
NGINX = """
daemon off;
master_process off;
pid {directory}/{name}.pid;
error_log stderr error;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    sendfile on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    {upstreams}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        {locations}
    }}
}}
"""


def nginx_binary() -> str | None:
    """The path of nginx on this machine, None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def start_nginx(
    stage: Stage, name: str, *, locations: str, upstreams: str = "", cores: tuple[int, ...]
) -> tuple[Process, str]:
    """Start one nginx process with these locations; return it and its base URL; FileNotFoundError without nginx."""
    binary = nginx_binary()
    if binary is None:
        raise FileNotFoundError("nginx is not installed")
    port, user = free_port(), "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(
        directory=stage.directory, name=name, user=user, port=port, upstreams=upstreams, locations=locations
    )
    configuration = stage.directory / f"{name}.conf"
    configuration.write_text(text)
    command = [binary, "-p", str(stage.directory), "-c", str(configuration), "-e", "stderr"]
    process = stage.start(name, command, cores=cores)
    url = f"http://127.0.0.1:{port}"
    stage.wait(name, process, f"{url}/health")
    return process, url


def fixed_backend(stage: Stage) -> str:
    """Start a backend on the load's core that answers GET_PATH and DOWNLOAD_PATH; return its base URL.

    It is nginx with fixed answers if that is installed, otherwise the demo cluster, which is slower.
    """
    if nginx_binary() is None:
        port = free_port()
        demo = stage.start("backend", [sys.executable, "-m", "demo.clusters", "--blockchain-core", f"127.0.0.1:{port}"])
        stage.wait("backend", demo, f"http://127.0.0.1:{port}/health")
        return f"http://127.0.0.1:{port}"
    with (stage.directory / "blob").open("wb") as blob:
        blob.truncate(BODY_MIB * MEBIBYTE)
    locations = f"""
        default_type application/json;
        location = /health {{ return 200 '{{"status": "healthy"}}'; }}
        location = {GET_PATH} {{ return 200 '{ANSWER}'; }}
        location = {DOWNLOAD_PATH} {{ default_type application/octet-stream; try_files /blob =404; }}
        root {stage.directory};
    """
    return start_nginx(stage, "backend", locations=locations, cores=(LOAD_CORE,))[1]


def sink() -> RawCluster:
    """A cluster that reads and discards request bodies of known length as fast as it can."""
    cluster = RawCluster()
    cluster.on_head = _swallow
    return cluster


def _swallow(visit: Visit) -> None:
    size = int(visit.request.header("Content-Length") or 0)
    if visit.discard(size) < size:
        raise Ended
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
