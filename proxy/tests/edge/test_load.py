"""The edge with many connections, and for long without its gateway or with a slow Redis. `make soak-edge` runs these at
full size and prints what it measures.
"""

import asyncio
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import jwt
import pytest

from lucid_gateway.policy import keys
from proxy.tests.edge.conftest import Stage
from proxy.tests.edge.test_faults import Fire, kill_gateway, running_stage
from testing.feed import Feed
from testing.gateway import running_gateway
from testing.hammer import front_workers
from testing.http.client import RawClient
from testing.http.cluster import RawCluster
from testing.servers import RedisServer, running_redis

AT_A_TIME, SOURCES = 100, 50  # connections that are opened at once; addresses from which they come
SAMPLE = 200
# What a connection may cost a worker: more than three times what it does, with the growth of the worker itself.
IDLE_KIB, STREAM_KIB = 32, 64
NO_ANSWER_SECONDS = 3.0
MANY = {
    f"RATE_LIMIT_{name}": "100000"
    for name in ("AUTHENTICATED_REQUESTS_PER_MINUTE", "AUTHENTICATED_BURST_SIZE", "DAILY_QUOTA")
}


@pytest.fixture(scope="module")
def feed() -> Iterator[Feed]:
    with Feed().running() as feed:
        yield feed


@pytest.fixture(scope="module")
def whole_stage(feed: Feed) -> Iterator[Stage]:
    """An edge in front of a cluster that takes many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = {"RATE_LIMIT_ENABLED": "false", "CLUSTER_MAX_IN_FLIGHT": "5000", "MAX_CONNECTIONS_PER_ADDRESS": "1000"}
    with RawCluster() as other, running_gateway(edge=True, TRON_PAYMENT_URL=feed.url, **settings) as gateway:
        yield Stage(gateway, other, other, gateway.issue_token("demo@lucid.test"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.gateway.warm(whole_stage.token, "/wallets")
    return whole_stage


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(stage: Stage, path: str, number: int, until: bytes) -> list[Connection]:
    """Open so many connections, send a request on each and read the answer up to these bytes."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def open_one(index: int) -> Connection:
        async with places:
            source = (f"127.0.1.{index % SOURCES + 1}", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.gateway.port, local_addr=source)
            host = f"Host: 127.0.0.1\r\nAuthorization: Bearer {stage.token}\r\n\r\n"
            writer.write(f"GET /api/v1{path} HTTP/1.1\r\n{host}".encode())
            await reader.readuntil(until)
            return reader, writer

    return await asyncio.gather(*map(open_one, range(number)))


def memory_kib(stage: Stage) -> int:
    """Return the memory of the workers of nginx that is not shared."""
    assert stage.gateway.nginx is not None
    found = 0
    for pid in front_workers(stage.gateway):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return found


def seconds_of_requests(stage: Stage) -> list[float]:
    """Return how long requests on one connection took, in order of length; all are decided at the edge."""
    found = []
    with RawClient(stage.gateway.port, stage.token) as client:
        for _ in range(SAMPLE):
            started = time.perf_counter()
            assert client.ask("GET", "/wallets").status == 200
            found.append(time.perf_counter() - started)
    assert stage.plane(stage.ask()) == "edge"
    return sorted(found)


def report(what: str, seconds: list[float], kib: float) -> None:
    times = f"{median(seconds) * 1000:.2f} ms (longest {seconds[-1] * 1000:.1f} ms)"
    print(f"\n{what}, {kib:.1f} KiB each: requests take {times}")  # noqa: T201  # for `make soak-edge`


def test_requests_go_on_beside_idle_connections(stage: Stage, pytestconfig: pytest.Config) -> None:
    number = pytestconfig.getoption("--idle")

    async def scenario() -> None:
        before = memory_kib(stage)
        report("no idle connections", await asyncio.to_thread(seconds_of_requests, stage), 0)
        connections = await opened(stage, "/wallets", number, b"ok")
        each = (memory_kib(stage) - before) / number
        report(f"{number} idle connections", await asyncio.to_thread(seconds_of_requests, stage), each)
        assert not any(reader.at_eof() for reader, _ in connections)
        assert each < IDLE_KIB
        for _, writer in connections:
            writer.close()

    asyncio.run(scenario())


def test_many_event_streams_pass_at_once(stage: Stage, feed: Feed, pytestconfig: pytest.Config) -> None:
    number = pytestconfig.getoption("--streams")

    async def scenario() -> None:
        before = memory_kib(stage)
        connections = await opened(stage, "/wallets/stream", number, b"data: first\n\n")
        each = (memory_kib(stage) - before) / number
        report(f"{number} streams", await asyncio.to_thread(seconds_of_requests, stage), each)
        feed.say("second")
        await asyncio.gather(*(reader.readuntil(b"data: second\n\n") for reader, _ in connections))
        assert each < STREAM_KIB
        for _, writer in connections:
            writer.close()

    asyncio.run(scenario())


# Without Redis or the gateway.


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def counted(stage: Stage) -> int:
    """Return how many requests of the user Redis has counted."""
    user = jwt.decode(stage.token, options={"verify_signature": False})["user_id"]
    return int(stage.gateway.redis().hget(keys.quota(keys.user(user)), "n") or 0)


def test_a_request_while_redis_hangs_is_counted_by_each_plane_at_most_once(redis: RedisServer) -> None:
    with running_stage(redis, **MANY) as stage:
        before = counted(stage)
        with redis.hung():
            assert stage.ask().status == 200
        # Redis runs commands that it had received, also of a connection that has ended meanwhile.
        assert counted(stage) - before <= 2


@pytest.mark.quiet
def test_no_answer_waits_for_a_redis_that_hangs_under_load(redis: RedisServer) -> None:
    with running_stage(redis, **MANY) as stage:
        before = counted(stage)
        with Fire(stage, each=20) as fire, redis.hung():
            time.sleep(2)

        assert fire.found.keys() == {"200"}
        assert fire.longest < NO_ANSWER_SECONDS
        assert counted(stage) - before <= fire.found.total() + 1


def test_known_callers_go_on_for_as_long_as_the_gateway_is_away(
    redis: RedisServer, pytestconfig: pytest.Config
) -> None:
    with running_stage(redis, **MANY) as stage:
        other = stage.gateway.issue_token("operator@lucid.test")
        before, asked = counted(stage), 0
        kill_gateway(stage)
        ends = time.monotonic() + 60 * pytestconfig.getoption("--minutes")
        while time.monotonic() < ends:
            assert stage.ask().status == 200
            assert stage.ask(token=other).code == "5008"
            asked += 1

        assert counted(stage) - before == asked
