"""Which paths are operator pages, and the page that shows an operator an error in place of the JSON envelope."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from lucid_gateway.policy.errors import GatewayError

logger = logging.getLogger(__name__)
PREFIX = "/admin"
TEMPLATE = "admin/error.html"


class Text(NamedTuple):
    """What an error page says: a title, what happened, and what to do next."""

    title: str
    happened: str
    next: str


AGAIN = "Try again in a few seconds. If it happens again, look at the health of the gateway."
TEXTS: Mapping[int, Text] = {
    400: Text("Bad request", "The gateway could not read this request.", "Go back, reload the page and try again."),
    403: Text(
        "Not allowed", "Your role does not allow this.", "Ask a super admin, or sign in with another account."
    ),
    404: Text(
        "Not found", "There is no page at this address, or its subject no longer exists.",
        "Check the address, or start from the overview.",
    ),
    405: Text("Not possible here", "This address does not take this kind of request.", "Start from the overview."),
    413: Text("Too large", "What you sent is larger than this page accepts.", "Send less at a time."),
    429: Text(
        "Too many requests", "You or your address have used up the limit of the operator pages.",
        "Wait, then reload the page.",
    ),
    500: Text(
        "Internal error", "The gateway has a fault. The log describes it under the request id below.",
        "Try again. If it happens again, report the request id.",
    ),
    503: Text("Service unavailable", "A service that this page needs does not answer.", AGAIN),
}  # fmt: skip
CSRF = Text(
    "Form expired", "The form was open for too long, was sent twice, or came from another page. Nothing was changed.",
    "Go back, reload the page and send the form again.",
)  # fmt: skip
DATABASE = Text("Database unavailable", "The database does not answer.", AGAIN)
NOT_READY = Text(
    "Gateway not ready",
    "This gateway has started, but it has not been able to read its rules and keys from the database yet. Until it "
    "has, it refuses every request. Check that the database is up.",
    AGAIN,
)


def is_admin(request: HttpRequest) -> bool:
    return is_below(request.path_info)


def is_below(path: str) -> bool:
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def shows_errors_as_pages(request: HttpRequest) -> bool:
    return is_page(request.path_info)


def is_page(path: str) -> bool:
    """Return whether a person reads the answer: paths of the console that end in `.json` are read by its scripts."""
    return is_below(path) and not path.endswith(".json")


def error_page(request: HttpRequest, error: GatewayError, request_id: str) -> bytes:
    """Return the error as an HTML page: with the menu for signed-in staff, otherwise without.

    Without the menu it needs neither the database nor Redis; so this is also the answer if the menu cannot be made.
    """
    text = text_of(error)
    context = {"title": text.title, "text": text, "error": error, "request_id": request_id, "moment": timezone.now()}
    try:
        if frame := frame_of(request, error):
            return render_to_string(TEMPLATE, frame | context, request).encode()
    except Exception:  # whatever has failed, an operator gets the page
        logger.warning("an error page has no menu", exc_info=True)
    return render_to_string(TEMPLATE, context).encode()


def frame_of(request: HttpRequest, error: GatewayError) -> dict[str, Any]:
    """Return the context of the frame for signed-in staff; for others, and where queries cannot help, an empty one."""
    costs_too_much = error.status == 429 or error.reason == "database_unavailable"
    user = None if costs_too_much else getattr(request, "user", None)
    if not getattr(user, "is_staff", False):
        return {}
    return admin.site.each_context(request)


def text_of(error: GatewayError) -> Text:
    """Return the texts for the error."""
    by_reason = {"csrf_failed": CSRF, "database_unavailable": DATABASE, "gateway_not_ready": NOT_READY}
    found = by_reason.get(error.reason) or TEXTS.get(error.status) or TEXTS[500 if error.status >= 500 else 400]
    if error.retry_after is not None:
        return found._replace(next=f"Try again in {error.retry_after} seconds.")
    return found
