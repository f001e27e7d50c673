"""The blockchain core of the demo: serves the made-up chain and accepts transactions into a bounded pool."""

import hashlib
import json
import time
from collections import OrderedDict
from threading import Lock
from typing import Any
from uuid import uuid4

from demo import chain, faults
from demo.routing import Answer, Cluster, NotFound, Request, Route, json_answer, rfc3339

POOL_SIZE = 10_000


class Pool:
    """Transactions sent to this process, newest last; beyond 10,000 the oldest is dropped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def add(self, payload: dict[str, Any], sender: str | None) -> dict[str, Any]:
        """Accept a transaction; the next block confirms it."""
        seed = json.dumps([str(uuid4()), payload], sort_keys=True).encode()
        record = {
            "transaction_id": hashlib.sha256(seed).hexdigest(),
            "type": payload.get("type", "transfer"),
            "sender": sender,
            "payload": payload,
            "block_height": chain.current_height() + 1,
            "timestamp": rfc3339(time.time()),
        }
        with self._lock:
            self._held[record["transaction_id"]] = record
            if len(self._held) > POOL_SIZE:
                self._held.popitem(last=False)
        return _with_status(record)

    def find(self, name: str) -> dict[str, Any] | None:
        """The transaction with that name, None if this process never accepted it or has dropped it."""
        with self._lock:
            record = self._held.get(name)
        return record and _with_status(record)

    def newest_first(self) -> list[dict[str, Any]]:
        with self._lock:
            return [_with_status(record) for record in reversed(self._held.values())]


def _with_status(record: dict[str, Any]) -> dict[str, Any]:
    confirmed = record["block_height"] <= chain.current_height()
    return {**record, "status": "confirmed" if confirmed else "pending"}


def _info(request: Request) -> Answer:
    height = chain.current_height()
    return json_answer(
        {
            "network": chain.NETWORK,
            "version": "1.0.0",
            "height": height,
            "latest_block_hash": chain.block_hash(height),
            "genesis_hash": chain.block_hash(0),
            "block_time_seconds": chain.BLOCK_SECONDS,
        }
    )


def _status(request: Request) -> Answer:
    return json_answer(
        {
            "status": "synced",
            "height": chain.current_height(),
            "peers": len(chain.VALIDATORS),
            "syncing": False,
        }
    )


def _height(request: Request) -> Answer:
    return json_answer({"height": chain.current_height()})


def _network(request: Request) -> Answer:
    nodes = [{"node_id": name, "role": "validator", "online": True} for name in chain.VALIDATORS]
    return json_answer({"network": chain.NETWORK, "consensus": "proof_of_operational_tasks", "nodes": nodes})


def _blocks(request: Request) -> Answer:
    page, newest = request.page(), chain.current_height()
    heights = page.cut(range(newest, -1, -1))
    blocks = [chain.block(height) for height in heights]
    return json_answer({"blocks": blocks, "pagination": page.summary(newest + 1)})


def _block(request: Request, block_id: str) -> Answer:
    return json_answer(chain.block(_known_height(block_id)))


def _known_height(block_id: str) -> int:
    height = chain.find_block(block_id)
    if height is None:
        raise NotFound("block")
    return height


def _merkle(request: Request, block_id: str) -> Answer:
    height = _known_height(block_id)
    leaves = chain.transaction_ids(height)
    return json_answer({"block_height": height, "merkle_root": chain.merkle_root(leaves), "leaves": leaves})


def _anchoring_status(request: Request) -> Answer:
    return json_answer({"status": "running", "last_anchored_height": chain.current_height(), "queued": 0})


def _anchor(request: Request, session_id: str) -> Answer:
    digest = hashlib.sha256(session_id.encode())
    height = int.from_bytes(digest.digest()[:3]) % (chain.current_height() + 1)
    return json_answer(
        {
            "session_id": session_id,
            "anchored": True,
            "anchor_hash": digest.hexdigest(),
            "block_height": height,
            "transaction_id": chain.transaction_ids(height)[0],
        }
    )


def _consensus(request: Request) -> Answer:
    height = chain.current_height()
    leader = chain.VALIDATORS[(height + 1) % len(chain.VALIDATORS)]
    return json_answer(
        {
            "round": height + 1,
            "leader": leader,
            "validators": list(chain.VALIDATORS),
            "finalized_height": height,
        }
    )


def blockchain_core() -> Cluster:
    """The blockchain core as a WSGI application, with an empty pool."""
    pool = Pool()

    def list_transactions(request: Request) -> Answer:
        page = request.page()
        confirmed = [chain.transaction(name) for name in chain.transaction_ids(chain.current_height())]
        everything = pool.newest_first() + confirmed
        found = {"transactions": page.cut(everything), "pagination": page.summary(len(everything))}
        return json_answer(found)

    def submit_transaction(request: Request) -> Answer:
        return json_answer(pool.add(request.json(), request.header("X-User-Id")), 202)

    def show_transaction(request: Request, transaction_id: str) -> Answer:
        record = pool.find(transaction_id) or chain.transaction(transaction_id)
        if record is None:
            raise NotFound("transaction")
        return json_answer(record)

    return Cluster(
        "lucid-blocks",
        [
            Route("GET", "/api/v1/chain/info", _info),
            Route("GET", "/api/v1/chain/status", _status),
            Route("GET", "/api/v1/chain/height", _height),
            Route("GET", "/api/v1/chain/network", _network),
            Route("GET", "/api/v1/blocks", _blocks),
            Route("GET", "/api/v1/blocks/{block_id}", _block),
            Route("GET", "/api/v1/transactions", list_transactions),
            Route("POST", "/api/v1/transactions", submit_transaction),
            Route("GET", "/api/v1/transactions/{transaction_id}", show_transaction),
            Route("GET", "/api/v1/anchoring", _anchoring_status),
            Route("GET", "/api/v1/anchoring/status", _anchoring_status),
            Route("GET", "/api/v1/anchoring/{session_id}", _anchor),
            Route("GET", "/api/v1/consensus", _consensus),
            Route("GET", "/api/v1/consensus/status", _consensus),
            Route("GET", "/api/v1/merkle/{block_id}", _merkle),
            *faults.ROUTES,
        ],
    )
