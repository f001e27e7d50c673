"""What the gateway tells its edge each second: usable instances, address rules, and the settings that matter there."""

import functools
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory

from proxy.choosing.breaker import State
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.closures import is_closed
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Cluster, configured
from proxy.connection.resolver import resolver
from ratelimit.addresses.front_gate import refusal
from ratelimit.client_address import parse
from ratelimit.rules import REFUSED_KINDS, AddressTable, AddressVerdict, Rules, deciding

Facts = dict[str, Any]
DIGITS = {4: 8, 6: 32}  # of an address in hexadecimal


def snapshot(addresses: str, in_flight: Mapping[str, int], excluded: Iterable[str]) -> Facts:
    """Return the snapshot; `addresses` is the version of the address rules that are published beside it, `in_flight`
    the number of requests to each cluster in progress at the gateway, and `excluded` the paths of the routes that are
    off the edge.
    """
    return {
        "at": time.time(),
        "addresses": addresses,
        "clusters": {name: cluster_facts(cluster, in_flight.get(name, 0)) for name, cluster in configured().items()},
        "off": sorted(excluded),
        **fixed_facts(),
    }


@functools.cache
def fixed_facts() -> Facts:
    """Return the settings that the edge follows: which requests the explorer keeps."""
    return {
        "explorer": settings.ENV.EXPLORER_KEEP_HOURS > 0,
        "explorer_share": settings.ENV.EXPLORER_SAMPLE_PERCENT / 100,
    }


def security_fields(*, secure: bool) -> Mapping[str, str]:
    """Return the fields that Django's SecurityMiddleware adds to an answer without any."""
    request, bare = RequestFactory().get("/", secure=secure), HttpResponse()
    del bare.headers["Content-Type"]
    middleware = SecurityMiddleware(lambda _: bare)
    return dict(middleware.process_response(request, bare).items())


def cluster_facts(cluster: Cluster, in_flight: int = 0) -> Facts:
    """Return the instances that the edge may use, as `proxy.choosing.balancer` chooses them: in service, with a closed
    breaker, healthy if any is. Without such an instance, the gateway decides.

    `probe` says that an instance waits for the request that shows whether it has recovered, which the gateway sends.
    `places` is what the bulkheads of all workers have left.
    """
    in_service = [state for state in states_of(cluster) if not is_closed(cluster.name, state.instance)]
    usable = [state for state in in_service if not state.breaker.open_until]
    usable = [state for state in usable if state.healthy is not False] or usable
    instances = [facts for state in usable if (facts := instance_facts(state))]
    return {
        "instances": instances if can_forward_to(instances) else [],
        "probe": any(state.breaker.state == State.HALF_OPEN for state in in_service),
        "places": max(0, bulkhead_of(cluster.name).places * settings.ENV.WEB_CONCURRENCY - in_flight),
    }


def can_forward_to(instances: list[Facts]) -> bool:
    """Return whether nginx can forward to these instances of a cluster.

    It cannot change the scheme when it tries another one. With TLS it verifies names only, not addresses, and it would
    use a connection that it has verified for one name for another name with the same address.
    """
    names = [facts["tls_name"] for facts in instances if "tls_name" in facts]
    if not names:
        return True
    addresses = {(facts["host"], facts["port"]) for facts in instances}
    return len(names) == len(addresses) == len(instances) and not any(parse(name) for name in names)


def instance_facts(state: InstanceState) -> Facts | None:
    """Return the instance's address, name and share of the requests; None while its name does not resolve. `tls_name`,
    if it uses TLS, is the name in its certificate.
    """
    try:
        found = resolver.addresses(state.instance)
    except (OSError, UnicodeError):
        return None
    facts = {
        "url": state.instance.url, "authority": state.instance.authority, "host": found[0][1][0],
        "port": found[0][1][1], "share": state.share(),
    }  # fmt: skip
    return facts | ({"tls_name": state.instance.host} if state.instance.scheme == "https" else {})


def address_facts(rules: Rules) -> dict[str, dict[str, Facts | None]]:
    """Return what applies to each network that a rule names, by its version and number of fixed bits (`4/24`) and then
    by its first address in hexadecimal digits. The narrowest network that contains an address decides.

    An address without such a network, or with None, passes. `{"ask": true}` is for the gateway: a rule in shadow mode
    counts there.
    """
    table = rules.trial or rules.addresses
    return {
        f"{version}/{length}": {
            f"{number:0{DIGITS[version]}x}": verdict_facts(rules, verdict.network)
            for number, verdict in networks.items()
        }
        for (version, length), networks in table.networks.items()
    }


def verdict_facts(rules: Rules, network: str) -> Facts | None:
    """Return what the edge does with an address of which this is the narrowest network."""
    trial = decided_for(rules.trial, network) if rules.trial is not None else None
    if trial is not None and trial.observe_only:
        return {"ask": True}
    verdict = decided_for(rules.addresses, network)
    if verdict is None or verdict.kind not in REFUSED_KINDS:
        return None
    error = refusal(verdict)
    return {
        "status": error.status, "code": error.code, "message": error.message, "reason": error.reason,
        "details": {name: value for name, value in error.details.items() if name != "retry_after"},
        "until": verdict.expires_at.timestamp() if verdict.expires_at else None, "network": verdict.network,
    }  # fmt: skip


def decided_for(table: AddressTable, network: str) -> AddressVerdict | None:
    """Return the rule that decides on the addresses of the network that are in no narrower one."""
    parsed = ip_network(network)
    around = [
        verdict
        for verdict in table.holding(str(parsed.network_address))
        if ip_network(verdict.network).prefixlen <= parsed.prefixlen
    ]
    return deciding(around)


def version_of(facts: Mapping[str, Any]) -> str:
    """Return a text that changes with the content."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
