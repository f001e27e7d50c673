"""The steps of a preview in words, those that were not asked, too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from rest_framework.views import APIView

from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.kernel.record import Outcome
from lucid_gateway.policy.reasons import REASONS, Step
from lucid_gateway.policy.routes import MIB
from lucid_gateway.policy.tiers import TIERS
from lucid_gateway.server.body import MAX_SMALL_BODY
from proxy.choosing.bulkhead import bulkhead_of
from ratelimit.engine.bandwidth import BandwidthDecision
from ratelimit.engine.limiter import Decision
from ratelimit.models import AddressRule

Kind = AddressRule.Kind
MEANINGS = {
    Kind.ALLOW: "no limits by address apply", Kind.HALVED: "its limits by address are halved",
    Kind.DENY: "it denies the address", Kind.BLOCKED: "it blocks the address for a while",
}  # fmt: skip
REDIS_DOWN = "Redis is unavailable: each worker counts on its own, and this page cannot know what it has counted."
NO_ADDRESS = "No address was given."
NO_REPORT = "No worker has reported in the last five seconds."


class State(StrEnum):
    """How a step would end. `observed` passes only because of shadow mode; `unknown` could not be decided."""

    PASSED = "passed"
    REFUSED = "refused"
    FAILED = "failed"
    OBSERVED = "observed"
    NOT_ASKED = "not_asked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its words; `reason` is a name of `policy.reasons`, or None if the step refuses nothing."""

    step: Step
    state: State
    text: str
    reason: str | None = None

    @property
    def name(self) -> str:
        """The name on pages, such as "Rate limit"."""
        return self.step.replace("_", " ").capitalize()


def steps_of(preview: Preview) -> list[StepView]:
    """Return all steps, in their order."""
    return [step_view(preview, step, *outcome_of(preview, step)) for step in Step]


def outcome_of(preview: Preview, step: Step) -> tuple[State, str | None]:
    """Return how the step ended, and its reason; what refuses counts more than what passed."""
    taken = [entry for entry in preview.record.steps if entry.step == step]
    for entry in taken:
        if entry.outcome != Outcome.PASSED:
            return State(entry.outcome), entry.reason
    if taken:
        return State.PASSED, None
    return State.UNKNOWN if step in preview.unknown else State.NOT_ASKED, None


def step_view(preview: Preview, step: Step, state: State, reason: str | None) -> StepView:
    """Return the step with its words."""
    text = TEXTS[step](preview, state) if reason is None or state == State.OBSERVED else REASONS[reason].text
    if state == State.OBSERVED and reason:
        text = f"Shadow mode: {REASONS[reason].text} {text}"
    if state == State.NOT_ASKED and preview.error is not None:
        text = ""  # an earlier step has refused the request
    return StepView(step, state, text, reason)


def connection(preview: Preview, state: State) -> str:
    return "A preview has no connection. A malformed or slow request is refused here."


def address_rule(preview: Preview, state: State) -> str:
    rule = preview.rule
    if state == State.NOT_ASKED:
        return NO_ADDRESS
    if rule is None:
        return f"No rule for {preview.question.address}."
    return f"The rule for {rule.network}: {MEANINGS[Kind(rule.kind)]}."


def path(preview: Preview, state: State) -> str:
    """Say the canonical path, and which body would be refused."""
    record, route = preview.record, preview.route
    shown = record.path or ""
    if record.path != preview.question.path:
        shown = f"{shown} is the canonical form of {preview.question.path}."
    if record.method in ("GET", "HEAD") or preview.view is None:
        return shown
    limit = route.body_limit if route else MAX_SMALL_BODY
    return f"{shown} The size of the body is not known; more than {limit // MIB} MiB would be refused."


def route(preview: Preview, state: State) -> str:
    asked = f"{preview.record.method} /{preview.record.route}"
    if preview.route is not None:
        return f"{asked} goes to the cluster {preview.route.cluster}."
    return f"{asked} is answered by the gateway itself."


def identity(preview: Preview, state: State) -> str:
    """Say whose credential it is, and what a real one would have to show."""
    question = preview.question
    if not preview.reads_credential:
        return "The endpoint is for everyone: no credential is read."
    if question.key is not None:
        return f"The API key {question.key.name} of {question.key.user.email}, if the client has its secret."
    email = question.user.email if question.user else ""
    return f"{email} with a token that is issued now. A real token must have a valid signature and not be expired."


def lock(preview: Preview, state: State) -> str:
    return "The account is not locked." if state == State.PASSED else ""


def revocation(preview: Preview, state: State) -> str:
    if state != State.PASSED:
        return ""
    by_key = preview.question.key is not None
    return "The key is not revoked." if by_key else "A new token is not revoked; an earlier one may be."


def epoch(preview: Preview, state: State) -> str:
    return f"Epoch {preview.caller.epoch} is the current one." if preview.caller else ""


def permission(preview: Preview, state: State) -> str:
    """Say which permission is needed, and who has it."""
    if preview.caller is None:
        return "No permission is needed."
    holder = "the API key" if preview.caller.by_api_key else f"the role {preview.caller.role}"
    needed = permission_of(preview.view, preview.record.method)
    if state == State.PASSED and needed:
        return f"{needed}: {holder} has it."
    return "A signed-in user needs no permission."


def permission_of(view: APIView, method: str) -> str | None:
    """Return the permission that the view asks for, if it is the same for every caller."""
    routes: Mapping[str, object] = getattr(view, "routes", {})
    name = "GET" if method == "HEAD" else method
    found = getattr(routes.get(method), "permission", None) or getattr(view, "permissions", {}).get(name)
    return str(found) if found else None


def rate_limit(preview: Preview, state: State) -> str:
    """Say what would be left of the tier."""
    if state == State.UNKNOWN:
        return REDIS_DOWN
    if not settings.ENV.RATE_LIMIT_ENABLED:
        return "Rate limits are disabled."
    decision = next((found for found in preview.looks if isinstance(found, Decision)), None)
    if decision is None:
        throttles = getattr(preview.view, "throttle_classes", None)
        return "The endpoint has no limit." if throttles == [] else f"The limit counts by address. {NO_ADDRESS}"
    limit = decision.limit
    if not TIERS[limit.name].counts_requests:
        return f"The tier {limit.name} counts bytes, not requests."
    return (
        f"Tier {limit.name}: {decision.remaining:,} of {limit.requests_per_minute:,} requests a minute would remain, "
        f"and {decision.burst_remaining:,} of a burst of {limit.burst_size:,}."
    )


def quota(preview: Preview, state: State) -> str:
    seen = preview.used
    if seen is None or not seen.decision.limit.daily_quota:
        return REDIS_DOWN if Step.RATE_LIMIT in preview.unknown else "No daily quota applies."
    return f"{seen.used.today:,} of {seen.decision.limit.daily_quota:,} requests of today (UTC) are used."


def concurrency(preview: Preview, state: State) -> str:
    seen = preview.used
    if seen is None or not seen.decision.limit.concurrent_requests:
        return REDIS_DOWN if Step.RATE_LIMIT in preview.unknown else "No limit of concurrent requests applies."
    return f"{seen.used.in_progress:,} of {seen.decision.limit.concurrent_requests:,} requests are in progress."


def bandwidth(preview: Preview, state: State) -> str:
    """Say how many bytes an upload could send at once."""
    if state == State.UNKNOWN:
        return REDIS_DOWN
    decision = next((found for found in preview.looks if isinstance(found, BandwidthDecision)), None)
    if decision is None:
        return "Only chunk uploads are limited in bytes."
    level, rate = max(0, decision.level) / MIB, decision.limit.bytes_per_second / MIB
    return f"{level:,.1f} MiB may pass at once, then {rate:,.1f} MiB a second. The size of the body is not known."


def idempotency(preview: Preview, state: State) -> str:
    route = preview.route
    used = route is not None and route.idempotency_key
    return "Asked only if the request has an Idempotency-Key." if used else "The route uses no Idempotency-Key."


def maintenance(preview: Preview, state: State) -> str:
    return f"{preview.cluster.name} is in service." if preview.cluster else "No cluster is asked."


def bulkhead(preview: Preview, state: State) -> str:
    """Say how full the workers are."""
    if preview.cluster is None:
        return "No cluster is asked."
    if not preview.workers:
        return NO_REPORT
    places, workers = bulkhead_of(preview.cluster.name), preview.workers
    text = f"At most {max(worker.taken for worker in workers):,} of {places.places:,} places are taken in a worker."
    full = sum(worker.is_full(places) for worker in workers)
    return f"{text} {full} of {len(workers)} workers would refuse the request." if full else text


def attempt(preview: Preview, state: State) -> str:
    """Say which instances would be asked."""
    if preview.cluster is None:
        return "No cluster is asked."
    if not preview.workers:
        return NO_REPORT
    urls = sorted({url for worker in preview.workers for url in worker.available})
    text = f"{'One of ' if len(urls) > 1 else ''}{', '.join(urls)} would be asked. Nothing was sent."
    without = sum(not worker.available for worker in preview.workers)
    return f"{text} In {without} of {len(preview.workers)} workers all breakers are open." if without else text


def answer(preview: Preview, state: State) -> str:
    if preview.route is not None:
        return "The cluster's own answer is passed on."
    return "It depends on the data of the request, and on whether what it names exists."


TEXTS: Mapping[Step, Callable[[Preview, State], str]] = {
    Step.CONNECTION: connection,
    Step.ADDRESS_RULE: address_rule,
    Step.PATH: path,
    Step.ROUTE: route,
    Step.IDENTITY: identity,
    Step.LOCK: lock,
    Step.REVOCATION: revocation,
    Step.EPOCH: epoch,
    Step.PERMISSION: permission,
    Step.RATE_LIMIT: rate_limit,
    Step.QUOTA: quota,
    Step.CONCURRENCY: concurrency,
    Step.BANDWIDTH: bandwidth,
    Step.IDEMPOTENCY: idempotency,
    Step.MAINTENANCE: maintenance,
    Step.BULKHEAD: bulkhead,
    Step.ATTEMPT: attempt,
    Step.ANSWER: answer,
}
