"""What an operator can do about a request: buttons that lead to the confirmation or to the form of what changes it."""

from collections.abc import Callable

from accounts.api_keys import state_of
from accounts.models import User
from accounts.users.staff import may_manage
from lucid_gateway.explorer.cases import Case
from lucid_gateway.operators.buttons import Button, action_button, link_button
from lucid_gateway.operators.links import block_page, page
from lucid_gateway.policy.roles import Role
from lucid_gateway.policy.tiers import TIERS
from proxy.clusters import configured, find_instance
from ratelimit.models import ALL_TIERS

# A button, whom to ask in its place as a sentence, or None if it does not apply to the request.
Remedy = Callable[[Case], Button | str | None]


def allowed(case: Case, button: Button, user: User) -> Button | str:
    """Return the button if the operator may act on the user, otherwise whom to ask."""
    if case.by is not None and may_manage(case.by.role, case.by.pk, user):
        return button
    return for_super_admins(button)


def for_super_admins(button: Button) -> str:
    """Return whom to ask for what the button does."""
    return f"Only a super admin may {button.label[0].lower()}{button.label[1:].removesuffix('…')}: ask one."


# Users.


def action_on_user(label: str, action: str, applies: Callable[[User], bool], *, danger: bool = False) -> Remedy:
    """Return a remedy that runs an action of the list of users. Operators cannot use it on themselves."""

    def remedy(case: Case) -> Button | str | None:
        user = case.user_row
        if user is None or user.deleted_at is not None or is_own(case, user) or not applies(user):
            return None
        return allowed(case, action_button(label, action, user.pk, "accounts_user", danger=danger), user)

    return remedy


def is_own(case: Case, user: User) -> bool:
    return case.by is not None and str(case.by.pk) == str(user.pk)


unlock_user = action_on_user("Unlock the account…", "unlock", lambda user: user.is_locked)
lock_user = action_on_user("Lock the account…", "lock", lambda user: not user.is_locked, danger=True)
end_sessions = action_on_user("End the sessions of the user…", "end_sessions", lambda _: True)
reset_factors = action_on_user(
    "Reset the second factors…", "reset_factors", lambda user: user.totp_enabled or user.hardware_wallet_enabled
)


def change_role(case: Case) -> Button | str | None:
    """Change the role of a user; nobody changes that of an API key."""
    user = case.user_row
    if case.is_key or user is None or user.deleted_at is not None or is_own(case, user):
        return None
    button = action_button("Change the role…", "change_role", user.pk, "accounts_user")
    return button if case.by is not None and case.by.role == Role.SUPER_ADMIN else for_super_admins(button)


def lift_user_lockouts(case: Case) -> Button | str | None:
    """Lift the lockouts of the user that still hold, or may hold while Redis is down."""
    user = case.user_row
    if user is None or user.deleted_at is not None or not case.user_may_be_locked_out:
        return None
    return allowed(
        case, action_button("Lift the lockouts of the user…", "lift_lockouts", user.pk, "accounts_user"), user
    )


def lift_address_lockout(case: Case) -> Button | None:
    subject = case.address_lockout
    if subject is None:
        return None
    url = page("accounts_automaticlockout_changelist")
    return Button(f"Lift the lockout of {subject.name}", url, fields={"subject": subject.text})


# API keys.


def action_on_key(label: str, action: str, states: frozenset[str], *, danger: bool = False) -> Remedy:
    """Return a remedy that runs an action of the list of API keys on a key in one of the states."""

    def remedy(case: Case) -> Button | str | None:
        key, owner = case.key_row, case.user_row
        if key is None or owner is None or state_of(key) not in states:
            return None
        return allowed(case, action_button(label, action, key.pk, "accounts_apikey", danger=danger), owner)

    return remedy


confirm_key = action_on_key("Confirm the key…", "confirm", frozenset({"suspended"}))
revoke_key = action_on_key("Revoke the key…", "revoke", frozenset({"live", "suspended"}), danger=True)


# Limits.


def lift_limit_rule(case: Case) -> Button | None:
    rule = case.limit_rule
    return action_button("Lift the rule…", "lift", rule.pk, "ratelimit_limitrule") if rule else None


def raise_limit(case: Case) -> Button | None:
    """Lead to the rule that set the limit, or to a new one: for the caller, or for everyone if addresses count."""
    if case.limit_rule is not None:
        return link_button("Change the rule…", page("ratelimit_limitrule_change", case.limit_rule.pk))
    tier = str(case.row.limits.get("tier", ""))
    if tier not in TIERS:
        return None
    add, whom = "ratelimit_limitrule_add", "key" if case.is_key else "user"
    if case.subject and not case.is_counted_by_address:
        return link_button(f"Raise the limit of this {whom}…", page(add, tier=tier, subject=case.subject))
    return link_button("Raise the limit for everyone…", page(add, tier=tier))


def raise_totals(case: Case) -> Button | None:
    """Lead to the rule for quota and concurrency, or to a new one for the caller."""
    if case.limit_rule is not None:
        return link_button("Change the rule…", page("ratelimit_limitrule_change", case.limit_rule.pk))
    whom = "key" if case.is_key else "user"
    query = {"tier": ALL_TIERS, "subject": case.subject}
    return link_button(f"Raise the limit of this {whom}…", page("ratelimit_limitrule_add", **query))


# Addresses.


def lift_address_rule(case: Case) -> Button | None:
    rule = case.address_rule
    if rule is None:
        return None
    return action_button(f"Lift the rule for {case.shown_network}…", "lift", rule.pk, "ratelimit_addressrule")


def change_address_rule(case: Case) -> Button | None:
    rule = case.address_rule
    return link_button("Change the rule…", page("ratelimit_addressrule_change", rule.pk)) if rule else None


def exempt_address(case: Case) -> Button | None:
    """Lead to a rule that frees an address that is known to be good from limits by address."""
    if not case.row.address_key or not case.is_counted_by_address:
        return None
    rule = {"network": case.row.address, "kind": "allow"}
    return link_button("Exempt this address…", page("ratelimit_addressrule_add", **rule))


def block_address(case: Case) -> Button | None:
    address = case.row.address if case.row.address_key else ""
    return link_button("Block this address…", block_page(address), danger=True)


# Clusters.


def put_back(case: Case) -> Button | None:
    """End the maintenance that keeps the cluster or the instance out of service."""
    row = case.maintenance
    if row is None:
        return None
    what = row.instance or row.cluster
    return action_button(f"Put {what} back into service…", "end", row.pk, "proxy_maintenance")


def take_out_of_service(case: Case) -> Button | None:
    """Lead to the page that asks how long an instance of this gateway is taken out of service, if it is in service."""
    cluster = configured().get(case.row.cluster)
    if cluster is None or find_instance(cluster, case.row.instance) is None or case.maintenance is not None:
        return None
    target = f"{case.row.cluster} {case.row.instance}"
    return link_button("Take this instance out of service…", page("clusters_close", target=target), danger=True)
