"""The response cache: a shared cache in front of the clusters (RFC 9111), in the memory of each worker.

It is asked after authentication, permission and limits, on rows with a CacheRule, while RESPONSE_CACHE_ENABLED.
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
READ_AHEAD_SECONDS = 1.0  # from the head on; a slower answer goes on as it comes, and is not kept
ROUNDS = 2  # the first may only tell by which request fields the answer varies
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")
NOT_FOR_CACHES = ("HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_TRANSFER_ENCODING")
IN_NOT_MODIFIED = frozenset(
    {"cache-control", "cache-status", "content-location", "date", "etag", "expires", "last-modified", "vary"}
)

stored = StoredAnswers()
flights = Flights()


class Head(Protocol):
    """The head of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> Fields: ...


class Answered(Protocol):
    """An answer: its head, and its body still flowing."""

    @property
    def answer(self) -> Head: ...
    @property
    def body(self) -> Iterator[bytes]: ...


class FromCluster(Protocol):
    """What the forwarder returns."""

    @property
    def answer(self) -> Head: ...
    @property
    def body(self) -> Body: ...


class Send(Protocol):
    """Asks the cluster, and gives up when the client leaves if that is watched."""

    def __call__(self, *, watch_client: bool = True) -> FromCluster: ...


@dataclass(frozen=True, slots=True)
class CacheHead:
    """A head that the cache has written, or added to."""

    status: int
    reason: str
    headers: Fields


@dataclass(frozen=True, slots=True)
class CacheAnswer:
    """What the cache answers."""

    answer: CacheHead
    body: Iterator[bytes]


def answer_through_cache(request: HttpRequest, route: Route, *, caller: Caller, target: str, send: Send) -> Answered:
    """Return a kept answer, or the one that `send` gets from the cluster, and keep that if it may be kept.

    Raises what `send` raises, and UpstreamTimeout if there is no answer and the client wants no other.
    """
    if route.cache is None or request.method != "GET" or not settings.ENV.RESPONSE_CACHE_ENABLED:
        return send()
    return Inquiry(request, route, route.cache, caller, target, send).answer()


@dataclass
class Inquiry:
    """One request to the cache."""

    request: HttpRequest
    route: Route
    rule: CacheRule
    caller: Caller
    target: str
    send: Send

    @cached_property
    def asked(self) -> CacheKey:
        """Return what is asked: clusters are told host and scheme, and, where they may care, the caller's rights."""
        caller = None if self.rule.shared else (self.caller.bucket, self.caller.role, self.caller.permissions)
        return CacheKey(caller, f"{self.request.scheme}://{self.request.META['HTTP_HOST']}", self.target)

    @cached_property
    def terms(self) -> Terms:
        """Return what the client takes."""
        meta = self.request.META
        return terms_of(meta.get("HTTP_CACHE_CONTROL"), meta.get("HTTP_PRAGMA"))

    def request_field(self, name: str) -> str | None:
        """Return the value of the request's field of that (lower-case) name."""
        key = name.upper().replace("-", "_")
        value: str | None = self.request.META.get(key if key == "CONTENT_TYPE" else f"HTTP_{key}")
        return value

    @property
    def variant(self) -> Variant:
        """Return the key of the answer, as far as it is known by now what the answers vary by."""
        return stored.variant_of(self.asked, self.request_field)

    def answer(self) -> Answered:
        """Answer from what is kept, or by the cluster."""
        if is_not_for_caches(self.request.META):
            return self.from_cluster("bypass", keep=False)
        if not self.terms.reuse:
            return self.from_cluster("request", keep=self.terms.store)
        for number in range(ROUNDS):
            if found := self.found(collapsed=number > 0):
                return found
            variant = self.variant
            if self.goes_alone(variant):
                break
            with flights.lead_or_wait(variant, seconds=self.route.timeouts.total) as leads:
                if leads:  # of two leaders in a row the second finds what the first has kept
                    return self.found(collapsed=True) or self.from_cluster("miss", keep=True)
            if self.variant == variant:
                break
        return self.found(collapsed=True) or self.from_cluster("miss", keep=True)

    def goes_alone(self, variant: Variant) -> bool:
        """Whether to ask without others waiting for it: the answer to a condition may be of no use to them."""
        return flights.is_alone(variant) or (is_conditional(self.request.META) and not flights.is_under_way(variant))

    def found(self, *, collapsed: bool) -> CacheAnswer | None:
        """Return a kept answer that the client takes; after a wait it is what was waited for."""
        answer = stored.find(self.asked, self.request_field)
        now = stored.clock()
        if answer is None or not self.terms.take(age=answer.age(now), ttl=answer.ttl(now)):
            return None
        record_of(self.request).cache = "collapsed" if collapsed else "hit"
        how = "fwd=miss; collapsed" if collapsed else f"hit; ttl={int(answer.ttl(now))}"
        fields = [*answer.fields, ("Age", str(int(answer.age(now)))), ("Cache-Status", f"{CACHE}; {how}")]
        if is_unchanged(self.request.META, answer.fields):
            kept = [(name, value) for name, value in fields if name.lower() in IN_NOT_MODIFIED or name == "Age"]
            return CacheAnswer(CacheHead(304, "Not Modified", kept), iter(()))
        return CacheAnswer(CacheHead(200, "OK", fields), iter((answer.body,)))

    def from_cluster(self, why: str, *, keep: bool) -> CacheAnswer:
        """Ask the cluster, and keep its answer if it and `keep` allow it."""
        if self.terms.only_if_cached:
            raise UpstreamTimeout("No stored answer, and none else is wanted")
        record_of(self.request).cache = why
        started = stored.clock()
        # Others may wait for what is kept: a client that leaves does not end it.
        forwarded = self.send(watch_client=not keep)
        head, body = forwarded.answer, ReadAhead(forwarded.body)
        kept = keep and self.keep(head, body, delay=stored.clock() - started)
        if keep:
            flights.note(self.variant, kept=kept)
        status = f"{CACHE}; fwd={why}{'; stored' if kept else ''}"
        return CacheAnswer(CacheHead(head.status, head.reason, [*head.headers, ("Cache-Status", status)]), body)

    def keep(self, head: Head, body: ReadAhead, *, delay: float) -> bool:
        """Read the answer to its end and keep it; return False, its body flowing on, if it may not be kept."""
        came, now = stored.clock(), time.time()
        names = varies_by(head.headers, shared=self.rule.shared)
        fresh = lifetime(head.headers, otherwise=self.rule.seconds, now=now)
        age = initial_age(head.headers, delay=delay, now=now)
        if names is None or fresh <= age or not is_storable(head):
            return False
        data = body.whole(limit=MAX_ENTRY, seconds=READ_AHEAD_SECONDS)
        if data is None:
            return False
        answer = StoredAnswer(fields_to_keep(head.headers, len(data)), data, came - age, fresh)
        stored.keep(self.asked, names, self.request_field, answer)
        return True


def is_not_for_caches(meta: Mapping[str, str]) -> bool:
    """Return whether the request asks for what is not kept, or is no plain GET: one with a body, or whose Connection
    keeps fields from the cluster that an answer may vary by.
    """
    named = named_in_connection(meta.get("HTTP_CONNECTION", "")) - {"close", "keep-alive"}
    return bool(named) or (meta.get("CONTENT_LENGTH") or "0") != "0" or any(name in meta for name in NOT_FOR_CACHES)


def is_conditional(meta: Mapping[str, str]) -> bool:
    """Return whether the client has an answer already."""
    return any(name in meta for name in CONDITIONS)


def is_unchanged(meta: Mapping[str, str], fields: Fields) -> bool:
    """Return whether the client has this very answer (RFC 9110, section 13.2.2)."""
    if (tags := meta.get("HTTP_IF_NONE_MATCH")) is not None:
        wanted = {tag.removeprefix("W/") for tag in parse_etags(tags)}
        return "*" in wanted or any(tag.removeprefix("W/") in wanted for tag in values_of(fields, "etag"))
    if "HTTP_IF_MODIFIED_SINCE" not in meta:
        return False
    since = parse_http_date_safe(meta["HTTP_IF_MODIFIED_SINCE"])
    modified = parse_http_date_safe((values_of(fields, "last-modified") or [""])[0])
    return since is not None and modified is not None and modified <= since


def is_storable(head: Head) -> bool:
    """Return whether the answer is a 200 whose end is announced, that is not too long, and no endless stream."""
    lengths = values_of(head.headers, "content-length")
    announced = bool(lengths) or bool(values_of(head.headers, "transfer-encoding"))
    events = "text/event-stream" in ",".join(values_of(head.headers, "content-type")).lower()
    return head.status == 200 and announced and not events and int(lengths[0] if lengths else 0) <= MAX_ENTRY


def fields_to_keep(fields: Fields, length: int) -> Fields:
    """Return the fields that are given again: those for clients, without the age, with the length (in bytes)."""
    kept = [(name, value) for name, value in response_headers(fields) if name.lower() not in ("age", "content-length")]
    return [*kept, ("Content-Length", str(length))]
