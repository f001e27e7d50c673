"""The rules that operators set at run time, as each worker holds them: read again every two seconds."""

import dataclasses
import ipaddress
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import F
from django.utils import timezone

from lucid_gateway.policy.tiers import TIERS
from ratelimit.addresses.client_address import parse
from ratelimit.engine.limits import ByteLimit, RequestLimit, byte_limit, limit_of
from ratelimit.models import ALL_TIERS, AddressRule, LimitRule

EVERYONE = ""
MAX_REMEMBERED = 50_000
Kind = AddressRule.Kind
REFUSED_KINDS = frozenset({Kind.DENY, Kind.BLOCKED})
PUNISHMENTS = frozenset({Kind.HALVED, Kind.BLOCKED})


@dataclass(frozen=True)
class AddressVerdict:
    """What a rule says of an address, and until when (None: until it is lifted); `automatic` is a rule of the gateway's
    own making.
    """

    kind: str
    network: str
    expires_at: datetime | None
    automatic: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether its time is over: it may be a while until the rules are read again."""
        return self.expires_at is not None and self.expires_at <= timezone.now()


@dataclass
class AddressTable:
    """Networks by prefix length, so that an address is looked up in as many steps as there are lengths."""

    networks: dict[tuple[int, int], dict[int, AddressVerdict]] = field(default_factory=dict)
    remembered: dict[str, AddressVerdict | None] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Return what another worker takes over."""
        return {"networks": self.networks, "remembered": {}}

    def add(self, rule: AddressRule) -> None:
        """Add a rule."""
        network = ipaddress.ip_network(rule.network)
        of_length = self.networks.setdefault((network.version, network.prefixlen), {})
        automatic = rule.kind in PUNISHMENTS and not rule.created_by
        of_length[int(network.network_address)] = AddressVerdict(rule.kind, rule.network, rule.expires_at, automatic)

    def find(self, address: str) -> AddressVerdict | None:
        """Return what the narrowest network that holds the address says of it."""
        if not self.networks:
            return None
        verdict = self.remembered.get(address)
        if address not in self.remembered or (verdict is not None and verdict.has_ended):
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            verdict = self.remembered[address] = self.search(address)
        return verdict

    def search(self, address: str) -> AddressVerdict | None:
        """Search the networks. What the gateway found out about an address takes it out of no network that operators
        allowed or closed; else the narrowest counts.
        """
        found = list(self.holding(address))
        wider = next((verdict for verdict in found if not verdict.automatic and verdict.kind != Kind.HALVED), None)
        if wider is not None and found[0].automatic and not {wider.kind, found[0].kind} <= REFUSED_KINDS:
            return wider
        return found[0] if found else None

    def holding(self, address: str) -> Iterator[AddressVerdict]:
        """Yield what is said of the networks that hold the address, the longest prefix first."""
        parsed = parse(address)
        if parsed is None:
            return
        number = int(parsed)
        for version, length in sorted(self.networks, key=lambda key: -key[1]):
            if version == parsed.version:
                shift = parsed.max_prefixlen - length
                found = self.networks[version, length].get(number >> shift << shift)
                if found is not None and not found.has_ended:
                    yield found


@dataclass(frozen=True)
class Rules:
    """A snapshot of all rules in force."""

    limits: Mapping[tuple[str, str], LimitRule] = field(default_factory=dict)
    addresses: AddressTable = field(default_factory=AddressTable)


class RulesCache:
    """This process's rules; none before they are first read."""

    def __init__(self) -> None:
        self.rules = Rules()
        self.refused: dict[str, int] = {}
        self.read_at: float | None = None

    def load(self) -> None:
        """Read the rules in force, and write how many requests each network was refused since."""
        self.write_refused()
        limits = {(rule.tier, rule.subject): rule for rule in LimitRule.objects.in_force()}
        self.take_over(Rules(limits, table_of(AddressRule.objects.in_force())))
        self.read_at = time.monotonic()

    def state(self) -> Rules:
        """Return the rules that were read last."""
        return self.rules

    def take_over(self, rules: Rules) -> None:
        """Hold these rules."""
        self.rules = rules

    def write_refused(self) -> None:
        """Add this process's counts to the rows."""
        for network in list(self.refused):
            count = self.refused.pop(network, 0)
            try:
                AddressRule.objects.filter(network=network).update(refused=F("refused") + count)
            except Exception:
                self.refused[network] = self.refused.get(network, 0) + count
                raise


rules_cache = RulesCache()


def table_of(rules: Iterable[AddressRule]) -> AddressTable:
    """Return the table of the rules."""
    table = AddressTable()
    for rule in rules:
        table.add(rule)
    return table


def verdict_on(address: str) -> AddressVerdict | None:
    """Return what the rules say of an address, None if nothing."""
    return rules_cache.rules.addresses.find(address)


def refusal_of(address: str) -> AddressVerdict | None:
    """Return the rule that refuses the address, None if none does; count the refusal."""
    verdict = verdict_on(address)
    if verdict is None or verdict.kind not in REFUSED_KINDS:
        return None
    rules_cache.refused[verdict.network] = rules_cache.refused.get(verdict.network, 0) + 1
    return verdict


def tier_for(name: str, *subjects: str) -> RequestLimit:
    """Return the tier as it is for the first of the subjects that has a rule, else for everyone.

    Without a subject, which is by address, there is neither quota nor concurrency.
    """
    plain, limits = limit_of(name), rules_cache.rules.limits
    if not limits:
        return plain
    # The numbers for chunk uploads are bytes: see bandwidth_tier_for.
    rate = rule_for(name, subjects) if TIERS[name].counts_requests else None
    totals = rule_for(ALL_TIERS, subjects) if subjects else None
    changes: dict[str, int | bool | None] = {}
    if rate is not None:
        changes = {"requests_per_minute": rate.limit, "burst_size": rate.burst, "observe_only": rate.observe_only}
    if totals is not None:
        changes |= {"concurrent_requests": totals.concurrent_requests, "daily_quota": totals.daily_quota}
        changes["observe_totals"] = totals.observe_only
    return dataclasses.replace(plain, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]


def bandwidth_tier_for(*subjects: str) -> ByteLimit:
    """Return the tier of chunk uploads as it is for the first of the subjects that has a rule, else for everyone."""
    plain = byte_limit()
    rule = rule_for(plain.name, subjects) if rules_cache.rules.limits else None
    if rule is None:
        return plain
    rate, burst = rule.limit or plain.bytes_per_second, plain.burst_bytes if rule.burst is None else rule.burst
    return ByteLimit(plain.name, rate, burst, rule.observe_only)


def rule_for(name: str, subjects: Iterable[str]) -> LimitRule | None:
    """Return the rule of the tier for the first of the subjects that has one, else for everyone, else None."""
    limits = rules_cache.rules.limits
    return next((limits[name, subject] for subject in (*subjects, EVERYONE) if (name, subject) in limits), None)
