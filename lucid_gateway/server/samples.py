"""What this worker has counted in the current ten seconds, for the figures of the console.

A sample has groups, and a group has counts by name, so that two samples are merged by adding up their counts. The
groups of requests are `statuses` (2xx), `seconds` (a histogram), `routes`, `clusters`, `instances`, `refused` and
`failed` (by reason). `X.refused` and `X.failed` hold the part of group `X` that was refused or failed,
`first_byte <cluster> <instance>` is a histogram, and `offenders.<kind>` counts refusals by `<subject> <reason>`. The
group `events` counts audit events by kind.

Functions of this module are on the hot path. They only run in a worker's one thread, so they need no locks.
"""

import ipaddress
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from lucid_gateway.kernel.addresses import network_of
from lucid_gateway.kernel.histogram import bucket_of
from lucid_gateway.kernel.record import RequestRecord

SECONDS = 10
MAX_CLOSED = 30  # samples that wait in memory: five minutes
MAX_NAMES = 1_000  # of a group
MAX_OFFENDERS = 250  # of each of the four kinds
OTHER = "*"  # the name for everything above the maximum
CLIENT_LEFT = 499
# In place of a reason: the instance answered with a status of 5xx.
INSTANCE_ERROR = "instance_error"
CLASSES = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")
Groups = dict[str, dict[str, int]]


class Sample(NamedTuple):
    """The counts since `start`, in seconds since the epoch, for at most ten seconds."""

    start: int
    groups: Mapping[str, Mapping[str, int]]


def no_counts() -> Groups:
    return defaultdict(lambda: defaultdict(int))


class Samples:
    """The sample that this process counts in now, and earlier ones that nobody has taken yet."""

    def __init__(self) -> None:
        self.start = self.ends = 0
        self.groups = no_counts()
        self.closed: deque[Sample] = deque()

    def current(self) -> Groups:
        """Return the groups of the ten seconds that the clock shows."""
        if not self.start <= time.time() < self.ends:
            self.begin()
        return self.groups

    def begin(self) -> None:
        """Close the current sample and begin the next one; of too many closed samples the oldest is lost."""
        if self.groups:
            self.closed.append(Sample(self.start, self.groups))
        self.start = int(time.time()) // SECONDS * SECONDS
        self.ends = self.start + SECONDS
        self.groups = no_counts()
        while len(self.closed) > MAX_CLOSED:
            self.closed.popleft()
            self.groups["figures"]["samples_lost"] += 1

    def take(self) -> list[Sample]:
        """Return everything that was counted and not taken yet, the oldest first."""
        self.begin()
        taken = list(self.closed)
        self.closed.clear()
        return taken

    def put_back(self, taken: list[Sample]) -> None:
        """Keep samples that could not be stored, for the next `take`."""
        self.closed.extendleft(reversed(taken))


samples = Samples()


def count(group: str, name: str, n: int = 1, *, most: int = MAX_NAMES) -> None:
    """Add `n` to a count. Names above `most` in a group are counted together as `*`."""
    names = samples.current()[group]
    names[name if name in names or len(names) < most else OTHER] += n


def count_request(record: RequestRecord, status: int, seconds: float | None, *, cut: bool = False, n: int = 1) -> None:
    """Count `n` finished requests like this one. `seconds` is None for a request that was refused before the
    application, and `cut` says that the instance's answer ended early.
    """
    groups, route = samples.current(), record.route or ""
    groups["statuses"][CLASSES[status // 100]] += n
    groups["routes"][route] += n
    if seconds is not None:
        groups["seconds"][bucket_of(seconds)] += n
    failed = status >= 500 or cut
    if record.cluster is not None:
        count_attempts(groups, record, record.cluster, failed, n)
    if failed:
        reason = record.reason or INSTANCE_ERROR
        groups["failed"][reason] += n
        groups["routes.failed"][route] += n
        groups["failed.routes"][f"{reason} {route}"] += n
    elif record.reason is not None and 400 <= status != CLIENT_LEFT:
        groups["refused"][record.reason] += n
        groups["routes.refused"][route] += n
        count_offenders(record, record.reason, n)


def count_attempts(groups: Groups, record: RequestRecord, cluster: str, failed: bool, n: int) -> None:
    """Count the requests at their cluster, and each attempt at its instance."""
    groups["clusters"][cluster] += n
    if failed:
        groups["clusters.failed"][cluster] += n
    last = len(record.attempts) - 1
    for number, attempt in enumerate(record.attempts):
        name = f"{cluster} {attempt.instance}"
        groups["instances"][name] += n
        if attempt.outcome != "answered" or (number == last and failed):
            groups["instances.failed"][name] += n
        if attempt.first_byte_ms is not None:
            groups[f"first_byte {name}"][bucket_of(attempt.first_byte_ms / 1000)] += n


def count_offenders(record: RequestRecord, reason: str, n: int) -> None:
    """Count refusals for everybody who may have caused them."""
    address, claim = record.client_address, record.claim
    if address and (network := network_of_text(address)):
        count("offenders.address", f"{address} {reason}", n, most=MAX_OFFENDERS)
        count("offenders.network", f"{network} {reason}", n, most=MAX_OFFENDERS)
    if claim is None or claim.kind == "login":  # whoever guesses a password is not the user
        return
    if not claim.user_id:  # somebody who knows the id of a key, but not its secret, is not its owner
        return
    count("offenders.user", f"{claim.user_id} {reason}", n, most=MAX_OFFENDERS)
    if claim.kind == "api_key":
        count("offenders.key", f"{claim.key} {reason}", n, most=MAX_OFFENDERS)


@lru_cache(maxsize=4096)
def network_of_text(text: str) -> str:
    """Return the network of an address; "" if the text is not an address."""
    try:
        return network_of(ipaddress.ip_address(text))
    except ValueError:
        return ""
