import time

import httpx
import pytest

from demo.chain import BLOCK_SECONDS, GENESIS_SECONDS, merkle_root, sealed, unsealed


def test_the_chain_is_called_lucid_blocks(chain: httpx.Client) -> None:
    info = chain.get("/api/v1/chain/info").json()
    assert info["network"] == "lucid_blocks"
    assert info["latest_block_hash"] == chain.get(f"/api/v1/blocks/{info['height']}").json()["hash"]


def test_the_height_follows_the_clock(chain: httpx.Client) -> None:
    expected = (time.time() - GENESIS_SECONDS) / BLOCK_SECONDS
    assert abs(chain.get("/api/v1/chain/height").json()["height"] - expected) <= 1


def test_a_block_has_the_hash_of_its_predecessor(chain: httpx.Client) -> None:
    before, after = (chain.get(f"/api/v1/blocks/{height}").json() for height in (41, 42))
    assert after["prev_hash"] == before["hash"]
    assert before["height"] == 41


def test_a_block_is_the_same_by_height_and_by_hash(chain: httpx.Client) -> None:
    by_height = chain.get("/api/v1/blocks/1234").json()
    assert chain.get(f"/api/v1/blocks/{by_height['hash']}").json() == by_height


@pytest.mark.parametrize("block_id", ["999999999999", "0" * 64, "-1", "nonsense", "9" * 5000])
def test_an_unknown_block_is_not_found(chain: httpx.Client, block_id: str) -> None:
    answer = chain.get(f"/api/v1/blocks/{block_id}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "LUCID_ERR_4001"


def test_the_list_starts_with_the_newest_block_and_its_pages_are_contiguous(chain: httpx.Client) -> None:
    first, second = (chain.get("/api/v1/blocks", params={"page": page, "limit": 3}).json() for page in (1, 2))
    heights = [block["height"] for block in first["blocks"] + second["blocks"]]
    assert first["pagination"]["limit"] == 3
    assert len(heights) == 6
    assert heights[:3] == list(range(heights[0], heights[0] - 3, -1))


@pytest.mark.parametrize("query", ["page=0", "limit=101", "limit=x", "limit=nan"])
def test_an_invalid_page_is_refused(chain: httpx.Client, query: str) -> None:
    assert chain.get(f"/api/v1/blocks?{query}").status_code == 422


def test_each_transaction_of_a_block_can_be_read(chain: httpx.Client) -> None:
    block = chain.get("/api/v1/blocks/1000").json()
    for index, name in enumerate(block["transactions"]):
        transaction = chain.get(f"/api/v1/transactions/{name}").json()
        assert (transaction["block_hash"], transaction["index"]) == (block["hash"], index)


def test_a_sent_transaction_can_be_read_again(chain: httpx.Client) -> None:
    sent = chain.post("/api/v1/transactions", json={"type": "anchor"}, headers={"X-User-Id": "u-1"})
    assert sent.status_code == 202
    name = sent.json()["transaction_id"]
    assert chain.get(f"/api/v1/transactions/{name}").json()["sender"] == "u-1"
    assert name in [row["transaction_id"] for row in chain.get("/api/v1/transactions").json()["transactions"]]


@pytest.mark.parametrize(("body", "status"), [(b"[]", 422), (b"{", 400), (b" " * 1_100_000, 413)])
def test_a_transaction_must_be_a_json_object(chain: httpx.Client, body: bytes, status: int) -> None:
    assert chain.post("/api/v1/transactions", content=body).status_code == status


def test_an_unknown_transaction_is_not_found(chain: httpx.Client) -> None:
    unknown = [sealed("transaction", 99), sealed("transaction", 2**63), "x"]
    assert [chain.get(f"/api/v1/transactions/{name}").status_code for name in unknown] == [404] * 3


def test_the_merkle_root_follows_from_the_leaves(chain: httpx.Client) -> None:
    tree = chain.get("/api/v1/merkle/1000").json()
    assert tree["merkle_root"] == merkle_root(tree["leaves"])
    assert tree["merkle_root"] == chain.get("/api/v1/blocks/1000").json()["merkle_root"]


@pytest.mark.parametrize(
    "path", ["chain/status", "chain/network", "anchoring", "anchoring/status", "anchoring/s-1", "consensus"]
)
def test_the_other_read_endpoints_answer(chain: httpx.Client, path: str) -> None:
    assert chain.get(f"/api/v1/{path}").status_code == 200


def test_a_refused_method_gets_the_list_of_allowed_ones(chain: httpx.Client) -> None:
    answer = chain.delete("/api/v1/transactions")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")


def test_head_answers_like_get_without_a_body(chain: httpx.Client) -> None:
    answer = chain.head("/api/v1/blocks/1")
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(chain.get("/api/v1/blocks/1").content)


def test_only_a_sealed_name_returns_its_number() -> None:
    name = sealed("block", 7)
    assert unsealed("block", name) == 7
    assert unsealed("block", name[:-1] + ("0" if name[-1] != "0" else "1")) is None
    assert unsealed("transaction", name) is None
