"""The response cache: a shared cache in front of the clusters (RFC 9111), in the memory of each worker.

It serves requests that have passed authentication, permission and limits, on routes with a CacheRule, if
RESPONSE_CACHE_ENABLED is set.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import parse_etags, parse_http_date_safe

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import UpstreamTimeout
from lucid_gateway.policy.headers import named_in_connection
from lucid_gateway.policy.routes import CacheRule, Route
from proxy.connection.headers import response_headers
from proxy.forwarding.cache_control import Fields, Terms, initial_age, lifetime, terms_of, values_of, varies_by
from proxy.forwarding.coalescing import Flights
from proxy.forwarding.read_ahead import Body, ReadAhead
from proxy.forwarding.stored_answers import MAX_ENTRY, CacheKey, StoredAnswer, StoredAnswers, Variant

CACHE = "lucid-api-gateway"
READ_AHEAD_SECONDS = 1.0  # after the head; a slower answer is streamed and not stored
ROUNDS = 2  # after the first one it may only be known by which request fields the answer varies
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")
BYPASS_FIELDS = ("HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_TRANSFER_ENCODING")
IN_NOT_MODIFIED = frozenset(
    {"cache-control", "cache-status", "content-location", "date", "etag", "expires", "last-modified", "vary"}
)

stored = StoredAnswers()
flights = Flights()


class Head(Protocol):
    """The head of an answer, from the cluster or the cache."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> Fields: ...


class Answered(Protocol):
    """An answer: its head, and its body as a stream."""

    @property
    def answer(self) -> Head: ...
    @property
    def body(self) -> Iterator[bytes]: ...


class FromCluster(Protocol):
    """An answer as the forwarder returns it: its body can be closed."""

    @property
    def answer(self) -> Head: ...
    @property
    def body(self) -> Body: ...


class Send(Protocol):
    """Asks the cluster; if `watch_client`, gives up when the client disconnects."""

    def __call__(self, *, watch_client: bool = True) -> FromCluster: ...


@dataclass(frozen=True, slots=True)
class CacheHead:
    """A head that the cache has written or extended."""

    status: int
    reason: str
    headers: Fields


@dataclass(frozen=True, slots=True)
class CacheAnswer:
    """An answer from the cache, or a cluster's that has passed through it."""

    answer: CacheHead
    body: Iterator[bytes]


def answer_through_cache(request: HttpRequest, route: Route, *, caller: Caller, target: str, send: Send) -> Answered:
    """Return a stored answer, or the one that `send` gets from the cluster, which is stored if the rules allow it.

    Raises what `send` raises, and UpstreamTimeout if none is stored and the client has sent only-if-cached.
    """
    if route.cache is None or request.method != "GET" or not settings.ENV.RESPONSE_CACHE_ENABLED:
        return send()
    return CacheLookup(request, route, route.cache, caller, target, send).answer()


@dataclass
class CacheLookup:
    """One request that goes through the cache."""

    request: HttpRequest
    route: Route
    rule: CacheRule
    caller: Caller
    target: str
    send: Send

    @cached_property
    def key(self) -> CacheKey:
        """The key apart from Vary: target, scheme and host, and the caller's rights unless the answer is shared."""
        caller = None if self.rule.shared else (self.caller.bucket, self.caller.role, self.caller.permissions)
        return CacheKey(caller, f"{self.request.scheme}://{self.request.META['HTTP_HOST']}", self.target)

    @cached_property
    def terms(self) -> Terms:
        """The client's terms."""
        meta = self.request.META
        return terms_of(meta.get("HTTP_CACHE_CONTROL"), meta.get("HTTP_PRAGMA"))

    def request_field(self, name: str) -> str | None:
        """Return the value of the request field with this lower-case name."""
        key = name.upper().replace("-", "_")
        value: str | None = self.request.META.get(key if key == "CONTENT_TYPE" else f"HTTP_{key}")
        return value

    @property
    def variant(self) -> Variant:
        """The key of the answer, given the Vary fields known so far."""
        return stored.variant_of(self.key, self.request_field)

    def answer(self) -> Answered:
        """Return a stored answer, or the cluster's."""
        if bypasses_cache(self.request.META):
            return self.from_cluster("bypass", keep=False)
        if not self.terms.reuse:
            return self.from_cluster("request", keep=self.terms.store)
        for number in range(ROUNDS):
            if found := self.stored_answer(collapsed=number > 0):
                return found
            variant = self.variant
            if self.skips_coalescing(variant):
                break
            with flights.lead_or_wait(variant, seconds=self.route.timeouts.total) as leads:
                if leads:  # a previous leader may have stored the answer in the meantime
                    return self.stored_answer(collapsed=True) or self.from_cluster("miss", keep=True)
            if self.variant == variant:
                break
        return self.stored_answer(collapsed=True) or self.from_cluster("miss", keep=True)

    def skips_coalescing(self, variant: Variant) -> bool:
        """Return whether no other request waits for this one; the answer to a condition, a 304, may not help others."""
        return flights.is_uncoalesced(variant) or (
            is_conditional(self.request.META) and not flights.is_under_way(variant)
        )

    def stored_answer(self, *, collapsed: bool) -> CacheAnswer | None:
        """Return a stored answer that the client accepts; `collapsed` means that another request has just stored it."""
        answer = stored.find(self.key, self.request_field)
        now = stored.clock()
        if answer is None or not self.terms.accept(age=answer.age(now), ttl=answer.ttl(now)):
            return None
        record_of(self.request).cache = "collapsed" if collapsed else "hit"
        how = "fwd=miss; collapsed" if collapsed else f"hit; ttl={int(answer.ttl(now))}"
        fields = [*answer.fields, ("Age", str(int(answer.age(now)))), ("Cache-Status", f"{CACHE}; {how}")]
        if is_unchanged(self.request.META, answer.fields):
            kept = [(name, value) for name, value in fields if name.lower() in IN_NOT_MODIFIED or name == "Age"]
            return CacheAnswer(CacheHead(304, "Not Modified", kept), iter(()))
        return CacheAnswer(CacheHead(200, "OK", fields), iter((answer.body,)))

    def from_cluster(self, reason: str, *, keep: bool) -> CacheAnswer:
        """Ask the cluster, and store its answer if `keep` and the caching rules allow it.

        `reason` is why no stored answer was used, as Cache-Status names it (RFC 9211, section 2.2).
        """
        if self.terms.only_if_cached:
            raise UpstreamTimeout("No answer is stored, and the request has only-if-cached")
        record_of(self.request).cache = reason
        started = stored.clock()
        # Other requests may wait for an answer that is to be stored, so it is read even if this client disconnects.
        forwarded = self.send(watch_client=not keep)
        head, body = forwarded.answer, ReadAhead(forwarded.body)
        kept = keep and self.keep(head, body, delay=stored.clock() - started)
        if keep:
            flights.note(self.variant, kept=kept)
        status = f"{CACHE}; fwd={reason}{'; stored' if kept else ''}"
        return CacheAnswer(CacheHead(head.status, head.reason, [*head.headers, ("Cache-Status", status)]), body)

    def keep(self, head: Head, body: ReadAhead, *, delay: float) -> bool:
        """Read the answer to its end and store it; return False, with the body still streaming, if it may not be."""
        came, now = stored.clock(), time.time()
        names = varies_by(head.headers, shared=self.rule.shared)
        fresh = lifetime(head.headers, default=self.rule.seconds, now=now)
        age = initial_age(head.headers, delay=delay, now=now)
        if names is None or fresh <= age or not is_storable(head):
            return False
        data = body.whole(limit=MAX_ENTRY, seconds=READ_AHEAD_SECONDS)
        if data is None:
            return False
        answer = StoredAnswer(fields_to_keep(head.headers, len(data)), data, came - age, fresh)
        stored.keep(self.key, names, self.request_field, answer)
        return True


def bypasses_cache(meta: Mapping[str, str]) -> bool:
    """Return whether the cache cannot answer: a range or precondition, a body, or a Connection field that names others.

    Fields named in Connection are not forwarded, so a stored answer must not vary by them.
    """
    named = named_in_connection(meta.get("HTTP_CONNECTION", "")) - {"close", "keep-alive"}
    return bool(named) or (meta.get("CONTENT_LENGTH") or "0") != "0" or any(name in meta for name in BYPASS_FIELDS)


def is_conditional(meta: Mapping[str, str]) -> bool:
    return any(name in meta for name in CONDITIONS)


def is_unchanged(meta: Mapping[str, str], fields: Fields) -> bool:
    """Return whether the client already has this answer (RFC 9110, section 13.2.2)."""
    if (tags := meta.get("HTTP_IF_NONE_MATCH")) is not None:
        wanted = {tag.removeprefix("W/") for tag in parse_etags(tags)}
        return "*" in wanted or any(tag.removeprefix("W/") in wanted for tag in values_of(fields, "etag"))
    if "HTTP_IF_MODIFIED_SINCE" not in meta:
        return False
    since = parse_http_date_safe(meta["HTTP_IF_MODIFIED_SINCE"])
    modified = parse_http_date_safe((values_of(fields, "last-modified") or [""])[0])
    return since is not None and modified is not None and modified <= since


def is_storable(head: Head) -> bool:
    """Return whether the answer is a 200 with explicit framing, not too long and not an event stream."""
    lengths = values_of(head.headers, "content-length")
    announced = bool(lengths) or bool(values_of(head.headers, "transfer-encoding"))
    events = "text/event-stream" in ",".join(values_of(head.headers, "content-type")).lower()
    return head.status == 200 and announced and not events and int(lengths[0] if lengths else 0) <= MAX_ENTRY


def fields_to_keep(fields: Fields, length: int) -> Fields:
    """Return the fields to store: those for clients, without Age, and with the body's length in bytes."""
    kept = [(name, value) for name, value in response_headers(fields) if name.lower() not in ("age", "content-length")]
    return [*kept, ("Content-Length", str(length))]
