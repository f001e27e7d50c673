"""The rules that operators set at run time, as each worker holds them in memory."""

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import F

from lucid_gateway.kernel.snapshots.snapshot import Snapshot
from lucid_gateway.policy.tiers import TIERS
from ratelimit.client_address import parse
from ratelimit.engine.limits import ByteLimit, RequestLimit, default_byte_limit, default_limit
from ratelimit.models import ALL_TIERS, AddressRule, LimitRule, is_past

EVERYONE = ""
MAX_REMEMBERED = 50_000
Kind = AddressRule.Kind
REFUSED_KINDS = frozenset({Kind.DENY, Kind.BLOCKED})
PUNISHMENTS = frozenset({Kind.HALVED, Kind.BLOCKED})


@dataclass(frozen=True)
class AddressVerdict:
    """The rule that applies to an address; without `expires_at` it lasts until it is lifted, an `automatic` one was
    made by the gateway itself, and one that `observe_only` refuses nobody.
    """

    kind: str
    network: str
    expires_at: datetime | None
    automatic: bool = False
    observe_only: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the rule has expired since the rules were read."""
        return is_past(self.expires_at)


@dataclass
class AddressTable:
    """Networks by prefix length, so that a lookup takes one step for each length."""

    networks: dict[tuple[int, int], dict[int, AddressVerdict]] = field(default_factory=dict)
    remembered: dict[str, AddressVerdict | None] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Return what another worker takes over: the networks, without the remembered lookups."""
        return {"networks": self.networks, "remembered": {}}

    def add(self, rule: AddressRule) -> None:
        """Add a rule."""
        network = ipaddress.ip_network(rule.network)
        of_length = self.networks.setdefault((network.version, network.prefixlen), {})
        automatic = rule.kind in PUNISHMENTS and not rule.created_by
        of_length[int(network.network_address)] = AddressVerdict(
            rule.kind, rule.network, rule.expires_at, automatic, rule.observe_only
        )

    def find(self, address: str) -> AddressVerdict | None:
        """Return the rule that applies to the address, None if there is none."""
        if not self.networks:
            return None
        verdict = self.remembered.get(address)
        if address not in self.remembered or (verdict is not None and verdict.has_ended):
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            verdict = self.remembered[address] = self.search(address)
        return verdict

    def search(self, address: str) -> AddressVerdict | None:
        """Search the networks that contain the address."""
        return deciding(list(self.holding(address)))

    def holding(self, address: str) -> Iterator[AddressVerdict]:
        """Yield the rules of the networks that contain the address, the narrowest first."""
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


def deciding(found: Sequence[AddressVerdict]) -> AddressVerdict | None:
    """Return the rule that decides among those of the networks that contain an address, the narrowest first.

    The narrowest one does, except that a rule of the gateway's own does not override what operators set for a wider
    network.
    """
    wider = next((verdict for verdict in found if not verdict.automatic and verdict.kind != Kind.HALVED), None)
    if wider is not None and found[0].automatic and not {wider.kind, found[0].kind} <= REFUSED_KINDS:
        return wider
    return found[0] if found else None


@dataclass(frozen=True)
class Rules:
    """All rules in force. `trial` has the address rules in shadow mode, too; it is None if there are none."""

    limits: Mapping[tuple[str, str], LimitRule] = field(default_factory=dict)
    addresses: AddressTable = field(default_factory=AddressTable)
    trial: AddressTable | None = None

    @property
    def has_addresses(self) -> bool:
        """Whether there is any rule for addresses."""
        return bool(self.addresses.networks) or self.trial is not None


class RefusalCounts:
    """How many requests this process refused by the rule of each network, and has not yet written to its row.

    With the column `observed`, how many the rule would have refused in shadow mode.
    """

    def __init__(self, column: str = "refused") -> None:
        self.column = column
        self.counts: dict[str, int] = {}

    def add(self, network: str, count: int = 1) -> None:
        """Count refusals."""
        self.counts[network] = self.counts.get(network, 0) + count

    def write(self) -> None:
        """Add the counts to the rows; raise django.db.Error, which loses none of them."""
        for network in list(self.counts):
            count = self.counts.pop(network, 0)
            try:
                AddressRule.objects.filter(network=network).update(**{self.column: F(self.column) + count})
            except Exception:
                self.add(network, count)
                raise


refusals = RefusalCounts()
observations = RefusalCounts("observed")


def read_rules() -> Rules:
    """Read the rules in force; raise django.db.Error."""
    limits = {(rule.tier, rule.subject): rule for rule in LimitRule.objects.in_force()}
    return rules_of(limits, AddressRule.objects.in_force())


def rules_of(limits: Mapping[tuple[str, str], LimitRule], addresses: Iterable[AddressRule]) -> Rules:
    """Return the rules as a worker holds them: a rule in shadow mode must not hide another rule from an address."""
    rows = list(addresses)
    enforced = [rule for rule in rows if not rule.observe_only]
    return Rules(limits, table_of(enforced), table_of(rows) if len(enforced) < len(rows) else None)


rules_cache = Snapshot("rules", read_rules, Rules())


def table_of(rules: Iterable[AddressRule]) -> AddressTable:
    """Return the table of the rules."""
    table = AddressTable()
    for rule in rules:
        table.add(rule)
    return table


def address_verdict(address: str) -> AddressVerdict | None:
    """Return the rule that applies to the address, None if there is none."""
    return rules_cache.current.addresses.find(address)


def refusing_rule(address: str) -> AddressVerdict | None:
    """Return the rule that refuses the address, None if none does."""
    verdict = address_verdict(address)
    return verdict if verdict is not None and verdict.kind in REFUSED_KINDS else None


def refusing_verdict(address: str) -> AddressVerdict | None:
    """Return the rule that refuses the address, None if none does; count the refusal."""
    verdict = refusing_rule(address)
    if verdict is not None:
        refusals.add(verdict.network)
    return verdict


def observing_rule(address: str) -> AddressVerdict | None:
    """Return the rule that would refuse the address if it were not in shadow mode, None if none would."""
    trial = rules_cache.current.trial
    verdict = trial.find(address) if trial is not None else None
    refuses = verdict is not None and verdict.observe_only and verdict.kind in REFUSED_KINDS
    return verdict if refuses else None


def limit_for(name: str, *subjects: str) -> RequestLimit:
    """Return the limit of a tier for the first of the subjects that has a rule, else for everyone.

    Without a subject requests are counted by address, which has neither quota nor concurrency.
    """
    default, limits = default_limit(name), rules_cache.current.limits
    if not limits:
        return default
    # Rules for chunk uploads are in bytes: see byte_limit_for.
    rate = rule_for(name, subjects) if TIERS[name].counts_requests else None
    totals = rule_for(ALL_TIERS, subjects) if subjects else None
    changes: dict[str, int | bool | str | None] = {}
    if rate is not None:
        changes = {"requests_per_minute": rate.limit, "burst_size": rate.burst, "observe_only": rate.observe_only}
        changes["rule"] = rate.subject or "everyone"
    if totals is not None:
        changes |= {"concurrent_requests": totals.concurrent_requests, "daily_quota": totals.daily_quota}
        changes |= {"observe_totals": totals.observe_only, "totals_rule": totals.subject or "everyone"}
    return dataclasses.replace(default, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]


def byte_limit_for(*subjects: str) -> ByteLimit:
    """Return the limit of chunk uploads for the first of the subjects that has a rule, else for everyone."""
    default = default_byte_limit()
    rule = rule_for(default.name, subjects) if rules_cache.current.limits else None
    if rule is None:
        return default
    rate, burst = rule.limit or default.bytes_per_second, default.burst_bytes if rule.burst is None else rule.burst
    return ByteLimit(default.name, rate, burst, rule.observe_only, rule.subject or "everyone")


def rule_for(name: str, subjects: Iterable[str]) -> LimitRule | None:
    """Return the rule of the tier for the first of the subjects that has one, else for everyone, else None.

    A rule that has expired since the rules were read does not count.
    """
    limits = rules_cache.current.limits
    found = (limits.get((name, subject)) for subject in (*subjects, EVERYONE))
    return next((rule for rule in found if rule is not None and not is_past(rule.expires_at)), None)
