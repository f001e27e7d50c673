"""The route table: data, one row a route. The view, the OpenAPI document, the log and the tests read the same rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from proxy.choosing.clusters import configured

SAFE_IN_PATH = "/!$&'()*+,;=:@-._~"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, between two reads, and in all for requests that are no event stream."""

    connect: float = 2.0
    read: float = 30.0
    total: float = 60.0


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How long answers to GET may be given again: `seconds` where the cluster does not say; None only if it does.

    `shared` ones are the same for all callers who may ask; others are kept for each caller alone.
    """

    seconds: float | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests go. `path` is below /api/v1 in Django's syntax, `upstream` the path at the cluster;
    `permission` is what the caller must have (the contract, section 6); `body_limit` is bytes.

    `attempts` is how many instances may be tried at most, where the retry rule allows another; `idempotency_key` says
    whether Idempotency-Key is honoured; `cache` None keeps no answers; `recorded` rows are forwarded by a view of
    `sessions_api`, which keeps what came of them.
    """

    path: str
    methods: tuple[str, ...]
    cluster: str
    upstream: str
    permission: str
    tier: str = "authenticated"
    body_limit: int = 100 * MIB
    timeouts: Timeouts = Timeouts()
    attempts: int = 3
    idempotency_key: bool = False
    cache: CacheRule | None = None
    recorded: bool = False

    def target(self, parameters: Mapping[str, str], query: str) -> str:
        """Return the request target at the cluster (RFC 9112, section 3.2.1) for canonical path parameters."""
        path = self.upstream.format(**{name: quote(value, safe=SAFE_IN_PATH) for name, value in parameters.items()})
        return f"{path}?{printable(query)}" if query else path


def printable(query: str) -> str:
    """Return the query with what a request line cannot hold percent-encoded, all else untouched."""
    return re.sub(r"[^\x21-\x7e]", lambda match: quote(match[0].encode("latin-1", "replace")), query)


READ = ("GET", "HEAD")
CHANGE = ("PUT", "PATCH", "DELETE")
WRITE = ("POST", *CHANGE)
# Two seconds of the chain's height are nobody's secret; of blocks only the cluster knows which are final.
CHAIN_INFO = CacheRule(seconds=2.0, shared=True)
BLOCKS = CacheRule(shared=True)
BLOCKCHAIN, SESSIONS, TRON = "blockchain_core", "session_management", "tron_payment"
RDP, NODES, STORAGE = "rdp_services", "node_management", "storage_database"

CHUNK_UPLOAD = Route(
    "sessions/<str:session_id>/chunks",
    ("POST",),
    SESSIONS,
    "/api/v1/sessions/{session_id}/chunks",
    "session:update",
    tier="chunk_upload",
    body_limit=10 * MIB,
    recorded=True,
)


def subtree(path: str, methods: tuple[str, ...], cluster: str, upstream: str, **more: Any) -> tuple[Route, ...]:
    """Return the rows for a path and all below it."""
    return (
        Route(path, methods, cluster, upstream, **more),
        Route(f"{path}/<path:rest>", methods, cluster, f"{upstream}/{{rest}}", **more),
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
        tier="blockchain_query",
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
    *subtree("rdp", READ, RDP, "/api/v1/rdp", permission="rdp:read"),
    *subtree("rdp", WRITE, RDP, "/api/v1/rdp", permission="rdp:write"),
    *subtree("nodes", READ, NODES, "/api/v1/nodes", permission="node:read"),
    *subtree("nodes", WRITE, NODES, "/api/v1/nodes", permission="node:write"),
    *subtree("storage", READ, STORAGE, "/api/v1/storage", permission="storage:read"),
    *subtree("storage", WRITE, STORAGE, "/api/v1/storage", permission="storage:write"),
)
OPTIONAL_CLUSTERS = frozenset({RDP, NODES, STORAGE})


@cache
def active_routes() -> tuple[Route, ...]:
    """Return the rows that are served: those of an optional cluster appear when it has an address."""
    return tuple(route for route in ROUTES if route.cluster not in OPTIONAL_CLUSTERS or route.cluster in configured())


def by_path(routes: tuple[Route, ...]) -> dict[str, dict[str, Route]]:
    """Return path -> method -> route."""
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in route.methods:
            table.setdefault(route.path, {})[method] = route
    return table
