"""Content negotiation for an API that speaks JSON only."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request


class AlwaysJSON(DefaultContentNegotiation):
    """Answers JSON whatever `Accept` says, as RFC 9110, section 12.5.1, allows."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the view's first renderer."""
        first = next(iter(renderers))
        return first, first.media_type


class LineRenderer(JSONRenderer):
    """JSON that ends with a newline, so that a terminal's prompt stands on a line of its own."""

    def render(self, data: Any, *arguments: Any, **parameters: Any) -> bytes:
        """Return the body; nothing of an answer without data."""
        body: bytes = super().render(data, *arguments, **parameters)
        return body + b"\n" if body else body
