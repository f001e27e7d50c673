"""What a preview says about steps beyond the words of the explorer: what only a real request would show."""

from collections.abc import Callable, Mapping

from django.conf import settings
from rest_framework.views import APIView

from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.kernel.record import Outcome
from lucid_gateway.operators.numbers import counted, size
from lucid_gateway.policy.reasons import Step
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


def notes_of(found: Preview) -> dict[Step, str]:
    """Return the notes by step; of a refused request, on the steps that it has passed."""
    passed = {entry.step for entry in found.record.steps if entry.outcome == Outcome.PASSED}
    asked = [step for step in Step if found.error is None or step in passed]
    return {step: note for step in asked if step in NOTES and (note := NOTES[step](found))}


def address_rule(found: Preview) -> str:
    if not found.question.address:
        return NO_ADDRESS
    return f"The rule for {found.rule.network}: {MEANINGS[Kind(found.rule.kind)]}." if found.rule else ""


def path(found: Preview) -> str:
    """Say the form of the path that was asked for, and which body would be refused."""
    asked, record = found.question.path, found.record
    notes = [f"It is the canonical form of {asked}."] if record.path != asked else []
    if record.method not in ("GET", "HEAD") and found.view is not None:
        limit = found.route.body_limit if found.route else MAX_SMALL_BODY
        notes.append(f"The size of the body is not known; more than {size(limit)} would be refused.")
    return " ".join(notes)


def identity(found: Preview) -> str:
    """Say what a real credential would have to show."""
    if not found.reads_credential:
        return "The endpoint is for everyone: no credential is read." if found.view is not None else ""
    if found.question.key is not None:
        return "The client must have its secret."
    return "A real token must have a valid signature and not be expired." if found.question.user else ""


def revocation(found: Preview) -> str:
    return "A new token is not revoked; an earlier one may be." if found.caller and found.question.user else ""


def permission_of(view: APIView | None, method: str) -> str | None:
    """Return the permission that the view asks for, if it is the same for every caller."""
    routes: Mapping[str, object] = getattr(view, "routes", {})
    name = "GET" if method == "HEAD" else method
    found = getattr(routes.get(method), "permission", None) or getattr(view, "permissions", {}).get(name)
    return str(found) if found else None


def rate_limit(found: Preview) -> str:
    """Say why no limit was looked at."""
    if Step.RATE_LIMIT in found.unknown:
        return REDIS_DOWN
    if not settings.ENV.RATE_LIMIT_ENABLED:
        return "Rate limits are disabled."
    if any(isinstance(look, Decision) for look in found.looks):
        return ""
    throttles = getattr(found.view, "throttle_classes", None)
    return "The endpoint has no limit." if throttles == [] else f"The limit counts by address. {NO_ADDRESS}"


def bandwidth(found: Preview) -> str:
    """Say how many bytes an upload could send at once."""
    if Step.BANDWIDTH in found.unknown:
        return REDIS_DOWN
    decision = next((look for look in found.looks if isinstance(look, BandwidthDecision)), None)
    return f"{size(max(0, decision.level))} may pass at once. The size of the body is not known." if decision else ""


def idempotency(found: Preview) -> str:
    used = found.route is not None and found.route.idempotency_key
    return "Asked only if the request has an Idempotency-Key." if used else ""


def bulkhead(found: Preview) -> str:
    """Say how full the workers are."""
    if found.cluster is None:
        return ""
    if not found.workers:
        return NO_REPORT
    places, workers = bulkhead_of(found.cluster.name), found.workers
    most, full = max(worker.taken for worker in workers), sum(worker.is_full(places) for worker in workers)
    text = f"At most {most:,} of {counted(places.places, 'place')} in a worker taken."
    return f"{text} {full} of {counted(len(workers), 'worker')} would refuse the request." if full else text


def attempt(found: Preview) -> str:
    """Say which instances would be asked."""
    if found.cluster is None:
        return ""
    if not found.workers:
        return NO_REPORT
    urls = sorted({url for worker in found.workers for url in worker.available})
    text = f"{'One of ' if len(urls) > 1 else ''}{', '.join(urls)} would be asked. Nothing was sent."
    without, workers = sum(not worker.available for worker in found.workers), len(found.workers)
    return f"{text} In {without} of {counted(workers, 'worker')} all breakers are open." if without else text


def answer(found: Preview) -> str:
    if found.route is not None:
        return "The cluster's own answer is passed on."
    return "It depends on the data of the request, and on whether what it names exists."


NOTES: Mapping[Step, Callable[[Preview], str]] = {
    Step.ADDRESS_RULE: address_rule,
    Step.PATH: path,
    Step.IDENTITY: identity,
    Step.REVOCATION: revocation,
    Step.RATE_LIMIT: rate_limit,
    Step.BANDWIDTH: bandwidth,
    Step.IDEMPOTENCY: idempotency,
    Step.BULKHEAD: bulkhead,
    Step.ATTEMPT: attempt,
    Step.ANSWER: answer,
}
