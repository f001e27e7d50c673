import asyncio
import time
from urllib.parse import urlsplit

import httpx
import pytest

from demo.launch import DemoClusters

DEMO = "/api/v1/consensus/demo"


def test_echo_shows_the_request_as_it_was_received(chain: httpx.Client) -> None:
    headers = [("X-Twice", "a"), ("X-Twice", "b"), ("under_score", "kept")]
    answer = chain.post("/api/v1/consensus/echo?a=%2F&a=2", content=b"12345", headers=headers).json()
    assert (answer["method"], answer["path"], answer["query"]) == (
        "POST",
        "/api/v1/consensus/echo",
        "a=%2F&a=2",
    )
    assert answer["body_length"] == 5
    sent = [tuple(pair) for pair in answer["headers"]]
    assert set(headers) <= set(sent)


def test_slow_answers_after_the_requested_time(chain: httpx.Client) -> None:
    start = time.monotonic()
    assert chain.get(f"{DEMO}/slow?seconds=0.3").json() == {"slept_seconds": 0.3}
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("path", ["slow?seconds=31", "slow?seconds=nan", "events?count=x", "bytes/x", "status/99"])
def test_an_invalid_parameter_is_refused(chain: httpx.Client, path: str) -> None:
    assert chain.get(f"{DEMO}/{path}").status_code == 422


def test_fail_is_a_500_with_json(chain: httpx.Client) -> None:
    answer = chain.get(f"{DEMO}/fail")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "LUCID_ERR_5001")


@pytest.mark.parametrize("status", [200, 204, 302, 304, 418, 429, 503, 599])
def test_status_answers_with_the_requested_status(chain: httpx.Client, status: int) -> None:
    assert chain.get(f"{DEMO}/status/{status}").status_code == status


def test_events_arrive_one_at_a_time(chain: httpx.Client) -> None:
    arrivals = []
    with chain.stream("GET", f"{DEMO}/events?count=3&interval=1") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for text in answer.iter_text():
            arrivals.append((time.monotonic(), text.count("\n\n")))
    assert [events for _, events in arrivals] == [1, 1, 1]
    assert arrivals[2][0] - arrivals[0][0] >= 0.6  # two seconds, less the delays of a busy machine


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
def test_bytes_sends_exactly_that_many(chain: httpx.Client, size: int) -> None:
    answer = chain.get(f"{DEMO}/bytes/{size}")
    assert (len(answer.content), answer.headers["Content-Length"]) == (size, str(size))


def test_reset_closes_the_connection_without_an_answer(chain: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        chain.get(f"{DEMO}/reset")


@pytest.mark.quiet
def test_a_thousand_slow_requests_are_answered_concurrently(clusters: DemoClusters) -> None:
    address = urlsplit(clusters.blockchain_core)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {DEMO}/slow?seconds=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer[:12]

    async def ask_all() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(1000)))

    start = time.monotonic()
    answers = asyncio.run(ask_all())
    assert set(answers) == {b"HTTP/1.1 200"}
    assert time.monotonic() - start < 30  # one after another they take a thousand seconds
