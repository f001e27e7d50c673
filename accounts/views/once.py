"""What lets a view answer an Idempotency-Key: the request is executed once, and its answer is given again."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.idempotency import REPLAYED, Execution, KeptAnswer, begin, fingerprint, valid_key
from lucid_gateway.api.negotiation import LineRenderer
from lucid_gateway.kernel.record import caller_of, record_of
from lucid_gateway.policy.reasons import Step

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x2b\x2d-\x7e]+$"},
    OpenApiParameter.HEADER,
    description=(
        "Makes the request safe to repeat: it is executed once, and for 24 hours a repetition with the same key gets "
        "the first answer, with `Idempotent-Replayed: true`. Bodies up to 1 MiB."
    ),
)
JSON = "application/json"
OF_THE_BODY = frozenset({"content-type", "content-length"})
Post = Callable[..., Any]


def answered_once(*, hidden: str = "") -> Callable[[Post], Post]:
    """Return the decorator of a `post` that takes the key of what it makes, or None, as `resource_id`.

    The field `hidden` of the answer is not kept: it is null when the answer is given again.
    """

    def decorate(post: Post) -> Post:
        @wraps(post)
        def answer(view: Any, request: Request) -> HttpResponseBase:
            key = request._request.META.get("HTTP_IDEMPOTENCY_KEY")
            if key is None:
                response: HttpResponseBase = post(view, request)
                return response
            found = found_or_begun(request._request, valid_key(key))
            return replayed(found) if isinstance(found, KeptAnswer) else carried_out(view, request, found)

        def carried_out(view: Any, request: Request, attempt: Execution) -> HttpResponse:
            try:
                response: HttpResponse = post(view, request, resource_id=attempt.resource_id)
            except Exception as error:  # noqa: BLE001  # as DRF does, which knows the answer to each
                response = view.handle_exception(error)
            attempt.finish(kept(response, hidden))
            return response

        described: Post = extend_schema(parameters=[IDEMPOTENCY_KEY])(answer)
        return described

    return decorate


def found_or_begun(request: HttpRequest, key: str) -> Execution | KeptAnswer:
    """Return what `begin` does for the request."""
    caller, same = caller_of(request), fingerprint(request, request.get_full_path(), request.body)
    found = begin(bucket=caller.bucket, user_id=caller.user_id, key=key, same=same)
    record_of(request).passed(Step.IDEMPOTENCY)
    return found


def kept(response: HttpResponse, hidden: str) -> KeptAnswer:
    """Return what is kept of a response."""
    if isinstance(response, Response):  # it is not rendered yet
        body = LineRenderer().render(response.data | {hidden: None} if hidden else response.data)
    else:
        body = response.content
    headers = {name: value for name, value in response.items() if name.lower() not in OF_THE_BODY}
    return KeptAnswer(response.status_code, headers, body.decode())


def replayed(answer: KeptAnswer) -> HttpResponse:
    """Return the first answer, marked as such."""
    headers = {**answer.headers, REPLAYED: "true"}
    return HttpResponse(answer.body, content_type=JSON, status=answer.status, headers=headers)
