"""Requests from a blocked address: the cost of a refusal compared with that of an answer."""

import json
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import Load, Target, load
from benchmarks.processes import START_SECONDS, DidNotStart, cpu_seconds

ROUNDS = 3
CONNECTIONS = 32
RULES_PATH = "/api/v1/admin/blocked-addresses"
NETWORK, ADDRESS = "192.0.2.0/24", "192.0.2.1"


def blocked(bench: Bench) -> Iterator[Figure]:
    """32 connections: the worker's processor time per refused request, relative to that per served one."""
    gateway = bench.kit.start(Upstreams(bench.backend), settings={"TRUSTED_PROXIES": "127.0.0.1"})
    served = gateway.target(GET_PATH)
    refused = Target(served.url, served.token, client=ADDRESS)
    deny(gateway, bench.kit.token_of("admin"))
    wait_until_refused(refused)
    rounds = [[timed(gateway, target, bench.seconds) for target in (served, refused)] for _ in range(ROUNDS)]
    for name, runs in zip(("served", "refused"), zip(*rounds, strict=True), strict=True):
        yield Figure("blocked", f"{name}: requests", statistics.median(one.rate for one, _ in runs), "/s")
        yield Figure("blocked", f"{name}: processor time", statistics.median(cost for _, cost in runs) * 1e6, "us")
    let_in = sum(other.requests - other.refused for _, (other, _) in rounds)
    yield Figure("blocked", "requests that should have been refused", let_in, aim=Aim(at_most=0))
    yield Figure("blocked", "requests that failed", sum(one.failed for (one, _), _ in rounds), aim=Aim(at_most=0))
    ratios = [cost / cost_of_serving for (_, cost_of_serving), (_, cost) in rounds]
    yield Figure("blocked", "refused / served, processor time", statistics.median(ratios), "x", Aim(at_most=0.2))


def timed(gateway: Gateway, target: Target, seconds: float) -> tuple[Load, float]:
    """Run a load; return it with the worker's processor time per request, in seconds."""
    load(target, connections=CONNECTIONS, seconds=1)
    (worker,) = gateway.workers()
    before = cpu_seconds(worker)
    result = load(target, connections=CONNECTIONS, seconds=seconds)
    return result, (cpu_seconds(worker) - before) / result.requests


def deny(gateway: Gateway, admin_token: str) -> None:
    """Add a rule that denies the load's addresses."""
    body = json.dumps({"network": NETWORK, "reason": "benchmark"}).encode()
    headers = {"Authorization": f"Bearer {admin_token}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(gateway.base + RULES_PATH, body, headers), timeout=5).close()


def wait_until_refused(target: Target) -> None:
    """Return when the worker applies the rule; raise `DidNotStart` if it never does."""
    request = urllib.request.Request(target.url, headers={"X-Forwarded-For": target.client or ""})
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            with error:
                if error.status == 403:
                    return
        time.sleep(0.1)
    raise DidNotStart("the rule for the network is not followed")
