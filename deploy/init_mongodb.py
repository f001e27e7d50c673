"""Prepare MongoDB for the gateway: initiate the replica set that MONGODB_URI names, and create its user.

`api-mongodb-init` runs it before every start. It is safe to repeat; a changed password in MONGODB_URI takes effect.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

ROOT_USER = "root"
WAIT_SECONDS = 90
ALREADY_INITIALIZED = 23
NODE_NOT_FOUND = 74
USER_ALREADY_EXISTS = 51003


def setting(name: str) -> str:
    """Return the content of the file that NAME_FILE names, or the value of NAME; raise SystemExit without both."""
    path = os.environ.get(f"{name}_FILE")
    value = Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name}: is missing; expected {name} or {name}_FILE")
    return value


def connect(address: str | list[str], password: str, **options: Any) -> MongoClient[dict[str, Any]]:
    """Return a client that signs in as root: to one node (`directConnection`) or to a replica set (`replicaSet`)."""
    return MongoClient(
        address,
        username=ROOT_USER,
        password=password,
        authSource="admin",
        serverSelectionTimeoutMS=WAIT_SECONDS * 1000,
        connectTimeoutMS=5000,
        socketTimeoutMS=20000,
        **options,
    )


def make_replica_set(client: MongoClient[dict[str, Any]], name: str, addresses: list[str]) -> None:
    """Initiate the replica set with these members, unless that was done before. Wait for members that start later."""
    members = [{"_id": number, "host": address} for number, address in enumerate(addresses)]
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            client.admin.command("replSetInitiate", {"_id": name, "members": members})
        except OperationFailure as error:
            if error.code == ALREADY_INITIALIZED:
                return
            if error.code != NODE_NOT_FOUND or time.monotonic() > give_up_at:
                raise
            time.sleep(0.5)
        else:
            return


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
    """Run both steps. On failure, exit with one line that contains no secret."""
    uri = parse_uri(setting("MONGODB_URI"))
    if not (uri["username"] and uri["password"] and uri["options"].get("replicaSet")):
        raise SystemExit("MONGODB_URI: expected mongodb://user:password@host/database?replicaSet=name")
    addresses = [f"{host}:{port}" for host, port in uri["nodelist"]]
    name, password = uri["options"]["replicaSet"], setting("MONGODB_ROOT_PASSWORD")
    with connect(addresses[0], password, directConnection=True) as first:
        make_replica_set(first, name, addresses)
    with connect(addresses, password, replicaSet=name) as primary:
        make_user(primary, uri, os.environ.get("MONGODB_DATABASE") or "lucid_gateway")
    print(f"MongoDB at {', '.join(addresses)} is ready")


if __name__ == "__main__":
    try:
        main()
    except (PyMongoError, OSError) as error:
        sys.exit(f"MongoDB could not be prepared: {type(error).__name__}: {error}")
