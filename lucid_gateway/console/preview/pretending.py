"""The request and the view of a preview, as the views of real requests get them."""

import io
from typing import Any

from django.http import HttpRequest
from django.urls import ResolverMatch
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from lucid_gateway.console.preview.question import Question
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import KEY, RequestRecord, record_of
from ratelimit.throttling import TierThrottle


def request_for(question: Question, path: str, record: RequestRecord) -> HttpRequest:
    """Return the request as a view would get it, without a body."""
    request = HttpRequest()
    request.method, request.path, request.path_info = question.method, path, path
    request.META = {
        KEY: record, "REQUEST_METHOD": question.method, "PATH_INFO": path, "REMOTE_ADDR": question.address,
        "SERVER_NAME": "preview", "SERVER_PORT": "80", "wsgi.input": io.BytesIO(),
    }  # fmt: skip
    return request


def view_of(match: ResolverMatch, request: HttpRequest) -> Any:
    """Return DRF's view for the match, set up for the request; None for another view, which is a page for people."""
    view_class = getattr(match.func, "cls", None)
    if view_class is None:
        return None
    view = view_class(**getattr(match.func, "initkwargs", {}))
    view.setup(request, *match.args, **match.kwargs)
    return view


def throttles_of(view: APIView) -> list[type[TierThrottle]]:
    """Return the throttles of the view; the first one counts the requests of its callers."""
    return list(view.throttle_classes)  # type: ignore[arg-type]  # all throttles are ours


def pretended(caller: Caller | None) -> type[BaseAuthentication]:
    """Return an authentication class that finds the caller, or nobody."""

    class Pretended(BaseAuthentication):
        def authenticate(self, request: Request) -> tuple[Caller, None] | None:
            record_of(request._request).caller = caller
            return None if caller is None else (caller, None)

        def authenticate_header(self, request: Request) -> str:
            return "Bearer"

    return Pretended
