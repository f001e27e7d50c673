"""Prepare MongoDB for the gateway: initiate the one-node replica set and create the user that MONGODB_URI names.

`api-mongodb-init` runs it before every start. It is safe to repeat; a changed password in MONGODB_URI takes effect.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

ROOT_USER = "root"
WAIT_SECONDS = 90
ALREADY_INITIALIZED = 23
USER_ALREADY_EXISTS = 51003


def setting(name: str) -> str:
    """Return the content of the file that NAME_FILE names, or the value of NAME; raise SystemExit without both."""
    path = os.environ.get(f"{name}_FILE")
    value = Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name}: is missing; expected {name} or {name}_FILE")
    return value


def connect(host: str, port: int, password: str) -> MongoClient[dict[str, Any]]:
    """Return a client that connects to this node alone, whether or not it is in a replica set yet."""
    return MongoClient(
        host,
        port,
        username=ROOT_USER,
        password=password,
        authSource="admin",
        directConnection=True,
        serverSelectionTimeoutMS=WAIT_SECONDS * 1000,
        connectTimeoutMS=5000,
        socketTimeoutMS=20000,
    )


def make_replica_set(client: MongoClient[dict[str, Any]], name: str, member: str) -> None:
    """Initiate the replica set with this single member, unless that was done before."""
    try:
        client.admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": member}]})
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise


def wait_for_primary(client: MongoClient[dict[str, Any]]) -> None:
    """Return when the node accepts writes; raise SystemExit if it does not within WAIT_SECONDS."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up_at:
        try:
            if client.admin.command("hello")["isWritablePrimary"]:
                return
        except AutoReconnect:
            pass  # the election closes connections
        time.sleep(0.2)
    raise SystemExit(f"MongoDB did not become primary within {WAIT_SECONDS} s")


def make_user(client: MongoClient[dict[str, Any]], uri: dict[str, Any], database: str) -> None:
    """Create the gateway's user, with rights on its own database only, or update its password."""
    home = client[uri["options"].get("authSource") or uri["database"] or "admin"]
    attributes = {"pwd": uri["password"], "roles": [{"role": "readWrite", "db": database}]}
    try:
        home.command("createUser", uri["username"], **attributes)
    except OperationFailure as error:
        if error.code != USER_ALREADY_EXISTS:
            raise
        home.command("updateUser", uri["username"], **attributes)


def main() -> None:
    """Run all three steps. On failure, exit with one line that contains no secret."""
    uri = parse_uri(setting("MONGODB_URI"))
    if not (uri["username"] and uri["password"] and uri["options"].get("replicaSet")):
        raise SystemExit("MONGODB_URI: expected mongodb://user:password@host/database?replicaSet=name")
    host, port = uri["nodelist"][0]
    with connect(host, port, setting("MONGODB_ROOT_PASSWORD")) as client:
        make_replica_set(client, uri["options"]["replicaSet"], f"{host}:{port}")
        wait_for_primary(client)
        make_user(client, uri, os.environ.get("MONGODB_DATABASE") or "lucid_gateway")
    print(f"MongoDB at {host}:{port} is ready")


if __name__ == "__main__":
    try:
        main()
    except (PyMongoError, OSError) as error:
        sys.exit(f"MongoDB could not be prepared: {type(error).__name__}: {error}")
