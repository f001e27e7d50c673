"""docker-compose.scale.yml: its parts fit each other and the base file, and its inline scripts work."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from pymongo import MongoClient

from deploy.tests.conftest import DEPLOY, run
from deploy.tests.test_compose import COMPOSE, default_of, in_folder
from deploy.tests.test_compose import SERVICES as BASE
from lucid_gateway.kernel.env import load
from testing.servers import child, free_port, mongod_binary, redis_binary, wait_for_port
from testing.waiting import wait_until

FILE = DEPLOY / "docker-compose.scale.yml"
SCALE: dict[str, Any] = yaml.safe_load(FILE.read_text())
PASSWORD = "open-sesame"
REPLACED = ("command", "entrypoint", "test")
Service = dict[str, Any]


def merged(base: Any, changes: Any, key: str = "") -> Any:
    """Return what Docker Compose makes of two values of a key, in two files or through `extends`."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return base | {name: merged(base.get(name), value, name) for name, value in changes.items()}
    if isinstance(base, list) and key not in REPLACED:
        targets = {mount_of(it) for it in changes} if key == "volumes" else set()
        return [it for it in base if it not in changes and mount_of(it) not in targets] + changes
    return changes


def mount_of(volume: str) -> str:
    return [*volume.split(":"), ""][1]


def services() -> dict[str, Service]:
    """Return the services of both files together."""
    found = dict(BASE)
    for name, changes in SCALE["services"].items():
        extended = BASE[changes["extends"]["service"]] if "extends" in changes else BASE.get(name, {})
        found[name] = merged(extended, {key: value for key, value in changes.items() if key != "extends"})
    return found


SERVICES = services()
EDGES = {name: SERVICES[name] for name in ("api-edge", "api-edge-2", "api-edge-3")}
every_service = pytest.mark.parametrize("name", SERVICES)


@every_service
def test_a_service_has_its_name_no_privileges_limits_and_a_pinned_image(name: str) -> None:
    service = SERVICES[name]
    assert service["container_name"] == f"lucid-{name}"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert default_of(service["image"]).partition(":")[2] not in ("", "latest")


@every_service
def test_what_a_service_refers_to_exists(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= {*COMPOSE["volumes"], *SCALE["volumes"]}
    assert set(service.get("secrets", [])) <= {*COMPOSE["secrets"], *SCALE["secrets"]}


@pytest.mark.parametrize("name", SCALE["services"])
def test_a_service_gets_only_the_secrets_that_it_reads(name: str) -> None:
    read = set(re.findall(r"/run/secrets/(\w+)", yaml.safe_dump(SERVICES[name])))
    read |= {"tls_certificate", "tls_key"} if name in EDGES else set()  # the configuration that it gets names them
    assert read == set(SERVICES[name].get("secrets", []))


def test_each_edge_has_a_gateway_and_a_port_of_its_own() -> None:
    sockets = []
    for name, edge in EDGES.items():
        gateway = SERVICES[name.replace("edge", "gateway")]
        (volume,) = gateway["volumes"]
        assert volume in edge["volumes"]
        assert edge["depends_on"][gateway["container_name"].removeprefix("lucid-")] == {"condition": "service_healthy"}
        sockets.append(volume)
    assert len(set(sockets)) == len(EDGES)
    ports = [default_of(port) for edge in EDGES.values() for port in edge["ports"] if port.startswith("0.0.0.0:")]
    assert ports == ["0.0.0.0:8081:8081", "0.0.0.0:8082:8081", "0.0.0.0:8083:8081"]
    assert not any(service.get("ports") for name, service in SERVICES.items() if name not in EDGES)


def test_further_edges_and_databases_differ_from_the_first_in_their_places_only() -> None:
    places = {"container_name", "volumes", "ports", "depends_on", "environment", "secrets"}
    for name, service in SCALE["services"].items():
        first = re.sub(r"-\d$", "", name)
        if first in ("api-edge", "api-mongodb"):
            assert {key for key, value in service.items() if SERVICES[first][key] != value} <= places


# Redis and Sentinel


def start(name: str, ports: dict[str, int], folder: Path, running: contextlib.ExitStack) -> Any:
    """Start a server of Redis or Sentinel by its service's scripts; its name and its port become those of the test."""
    service, folder = SERVICES[name], folder / name
    folder.mkdir()
    (folder / "redis_password").write_text(PASSWORD)
    addresses = {f"{other} 6379": f"localhost {port}" for other, port in ports.items()} | {"$(hostname)": "localhost"}
    role = service.get("environment", {}).get("FIRST_ROLE", "")
    words = [*in_folder(service["entrypoint"] + service["command"], folder), "--port", str(ports[name])]
    words = ["localhost" if word.startswith("api-redis") else word for word in words]
    for old, new in addresses.items():
        words, role = [word.replace(old, new) for word in words], role.replace(old, new)
    words = [word.replace("milliseconds lucid 5000", "milliseconds lucid 500") for word in words]
    path = f"{Path(redis_binary()).parent}{os.pathsep}{os.environ['PATH']}"
    process = running.enter_context(
        child([*words, "--bind", "127.0.0.1"], folder / "log", os.environ | {"PATH": path, "FIRST_ROLE": role})
    )
    wait_for_port(ports[name], process)
    return process


def test_sentinel_makes_the_replica_the_primary_when_the_first_one_is_gone(tmp_path: Path) -> None:
    names = ("api-redis", "api-redis-replica", "api-sentinel-1", "api-sentinel-2", "api-sentinel-3")
    ports = {name: free_port() for name in names}
    with contextlib.ExitStack() as running:
        first, *_ = [start(name, ports, tmp_path, running) for name in names]
        servers = [redis.Redis(port=port, password=PASSWORD) for port in list(ports.values())[:2]]
        sentinels = [redis.Redis(port=port, decode_responses=True) for port in list(ports.values())[2:]]
        wait_until(lambda: all(facts_of(it)["num-slaves"] == 1 for it in sentinels))
        wait_until(lambda: all(facts_of(it)["num-other-sentinels"] == 2 for it in sentinels))
        servers[0].set("a", "1")
        wait_until(lambda: servers[1].get("a") == b"1")
        first.terminate()
        moved = ("localhost", ports["api-redis-replica"])
        wait_until(lambda: all(it.sentinel_get_master_addr_by_name("lucid") == moved for it in sentinels))
        wait_until(lambda: servers[1].info("replication")["role"] == "master")
        assert servers[1].get("a") == b"1"
        assert PASSWORD not in (tmp_path / "api-redis" / "log").read_text()


def facts_of(sentinel: redis.Redis) -> dict[str, Any]:
    """Return what a Sentinel knows of the group."""
    facts: dict[str, Any] = sentinel.sentinel_master("lucid")
    return facts


def test_the_gateway_accepts_the_address_of_the_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (DEPLOY / "deploy.sh").read_text()
    url = re.search(r"sentinel://%s@\S+", script)
    assert url
    monkeypatch.setenv("REDIS_URL", url[0].replace("%s", ":p"))
    load()


# MongoDB


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[int]]:
    """The ports of three mongods by the entry points of their services; the first has a root user."""
    ports, processes = [free_port() for _ in range(3)], []
    with contextlib.ExitStack() as running:
        for name, port in zip(("api-mongodb", "api-mongodb-2", "api-mongodb-3"), ports, strict=True):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "mongodb_replica_set_key").write_text("0123456789abcdef" * 4)
            place = ["--dbpath", str(folder), "--port", str(port), "--nounixsocket", "--oplogSize", "16"]
            if name == "api-mongodb":
                make_root(place, port, folder)
            stand_in = folder / "docker-entrypoint.sh"
            stand_in.write_text(f'#!/bin/sh\nshift\nexec {mongod_binary()} "$@"\n')
            stand_in.chmod(0o755)
            words = in_folder(SERVICES[name]["entrypoint"] + SERVICES[name]["command"], folder)
            words = [word.replace("--bind_ip_all", "--bind_ip=127.0.0.1") for word in words]
            environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
            processes.append(running.enter_context(child(words + place, folder / "log", environment)))
            wait_for_port(port, processes[-1])
        yield ports
        for process in processes:
            process.kill()  # SIGTERM would wait for a successor


def make_root(place: list[str], port: int, folder: Path) -> None:
    """Create the root user, as the image does at its first start."""
    with child([mongod_binary(), *place, "--bind_ip", "127.0.0.1"], folder / "log") as process:
        wait_for_port(port, process)
        with MongoClient[dict[str, Any]]("127.0.0.1", port) as client:
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])


def test_the_replica_set_gets_its_three_members_and_the_gateways_user(members: list[int], tmp_path: Path) -> None:
    hosts = ",".join(f"127.0.0.1:{port}" for port in members)
    uri = f"mongodb://lucid_gateway:secret@{hosts}/lucid_gateway?replicaSet=rs0"
    for name, value in (("uri", uri), ("root", PASSWORD)):
        (tmp_path / name).write_text(value)
    variables = {"MONGODB_URI_FILE": str(tmp_path / "uri"), "MONGODB_ROOT_PASSWORD_FILE": str(tmp_path / "root")}
    done = run(sys.executable, str(DEPLOY / "init_mongodb.py"), **variables)
    assert done.returncode == 0, done.stderr
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=10_000) as client:
        client["lucid_gateway"].get_collection("things").insert_one({"a": 1})
        assert len(client.admin.command("hello")["hosts"]) == 3
