"""The check at startup that the servers belong to the replica set that MONGODB_URI names."""

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

FORM = "mongodb://[user:password@]host:port,host:port/?replicaSet=name, with special characters escaped"


class Introductions(ServerHeartbeatListener):
    """What the servers say that they are."""

    def __init__(self) -> None:
        self.replies: list[dict[str, Any]] = []

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        pass

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        self.replies.append(dict(event.reply.document))

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        pass


def problem(uri: str, options: Mapping[str, Any]) -> str:
    """Return what is wrong with the connection string and what was expected; empty if nothing is, or if no server
    answers. `options` are those of the driver.
    """
    said = Introductions()
    try:
        with MongoClient[dict[str, Any]](uri, event_listeners=[said], **options) as client:
            name = client.options.replica_set_name
            if name is not None:
                find_primary(client)
    except InvalidURI:
        return f"is not a connection string of MongoDB; expected {FORM}"
    except PyMongoError:
        return ""
    if name is None or any(reply.get("setName") == name for reply in said.replies):
        return ""
    return next((describe(reply) for reply in said.replies), "")


def find_primary(client: "MongoClient[dict[str, Any]]") -> None:
    """Return when the primary is found, or after the time for that."""
    try:
        client.admin.command("ping")
    except PyMongoError:
        return


def describe(reply: dict[str, Any]) -> str:
    if "setName" in reply:
        return f"leads to a member of another replica set; expected replicaSet={reply['setName']}"
    kind = "the router of a sharded cluster" if reply.get("msg") == "isdbgrid" else "a server without a replica set"
    return f"leads to {kind}; expected no option replicaSet"
