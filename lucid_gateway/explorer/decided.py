"""The steps of a decision as a list for people: what passed, what refused, and what was not asked any more."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.cases.limits import TOTALS
from lucid_gateway.explorer.words import clock, is_past
from lucid_gateway.kernel.record import Outcome
from lucid_gateway.operators.numbers import duration, size, thousands
from lucid_gateway.policy.reasons import REASONS, Step

PASSED, REFUSED, OBSERVED, NOT_ASKED, UNKNOWN = "", "no", "watch", "skip", "unknown"
MARKS = {PASSED: "✓", REFUSED: "✕", OBSERVED: "!", NOT_ASKED: "–", UNKNOWN: "?"}
OUTCOMES = {
    PASSED: "passed", REFUSED: "did not pass", OBSERVED: "would not have passed", NOT_ASKED: "not asked",
    UNKNOWN: "not known",
}  # fmt: skip
TONES = {Outcome.PASSED: PASSED, Outcome.OBSERVED: OBSERVED}
Says = Callable[[Case], SafeString | str]


@dataclass(frozen=True)
class Line:
    """A line of the list: `tone` is a CSS class, `said` HTML, `ms` the milliseconds since the request began."""

    name: str
    tone: str
    said: SafeString | str
    ms: float | None = None

    @property
    def mark(self) -> str:
        return MARKS[self.tone]

    @property
    def at(self) -> str:
        """When the step ended, counted from the beginning of the request; empty if that is not known."""
        if self.ms is None:
            return ""
        return duration(self.ms) if self.ms >= 1_000 else f"{self.ms:.2f} ms"

    @property
    def outcome(self) -> str:
        """The mark in words, for those who do not see it."""
        return OUTCOMES[self.tone]


@dataclass(frozen=True)
class Group:
    """Steps that are one line, each with what says that it has passed. A group that is not `always` shown appears only
    if one of its steps was taken.
    """

    name: str
    steps: Mapping[Step, Says]
    always: bool = True


def nothing(case: Case) -> str:
    return ""


def address_words(case: Case) -> SafeString:
    return format_html("{} · no rule refuses it", case.address)


def path_words(case: Case) -> SafeString:
    return format_html('{} <code class="cut" title="{}">{}</code>', case.method, case.row.path, case.row.path)


def route_words(case: Case) -> SafeString:
    if not case.row.route:
        return SafeString("found")
    if not case.row.cluster and case.forwarded is None:
        return format_html("<code>{}</code> · answered by the gateway itself", case.row.route)
    return format_html("<code>{}</code> → {}", case.row.route, case.cluster)


def identity_words(case: Case) -> SafeString:
    if case.is_key:
        return format_html("API key {} of {}", case.key, case.user)
    if case.row.credential_kind == "session":
        return format_html("session of {} on the operator pages", case.user)
    return format_html("access token of {}", case.user) if case.user_id else SafeString("not required")


def limit_words(case: Case) -> SafeString:
    """What of the limit was used, this request included."""
    limits = case.row.limits
    if not limits.get("limit"):
        return SafeString("no limit")
    if case.row.reason in TOTALS:  # the numbers left are those of the quota or of the requests in progress
        return format_html("{}: not used up", case.tier)
    if case.counts_bytes:
        return format_html("{}: counted in bytes", case.tier)
    used, beyond = (
        f"{thousands(limits['limit'] - limits.get('remaining', 0))} of {thousands(limits['limit'])} used",
        "",
    )
    if "burst_remaining" in limits and limits.get("burst"):
        spent = limits["burst"] - limits["burst_remaining"]
        beyond = f", burst {thousands(spent)} of {case.burst} used" if spent else ""
    counted = "" if limits.get("exact", True) else " · counted by this worker alone"
    resets = format_html("{} at {}", "reset" if is_past(case.resets_at) else "resets", clock(case.resets_at))
    return format_html("{}: {}{} · {}{}", case.tier, used, beyond, resets, counted)


def permission_words(case: Case) -> str:
    """Return which permission was needed, and who has it."""
    if not case.permission_needed:
        return "allowed"
    return f"{case.permission_needed} · {'the API key' if case.is_key else f'the role {case.row.role}'} has it"


def answer_words(case: Case) -> str:
    return f"{case.status} · {size(case.row.response_bytes)}"


def cluster_words(case: Case) -> SafeString:
    return format_html("{} · in service", case.cluster)


def attempt_words(case: Case) -> SafeString:
    """Each attempt at an instance with its times, one below the other."""
    attempts = case.row.details.get("attempts", [])
    return format_html_join(SafeString("<br>"), "{}", ((attempt_line(attempt),) for attempt in attempts))


def attempt_line(attempt: Mapping[str, Any]) -> SafeString:
    phases = (("connected", "connect_ms"), ("sent", "send_ms"), ("first byte", "first_byte_ms"))
    times = [f"{name} {duration(attempt[key])}" for name, key in phases if attempt.get(key) is not None]
    outcome = "answered" if attempt["outcome"] == "answered" else reason_text(attempt["outcome"])
    return format_html("<code>{}</code> · {}", attempt["instance"], " · ".join([outcome, *times]))


def reason_text(name: str | None) -> str:
    """Return the sentence of a reason without its full stop, in the middle of a line."""
    if name not in REASONS:
        return name or "no outcome"
    text = REASONS[name].text.rstrip(".")
    return text[0].lower() + text[1:] if not text.startswith(("Idempotency", "Redis")) else text


GROUPS = (
    Group("Connection", {Step.CONNECTION: nothing}, always=False),
    Group("Address", {Step.ADDRESS_RULE: address_words}),
    Group("Path", {Step.PATH: path_words}),
    Group("Route", {Step.ROUTE: route_words}),
    Group("Identity", {Step.IDENTITY: identity_words}),
    Group(
        "Lock, revocation, epoch",
        {
            Step.LOCK: lambda _: "not locked",
            Step.REVOCATION: lambda _: "not revoked",
            Step.EPOCH: lambda _: "of the current epoch",
        },
    ),
    Group("Permission", {Step.PERMISSION: permission_words}),
    Group("Limit", {Step.RATE_LIMIT: limit_words}),
    Group("Daily quota", {Step.QUOTA: lambda case: case.quota_words}, always=False),
    Group("Concurrency", {Step.CONCURRENCY: lambda case: case.concurrency_words}, always=False),
    Group("Bandwidth", {Step.BANDWIDTH: lambda case: f"{case.bytes_per_second} a second"}, always=False),
    Group("Idempotency", {Step.IDEMPOTENCY: lambda _: "first use of the key"}, always=False),
    Group("Cluster", {Step.MAINTENANCE: cluster_words, Step.BULKHEAD: nothing}),
    Group("Instance", {Step.ATTEMPT: attempt_words}, always=False),
    Group("Answer", {Step.ANSWER: answer_words}, always=False),
)
# Groups that a request without a credential, or to an endpoint of the gateway itself, never reaches.
OF_CALLERS, OF_CLUSTERS = ("Identity", "Lock, revocation, epoch", "Permission"), ("Cluster",)
GROUP_OF = {step: group for group in GROUPS for step in group.steps}


def lines(case: Case) -> list[Line]:
    """Return the lines in the order of the steps."""
    taken: dict[str, list[dict[str, Any]]] = {}
    for step in case.row.details.get("steps", []):
        taken.setdefault(step["step"], []).append(step)
    reached = [index for index, group in enumerate(GROUPS) if any(step in taken for step in group.steps)]
    last = max(reached, default=-1)
    found = []
    for index, group in enumerate(GROUPS):
        steps = [step for name in group.steps for step in taken.get(name, [])]
        line = taken_line(case, group, steps) if steps else missing_line(case, group, is_before=index < last)
        if line is not None:
            found.append(line)
    return found


def taken_line(case: Case, group: Group, steps: list[dict[str, Any]]) -> Line:
    """Return the line of a group of which steps were taken; the last step that did not pass decides."""
    failed = [step for step in steps if step["outcome"] != Outcome.PASSED]
    if group.name == "Instance" and case.row.details.get("attempts"):
        tone = PASSED if steps[-1]["outcome"] == Outcome.PASSED else REFUSED
        return Line(group.name, tone, attempt_words(case), steps[-1]["ms"])
    if not failed:
        tone = UNKNOWN if case.unknown.intersection(group.steps) else PASSED
        return Line(group.name, tone, passed_words(case, group.steps), steps[-1]["ms"])
    step = failed[-1]
    tone = TONES.get(step["outcome"], REFUSED)
    said = format_html('<b class="what">{}</b>', reason_text(step["reason"]))
    if group.name == "Limit" and case.row.limits:
        said = format_html("{} · {}", said, limit_words(case))
    return Line(group.name, tone, said, step["ms"])


def passed_words(case: Case, steps: Iterable[Step]) -> SafeString:
    """Return what is said of steps that have passed, with the notes on them."""
    said = joined(GROUP_OF[step].steps[step](case) for step in steps)
    return with_notes(said, case, steps)


def with_notes(said: SafeString | str, case: Case, steps: Iterable[Step]) -> SafeString:
    notes = " ".join(case.notes[step] for step in steps if case.notes.get(step))
    return format_html('{} <span class="muted">{}</span>', said, notes) if notes else SafeString(said)


def joined(texts: Iterable[SafeString | str]) -> SafeString:
    return format_html_join(SafeString(" · "), "{}", ((text,) for text in texts if text))


def missing_line(case: Case, group: Group, *, is_before: bool) -> Line | None:
    """Return the line of a group of which no step was taken: it had nothing to check, or was not asked any more."""
    notes = with_notes("", case, group.steps)
    if case.unknown.intersection(group.steps):
        return Line(group.name, UNKNOWN, notes)
    if notes:
        return Line(group.name, NOT_ASKED, notes)
    if not group.always:
        return None
    if group.name in OF_CLUSTERS and case.row.route and case.forwarded is None:
        return None
    if not is_before:
        return Line(group.name, NOT_ASKED, "nothing was sent" if group.name in OF_CLUSTERS else "not asked")
    if group.name == "Address":
        return Line(group.name, PASSED, address_words(case))
    if group.name in OF_CALLERS:
        return Line(group.name, NOT_ASKED, "not required") if not case.row.credential_kind else None
    if group.name == "Limit":
        return (
            Line(group.name, NOT_ASKED, "not counted")
            if not case.row.limits
            else Line(group.name, PASSED, limit_words(case))
        )
    return None
