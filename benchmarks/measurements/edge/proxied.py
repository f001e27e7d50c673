"""A small proxied GET through the edge: throughput compared with its peers, and the added latency."""

import sys
from collections.abc import Iterator

from benchmarks import peers, proxies
from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.edge import start_edge
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import Target
from benchmarks.measurements.proxied import added_latency
from benchmarks.processes import LOAD_CORE
from benchmarks.rounds import Server, compared, in_turn, medians, total

AIMS: dict[str, Aim | None] = {
    "gateway": Aim(at_least=18),
    "nginx": Aim(at_least=0.33),
    "envoy": Aim(at_least=1.5),
    "caching envoy": None,
    "traefik": Aim(at_least=1.5),
    "haproxy": Aim(at_least=0.5),
}


def throughput(bench: Bench) -> Iterator[Figure]:
    """64 connections through the edge, with all checks, access log and metrics, and through its peers."""
    upstreams = Upstreams(bench.backend)
    gateway, edge = bench.kit.start(upstreams), start_edge(bench.kit, upstreams)
    target = edge.target(GET_PATH)
    edge.wait_until_it_decides(target)
    servers = {
        "edge": Server(target, edge.process),
        "gateway": Server(gateway.target(GET_PATH), gateway.process),
        **_peers(bench),
    }
    before = edge.left_to_gateway()
    runs = in_turn(servers, connections=64, seconds=bench.seconds)
    yield from medians("edge", runs)
    yield Figure("edge", "requests that failed", total(runs, lambda load: load.failed), aim=Aim(at_most=0))
    yield Figure("edge", "requests left to the gateway", edge.left_to_gateway() - before, aim=Aim(at_most=0))
    for peer, aim in AIMS.items():
        if peer in servers:
            yield from compared("edge", runs, "edge", peer, aim)


def latency(bench: Bench) -> Iterator[Figure]:
    """1 connection: the latency that the edge adds to a direct call of the backend, all on one core."""
    edge = start_edge(bench.kit, Upstreams(bench.backend), core=LOAD_CORE)
    edge.wait_until_it_decides(edge.target(GET_PATH))
    yield from added_latency("edge-latency", bench, edge, p50=Aim(at_most=0.15), p99=Aim(at_most=1))


def _peers(bench: Bench) -> dict[str, Server]:
    token = bench.kit.token
    nginx, base = peers.nginx_proxy(bench.stage, bench.backend)
    found = {
        "nginx": Server(Target(base + GET_PATH), nginx),
        "envoy": proxies.envoy(bench.stage, bench.backend, GET_PATH, token),
        "caching envoy": proxies.envoy(bench.stage, bench.backend, GET_PATH, token, remembered_tokens=1000),
        "traefik": proxies.traefik(bench.stage, bench.backend, GET_PATH),
    }
    haproxy = proxies.haproxy(bench.stage, bench.backend, GET_PATH, token)
    if haproxy is None:
        print("edge: without HAProxy, which is not installed", file=sys.stderr)
        return found
    return found | {"haproxy": haproxy}
