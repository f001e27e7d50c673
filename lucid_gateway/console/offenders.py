"""Who causes the refusals: the same requests are counted by address, network, user and key, and shown once."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from accounts.models import ApiKey, User
from lucid_gateway.operators.links import block_page, page, requests_page
from lucid_gateway.server.samples import OTHER, network_of_text

# From the most precise to the least.
KINDS = ("key", "user", "address", "network")
MOST_OF_A_KIND = 10
# Two subjects whose counts of a reason differ by less than a tenth are probably the same requests.
SAME = 0.9
LIMITS = frozenset({"tier_exhausted", "quota_exhausted", "too_many_concurrent", "bandwidth_exhausted"})


@dataclass(frozen=True)
class Remedy:
    """A button: its text, the page where it leads, and whether that does harm."""

    text: str
    url: str
    is_harmful: bool = False


@dataclass(frozen=True)
class Offender:
    """A key, user, address or network with its refusals by reason. `addresses` of a network is how many of its
    addresses are known. `name` is the email of a user or the name of a key, `email` that of the key's owner. `since` is
    the beginning of the counts, as the filters of lists read it.
    """

    kind: str
    subject: str
    reasons: Mapping[str, int] = field(default_factory=dict)
    addresses: int = 0
    name: str = ""
    email: str = ""
    since: str = "24h"

    @cached_property
    def count(self) -> int:
        return sum(self.reasons.values())

    @cached_property
    def main_reason(self) -> str:
        return max(self.reasons, key=lambda reason: self.reasons[reason])

    @property
    def shown(self) -> str:
        return self.name or self.subject

    @property
    def url(self) -> str:
        """The page of the offender: a user, a key, or the requests of an address."""
        if self.kind == "user" and self.name:
            return page("accounts_user_change", self.subject)
        if self.kind == "key" and self.name:
            return page("accounts_apikey_change", self.subject)
        return self.requests_url

    @property
    def requests_url(self) -> str:
        return requests_page(**{self.kind: self.subject}, outcome="refused", since=self.since)

    @property
    def why(self) -> str:
        """The most frequent reason in words."""
        return self.main_reason.replace("_", " ")

    @property
    def remedy(self) -> Remedy:
        if self.kind in ("address", "network"):
            return Remedy("Block…", block_page(self.subject), True)
        if self.main_reason in LIMITS:
            return Remedy("Raise limit", page("ratelimit_limitrule_add", subject=f"{self.kind}:{self.subject}"))
        return Remedy("Review", self.url)


def offenders_in(groups: Mapping[str, Mapping[str, int]], since: str = "24h") -> list[Offender]:
    """Return the offenders of all kinds since that time, those with the most refusals first, without names."""
    found: list[Offender] = []
    for kind in KINDS:
        by_subject: dict[str, dict[str, int]] = defaultdict(dict)
        for name, count in groups.get(f"offenders.{kind}", {}).items():
            subject, _, reason = name.rpartition(" ")
            if subject not in ("", OTHER):
                by_subject[subject][reason] = count
        found += [Offender(kind, subject, reasons, since=since) for subject, reasons in by_subject.items()]
    addresses = Counter(network_of_text(offender.subject) for offender in found if offender.kind == "address")
    counted = (replace(o, addresses=addresses[o.subject]) if o.kind == "network" else o for o in found)
    return sorted(counted, key=lambda offender: (-offender.count, KINDS.index(offender.kind)))


def distinct(offenders: Iterable[Offender], most: int) -> list[Offender]:
    """Return up to `most` offenders, without those who probably stand for requests of a more precise one. The offenders
    are in the order of their refusals.
    """
    shown: list[Offender] = []
    by_kind: dict[str, list[Offender]] = defaultdict(list)
    for offender in offenders:
        by_kind[offender.kind].append(offender)
    largest = [offender for of_kind in by_kind.values() for offender in of_kind[:MOST_OF_A_KIND]]
    for offender in sorted(largest, key=precise_first):
        if not any(is_same(offender, other) for other in shown):
            shown.append(offender)
    return sorted(shown, key=lambda offender: -offender.count)[:most]


def precise_first(offender: Offender) -> tuple[int, int]:
    """Return the order in which offenders are taken. A network of several addresses is more than its addresses."""
    if offender.kind == "network" and offender.addresses > 1:
        return 2, -offender.count
    return {"key": 0, "user": 1, "address": 3, "network": 4}[offender.kind], -offender.count


def is_same(offender: Offender, other: Offender) -> bool:
    """Return whether the refusals of the offender are probably those of the other, who is already shown."""
    if offender.kind == other.kind:
        return False
    if offender.kind == "address" and other.kind == "network":
        return network_of_text(offender.subject) == other.subject
    if offender.main_reason != other.main_reason:
        return False
    one, two = sorted((offender.count, other.count))
    return one >= SAME * two


def most_affected(offenders: Iterable[Offender]) -> dict[str, Offender]:
    """Return for each reason the most precise of the offenders with the most refusals."""
    largest: dict[str, dict[str, Offender]] = defaultdict(dict)
    for offender in offenders:
        for reason, count in offender.reasons.items():
            known = largest[reason].get(offender.kind)
            if known is None or known.reasons[reason] < count:
                largest[reason][offender.kind] = offender
    return {reason: most_precise(reason, list(by_kind.values())) for reason, by_kind in largest.items()}


def most_precise(reason: str, offenders: list[Offender]) -> Offender:
    only = [replace(offender, reasons={reason: offender.reasons[reason]}) for offender in offenders]
    return distinct(only, 1)[0]


def with_names(offenders: list[Offender]) -> list[Offender]:
    """Return the offenders with the emails of users and the names of keys, by two queries."""
    users = [offender.subject for offender in offenders if offender.kind == "user"]
    keys = [offender.subject for offender in offenders if offender.kind == "key"]
    emails = {str(pk): email for pk, email in User.objects.filter(pk__in=users).values_list("pk", "email")}
    names = {key.key_id: key for key in ApiKey.objects.filter(pk__in=keys).select_related("user")}
    return [named(offender, emails, names) for offender in offenders]


def named(offender: Offender, emails: Mapping[str, str], keys: Mapping[str, ApiKey]) -> Offender:
    if offender.kind == "user":
        return replace(offender, name=emails.get(offender.subject, ""))
    if offender.kind == "key" and offender.subject in keys:
        key = keys[offender.subject]
        return replace(offender, name=key.name, email=key.user.email)
    return offender
