"""Caching rules from the header fields of requests and answers (RFC 9111, sections 4.2 and 5)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.http import parse_http_date_safe

from lucid_gateway.policy.headers import is_forwarded
from proxy.connection.headers import TRACE

MAX_SECONDS = 3600.0  # the longest lifetime, even if the cluster allows more
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110, section 5.6.2
QUOTED = r'"(?:[^"\\]|\\.)*"'
MEMBER = re.compile(rf"[ \t]*(?:({TOKEN})(?:[ \t]*=[ \t]*({QUOTED}|{TOKEN}))?[ \t]*)?(?:,|\Z)")
NOT_STORED = frozenset({"no-store", "no-cache", "private", "must-understand"})
# Fields that depend only on the caller: an answer stored for one caller may vary by them.
CALLER_FIELDS = frozenset({"authorization", "x-api-key", "x-user-id", "x-user-role", "x-user-permissions"})

Fields = Sequence[tuple[str, str]]
Directives = Mapping[str, Sequence[str]]


class Malformed(ValueError):
    """A Cache-Control field that is not a valid list of directives."""


def values_of(fields: Fields, name: str) -> list[str]:
    """Return the values of all fields with this lower-case name."""
    return [value for field, value in fields if field.lower() == name]


def directives(values: Iterable[str]) -> Directives:
    """Return the arguments by lower-case name of directive, "" for one without an argument; raise Malformed."""
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
    """Return the number of seconds (RFC 9111, section 1.2.2), or None for anything else."""
    return float(text) if re.fullmatch("[0-9]+", text) else None


def lifetime(fields: Fields, *, default: float | None, now: float) -> float:
    """Return for how many seconds after its generation an answer may be reused; 0 if it must not be stored.

    `default` applies if the cluster sets no lifetime; `now` is in epoch seconds. Duplicate or invalid directives mean 0
    (section 4.2.1).
    """
    try:
        control = directives(values_of(fields, "cache-control"))
    except Malformed:
        return 0.0
    if NOT_STORED & control.keys() or values_of(fields, "set-cookie") or values_of(fields, "content-range"):
        return 0.0
    if not control and "no-cache" in ",".join(values_of(fields, "pragma")).lower():
        return 0.0
    return min(explicit_lifetime(fields, control, default, now), MAX_SECONDS)


def explicit_lifetime(fields: Fields, control: Directives, default: float | None, now: float) -> float:
    """Return the seconds from the first that is present: s-maxage, max-age, Expires, `default`."""
    for name in ("s-maxage", "max-age"):
        if name in control:
            return (delta_seconds(control[name][0]) or 0.0) if len(control[name]) == 1 else 0.0
    if expires := values_of(fields, "expires"):
        until = parse_http_date_safe(expires[0]) if len(expires) == 1 else None
        return max(0.0, until - date_of(fields, now)) if until is not None else 0.0
    return default or 0.0


def date_of(fields: Fields, now: float) -> float:
    """Return the answer's Date in epoch seconds, or `now` if it has no valid one."""
    date = parse_http_date_safe((values_of(fields, "date") or [""])[0])
    return now if date is None else float(date)


def initial_age(fields: Fields, *, delay: float, now: float) -> float:
    """Return an answer's age in seconds on arrival, `delay` seconds after the request was sent (section 4.2.3)."""
    values = values_of(fields, "age") or ["0"]
    age = delta_seconds(values[0].partition(",")[0].strip()) or 0.0
    return max(0.0, int(now) - date_of(fields, int(now)), age + delay)


def varies_by(fields: Fields, *, shared: bool) -> tuple[str, ...] | None:
    """Return the lower-case names of the request fields in Vary, or None if the answer cannot be reused.

    That is so for `*`, and for fields that the gateway does not forward from the client.
    """
    names = {name.strip().lower() for value in values_of(fields, "vary") for name in value.split(",")} - {"", "host"}
    if not shared:
        names -= CALLER_FIELDS  # each caller has a separate entry
    if names & (TRACE | {"*"}) or not all(map(is_forwarded, names)):
        return None
    return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class Terms:
    """The client's cache directives: whether its answer may be stored or come from the store, the greatest age and the
    least remaining lifetime of a stored one (in seconds), and whether the cluster must not be asked.
    """

    store: bool = True
    reuse: bool = True
    max_age: float | None = None
    min_fresh: float = 0.0
    only_if_cached: bool = False

    def accept(self, *, age: float, ttl: float) -> bool:
        """Return whether the client accepts a stored answer of this age that stays fresh for `ttl` more seconds."""
        return self.reuse and ttl >= self.min_fresh and (self.max_age is None or age <= self.max_age)


ANYTHING = Terms()
NO_REUSE = Terms(reuse=False)


def terms_of(cache_control: str | None, pragma: str | None) -> Terms:
    """Return the client's terms (section 5.2.1); a malformed field is read as no-cache."""
    if cache_control is None:
        return NO_REUSE if pragma and "no-cache" in pragma.lower() else ANYTHING
    try:
        control = directives([cache_control])
    except Malformed:
        return NO_REUSE
    max_age = min((delta_seconds(text) or 0.0 for text in control.get("max-age", ())), default=None)
    return Terms(
        store="no-store" not in control,
        reuse=not control.keys() & {"no-store", "no-cache"} and max_age != 0,
        max_age=max_age,
        min_fresh=max((delta_seconds(text) or 0.0 for text in control.get("min-fresh", ())), default=0.0),
        only_if_cached="only-if-cached" in control,
    )
