"""The record of one request: who sent it, what it asked for, each step of the decision, and the outcome.

The worker creates it before anything else reads the request. The access log, the metrics, the rate-limit headers, the
audit log and the forwarder use it; nothing else is attached to a request.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import GatewayError
from lucid_gateway.policy.reasons import REASONS, Step

if TYPE_CHECKING:  # gevent patches the sockets of a worker before Django is imported
    from django.http import HttpRequest

# The key of the record in the WSGI environ.
KEY = "lucid.record"


class Outcome(StrEnum):
    """How a step ended; `observed` means that a limit in shadow mode would have refused the request."""

    PASSED = "passed"
    REFUSED = "refused"
    OBSERVED = "observed"
    FAILED = "failed"


class StepTaken(NamedTuple):
    """`reason` is a name of `policy.reasons`, or None if the step passed; `at` is in seconds since the start."""

    step: Step
    outcome: Outcome
    reason: str | None
    at: float


class Limits(Protocol):
    """A decision of the rate limiter, in requests or in bytes."""

    @property
    def tier_name(self) -> str: ...
    @property
    def admitted(self) -> bool: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    def headers(self) -> dict[str, str]: ...
    def numbers(self) -> dict[str, Any]: ...
    def error(self) -> GatewayError: ...


@dataclass(slots=True)
class AttemptRecord:
    """An attempt to get an answer from an instance. Times are in milliseconds, None for a phase that was not reached.

    `outcome` is `answered` or a name of `policy.reasons`.
    """

    instance: str
    connect_ms: float | None = None
    send_ms: float | None = None
    first_byte_ms: float | None = None
    outcome: str = ""


class Claim(NamedTuple):
    """The credential of a request, admitted or not: `kind` is `token`, `api_key`, `session` (of /admin) or `login`,
    `key` the jti or the key's id. `user_id` is empty unless the credential proves it or a login named it.
    """

    kind: str
    key: str
    user_id: str = ""
    role: str = ""


class RequestRecord:
    """`plane` is `gateway`, or `edge` for a request that the edge decided. `path` and `route` are None until they are
    known. `actor` is whom the audit log names if there is no caller, such as `manage.py`. `facts` are for staff: what
    the reason alone does not say, such as the rule or the permission. `observed_rule` is the network of the address
    rule that would have refused the request without shadow mode. With `is_handshake`, the edge asks whether the client
    may open a WebSocket.
    """

    __slots__ = (
        "actor", "attempts", "cache", "caller", "claim", "client_address", "cluster", "error_code", "facts",
        "is_handshake", "lease", "limits", "method", "observed_rule", "path", "plane", "reason", "request_id", "route",
        "started", "taken", "traceparent", "upstream_ms", "upstream_status", "user_agent",
    )  # fmt: skip

    def __init__(self, *, client_address: str = "", user_agent: str = "", actor: str = "") -> None:
        self.started = time.perf_counter()
        self.request_id = ""
        self.client_address = client_address
        self.user_agent = user_agent
        self.actor = actor
        self.plane = "gateway"
        self.method = ""
        self.path: str | None = None
        self.route: str | None = None
        self.traceparent = ""
        self.caller: Caller | None = None
        self.limits: Limits | None = None
        self.lease: Any = None
        # Steps that passed together are one entry: most requests pass every step, and their steps are never read.
        self.taken: list[tuple[tuple[Step, ...], Outcome, str | None, float]] = []
        self.reason: str | None = None
        self.error_code: str | None = None
        self.cluster: str | None = None
        self.attempts: list[AttemptRecord] = []
        self.upstream_status: int | None = None
        self.upstream_ms: float | None = None
        self.cache: str | None = None
        self.claim: Claim | None = None
        self.facts: dict[str, Any] | None = None
        self.observed_rule: str | None = None
        self.is_handshake = False

    def note(self, **facts: Any) -> None:
        """Keep facts about the refusal for staff; the values are JSON without secrets, and no client sees them."""
        self.facts = {**self.facts, **facts} if self.facts else facts

    def passed(self, *steps: Step) -> None:
        self.taken.append((steps, Outcome.PASSED, None, time.perf_counter()))

    def ended(self, reason: str, outcome: Outcome = Outcome.REFUSED) -> None:
        """Note that the step of the reason, a name of `policy.reasons`, did not pass."""
        self.taken.append(((REASONS[reason].step,), outcome, reason, time.perf_counter()))

    def refused(self, error: GatewayError) -> None:
        """Note the error with which the request is answered."""
        self.error_code, self.reason = error.code, error.reason
        if error.details:
            self.note(**error.details)
        if error.message != error.text:
            self.note(message=error.message)
        if error.retry_after is not None:
            self.note(retry_after=error.retry_after)
        # A failed attempt is noted before its error reaches the client.
        if not self.taken or self.taken[-1][2] != error.reason:
            self.ended(error.reason, Outcome.FAILED if error.status >= 500 else Outcome.REFUSED)

    @property
    def steps(self) -> list[StepTaken]:
        return [
            StepTaken(step, outcome, reason, at - self.started)
            for steps, outcome, reason, at in self.taken
            for step in steps
        ]

    def logged_steps(self) -> list[str]:
        """Return the steps for a log line, in order, each as `step` or, if it did not pass, `step:reason`."""
        return [str(step.step) if step.reason is None else f"{step.step}:{step.reason}" for step in self.steps]


# The record of the request in progress.
current: ContextVar[RequestRecord | None] = ContextVar("record", default=None)
COMMAND = RequestRecord(actor="manage.py")


def current_record() -> RequestRecord:
    """Return the record of the request in progress; outside of requests, that of a command."""
    return current.get() or COMMAND


def note_claim(kind: str, key: str, user_id: object = "", role: str = "") -> None:
    """Note the credential of the request in progress, unless one is noted already."""
    record = current.get()
    if record is not None and record.claim is None:
        record.claim = Claim(kind, key, str(user_id), role)


def note_fact(**facts: Any) -> None:
    """Keep facts for staff in the record of the request in progress."""
    record = current.get()
    if record is not None:
        record.note(**facts)


def record_in(environ: dict[str, Any]) -> RequestRecord:
    """Return the record that the worker created for a WSGI environ, or create one and store it there."""
    record: RequestRecord | None = environ.get(KEY)
    if record is None:
        record = environ[KEY] = getattr(environ.get("gunicorn.socket"), "record", None) or RequestRecord()
    return record


def record_of(request: "HttpRequest") -> RequestRecord:
    return record_in(request.META)


def caller_of(request: "HttpRequest") -> Caller:
    """Return the caller; the request must be authenticated."""
    caller = record_of(request).caller
    assert caller is not None
    return caller
