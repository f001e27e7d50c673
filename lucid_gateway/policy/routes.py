"""The route table: one row per route. Forwarding, documentation, metrics and logs all use these rows.

A path consists of segments, as in `chain/blocks/{rest*}`. `{name}` matches one segment, `{name*}` one or more.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lucid_gateway.policy import tiers

PARAMETER = re.compile(r"\{([a-z_]+)(\*?)\}")
# Characters that are not percent-encoded in the path of a request to a cluster (RFC 3986, section 3.3).
SAFE_IN_PATH = "/!$&'()*+,;=:@-._~"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, between two reads, and in total; `total` does not apply to event streams."""

    connect: float = 2.0
    read: float = 30.0
    total: float = 60.0


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How many seconds an answer to GET may be reused if the cluster does not say; None: only if the cluster says so.

    All callers with the permission share a `shared` answer; any other answer is stored for one caller.
    """

    seconds: float | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests for a path below /api/v1 go, and what they need.

    `upstream` is the path at the cluster, with the same parameters; `permission` is what the caller needs (contract,
    section 6); `body_limit` is in bytes. `attempts` is the maximum number of instances to try if the retry rule allows
    retries. `idempotency_key` says whether Idempotency-Key is honoured. Without `cache` no answer is stored. A view of
    `sessions_api` forwards the requests of `recorded` routes and records the outcome. The edge may forward requests of
    an `edge` route itself; its path must have no parameter but a final `{name*}`. A GET on a `websocket` route may open
    a WebSocket at the edge.
    """

    path: str
    methods: tuple[str, ...]
    cluster: str
    upstream: str
    permission: str
    tier: str = tiers.AUTHENTICATED.name
    body_limit: int = 100 * MIB
    timeouts: Timeouts = Timeouts()
    attempts: int = 3
    idempotency_key: bool = False
    cache: CacheRule | None = None
    recorded: bool = False
    edge: bool = True
    websocket: bool = False

    def target(self, parameters: Mapping[str, str], query: str) -> str:
        """Return the request target at the cluster (RFC 9112, section 3.2.1) for the canonical path parameters."""
        path = PARAMETER.sub(lambda found: quote(parameters[found[1]], safe=SAFE_IN_PATH), self.upstream)
        return f"{path}?{printable(query)}" if query else path


def printable(query: str) -> str:
    """Return the query with percent-encoding for characters that a request line cannot contain."""
    return re.sub(r"[^\x21-\x7e]", lambda match: quote(match[0].encode("latin-1", "replace")), query)


READ = ("GET", "HEAD")
CHANGE = ("PUT", "PATCH", "DELETE")
WRITE = ("POST", *CHANGE)
# A chain height may be two seconds old. Only the cluster knows which blocks are final.
CHAIN_INFO = CacheRule(seconds=2.0, shared=True)
BLOCKS = CacheRule(shared=True)
BLOCKCHAIN, SESSIONS, TRON = "blockchain_core", "session_management", "tron_payment"
RDP, NODES, STORAGE = "rdp_services", "node_management", "storage_database"

CHUNK_UPLOAD = Route(
    "sessions/{session_id}/chunks",
    ("POST",),
    SESSIONS,
    "/api/v1/sessions/{session_id}/chunks",
    "session:update",
    tier=tiers.CHUNK_UPLOAD.name,
    body_limit=10 * MIB,
    recorded=True,
    edge=False,
)


def subtree(path: str, methods: tuple[str, ...], cluster: str, upstream: str, **more: Any) -> tuple[Route, ...]:
    """Return the rows for a path and everything below it."""
    return (
        Route(path, methods, cluster, upstream, **more),
        Route(f"{path}/{{rest*}}", methods, cluster, f"{upstream}/{{rest*}}", **more),
    )


ROUTES: tuple[Route, ...] = (
    Route("chain/info", READ, BLOCKCHAIN, "/api/v1/chain/info", "blockchain:read", cache=CHAIN_INFO),
    Route("blockchain-info", READ, BLOCKCHAIN, "/api/v1/chain/info", "blockchain:read", cache=CHAIN_INFO),
    Route("chain/status", READ, BLOCKCHAIN, "/api/v1/chain/status", "blockchain:read"),
    Route("chain/height", READ, BLOCKCHAIN, "/api/v1/chain/height", "blockchain:read"),
    Route("chain/network", READ, BLOCKCHAIN, "/api/v1/chain/network", "blockchain:read"),
    *subtree(
        "chain/blocks",
        READ,
        BLOCKCHAIN,
        "/api/v1/blocks",
        permission="blockchain:read",
        tier=tiers.BLOCKCHAIN_QUERY.name,
        cache=BLOCKS,
    ),
    Route(
        "chain/transactions", ("POST",), BLOCKCHAIN, "/api/v1/transactions", "blockchain:write", idempotency_key=True
    ),
    *subtree("chain/transactions", READ, BLOCKCHAIN, "/api/v1/transactions", permission="blockchain:read"),
    *subtree("chain/anchoring", READ, BLOCKCHAIN, "/api/v1/anchoring", permission="blockchain:read"),
    *subtree("chain/consensus", READ, BLOCKCHAIN, "/api/v1/consensus", permission="blockchain:read"),
    *subtree("chain/merkle", READ, BLOCKCHAIN, "/api/v1/merkle", permission="blockchain:read"),
    CHUNK_UPLOAD,
    *subtree("wallets", READ, TRON, "/api/v1/wallets", permission="wallet:read"),
    *subtree("wallets", ("POST",), TRON, "/api/v1/wallets", permission="wallet:write", idempotency_key=True),
    *subtree("wallets", CHANGE, TRON, "/api/v1/wallets", permission="wallet:write"),
    *subtree("rdp", READ, RDP, "/api/v1/rdp", permission="rdp:read", websocket=True),
    *subtree("rdp", WRITE, RDP, "/api/v1/rdp", permission="rdp:write"),
    *subtree("nodes", READ, NODES, "/api/v1/nodes", permission="node:read"),
    *subtree("nodes", WRITE, NODES, "/api/v1/nodes", permission="node:write"),
    *subtree("storage", READ, STORAGE, "/api/v1/storage", permission="storage:read"),
    *subtree("storage", WRITE, STORAGE, "/api/v1/storage", permission="storage:write"),
)

# Paths below forwarded ones that the gateway answers itself, each with the cluster without which it does not exist.
OWN_PATHS = {"rdp/tickets": RDP}


def by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """Return path -> method -> route."""
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in route.methods:
            table.setdefault(route.path, {})[method] = route
    return table


@dataclass(slots=True)
class Node:
    """A node in the tree of paths.

    `segments` are the literal segments that may follow, `one` is the parameter for one segment with its node, `rest` is
    the parameter for all further segments with its path, and `path` is the path that ends here.
    """

    segments: "dict[str, Node]"
    one: "tuple[str, Node] | None" = None
    rest: tuple[str, str] | None = None
    path: str | None = None


class PathTree:
    """Matches a canonical path, segment by segment: a literal segment wins over `{name}`, and both over `{name*}`."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.root = Node({})
        for path in paths:
            self.add(path)

    def add(self, path: str) -> None:
        """Add a path of the table; raise ValueError if its parameters conflict with those of another path."""
        node = self.root
        for segment in path.split("/"):
            parameter = PARAMETER.fullmatch(segment)
            if parameter is None:
                node = node.segments.setdefault(segment, Node({}))
            elif parameter[2]:
                if node.rest is not None:
                    raise ValueError(f"another path has a {{name*}} parameter at the same position: {path}")
                node.rest = parameter[1], path
                return
            else:
                if node.one is None:
                    node.one = parameter[1], Node({})
                elif node.one[0] != parameter[1]:
                    raise ValueError(f"another path has a differently named parameter at the same position: {path}")
                node = node.one[1]
        node.path = path

    def find(self, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the matching path of the table and its parameters, or None."""
        return self.search(self.root, path.split("/"), 0)

    def search(self, node: Node, segments: list[str], at: int) -> tuple[str, dict[str, str]] | None:
        """Match the segments from index `at` below the node."""
        if at == len(segments):
            return (node.path, {}) if node.path is not None else None
        segment = segments[at]
        found = None
        if (literal := node.segments.get(segment)) is not None:
            found = self.search(literal, segments, at + 1)
        if found is None and node.one is not None and segment:
            found = self.search(node.one[1], segments, at + 1)
            if found is not None:
                found[1][node.one[0]] = segment
        if found is None and node.rest is not None and any(segments[at:]):
            found = node.rest[1], {node.rest[0]: "/".join(segments[at:])}
        return found
