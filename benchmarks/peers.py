"""The peers that the gateway is compared with: nginx, the guide's own design, django-revproxy."""

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import jwt

from benchmarks.backends import start_nginx
from benchmarks.environments import peers_environment
from benchmarks.gateway import SECRET
from benchmarks.load import Target
from benchmarks.processes import ROOT, SERVER_CORE, Process, Stage
from benchmarks.stores import start_mongod
from demo.children import free_port


def nginx_proxy(stage: Stage, backend: str, storage: str | None = None) -> tuple[Process, str]:
    """Start nginx on the gateway's core, without buffering and with reads as large as the gateway's; return it and its
    base URL.
    """
    upstreams = f"upstream backend {{ server {backend.removeprefix('http://')}; keepalive 64; }}"
    passing = """
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_buffer_size 64k;
        proxy_buffers 8 64k;
        proxy_request_buffering off;
        client_body_buffer_size 64k;
    """
    locations = f"{passing} location / {{ proxy_pass http://backend; }}"
    if storage:
        upstreams += f" upstream storage {{ server {storage.removeprefix('http://')}; keepalive 64; }}"
        locations += " location /api/v1/storage { proxy_pass http://storage; }"
    return start_nginx(stage, "nginx-proxy", locations=locations, upstreams=upstreams, cores=(SERVER_CORE,))


def guide_design(stage: Stage, backend: str, redis_url: str, path: str) -> Target:
    """Start the guide's design under uvicorn; return a target with a valid token."""
    bin_folder, user_id = peers_environment(), str(uuid.uuid4())
    env = {
        "JWT_SECRET_KEY": SECRET,
        "REDIS_URL": redis_url,
        "MONGODB_URI": start_mongod(stage),
        "BLOCKCHAIN_CORE_URL": backend,
        "RATE_LIMIT_REQUESTS_PER_MINUTE": "1000000000",
        "USER_ID": user_id,
    }
    port = free_port()
    command = [f"{bin_folder}/uvicorn", "benchmarks.guide_design:app", "--port", str(port), "--no-access-log"]
    base = _serve(stage, command, env, port, health="/api/v1/meta/health")
    claims = {"user_id": user_id, "role": "user", "jti": str(uuid.uuid4()), "exp": int(time.time()) + 86_400}
    return Target(base + path, jwt.encode(claims, SECRET, algorithm="HS256"))


def revproxy(stage: Stage, backend: str, path: str) -> Target:
    """Start django-revproxy under gunicorn with gevent workers; return a target."""
    bin_folder, port = peers_environment(), free_port()
    command = [f"{bin_folder}/gunicorn", "-k", "gevent", "--keep-alive", "75", "--no-control-socket"]
    command += ["-b", f"127.0.0.1:{port}", "benchmarks.revproxy_project"]
    return Target(_serve(stage, command, {"BLOCKCHAIN_CORE_URL": backend}, port, health="/health") + path)


def _serve(stage: Stage, command: list[str], env: Mapping[str, str], port: int, *, health: str) -> str:
    name = Path(command[0]).name
    known = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    process = stage.start(name, command, cores=(SERVER_CORE,), env=known | dict(env))
    base = f"http://127.0.0.1:{port}"
    stage.wait(name, process, base + health)
    return base
