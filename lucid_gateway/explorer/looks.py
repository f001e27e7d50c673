"""Buttons that only lead somewhere: to the rows and the lists that a request is about."""

import re
from collections.abc import Callable

from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.naming import KEY_PAGE, USER_PAGE
from lucid_gateway.operators.buttons import Button, link_button
from lucid_gateway.operators.links import page
from lucid_gateway.operators.search import HYPHENATED
from lucid_gateway.server.request_metrics import METHODS

SESSION = re.compile(f"/api/v1/sessions/({HYPHENATED.pattern})(?:/|$)")
Look = Callable[[Case], Button | None]


def leads_to(label: str, name: str) -> Look:
    """Return a button for a page by its URL name."""
    return lambda _: link_button(label, page(name))


clusters = leads_to("Look at the clusters", "proxy_maintenance_changelist")
lockouts = leads_to("Look at the lockouts", "accounts_automaticlockout_changelist")
signing_keys = leads_to("Look at the signing keys", "accounts_signingkey_changelist")
routes = leads_to("Look at the routes", "routes")
health = leads_to("Look at the health of the gateway", "index")


def open_user(case: Case) -> Button | None:
    return link_button("Open the user", page(USER_PAGE, case.user_id)) if case.user_row else None


def open_key(case: Case) -> Button | None:
    return link_button("Open the API key", page(KEY_PAGE, case.key_row.pk)) if case.key_row else None


def open_session(case: Case) -> Button | None:
    """Lead to the recorded session in the path, with its refused uploads."""
    found = SESSION.match(case.row.path)
    return link_button("Open the session", page("sessions_api_session_change", found[1])) if found else None


def requests_of_caller(case: Case) -> Button | None:
    """Lead to the requests of the API key, the user or the address."""
    if case.is_key and case.row.credential_id:
        return link_button("Other requests of this key", page("requests", key=case.row.credential_id))
    if case.user_id:
        return link_button("Other requests of this user", page("requests", user=case.user_id))
    return requests_of_address(case)


def requests_of_address(case: Case) -> Button | None:
    if not case.row.address_key:
        return None
    return link_button("Other requests of this address", page("requests", address=case.row.address))


def requests_of_network(case: Case) -> Button | None:
    if not case.row.network:
        return None
    return link_button("Requests of this network", page("requests", network=case.row.network))


def requests_of_instance(case: Case) -> Button | None:
    """Lead to the failures of the instance, or of the cluster before an instance was asked."""
    if case.row.instance:
        query = {"instance": case.row.instance, "status": "5xx"}
        return link_button("Other failures of this instance", page("requests", **query))
    if case.row.cluster:
        query = {"cluster": case.row.cluster, "status": "5xx"}
        return link_button("Other failures of this cluster", page("requests", **query))
    return None


def requests_like_this(case: Case) -> Button | None:
    return link_button("Others like this", page("requests", reason=case.row.reason)) if case.row.reason else None


def requests_of_route(case: Case) -> Button | None:
    if not case.row.route:
        return None
    query = {"route": case.row.route, "status": f"{case.row.status_class}xx"}
    return link_button("Others of this route", page("requests", **query))


def tokens_of_user(case: Case) -> Button | None:
    """Lead to the token, or to the tokens of the user."""
    query = {"q": case.row.credential_id} if case.row.credential_id else {"user__user_id__exact": case.user_id}
    found = any(query.values())
    return link_button("Look at the tokens", page("accounts_issuedtoken_changelist", **query)) if found else None


def audit_of_request(case: Case) -> Button | None:
    """Lead to the events that the request caused."""
    query = {"q": case.row.request_id}
    return link_button("Audit events", page("audit_auditevent_changelist", **query))


def audit_of_user(case: Case) -> Button | None:
    """Lead to the events that concern the user."""
    if not case.user_id:
        return None
    return link_button("Audit events of this user", page("audit_auditevent_changelist", q=case.user_id))


def preview_of(case: Case) -> Button | None:
    """Lead to the page that says what would happen to the same request now."""
    if case.row.method not in METHODS or not case.row.path.startswith("/"):
        return None
    who = {"key": case.row.credential_id} if case.is_key else {"user": case.user_id}
    query = {**who, "address": case.row.address, "method": case.row.method, "path": case.row.path}
    return link_button("What would happen now?", page("preview", **query))
