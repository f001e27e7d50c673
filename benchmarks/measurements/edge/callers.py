"""What it costs the edge to know 100,000 callers.

A gateway would need minutes to teach as many. It teaches one here, and a stand-in for it repeats the lesson to the edge
for the others, who differ in user id, token id and token, all as long as the real ones. What the edge does is real.
"""

import json
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks.backends import GET_PATH, start_nginx
from benchmarks.bench import Bench
from benchmarks.edge import new_folder, start_edge_nginx
from benchmarks.figures import Aim, Figure
from benchmarks.gateway import Upstreams
from benchmarks.load import Target, load
from benchmarks.processes import LOAD_CORE, Process, Stage, resident_mib, workers_of
from demo.edge import edge_settings
from testing.http.wire import Wire

CALLERS = 100_000
CONNECTIONS, AT_ONCE = 8, 100  # requests are sent on all connections, so many on each, before the answers are read
OF_DECISION = "X-RateLimit-Limit"  # a field of the edge's own answers that those of the stand-in lack
PATIENCE_SECONDS = 30
HEALTHY = "location = /health { return 200; }"
STAND_IN = """
map $request_id $someone {{
    "~^(.{{8}})(.{{4}}).(.{{3}}).(.{{3}})(.{{12}})$" "$1-$2-4$3-8$4-$5";
}}
server {{
    listen unix:{socket};
    location / {{
        add_header X-Lucid-Caller '{lesson}';
        return 200 '{{}}';
    }}
}}
"""


def callers(bench: Bench) -> Iterator[Figure]:
    """The memory of a worker before and after 100,000 callers were taught, and how many of them it still knows."""
    nginx, target = taught_edge(bench)
    (worker,) = workers_of(nginx)
    tokens = [f"{bench.kit.token[:-6]}{number:06}" for number in range(CALLERS)]
    yield Figure("edge-callers", "worker before", resident_mib(worker), "MiB")
    already_known = decided(target, tokens)
    yield Figure("edge-callers", "callers taught", CALLERS - already_known)
    yield Figure("edge-callers", "worker after", resident_mib(worker), "MiB", Aim(at_most=150))
    # The last one first, so that a caller who is taught again displaces none who is yet to come.
    yield Figure("edge-callers", "callers still known", decided(target, reversed(tokens)))


def taught_edge(bench: Bench) -> tuple[Process, Target]:
    """Start a gateway, its stand-in, and an edge in front of the stand-in. Return nginx, and what to request."""
    folder = new_folder(bench.kit)
    shared = edge_settings(folder)
    settings = {"EDGE_SECRET": shared["EDGE_SECRET"]}
    gateway = bench.kit.start(Upstreams(bench.backend), cores=(LOAD_CORE,), settings=settings)
    lesson = lesson_of(gateway.target(GET_PATH), shared["EDGE_SECRET"])
    start_stand_in(bench.stage, Path(shared["GATEWAY_SOCKET"]), lesson)
    nginx, base, _ = start_edge_nginx(bench.kit, folder, shared)
    target = Target(base + GET_PATH, bench.kit.token)
    load(target, connections=8, seconds=1)
    return nginx, target


def lesson_of(target: Target, secret: str) -> str:
    """What the gateway teaches an edge about the target's caller; raise RuntimeError if it teaches nothing."""
    headers = {"Authorization": f"Bearer {target.token}", "X-Lucid-Edge": secret}
    with urllib.request.urlopen(urllib.request.Request(target.url, headers=headers), timeout=5) as answer:
        lesson: str | None = answer.headers["X-Lucid-Caller"]
    if lesson is None:
        raise RuntimeError("the gateway does not teach")
    return lesson


def start_stand_in(stage: Stage, path: Path, lesson: str) -> None:
    """Start nginx on a unix socket; it teaches with each answer, each time about another user with another token."""
    facts = json.loads(lesson)
    lesson = lesson.replace(facts["user_id"], "$someone").replace(facts["credential"], "$someone")
    server = STAND_IN.format(socket=path, lesson=lesson)
    start_nginx(stage, "stand-in", locations=HEALTHY, upstreams=server, cores=(LOAD_CORE,))


def decided(target: Target, tokens: Iterable[str]) -> int:
    """Send one request with each token; return how many the edge decided itself."""
    remaining, count = iter(tokens), 0
    with ExitStack() as ends:
        wires = [ends.enter_context(Wire(target.connect(PATIENCE_SECONDS))) for _ in range(CONNECTIONS)]
        while batches := [batch for _ in wires if (batch := list(islice(remaining, AT_ONCE)))]:
            for wire, batch in zip(wires, batches, strict=False):
                wire.send(b"".join(replace(target, token=token).head("GET") for token in batch))
            for wire, batch in zip(wires, batches, strict=False):
                count += sum(wire.read_answer().header(OF_DECISION) is not None for _ in batch)
    return count
