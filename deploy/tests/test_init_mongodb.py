"""init_mongodb.py prepares an empty MongoDB: a real mongod with a key file and authentication."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from deploy.tests.conftest import DEPLOY, run
from deploy.tests.test_compose import SERVICES, in_folder
from testing.servers import child, free_port, mongod_binary, wait_for_port

Document = dict[str, object]
Result = subprocess.CompletedProcess[str]
ROOT_PASSWORD = "root-password"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mongod, started as by the image: first without authentication, then with it."""
    folder, port = tmp_path_factory.mktemp("mongodb"), free_port()
    place = ["--dbpath", str(folder), "--port", str(port), "--nounixsocket", "--oplogSize", "16"]
    with child([mongod_binary(), *place, "--bind_ip", "127.0.0.1"], folder / "log") as process:
        wait_for_port(port, process)
        with MongoClient[Document]("127.0.0.1", port) as client:
            client.admin.command("createUser", "root", pwd=ROOT_PASSWORD, roles=["root"])
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    with child(deployed_command(folder) + place, folder / "log", environment) as process:
        wait_for_port(port, process)
        yield port


def deployed_command(folder: Path) -> list[str]:
    """Return the service's entry point and command, with a stand-in for the image's script."""
    stand_in = folder / "docker-entrypoint.sh"
    stand_in.write_text(f'#!/bin/sh\nshift\nexec {mongod_binary()} "$@"\n')
    stand_in.chmod(0o755)
    service = SERVICES["api-mongodb"]
    words = in_folder(service["entrypoint"] + service["command"], folder)
    return [word.replace("--bind_ip_all", "--bind_ip=127.0.0.1") for word in words]


def uri(port: int, password: str) -> str:
    """Return a MONGODB_URI as deploy.sh creates it."""
    return f"mongodb://lucid_gateway:{password}@127.0.0.1:{port}/lucid_gateway?replicaSet=rs0"


def initialise(
    port: int, password: str, folder: Path, root_password: str = ROOT_PASSWORD
) -> subprocess.CompletedProcess[str]:
    """Run the script as the service does, with its secrets in files."""
    secrets = {"MONGODB_URI": uri(port, password), "MONGODB_ROOT_PASSWORD": root_password}
    for name, value in secrets.items():
        (folder / name).write_text(value)
    variables = {f"{name}_FILE": str(folder / name) for name in secrets}
    return run(sys.executable, str(DEPLOY / "init_mongodb.py"), **variables)


def insert(port: int, password: str, database: str = "lucid_gateway") -> None:
    """Insert a document as the gateway would."""
    with MongoClient[Document](uri(port, password), serverSelectionTimeoutMS=3000) as client:
        client[database]["things"].insert_one({"a": 1})


def test_the_gateway_can_write_to_its_own_database_and_to_no_other(port: int, tmp_path: Path) -> None:
    done = initialise(port, "first", tmp_path)
    assert done.returncode == 0, done.stderr
    insert(port, "first")
    with pytest.raises(OperationFailure, match="not authorized"):
        insert(port, "first", "elsewhere")


def test_a_repetition_sets_a_changed_password(port: int, tmp_path: Path) -> None:
    assert initialise(port, "second", tmp_path).returncode == 0
    assert initialise(port, "third", tmp_path).returncode == 0
    insert(port, "third")
    with pytest.raises(OperationFailure, match="Authentication failed"):
        insert(port, "second")


def test_a_wrong_root_password_fails_with_one_line_without_secrets(port: int, tmp_path: Path) -> None:
    failed = initialise(port, "gateway-password", tmp_path, root_password="not-the-password")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "gateway-password" not in failed.stderr
    assert "not-the-password" not in failed.stderr


def test_access_requires_a_password(port: int) -> None:
    with (
        MongoClient[Document]("127.0.0.1", port, directConnection=True) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client.admin.command("listDatabases")
