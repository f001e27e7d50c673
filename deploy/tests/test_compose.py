"""docker-compose.yml: its parts fit each other and the gateway's settings, and its inline scripts work."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.edge import nginx_command
from deploy.tests.conftest import DEPLOY, run, tool
from lucid_gateway.kernel.env import Environment, load
from testing.edge import skip_without_nginx
from testing.manage import manage
from testing.servers import child, free_port, redis_binary, wait_for_port

FILE = DEPLOY / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GATEWAY, EDGE, CONFIGURATION = (SERVICES[f"api-{name}"] for name in ("gateway", "edge", "edge-configuration"))
OWN_IMAGE = "lucid-api-gateway:"

every_service = pytest.mark.parametrize("name", SERVICES)


def default_of(value: str) -> str:
    """Return the value without any variable set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


# The parts fit each other


@every_service
def test_names_follow_the_convention(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
    assert SERVICES[name]["container_name"] == f"lucid-{name}"


@every_service
def test_the_dependencies_of_a_service_exist_and_can_be_met(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"
        if wait["condition"] == "service_healthy":
            own_check = SERVICES[other].get("healthcheck", {})
            assert own_check.get("test") or SERVICES[other]["image"].startswith(OWN_IMAGE)


def test_the_gateway_waits_for_the_migration() -> None:
    assert GATEWAY["depends_on"]["api-migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["api-migrate"]["command"][:2] == ["manage.py", "migrate"]


@every_service
def test_secrets_networks_and_volumes_are_defined(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@every_service
def test_a_service_gets_only_the_secrets_that_it_reads(name: str) -> None:
    text = yaml.safe_dump(SERVICES[name])
    if name == "api-edge":  # the configuration that it gets names them
        text += " ".join(CONFIGURATION["environment"][path] for path in ("SSL_CERT_PATH", "SSL_KEY_PATH"))
    read = set(re.findall(r"/run/secrets/(\w+)", text))
    assert read == set(SERVICES[name].get("secrets", []))


def test_no_secret_is_an_environment_variable() -> None:
    text = FILE.read_text()
    assert not re.findall(r"\$\{\w*(?:PASSWORD|SECRET_KEY|MONGODB_URI|REDIS_URL)\w*", text)


@every_service
def test_images_are_pinned(name: str) -> None:
    tag = default_of(SERVICES[name]["image"]).partition(":")[2]
    assert tag not in ("", "latest")


@every_service
def test_a_service_has_no_unneeded_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@every_service
def test_resources_are_limited(name: str) -> None:
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


def test_only_the_edge_can_be_reached_from_outside_and_only_with_tls() -> None:
    published = {name: [default_of(port) for port in service.get("ports", [])] for name, service in SERVICES.items()}
    assert published.pop("api-edge") == ["0.0.0.0:8081:8081", "127.0.0.1:8080:8080"]
    assert not any(published.values())


def test_databases_have_no_route_to_the_outside() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert COMPOSE["networks"]["counters"]["internal"] is True
    assert SERVICES["api-mongodb"]["networks"] == ["data"]
    assert SERVICES["api-redis"]["networks"] == ["counters"]


# The edge and the gateway fit each other


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return the service's volumes and where they are."""
    return {volume.split(":")[0]: volume.split(":")[1] for volume in service["volumes"]}


def test_the_edge_reaches_redis_and_the_clusters_but_not_mongodb() -> None:
    assert EDGE["networks"] == ["edge", "counters", "clusters"]
    assert "edge" not in GATEWAY["networks"]


def test_no_address_is_trusted_as_a_proxy() -> None:
    assert GATEWAY["environment"]["TRUSTED_PROXIES"] == ""


def test_the_edge_finds_the_gateway_at_its_socket() -> None:
    socket = Path(GATEWAY["environment"]["GATEWAY_SOCKET"])
    assert mounts(GATEWAY)["gateway_socket"] == mounts(EDGE)["gateway_socket"] == str(socket.parent)


def test_the_edge_runs_as_the_owner_of_its_secrets_with_what_was_configured() -> None:
    folder = mounts(CONFIGURATION)["edge_configuration"]
    assert CONFIGURATION["command"][:3] == ["manage.py", "configure_edge", folder]
    assert f"edge_configuration:{folder}:ro" in EDGE["volumes"]
    assert f"{folder}/nginx.conf" in EDGE["command"]
    assert EDGE["depends_on"]["api-edge-configuration"] == {"condition": "service_completed_successfully"}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"USER {EDGE['user']}" in dockerfile
    for path in (folder, mounts(GATEWAY)["gateway_socket"]):
        assert f"COPY --from=builder --chown={EDGE['user']} /empty {path}" in dockerfile


def test_nginx_accepts_the_configuration(tmp_path: Path, certificate: Path) -> None:
    skip_without_nginx()
    write_secrets(tmp_path)
    values = {name: default_of(value) for name, value in CONFIGURATION["environment"].items()}
    env = os.environ | {name: value.replace("/run/secrets", str(tmp_path)) for name, value in values.items()}
    env |= {"SSL_CERT_PATH": str(certificate), "SSL_KEY_PATH": str(certificate.with_suffix(".key"))}
    for name in ("secret_key", "jwt_secret_key", "redis_url"):  # the tests have values of their own
        env.pop(name.upper(), None)
    folder = tmp_path / "edge"
    manage(env, "configure_edge", str(folder), *CONFIGURATION["command"][3:], "--debian")
    checked = run(*nginx_command(folder), "-t")
    assert checked.returncode == 0, checked.stderr
    text = (folder / "nginx.conf").read_text()
    assert "listen 8080 " in text
    assert "listen 8081 ssl http2 " in text
    assert "resolver 127.0.0.11;" in text
    assert json.loads((folder / "edge.json").read_text())["redis"]["host"] == "api-redis"


# The gateway's settings


def test_every_variable_of_the_gateway_is_one_of_its_settings() -> None:
    fields = Environment.model_fields
    for name in GATEWAY["environment"]:
        setting = name.removesuffix("_FILE")
        assert setting in fields, f"{name} is no setting of the gateway"
        assert name == setting or fields[setting].annotation is str, f"{name}: only texts can come from a file"


def test_the_gateway_accepts_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(name, raising=False)
    for name, value in GATEWAY["environment"].items():
        monkeypatch.setenv(name, default_of(value).replace("/run/secrets", str(tmp_path)))
    write_secrets(tmp_path)
    loaded = load()
    assert loaded.in_production
    assert (loaded.RATE_LIMIT_REQUESTS_PER_MINUTE, loaded.RATE_LIMIT_BURST_SIZE) == (100, 200)
    assert loaded.EMAIL_HOST_PASSWORD == ""


def write_secrets(folder: Path) -> None:
    """Write a value for each of the gateway's secrets."""
    values = {
        "secret_key": "0123456789abcdef" * 2,
        "jwt_secret_key": "fedcba9876543210" * 2,
        "identity_signing_secret": "fedcba9876543210" * 2,
        "edge_secret": "a1b2c3d4e5f60718" * 2,
        "mongodb_uri": "mongodb://u:p@api-mongodb:27017/lucid_gateway?replicaSet=rs0",
        "redis_url": "redis://:p@api-redis:6379/0",
        "email_host_password": "",
    }
    for name in GATEWAY["secrets"]:
        (folder / name).write_text(values[name])


def test_a_compose_parser_accepts_the_file(tmp_path: Path) -> None:
    # podman-compose parses and interpolates the file itself, and needs only the version of the engine.
    engine = tmp_path / "podman"
    engine.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    engine.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    checked = run(tool("podman-compose"), "--file", str(FILE), "config", EMAIL_HOST="smtp", PATH=path)
    assert checked.returncode == 0, checked.stderr
    assert set(yaml.safe_load(checked.stdout)["services"]) == set(SERVICES)


# The inline scripts


def in_folder(words: list[str], folder: Path) -> list[str]:
    """Return a service's command line for a run outside a container: with folders of the test and `$` for `$$`."""
    moved = [word.replace("$$", "$") for word in words]
    return [re.sub(r"/(run/secrets|tmp|data)\b", str(folder), word) for word in moved]


def test_redis_starts_with_its_password_and_passes_its_own_health_check(tmp_path: Path) -> None:
    redis, port = SERVICES["api-redis"], free_port()
    cli = [tool("redis-cli"), "-p", str(port)]
    (tmp_path / "redis_password").write_text("open-sesame")
    command = [*in_folder(redis["entrypoint"] + redis["command"], tmp_path), "--port", str(port), "--bind", "127.0.0.1"]
    environment = os.environ | {"PATH": f"{Path(redis_binary()).parent}:{os.environ['PATH']}"}
    with child(command, tmp_path / "log", environment) as server:
        wait_for_port(port, server)
        assert "NOAUTH" in run(*cli, "ping").stdout
        check = in_folder(redis["healthcheck"]["test"][1:], tmp_path)[0].replace("redis-cli", " ".join(cli))
        assert run("sh", "-c", check).returncode == 0
        assert b"open-sesame" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert (tmp_path / "password.conf").stat().st_mode & 0o777 == 0o600
