"""What the fields of requests and answers say about keeping answers (RFC 9111, sections 4.2 and 5)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.http import parse_http_date_safe

from lucid_gateway.policy.headers import is_forwarded
from proxy.connection.headers import TRACE

MAX_SECONDS = 3600.0  # what is never kept longer, whatever the cluster allows
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110, section 5.6.2
QUOTED = r'"(?:[^"\\]|\\.)*"'
MEMBER = re.compile(rf"[ \t]*(?:({TOKEN})(?:[ \t]*=[ \t]*({QUOTED}|{TOKEN}))?[ \t]*)?(?:,|\Z)")
NOT_STORED = frozenset({"no-store", "no-cache", "private", "must-understand"})
# Fields that the gateway makes of the caller: an answer that is kept for one caller alone may differ by them.
OF_THE_CALLER = frozenset({"authorization", "x-api-key", "x-user-id", "x-user-role", "x-user-permissions"})

Fields = Sequence[tuple[str, str]]
Directives = Mapping[str, Sequence[str]]


class Malformed(ValueError):
    """A Cache-Control that is no list of directives."""


def values_of(fields: Fields, name: str) -> list[str]:
    """Return the values of all fields of that (lower-case) name."""
    return [value for field, value in fields if field.lower() == name]


def directives(values: Iterable[str]) -> Directives:
    """Return the arguments of each directive, in lower case, "" where there is none; raise Malformed."""
    found: dict[str, list[str]] = {}
    for value in values:
        position = 0
        while position < len(value):
            member = MEMBER.match(value, position)
            if member is None:
                raise Malformed(value)
            position = member.end()
            if member[1]:
                found.setdefault(member[1].lower(), []).append((member[2] or "").strip('"'))
    return found


def delta_seconds(text: str) -> float | None:
    """Return the number of seconds (RFC 9111, section 1.2.2), None for what is no such number."""
    return float(text) if re.fullmatch("[0-9]+", text) else None


def lifetime(fields: Fields, *, otherwise: float | None, now: float) -> float:
    """Return for how many seconds an answer of that age 0 may be given again, 0 if it must not be kept at all.

    `otherwise` holds where the cluster says nothing; `now` is the time of day. What is said twice or not understood
    keeps nothing (section 4.2.1).
    """
    try:
        said = directives(values_of(fields, "cache-control"))
    except Malformed:
        return 0.0
    if NOT_STORED & said.keys() or values_of(fields, "set-cookie") or values_of(fields, "content-range"):
        return 0.0
    if not said and "no-cache" in ",".join(values_of(fields, "pragma")).lower():
        return 0.0
    return min(explicit_lifetime(fields, said, otherwise, now), MAX_SECONDS)


def explicit_lifetime(fields: Fields, said: Directives, otherwise: float | None, now: float) -> float:
    """Return the seconds by the first of s-maxage, max-age, Expires and `otherwise` that there is."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            return (delta_seconds(said[name][0]) or 0.0) if len(said[name]) == 1 else 0.0
    if expires := values_of(fields, "expires"):
        until = parse_http_date_safe(expires[0]) if len(expires) == 1 else None
        return max(0.0, until - date_of(fields, now)) if until is not None else 0.0
    return otherwise or 0.0


def date_of(fields: Fields, now: float) -> float:
    """Return the time of day at which the answer was made, `now` if it does not say."""
    date = parse_http_date_safe((values_of(fields, "date") or [""])[0])
    return now if date is None else float(date)


def initial_age(fields: Fields, *, delay: float, now: float) -> float:
    """Return how old an answer was when it came, `delay` seconds after it was asked for (section 4.2.3)."""
    said = values_of(fields, "age") or ["0"]
    age = delta_seconds(said[0].partition(",")[0].strip()) or 0.0
    return max(0.0, int(now) - date_of(fields, int(now)), age + delay)


def varies_by(fields: Fields, *, shared: bool) -> tuple[str, ...] | None:
    """Return the (lower-case) names of the request fields that the answer depends on; None if it fits no other
    request, or if what it depends on is not the client's to say.
    """
    names = {name.strip().lower() for value in values_of(fields, "vary") for name in value.split(",")} - {"", "host"}
    if not shared:
        names -= OF_THE_CALLER  # each has answers of their own
    if names & (TRACE | {"*"}) or not all(map(is_forwarded, names)):
        return None
    return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class Terms:
    """What the client takes: whether its answer may be kept, may be a kept one, of at most how many seconds of age,
    fresh for at least how many more, and whether the cluster may be asked at all.
    """

    store: bool = True
    reuse: bool = True
    max_age: float | None = None
    min_fresh: float = 0.0
    only_if_cached: bool = False

    def take(self, *, age: float, ttl: float) -> bool:
        """Return whether a kept answer of that age will do, both in seconds."""
        return self.reuse and ttl >= self.min_fresh and (self.max_age is None or age <= self.max_age)


ANYTHING = Terms()
CLUSTERS_OWN = Terms(reuse=False)


def terms_of(cache_control: str | None, pragma: str | None) -> Terms:
    """Return the client's terms (section 5.2.1); what is malformed wants the cluster's own answer."""
    if cache_control is None:
        return CLUSTERS_OWN if pragma and "no-cache" in pragma.lower() else ANYTHING
    try:
        said = directives([cache_control])
    except Malformed:
        return CLUSTERS_OWN
    max_age = min((delta_seconds(text) or 0.0 for text in said.get("max-age", ())), default=None)
    return Terms(
        store="no-store" not in said,
        reuse=not said.keys() & {"no-store", "no-cache"} and max_age != 0,
        max_age=max_age,
        min_fresh=max((delta_seconds(text) or 0.0 for text in said.get("min-fresh", ())), default=0.0),
        only_if_cached="only-if-cached" in said,
    )
