"""1 GiB up and 1 GiB down through one worker, compared with nginx without buffering."""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping

from benchmarks import peers
from benchmarks.backends import BODY_MIB, DOWNLOAD_PATH, GET_PATH, sink
from benchmarks.bench import Bench
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Gateway, Upstreams
from benchmarks.load import Target, load
from benchmarks.processes import LOAD_CORE, MEBIBYTE, forget_peak, peak_mib, resident_mib, server_seconds
from benchmarks.rounds import Server
from benchmarks.transfer import download, upload

ROUNDS = 3
UPLOAD_MIB = 64  # per request: the gateway accepts at most 100 MiB
UPLOAD_PATH = "/api/v1/storage/upload"


def bodies(bench: Bench) -> Iterator[Figure]:
    """Throughput relative to that of nginx, and the growth of the worker's memory."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with sink() as storage:
        gateway = bench.kit.start(Upstreams(bench.backend, storage=storage.url))
        yield from against_nginx(bench, "bodies", "gateway", gateway, storage.url, aim=Aim(at_least=0.5))


def against_nginx(
    bench: Bench, measurement: str, name: str, gateway: Gateway, storage: str, *, aim: Aim
) -> Iterator[Figure]:
    """Yield the figures of a gateway or an edge with that name; `aim` is that of its throughput relative to nginx."""
    process, base = peers.nginx_proxy(bench.stage, bench.backend, storage)
    servers = {name: Server(gateway.target(""), gateway.process), "nginx": Server(Target(base), process)}
    load(gateway.target(GET_PATH), connections=4, seconds=1)
    (worker,) = gateway.workers()
    for way, measure in (("upload", _upload(bench)), ("download", _download)):
        before = resident_mib(worker)
        forget_peak(worker)
        rates, costs = _in_turn(measure, servers)
        for server in servers:
            yield Figure(measurement, f"{way}: {server}", rates[server], "MiB/s")
            yield Figure(measurement, f"{way}: {server}, processor time", costs[server], "s")
        yield Figure(measurement, f"{way}: {name} / nginx", rates[name] / rates["nginx"], "x", aim)
        yield Figure(measurement, f"{way}: {name} / nginx, by processor time", costs["nginx"] / costs[name], "x")
        yield Figure(measurement, f"{way}: worker grows", peak_mib(worker) - before, "MiB", Aim(at_most=20))


def _in_turn(
    measure: Callable[[Target], float], servers: Mapping[str, Server]
) -> tuple[dict[str, float], dict[str, float]]:
    """The median of each server's throughput, and of its processor time for one body, in seconds."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            before = server_seconds(server.process)
            rates[name].append(measure(server.target))
            costs[name].append(server_seconds(server.process) - before)
    return _medians(rates), _medians(costs)


def _medians(values: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(of_server) for name, of_server in values.items()}


def _upload(bench: Bench) -> Callable[[Target], float]:
    part = bench.stage.directory / "part"
    with part.open("wb") as file:
        file.truncate(UPLOAD_MIB * MEBIBYTE)
    return lambda target: upload(Target(target.url + UPLOAD_PATH, target.token), part, times=BODY_MIB // UPLOAD_MIB)


def _download(target: Target) -> float:
    # The gateway rewrites the path, nginx does not.
    path = DOWNLOAD_PATH.replace("/consensus", "/chain/consensus") if target.token else DOWNLOAD_PATH
    return download(Target(target.url + path, target.token), size=BODY_MIB * MEBIBYTE)
