"""Computes how many requests a second a fleet bears, and simulates how long they wait: `python -m benchmarks.fleet`.

Users are spread over the masters by the slots of their real keys. A request takes processor time of a core of an edge,
then of the master of its user; a share of them takes that of a core of a gateway instead of the edge's. The costs are
those that `make bench` measured (docs/scaling.md). Each core and each master serves one request after another.
"""

import argparse
import itertools
import random
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from lucid_gateway.kernel.redis.slots import SLOTS, slot_of
from lucid_gateway.policy.keys import user

EDGE_SECONDS, GATEWAY_SECONDS, REDIS_SECONDS = 41.1e-6, 1_025e-6, 18.3e-6
OF_CLUSTER = 1.27  # a decision on a master of a cluster costs so many times that on a single server
USERS, REQUESTS = 1_000_000, 300_000


@dataclass(frozen=True)
class Fleet:
    """Numbers of Redis masters, and of cores of all edges and of all gateways.

    `left_to_gateway` is the share of requests that the edges leave to the gateways, such as the first of each caller.
    """

    masters: int
    edge_cores: int
    gateway_cores: int
    left_to_gateway: float = 0.01

    @property
    def redis_seconds(self) -> float:
        """What a decision costs a master; one master is a single server."""
        return REDIS_SECONDS * (OF_CLUSTER if self.masters > 1 else 1)


@dataclass(frozen=True)
class Load:
    """How active users are: the one at rank n sends 1/n^`skew` of what the first one sends, and one more user sends
    `hot_share` of all requests.
    """

    skew: float = 0.0
    hot_share: float = 0.0


@cache
def slots_of_users() -> list[int]:
    """Return the slot of each user's keys; the ids are the same in each run."""
    ids = random.Random(1)  # the same in each run
    return [slot_of(user(uuid.UUID(int=ids.getrandbits(128), version=4))) for _ in range(USERS)]


@cache
def weights(skew: float) -> list[float]:
    """Return the running totals of the users' shares."""
    return list(itertools.accumulate(rank**-skew for rank in range(1, USERS + 1)))


def hottest_share(fleet: Fleet, load: Load) -> float:
    """Return the share of all requests that the busiest master serves."""
    totals = weights(load.skew)
    of_masters = [0.0] * fleet.masters
    for slot, before, after in zip(slots_of_users(), [0.0, *totals], totals, strict=False):
        of_masters[slot * fleet.masters // SLOTS] += (after - before) / totals[-1]
    return load.hot_share + (1 - load.hot_share) * max(of_masters)


def limits(fleet: Fleet, load: Load) -> dict[str, float]:
    """Return the requests a second at which each part of the fleet has no time left."""
    return {
        "Redis": 1 / (hottest_share(fleet, load) * fleet.redis_seconds),
        "edge": fleet.edge_cores / ((1 - fleet.left_to_gateway) * EDGE_SECONDS),
        "gateway": fleet.gateway_cores / (fleet.left_to_gateway * GATEWAY_SECONDS) if fleet.left_to_gateway else 1e12,
    }


def chosen_masters(fleet: Fleet, load: Load, chance: random.Random) -> Iterator[int]:
    """Yield the master of each request."""
    slots, hot = slots_of_users(), slot_of(user("hot")) * fleet.masters // SLOTS
    for ranks in iter(lambda: chance.choices(range(USERS), cum_weights=weights(load.skew), k=10_000), None):
        for rank in ranks:
            yield hot if chance.random() < load.hot_share else slots[rank] * fleet.masters // SLOTS


def simulate(fleet: Fleet, load: Load, rate: float, seed: int = 1) -> list[float]:
    """Return the seconds from the arrival of each request until it was decided, in order of length; requests arrive at
    random moments, so many a second, and each is taken by the core of its kind that is free first.
    """
    chance = random.Random(seed)
    masters = [0.0] * fleet.masters
    edges, gateways = [0.0] * fleet.edge_cores, [0.0] * fleet.gateway_cores
    took, now = [], 0.0
    for master in itertools.islice(chosen_masters(fleet, load, chance), REQUESTS):
        now += chance.expovariate(rate)
        cores, cost = (gateways, GATEWAY_SECONDS) if chance.random() < fleet.left_to_gateway else (edges, EDGE_SECONDS)
        core = min(range(len(cores)), key=cores.__getitem__)
        cores[core] = max(now, cores[core]) + cost
        masters[master] = max(cores[core], masters[master]) + fleet.redis_seconds
        took.append(masters[master] - now)
    return sorted(took)


def row(fleet: Fleet, load: Load) -> tuple[str, ...]:
    """Return what the fleet bears, which part bounds it, and the waits at 50, 80 and 95 % of that."""
    found = limits(fleet, load)
    bound = min(found, key=found.__getitem__)
    waits = [simulate(fleet, load, found[bound] * share) for share in (0.5, 0.8, 0.95)]
    p99 = [f"{times[len(times) * 99 // 100] * 1000:.2f}" for times in waits]
    hot = f"{hottest_share(fleet, load):.0%}"
    return (str(fleet.masters), str(fleet.edge_cores), str(fleet.gateway_cores), f"{fleet.left_to_gateway:.0%}",
            f"{load.skew:g}", f"{load.hot_share:.0%}", hot, f"{found[bound]:,.0f}", bound, *p99)  # fmt: skip


HEADING = ("masters", "edge cores", "gateway cores", "left to gateways", "skew", "one user", "busiest master",
           "requests/s", "bound by", "p99 at 50 %, ms", "at 80 %", "at 95 %")  # fmt: skip
FLEETS = (
    (Fleet(1, 2, 1), Load()), (Fleet(1, 4, 1), Load()), (Fleet(3, 6, 2), Load()), (Fleet(6, 12, 4), Load()),
    (Fleet(12, 24, 8), Load()), (Fleet(12, 24, 8, 0.05), Load()), (Fleet(12, 24, 8), Load(skew=0.8)),
    (Fleet(12, 24, 8), Load(skew=1.0)), (Fleet(12, 24, 8), Load(skew=1.2)), (Fleet(12, 24, 8), Load(hot_share=0.1)),
    (Fleet(12, 24, 8), Load(hot_share=0.3)),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    for name in ("masters", "edge-cores", "gateway-cores"):
        parser.add_argument(f"--{name}", type=int, help="instead of the built-in fleets")
    parser.add_argument("--left-to-gateway", type=float, default=0.01, help="share of requests (0.01)")
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--hot-share", type=float, default=0.0, help="share of requests that one user sends")
    options = parser.parse_args(arguments)
    if options.masters:
        fleet = Fleet(options.masters, options.edge_cores or 1, options.gateway_cores or 1, options.left_to_gateway)
        fleets: Sequence[tuple[Fleet, Load]] = [(fleet, Load(options.skew, options.hot_share))]
    else:
        fleets = FLEETS
    for cells in itertools.chain([HEADING, ["---"] * len(HEADING)], (row(*one) for one in fleets)):
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
