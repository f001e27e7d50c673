"""Content negotiation for an API that returns only JSON."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request


class AlwaysJSON(DefaultContentNegotiation):
    """Selects JSON whatever `Accept` says, which RFC 9110, section 12.5.1, allows."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, first.media_type


class LineRenderer(JSONRenderer):
    """JSON that ends with a newline, so that a terminal shows its prompt on a new line."""

    def render(self, data: Any, *arguments: Any, **parameters: Any) -> bytes:
        """Return the body, which is empty without data."""
        body: bytes = super().render(data, *arguments, **parameters)
        return body + b"\n" if body else body
