"""Requests that the edge refuses, compared with the gateway: over the limit, and from a blocked address."""

from collections.abc import Iterator

from benchmarks.backends import GET_PATH
from benchmarks.bench import Bench
from benchmarks.edge import start_edge
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import Target
from benchmarks.measurements.blocked import ADDRESS, deny, wait_until_refused
from benchmarks.rounds import Runs, Server, compared, in_turn, medians, total

SETTINGS = {
    "TRUSTED_PROXIES": "127.0.0.1",
    "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": "1",
    "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": "0",
}
CONNECTIONS = 32


def refused(bench: Bench) -> Iterator[Figure]:
    """32 connections, all of whose requests are refused, by the edge and by a gateway without one."""
    upstreams = Upstreams(bench.backend)
    gateway = bench.kit.start(upstreams, settings=SETTINGS)
    edge = start_edge(bench.kit, upstreams, settings=SETTINGS)
    servers = {"edge": edge, "gateway": gateway}
    over_limit = {name: server.target(GET_PATH) for name, server in servers.items()}
    edge.wait_until_it_decides(over_limit["edge"])
    deny(gateway, bench.kit.token_of("admin"))
    blocked = {name: Target(target.url, target.token, client=ADDRESS) for name, target in over_limit.items()}
    for target in blocked.values():
        wait_until_refused(target)
    edge.wait_until_it_decides(blocked["edge"])
    before = edge.left_to_gateway()
    for why, targets, aim in (("over the limit", over_limit, 20), ("blocked address", blocked, 5)):
        loaded = {name: Server(target, servers[name].process) for name, target in targets.items()}
        runs = in_turn(loaded, connections=CONNECTIONS, seconds=bench.seconds)
        yield from _figures(f"edge-refused, {why}", runs, Aim(at_least=aim))
    yield Figure("edge-refused", "requests left to the gateway", edge.left_to_gateway() - before, aim=Aim(at_most=0))


def _figures(measurement: str, runs: Runs, aim: Aim) -> Iterator[Figure]:
    yield from medians(measurement, runs)
    # The limit admits one request a minute.
    share = total(runs, lambda load: load.refused) / total(runs, lambda load: load.requests) * 100
    yield Figure(measurement, "refused", share, "%", Aim(at_least=99))
    yield from compared(measurement, runs, "edge", "gateway", aim)
