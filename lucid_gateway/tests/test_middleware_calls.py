"""A request that waits in the application keeps no C stack for the middleware around it."""

from collections.abc import Callable

import pytest
from django.core.handlers import base
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from greenlet import getcurrent, greenlet
from pytest_django.fixtures import Settings

from lucid_gateway.server.middleware_calls import use_bound_methods

FEW_BYTES = 50  # for each middleware; a call through C takes 750


class PassesOn:
    """Middleware that does nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)


class Waiting(WSGIHandler):
    """Serves no request: it waits until its greenlet is switched to."""

    def _get_response(self, request: HttpRequest) -> HttpResponse:
        answer: HttpResponse = getcurrent().parent.switch()  # type: ignore[union-attr]
        return answer


def stack_of(handler: WSGIHandler) -> int:
    """Return the bytes of C stack that a request keeps while it waits."""
    waiting = greenlet(handler.get_response)
    waiting.switch(HttpRequest())
    size: int = waiting._stack_saved
    assert waiting.switch(HttpResponse("served")).content == b"served"
    return size


def test_middleware_takes_no_c_stack(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(base, "convert_exception_to_response", base.convert_exception_to_response)  # restores it
    use_bound_methods()
    sizes = []
    for number in (1, 21):
        settings.MIDDLEWARE = [f"{__name__}.PassesOn"] * number
        sizes.append(stack_of(Waiting()))

    assert sizes[1] - sizes[0] < 20 * FEW_BYTES
