"""Runs the decision on a request that nobody has sent, and counts, logs and charges nothing.

Each step calls the function that decides it for a real request. What the request itself would have to show, such as its
body or the signature of its token, stays open; the words of the step say so.
"""

from typing import Any

from django.http import HttpRequest
from django.urls import Resolver404, resolve
from rest_framework import exceptions as drf
from rest_framework.views import APIView

from accounts.api_keys import usable_caller
from accounts.authentication import CREDENTIAL_STEPS, steps_before
from accounts.callers import caller_of_user
from accounts.tokens.revocation.gates import look_at_caller
from lucid_gateway.console.preview.pretending import pretended, request_for, throttles_of, view_of
from lucid_gateway.console.preview.question import Question
from lucid_gateway.console.preview.workers import WorkerView, worker_views
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.error_responses import translate
from lucid_gateway.kernel.operator_pages import is_admin
from lucid_gateway.kernel.record import Limits, Outcome, RequestRecord, current
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import BandwidthExceeded, CircuitOpen, GatewayError, NotFound, TokenInvalid
from lucid_gateway.policy.paths import AmbiguousPath
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.routes import Route
from lucid_gateway.policy.tiers import ADMIN
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.closures import refuse_if_closed
from proxy.clusters import Cluster, cluster_named
from proxy.forwarding.request_target import ambiguous, served_path
from proxy.operators.overview import current_reports
from ratelimit.addresses.front_gate import note_observed, note_rule, refusal
from ratelimit.engine import bandwidth
from ratelimit.engine.limiter import REFUSALS, Decision, Look, look
from ratelimit.rules import AddressVerdict, address_verdict, byte_limit_for, limit_for, observing_rule, refusing_rule
from ratelimit.throttling import ChunkUploadThrottle, TierThrottle, look_at_address


class Preview:
    """The decision on a question: its record, as that of a real request, and the error if it would be refused.

    `view` is the view that would answer, None for a page for people; `reads_credential` says whether it is for certain
    callers only, and `route` whether it forwards. `cluster` is set once the forwarder is reached, `workers` are those
    that have reported on it. `looks` are the limits that were looked at, and `unknown` the steps that could not be
    decided.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.record = RequestRecord(client_address=question.address)
        self.record.method = question.method
        self.record.claim = question.claim
        self.error: GatewayError | None = None
        self.rule: AddressVerdict | None = None
        self.view: Any = None
        self.reads_credential = False
        self.route: Route | None = None
        self.cluster: Cluster | None = None
        self.workers: list[WorkerView] = []
        self.looks: list[Limits] = []
        self.used: Look | None = None
        self.unknown: set[Step] = set()

    @property
    def caller(self) -> Caller | None:
        return self.record.caller

    def run(self) -> None:
        """Take one step after another, until one refuses the request."""
        previous = current.set(self.record)
        try:
            self.check_address()
            self.dispatch(self.check_path())
        except GatewayError as error:
            self.error = error
            self.record.refused(error)
        finally:
            current.reset(previous)

    def check_address(self) -> None:
        """Apply the rules for addresses, as the front gate does."""
        address = self.question.address
        if not address:
            return
        self.rule = address_verdict(address)
        refusing = refusing_rule(address)
        if refusing is not None:
            note_rule(self.record, refusing)
            raise refusal(refusing)
        observing = observing_rule(address)
        if observing is None:
            self.record.passed(Step.ADDRESS_RULE)
        else:
            self.rule = observing
            note_observed(self.record, observing)

    def check_path(self) -> str:
        """Return the canonical path; raise BadRequest, as RequestTargetMiddleware does."""
        try:
            self.record.path = served_path(self.question.path)
        except AmbiguousPath as error:
            raise ambiguous(error) from error
        self.record.passed(Step.PATH)
        return self.record.path

    def dispatch(self, path: str) -> None:
        """Resolve the path, and take the steps of the view that answers it."""
        request = request_for(self.question, path, self.record)
        try:
            match = resolve(path)
        except Resolver404 as error:
            self.record.refused(NotFound(reason="unknown_path"))
            self.refuse_flood()  # nothing else counts the request
            raise NotFound(reason="unknown_path") from error
        self.record.route = match.route
        self.record.passed(Step.ROUTE)
        self.view = view_of(match, request)
        self.route = getattr(self.view, "routes", {}).get(request.method)
        if self.view is None:
            self.limit(self.look_at_page(request))
            return
        self.take_steps(self.view, request)

    def take_steps(self, view: APIView, request: HttpRequest) -> None:
        """Take the steps of DRF's views in their order: identity, permission, limit, method."""
        self.reads_credential = bool(view.authentication_classes)
        decision = self.authenticate(view) if self.reads_credential else None
        view.authentication_classes = [pretended(self.caller)]
        self.check_permissions(view, request)
        for throttle in throttles_of(view):
            self.throttle(throttle, view, decision)
        if request.method not in view.allowed_methods:
            raise translate(drf.MethodNotAllowed(request.method or ""))
        if self.route is not None:
            self.forward(self.route)

    def authenticate(self, view: APIView) -> Limits | None:
        """Look at the credential and at the limit of its caller, as CallerAuthentication admits them."""
        try:
            caller = self.read_credential()
            if caller is None:
                self.refuse_flood()
                return None
            seen = look_at_caller(caller, throttles_of(view)[0].limit_for(caller))
        except GatewayError as error:
            self.refuse_flood()
            self.record.passed(*steps_before(error))
            raise
        self.record.caller = caller
        self.record.passed(*CREDENTIAL_STEPS)
        if seen is None:
            self.unknown.add(Step.RATE_LIMIT)
            return None
        self.used = seen
        return seen.decision

    def read_credential(self) -> Caller | None:
        """Return the caller, or None without a credential; raise as the checks of a credential do."""
        if self.question.key is not None:
            return usable_caller(self.question.key)
        user = self.question.user
        if user is not None and not user.is_active:
            raise TokenInvalid(reason="account_deleted")
        return caller_of_user(user) if user else None

    def check_permissions(self, view: APIView, request: HttpRequest) -> None:
        """Let the view's own permission classes decide; raise what they answer with."""
        try:
            view.check_permissions(view.initialize_request(request))
        except drf.APIException as error:
            raise translate(error) from error

    def throttle(self, throttle: type[TierThrottle], view: APIView, decision: Limits | None) -> None:
        """Apply the limit of a tier."""
        if self.caller is None:
            decision = self.ask_redis(lambda: throttle.look_at(self.question.address, view), needs_address=True)
        self.limit(decision)
        if self.caller is not None and issubclass(throttle, ChunkUploadThrottle):
            limit, subject = byte_limit_for(self.caller.bucket), self.caller.subject
            self.limit(self.ask_redis(lambda: bandwidth.look(limit, subject), step=Step.BANDWIDTH))

    def look_at_address(self) -> Limits | None:
        """Look at the limit of the address in the public tier; return None if there is no address."""
        return self.ask_redis(lambda: look_at_address(self.question.address), needs_address=True)

    def look_at_page(self, request: HttpRequest) -> Limits | None:
        """Look at the limit of a page for people: the admin tier for staff on the operator pages, else the address."""
        user = self.question.user
        if user is None or not is_admin(request) or not user.is_staff:
            return self.look_at_address()
        limit = limit_for(ADMIN.name, f"user:{user.pk}")
        return self.ask_redis(lambda: look(limit, keys.user(user.pk)).decision)

    def ask_redis(self, ask: Any, *, step: Step = Step.RATE_LIMIT, needs_address: bool = False) -> Limits | None:
        """Return a look at a limit, or None if Redis is unavailable or there is no address to look at."""
        if needs_address and not self.question.address:
            return None
        try:
            found: Limits = ask()
        except RedisUnavailable:
            self.unknown.add(step)
            return None
        return found

    def refuse_flood(self) -> None:
        """Refuse a request without a valid credential, or for an unknown path, if its address is over its limit."""
        if decision := self.look_at_address():
            self.enforce(decision)

    def limit(self, decision: Limits | None) -> None:
        """Refuse the request if the limit does; None if it could not be looked at."""
        if decision is None:
            return
        observed = self.enforce(decision)
        if observed != BandwidthExceeded.reason:
            self.record.passed(*decision.steps)

    def enforce(self, decision: Limits) -> str | None:
        """Raise the error of a decision that refuses; return the reason for which only shadow mode admits, or None."""
        self.looks.append(decision)
        self.record.limits = decision
        observed = reason_observed(decision)
        if observed is not None:
            self.record.ended(observed, Outcome.OBSERVED)
        elif not decision.admitted:
            raise decision.error()
        return observed

    def forward(self, route: Route) -> None:
        """Take the steps of the forwarder up to the attempt, by what all workers report; raise what refuses."""
        self.cluster = cluster_named(route.cluster)
        self.record.cluster = route.cluster
        refuse_if_closed(route.cluster)
        self.record.passed(Step.MAINTENANCE)
        reports, _ = current_reports()
        self.workers = worker_views(self.cluster, reports)
        if not self.workers:
            self.unknown |= {Step.BULKHEAD, Step.ATTEMPT}
            return
        bulkhead = bulkhead_of(route.cluster)
        if all(worker.is_full(bulkhead) for worker in self.workers):
            raise bulkhead.error()
        self.record.passed(Step.BULKHEAD)
        if not any(worker.available for worker in self.workers):
            seconds = min(worker.retry_after for worker in self.workers)
            raise CircuitOpen(details={"cluster": route.cluster}, retry_after=seconds)
        self.record.passed(Step.ATTEMPT)


def preview(question: Question) -> Preview:
    """Return the decision on the question."""
    found = Preview(question)
    found.run()
    return found


def reason_observed(decision: Limits) -> str | None:
    """Return the reason for which the limit would refuse the request if it were not in shadow mode, None if it would
    not.
    """
    if isinstance(decision, Decision):
        return REFUSALS[decision.verdict].reason if decision.observed else None
    assert isinstance(decision, bandwidth.BandwidthDecision)
    return BandwidthExceeded.reason if not decision.admitted and decision.limit.observe_only else None
