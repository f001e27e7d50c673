"""The decorator for views that accept an Idempotency-Key: repeated requests get the stored first answer."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.idempotency import REPLAYED, Execution, KeptAnswer, begin, fingerprint_of, valid_key
from lucid_gateway.api.negotiation import LineRenderer
from lucid_gateway.kernel.record import caller_of, record_of
from lucid_gateway.policy.reasons import Step

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x2b\x2d-\x7e]+$"},
    OpenApiParameter.HEADER,
    description=(
        "Makes the request safe to repeat: it is executed once, and for 24 hours a repetition with the same key gets "
        "the first answer, with `Idempotent-Replayed: true`. The body can have up to 1 MiB."
    ),
)
JSON = "application/json"
BODY_HEADERS = frozenset({"content-type", "content-length"})
Post = Callable[..., Any]


def idempotent(*, hidden: str = "") -> Callable[[Post], Post]:
    """Return a decorator for a `post` method that takes the primary key of the new resource, or None, as `resource_id`.

    The field `hidden` of the answer is not stored: it is null when the answer is replayed.
    """

    def decorate(post: Post) -> Post:
        @wraps(post)
        def run_or_replay(view: Any, request: Request) -> HttpResponseBase:
            key = request._request.META.get("HTTP_IDEMPOTENCY_KEY")
            if key is None:
                response: HttpResponseBase = post(view, request)
                return response
            found = begin_or_find(request._request, valid_key(key))
            return replayed(found) if isinstance(found, KeptAnswer) else run(view, request, found)

        def run(view: Any, request: Request, attempt: Execution) -> HttpResponse:
            try:
                response: HttpResponse = post(view, request, resource_id=attempt.resource_id)
            except Exception as error:  # noqa: BLE001  # as DRF does, whose handler has an answer to each
                response = view.handle_exception(error)
            attempt.finish(to_store(response, hidden))
            return response

        described: Post = extend_schema(parameters=[IDEMPOTENCY_KEY])(run_or_replay)
        return described

    return decorate


def begin_or_find(request: HttpRequest, key: str) -> Execution | KeptAnswer:
    """Call `begin` for the request; return and raise as it does."""
    caller = caller_of(request)
    fingerprint = fingerprint_of(request, request.get_full_path(), request.body)
    found = begin(bucket=caller.bucket, user_id=caller.user_id, key=key, fingerprint=fingerprint)
    record_of(request).passed(Step.IDEMPOTENCY)
    return found


def to_store(response: HttpResponse, hidden: str) -> KeptAnswer:
    """Return the answer to store: without headers that describe the body, and with the field `hidden` as null."""
    if isinstance(response, Response):  # not rendered yet
        body = LineRenderer().render(response.data | {hidden: None} if hidden else response.data)
    else:
        body = response.content
    headers = {name: value for name, value in response.items() if name.lower() not in BODY_HEADERS}
    return KeptAnswer(response.status_code, headers, body.decode())


def replayed(answer: KeptAnswer) -> HttpResponse:
    """Return the stored answer, marked as a replay."""
    headers = {**answer.headers, REPLAYED: "true"}
    return HttpResponse(answer.body, content_type=JSON, status=answer.status, headers=headers)
