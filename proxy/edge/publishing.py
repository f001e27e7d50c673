"""Publishes the snapshot for the edge and reads its reports, in one worker of a gateway at a time."""

import json
import threading
import uuid
from collections import Counter
from contextlib import suppress

from django.conf import settings

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.exclusive_lease import extend_lease, take_lease
from lucid_gateway.policy import keys
from proxy.choosing.reports import read_reports
from proxy.edge.exclusions import excluded_cache
from proxy.edge.reports import process_reports
from proxy.edge.snapshot import address_facts, snapshot, version_of
from ratelimit.rules import Rules, rules_cache

EVERY_SECONDS = 1.0
LEASE_MS = 3_000
# Without a gateway the edge goes on with the snapshot that it has; it must not take an old one for a new one.
KEPT_SECONDS = 10


class Publisher:
    """One worker's part: it publishes while it has the lease."""

    def __init__(self) -> None:
        self.worker = uuid.uuid4().hex
        self.addresses = PublishedAddresses()
        self.leads = False
        self.excluded: frozenset[str] | None = None  # what the last snapshot said
        self.writing = threading.Lock()

    def publish(self) -> None:
        """Write the snapshot, and count what the edge has reported; while Redis is unavailable, do nothing."""
        with suppress(RedisUnavailable):
            self.leads = self.is_publisher()
            if self.leads:
                try:
                    self.write()
                finally:  # the reports say how old the edge's snapshot is
                    process_reports()

    def follow_exclusions(self) -> None:
        """Read which routes are off the edge, if this worker publishes, and publish a change at once.

        With the edge's poll, a change takes effect within two seconds. Raises django.db.Error, and leaves what was read
        last in the snapshot.
        """
        if not self.leads:
            return
        excluded_cache.load()
        if excluded_cache.current != self.excluded:
            with suppress(RedisUnavailable):
                self.write()

    def is_publisher(self) -> bool:
        """Return whether this worker publishes; another takes over three seconds after it stops."""
        lease = keys.edge_publisher(gateway_name())
        return take_lease(lease, self.worker, milliseconds=LEASE_MS) or extend_lease(
            lease, self.worker, milliseconds=LEASE_MS
        )

    def write(self) -> None:
        """Write the snapshot, after the address rules that it refers to; raise RedisUnavailable."""
        with self.writing:  # the two loops take turns, so that the newest snapshot is written last
            self.excluded = None
            version = self.addresses.write(rules_cache.current)
            in_flight, excluded = requests_in_flight(), excluded_cache.current
            text = json.dumps(snapshot(version, in_flight, excluded))
            key = keys.edge_snapshot(gateway_name())
            redis_call(key, lambda redis: redis.set(key, text, ex=KEPT_SECONDS))
            self.excluded = excluded


def requests_in_flight() -> Counter[str]:
    """Return the number of requests to each cluster in progress in this gateway's workers; none without Redis."""
    found: Counter[str] = Counter()
    with suppress(RedisUnavailable):
        for report in read_reports():
            if report.gateway == gateway_name():
                found[report.cluster] += report.in_flight
    return found


class PublishedAddresses:
    """The address rules in Redis, which may be large: they are written when they change, or are no longer there."""

    def __init__(self) -> None:
        self.rules: Rules | None = None
        self.version = ""

    def write(self, rules: Rules) -> str:
        """Publish the rules and return their version; raise RedisUnavailable."""
        key = keys.edge_addresses(gateway_name())
        if rules is self.rules and redis_call(key, lambda redis: redis.expire(key, KEPT_SECONDS)):
            return self.version
        facts = address_facts(rules)
        self.version = version_of(facts)
        text = json.dumps({"version": self.version, "networks": facts})
        redis_call(key, lambda redis: redis.set(key, text, ex=KEPT_SECONDS))
        self.rules = rules
        return self.version


def start_publishing() -> None:
    """Start publishing in the background if an edge is in use; call it once in each worker, after the fork."""
    if settings.ENV.EDGE_SECRET:
        publisher = Publisher()
        Loop("edge", publisher.publish, every=EVERY_SECONDS, at_once=True).start()
        # A loop of its own, so that a database that hangs does not hold up the snapshot.
        Loop("routes off the edge", publisher.follow_exclusions, every=EVERY_SECONDS).start()
