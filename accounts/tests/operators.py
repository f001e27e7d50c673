"""Helpers for the tests of the operator pages: a signed-in browser, and steps that operators take in it."""

import time
from typing import Any

from django.test import Client

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.operators.identity import PROVED_AT


def browser(**extra: Any) -> Client:
    """Return a browser without a session."""
    return Client(HTTP_HOST="testserver", **extra)


def signed_in(user: User, **extra: Any) -> Client:
    """Return a browser with a session of the user."""
    client = browser(**extra)
    client.force_login(user)
    prove(client)
    return client


def prove(client: Client, *, seconds_ago: float = 0) -> None:
    """Make the browser's session one whose operator entered the password that long ago."""
    session = client.session
    session[PROVED_AT] = int(time.time() - seconds_ago)
    session.save()


def user_page(user: User) -> str:
    """Return the path of the user's page."""
    return f"/admin/accounts/user/{user.pk}/change/"


def choose(client: Client, action: str, *rows: Any, model: str = "user", query: str = "", **form: Any) -> Any:
    """Choose an action for rows; return the page that asks for confirmation."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]} | form
    return client.post(f"/admin/accounts/{model}/{query}", data, follow=True)


def act(client: Client, action: str, *rows: Any, **options: Any) -> list[str]:
    """Choose an action for rows and confirm it; return the messages on the page that follows."""
    return messages_of(choose(client, action, *rows, **({"_confirmed": "yes", "reason": "why"} | options)))


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def actors_of(kind: str) -> list[tuple[str, str]]:
    """Return (actor, subject) of the events of the type, the newest first."""
    return list(AuditEvent.objects.filter(type=kind).values_list("actor", "subject"))


def me(api: ApiClient, tokens: TokenPair) -> str:
    """Return `in`, or the code of the refusal."""
    response = api.send("get", "/users/me", token=tokens.access)
    return "in" if response.status_code == 200 else error_code(response)
