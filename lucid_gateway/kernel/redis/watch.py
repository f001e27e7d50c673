"""The background check of Redis in each worker, so that no request has to discover a problem: whether Redis is slow,
whether it evicts keys and, with Sentinel or a cluster, which servers are in charge.
"""

import logging
from contextlib import suppress

from redis.exceptions import ConnectionError as RedisConnectionError

from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import cluster, servers
from lucid_gateway.kernel.redis.breaker import FAST_PROBES_AFTER_SLOWNESS, RedisUnavailable
from lucid_gateway.kernel.redis.server import SLOW_SECONDS, Probe, Server

logger = logging.getLogger(__name__)
EVERY_SECONDS = 0.5
SLOW_ANSWERS = 5  # this many in a row are an outage
POLICY_EVERY = 20  # checks
COVERAGE = "cluster-require-full-coverage"
WHOLE_OR_NOTHING = "{} refuses all calls while another master is down ({} yes). Set it to no."
EVICTS = "{} evicts keys (maxmemory-policy {}): a revoked token could work again. Set it to noeviction."


class RedisWatch:
    """The check of all servers, and of the nodes of a cluster."""

    def __init__(self) -> None:
        self.of_servers: dict[Server, ServerWatch] = {}

    def check(self) -> None:
        """Follow the cluster's slots, then check each server."""
        if found := cluster():
            found.follow()
        current = servers()
        for lost in self.of_servers.keys() - set(current):
            clear_advisories(lost)
        self.of_servers = {server: self.of_servers.get(server) or ServerWatch(server) for server in current}
        for watch in self.of_servers.values():
            watch.check()


class ServerWatch:
    """The check of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.probe = Probe(server, lambda: ("PING",))
        self.checks = 0
        self.slow = 0

    def check(self) -> None:
        self.follow_primary()
        if self.server.breaker.outage:
            self.slow = 0
            return
        with suppress(RedisUnavailable):  # the breaker logs it
            self.check_speed()
            if self.checks % POLICY_EVERY == 0:
                check_eviction_policy(self.server)
                if self.server.is_cluster_node:
                    check_coverage(self.server)
            self.checks += 1

    def follow_primary(self) -> None:
        """Drop all connections when Sentinel names another primary: the old one may hang, or may have come back without
        knowing that it has been replaced.
        """
        known = self.server.primary
        before = known.address if known else None
        if known is None or before is None:
            return
        try:
            now = known.ask()
        except RedisConnectionError:
            return  # the connections stay: without Sentinel there is no failover
        if now != before:
            logger.warning("Sentinel names another primary: %s:%s", *now)
            self.server.drop_connections()

    def check_speed(self) -> None:
        """Time one answer; after several slow ones in a row, open the breaker until Redis is fast again.

        Raises RedisUnavailable.
        """
        self.slow = 0 if self.server.breaker.call(self.probe) else self.slow + 1
        if self.slow == SLOW_ANSWERS:
            self.slow = 0
            reason = f"the last {SLOW_ANSWERS} answers took longer than {SLOW_SECONDS * 1000:.0f} ms"
            self.server.breaker.open(reason, fast_probes=FAST_PROBES_AFTER_SLOWNESS)


def check_eviction_policy(server: Server) -> None:
    """Warn the operator while the server may evict keys; raise RedisUnavailable."""
    subject = eviction_of(server)
    policy = server.call(lambda redis: redis.info("memory")).get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        advisories.clear(subject)
    else:
        advisories.set(subject, EVICTS.format(server, policy))


def check_coverage(server: Server) -> None:
    """Warn the operator if a lost master of the cluster makes this one refuse, too; raise RedisUnavailable."""
    subject = coverage_of(server)
    found = server.call(lambda redis: redis.config_get(COVERAGE)).get(COVERAGE, "no")
    if found == "no":
        advisories.clear(subject)
    else:
        advisories.set(subject, WHOLE_OR_NOTHING.format(server, COVERAGE))


def eviction_of(server: Server) -> str:
    return f"eviction of {server}"


def coverage_of(server: Server) -> str:
    return f"coverage of {server}"


def clear_advisories(server: Server) -> None:
    """Forget what was said about a server that is no longer a master."""
    advisories.clear(eviction_of(server))
    advisories.clear(coverage_of(server))
