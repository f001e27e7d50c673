"""What an operator can do about a request: buttons that lead to the page that acts."""

from collections.abc import Callable
from dataclasses import dataclass

from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.naming import KEY_PAGE, USER_PAGE
from lucid_gateway.operators.links import page
from lucid_gateway.policy.tiers import TIERS
from lucid_gateway.server.request_metrics import METHODS
from ratelimit.models import ALL_TIERS


@dataclass(frozen=True)
class Button:
    """A link as a button; `danger` is for what does harm and asks first."""

    label: str
    address: str
    danger: bool = False


# Returns None if it does not apply to the request.
Remedy = Callable[[Case], Button | None]


def button(label: str, address: str, *, danger: bool = False) -> Button | None:
    return Button(label, address, danger) if address else None


def user_page(label: str) -> Remedy:
    """Return a remedy that leads to the page of the user."""
    return lambda case: button(label, page(USER_PAGE, case.user_id)) if case.user_row else None


def key_page(label: str, *, danger: bool = False) -> Remedy:
    """Return a remedy that leads to the API key."""

    def remedy(case: Case) -> Button | None:
        return button(label, page(KEY_PAGE, case.key_row.pk), danger=danger) if case.key_row else None

    return remedy


def leads_to(label: str, name: str) -> Remedy:
    """Return a remedy that leads to a page by its URL name."""
    return lambda _: button(label, page(name))


unlock_user = user_page("Unlock the account…")
open_user = user_page("Open the user")
change_role = user_page("Change the role…")
open_key = key_page("Open the API key")
confirm_key = key_page("Confirm the key…")
clusters = leads_to("Look at the clusters", "proxy_maintenance_changelist")
end_maintenance = leads_to("Put it back into service…", "proxy_maintenance_changelist")
lockouts = leads_to("Look at the lockouts", "accounts_automaticlockout_changelist")
signing_keys = leads_to("Look at the signing keys", "accounts_signingkey_changelist")
routes = leads_to("Look at the routes", "routes")
health = leads_to("Look at the health of the gateway", "index")


def revoke_key(case: Case) -> Button | None:
    if case.key_row is None or case.key_row.revoked_at is not None:
        return None
    return button("Revoke the key…", page(KEY_PAGE, case.key_row.pk), danger=True)


def raise_limit(case: Case) -> Button | None:
    """Lead to the rule that set the limit, or to a new one: for the caller, or for everyone if addresses count."""
    if case.limit_rule is not None:
        return button("Change the rule…", page("ratelimit_limitrule_change", case.limit_rule.pk))
    tier = str(case.row.limits.get("tier", ""))
    if tier not in TIERS:
        return None
    add, whom = "ratelimit_limitrule_add", "key" if case.is_key else "user"
    if case.subject and not case.is_counted_by_address:
        return button(f"Raise the limit of this {whom}…", page(add, tier=tier, subject=case.subject))
    return button("Raise the limit for everyone…", page(add, tier=tier))


def raise_totals(case: Case) -> Button | None:
    """Lead to the rule for quota and concurrency, or to a new one for the caller."""
    if case.limit_rule is not None:
        return button("Change the rule…", page("ratelimit_limitrule_change", case.limit_rule.pk))
    whom = "key" if case.is_key else "user"
    query = {"tier": ALL_TIERS, "subject": case.subject}
    return button(f"Raise the limit of this {whom}…", page("ratelimit_limitrule_add", **query))


def exempt_address(case: Case) -> Button | None:
    """Lead to a rule that frees an address that is known to be good from limits by address."""
    if not case.row.address_key or not case.is_counted_by_address:
        return None
    rule = {"network": case.row.address, "kind": "allow"}
    return button("Exempt this address…", page("ratelimit_addressrule_add", **rule))


def block_address(case: Case) -> Button | None:
    if not case.row.address_key:
        return None
    rule = {"network": case.row.address, "kind": "deny"}
    return button("Block this address…", page("ratelimit_addressrule_add", **rule), danger=True)


def lift_address_rule(case: Case) -> Button | None:
    rule = case.address_rule
    return button("Change or lift the rule…", page("ratelimit_addressrule_change", rule.pk)) if rule else None


def requests_of_caller(case: Case) -> Button | None:
    """Lead to the requests of the API key, the user or the address."""
    if case.is_key and case.row.credential_id:
        return button("Other requests of this key", page("requests", key=case.row.credential_id))
    if case.user_id:
        return button("Other requests of this user", page("requests", user=case.user_id))
    return requests_of_address(case)


def requests_of_address(case: Case) -> Button | None:
    if not case.row.address_key:
        return None
    return button("Other requests of this address", page("requests", address=case.row.address))


def requests_of_network(case: Case) -> Button | None:
    if not case.row.network:
        return None
    return button("Requests of this network", page("requests", network=case.row.network))


def requests_of_instance(case: Case) -> Button | None:
    """Lead to the failures of the instance, or of the cluster before an instance was asked."""
    if case.row.instance:
        query = {"instance": case.row.instance, "status": "5xx"}
        return button("Other failures of this instance", page("requests", **query))
    if case.row.cluster:
        query = {"cluster": case.row.cluster, "status": "5xx"}
        return button("Other failures of this cluster", page("requests", **query))
    return None


def requests_like_this(case: Case) -> Button | None:
    return button("Others like this", page("requests", reason=case.row.reason)) if case.row.reason else None


def requests_of_route(case: Case) -> Button | None:
    if not case.row.route:
        return None
    query = {"route": case.row.route, "status": f"{case.row.status_class}xx"}
    return button("Others of this route", page("requests", **query))


def take_out_of_service(case: Case) -> Button | None:
    if not case.row.instance:
        return None
    target = f"{case.row.cluster} {case.row.instance}"
    add = page("proxy_maintenance_add", target=target, kind="drain")
    return button("Take this instance out of service…", add, danger=True)


def tokens_of_user(case: Case) -> Button | None:
    """Lead to the token, or to the tokens of the user."""
    query = {"q": case.row.credential_id} if case.row.credential_id else {"user__user_id__exact": case.user_id}
    found = any(query.values())
    return button("Look at the tokens", page("accounts_issuedtoken_changelist", **query)) if found else None


def audit_of_request(case: Case) -> Button | None:
    """Lead to the events that the request caused."""
    query = {"q": case.row.request_id}
    return button("Audit events", page("audit_auditevent_changelist", **query))


def audit_of_user(case: Case) -> Button | None:
    """Lead to the events that concern the user."""
    if not case.user_id:
        return None
    return button("Audit events of this user", page("audit_auditevent_changelist", q=case.user_id))


def preview_of(case: Case) -> Button | None:
    """Lead to the page that says what would happen to the same request now."""
    if case.row.method not in METHODS or not case.row.path.startswith("/"):
        return None
    who = {"key": case.row.credential_id} if case.is_key else {"user": case.user_id}
    query = {**who, "address": case.row.address, "method": case.row.method, "path": case.row.path}
    return button("What would happen now?", page("preview", **query))
