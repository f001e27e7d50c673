"""What a request asked for."""

from datetime import datetime, timedelta
from functools import cache

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.caller import CallerWords
from lucid_gateway.explorer.words import clock, number
from lucid_gateway.operators.numbers import duration, size
from lucid_gateway.policy.routes import ROUTES, Route
from proxy.forwarding.resolving import django_path

# What the code of a problem does not say by itself.
PROBLEMS = {("X-Chunk-SHA256", "invalid"): "X-Chunk-SHA256 is not the hash of the body"}


@cache
def forwarded_routes() -> dict[tuple[str, str], Route]:
    """Return the routes to clusters by the pattern that requests have as their route, and method."""
    return {(f"api/v1/{django_path(route.path)}", method): route for route in ROUTES for method in route.methods}


class RequestWords(CallerWords):
    """The request, and what was wrong with it."""

    @property
    def path(self) -> SafeString:
        return format_html("<code>{}</code>", self.row.path or "no path")

    @property
    def method(self) -> str:
        return self.row.method or "no method"

    @property
    def forwarded(self) -> Route | None:
        """The row of the route table, None for a path that the gateway answers itself or does not have."""
        return forwarded_routes().get((self.row.route, self.row.method))

    @property
    def permission_needed(self) -> str:
        """The permission that the endpoint asks for, empty if it asks for none or it is not known."""
        return str(self.forwarded.permission) if self.forwarded else ""

    @property
    def reason(self) -> str:
        return self.row.reason.replace("_", " ")

    @property
    def status(self) -> int:
        return self.row.status

    @property
    def duration(self) -> str:
        return duration(self.row.duration_ms)

    @property
    def started(self) -> SafeString:
        return clock(self.row.started_at)

    @property
    def retry_at(self) -> datetime | None:
        """When the client was told to come back."""
        seconds = number(self.row.facts.get("retry_after"))
        return None if seconds is None else self.row.started_at + timedelta(seconds=seconds)

    @property
    def message(self) -> str:
        """What the error said to the client, as a sentence."""
        text = str(self.row.facts.get("message", "")).strip()
        return f"{text[:1].upper()}{text[1:]}." if text else ""

    @property
    def parser(self) -> str:
        """What the parser objected to, such as `invalid request line`."""
        name = str(self.row.facts.get("parser", ""))
        return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip() or "the request"

    @property
    def body_limit(self) -> str:
        return size(number(self.row.facts.get("limit_bytes")))

    @property
    def body_sent(self) -> str:
        announced = number(self.row.facts.get("content_length"))
        return f"The client announced {size(announced)}" if announced else "The client sent a longer body in chunks"

    @property
    def fields(self) -> str:
        """The invalid fields with the code of each problem."""
        found = self.row.facts.get("fields", [])
        listed = ", ".join(PROBLEMS.get((name, code), f"{name or 'the body'} ({code})") for name, code in found)
        return f"{'The problem' if len(found) == 1 else 'The problems'}: {listed}." if listed else ""
