"""Turns exceptions of every layer of Django and DRF into answers."""

import logging
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from django.core import exceptions as django
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from rest_framework import exceptions as drf

from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.envelope import error_body
from lucid_gateway.kernel.operator_pages import error_page, shows_errors_as_pages
from lucid_gateway.kernel.record import RequestRecord, record_of
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy import errors

logger = logging.getLogger(__name__)

# DRF's code for a problem with a field -> the error for a request with only that kind of problem.
SINGLE_REASONS: Mapping[str, type[errors.InvalidRequest]] = {
    "required": errors.FieldMissing,
    "null": errors.FieldMissing,
    "blank": errors.FieldMissing,
    "invalid": errors.WrongFormat,
    "invalid_choice": errors.WrongFormat,
    "not_a_list": errors.WrongFormat,
    "not_a_dict": errors.WrongFormat,
    "null_characters_not_allowed": errors.WrongFormat,
    "min_value": errors.OutOfRange,
    "max_value": errors.OutOfRange,
    "min_length": errors.OutOfRange,
    "max_length": errors.OutOfRange,
    "max_string_length": errors.OutOfRange,
    "invalid_uuid": errors.NotAUUID,
    "invalid_email": errors.NotAnEmail,
    "weak_password": errors.WeakPassword,
    "invalid_date": errors.InvalidDate,
}


def error_response(request: HttpRequest | None, error: errors.GatewayError) -> HttpResponse:
    """Return the complete answer for the error: status, envelope, and the headers that the status requires.

    Operators get a page in place of the envelope.
    """
    record = record_of(request) if request is not None else None
    request_id = record.request_id if record else ""
    if request is not None and shows_errors_as_pages(request):
        body, content_type = error_page(request, error, request_id), "text/html; charset=utf-8"
    else:
        body, content_type = error_body(error, request_id, **links_for_staff(record)), "application/json"
    response = HttpResponse(body, status=error.status, content_type=content_type)
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    for name, value in error.headers.items():
        response[name] = value
    response["Cache-Control"] = "no-store"
    response["Content-Length"] = str(len(body))
    if record is not None:
        record.refused(error)
        if error.status == 413 and request is not None:
            record.note(content_length=str(request.META.get("CONTENT_LENGTH") or "")[:20])
    return response


def links_for_staff(record: RequestRecord | None) -> dict[str, str]:
    """Return, for callers who may read it, the detail that links to the page on which the console explains the request.

    Only a caller whose credential was admitted counts as staff.
    """
    caller = record.caller if record is not None else None
    if record is None or caller is None or "admin:read" not in caller.permissions:
        return {}
    env = environment()
    return {"console": f"{env.PUBLIC_BASE_URL}/admin/requests/{record.request_id}/"} if env.EXPLORER_KEEP_HOURS else {}


def drf_exception_handler(exc: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Answer an exception of a DRF view (DRF's setting EXCEPTION_HANDLER)."""
    request: HttpRequest = context["request"]._request
    response = error_response(request, translate(exc))
    if isinstance(exc, drf.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def translate(exc: Exception) -> errors.GatewayError:
    """Return the gateway's error for any exception; log unexpected ones and those of the database."""
    match exc:
        case errors.GatewayError():
            return exc
        case drf.APIException():
            return translate_drf(exc)
        case Http404():
            return errors.NotFound()
        case django.PermissionDenied():
            return errors.InsufficientPermissions()
        case django.RequestDataTooBig():
            return errors.RequestTooLarge()
        case django.SuspiciousOperation() | django.BadRequest() | UnreadablePostError():
            return errors.BadRequest()
        case DatabaseError() | InterfaceError():
            logger.error("database unavailable", exc_info=exc)
            return errors.DatabaseUnavailable()
        case RedisUnavailable():
            return errors.ServiceUnavailable()
    logger.error("unhandled exception", exc_info=exc)
    return errors.InternalError()


def translate_drf(exc: drf.APIException) -> errors.GatewayError:
    match exc:
        case drf.ValidationError():
            return invalid_fields(list(field_problems(exc.detail)))
        case drf.ParseError():
            return errors.MalformedJSON(str(exc.detail))
        case drf.NotAuthenticated():
            return errors.Unauthenticated()
        case drf.AuthenticationFailed():
            return errors.TokenInvalid()
        case drf.PermissionDenied():
            return errors.InsufficientPermissions()
        case drf.NotFound():
            return errors.NotFound()
        case drf.MethodNotAllowed():
            return errors.OperationNotAllowed(str(exc.detail))
        case drf.NotAcceptable():
            return errors.NotAcceptable()
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMediaType(str(exc.detail))
        case drf.Throttled():
            return errors.RateLimited(retry_after=math.ceil(getattr(exc, "wait", None) or 1))
    return errors.InternalError()


def field_problems(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """Yield {field, message, code} for each problem in DRF's nested detail; dots join the names of nested fields."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            at = "" if name == "non_field_errors" else str(name)
            yield from field_problems(inner, ".".join(part for part in (field, at) if part))
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            at = f"{field}.{index}" if isinstance(inner, Mapping) else field
            yield from field_problems(inner, at)
    else:
        yield {"field": field, "message": str(detail), "code": getattr(detail, "code", "invalid")}


def invalid_fields(problems: list[dict[str, str]]) -> errors.InvalidRequest:
    """Return the specific error if all problems have the same code, otherwise LUCID_ERR_1001, with the problems."""
    reasons = {problem["code"] for problem in problems}
    single = SINGLE_REASONS.get(reasons.pop()) if len(reasons) == 1 else None
    return (single or errors.InvalidRequest)(details={"validation_errors": problems})


# Django's own error views (handler400 ... in urls.py, CSRF_FAILURE_VIEW).


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer a request that Django refused, such as for a wrong Host or too many fields."""
    return error_response(request, errors.BadRequest())


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer a request without the permission."""
    return error_response(request, errors.InsufficientPermissions())


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without a valid CSRF token; `reason` is Django's text about it."""
    return error_response(request, errors.InsufficientPermissions(reason or None, reason="csrf_failed"))


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_response(request, errors.NotFound(reason="unknown_path"))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an unhandled exception of a view or a middleware; Django calls this while it handles the exception.

    An outage is no fault of the gateway. Django has logged any other exception.
    """
    exc = sys.exception()
    known = isinstance(exc, errors.GatewayError | DatabaseError | InterfaceError | RedisUnavailable)
    error = translate(exc) if known and isinstance(exc, Exception) else errors.InternalError()
    return error_response(request, error)
