"""The buttons of a user's page. Each sends an action of a list, which asks and then returns to the page."""

from collections.abc import Iterator, Sized

from accounts.admin.users import UserAdmin
from accounts.models import User
from lucid_gateway.console.user.status import Status
from lucid_gateway.operators.buttons import Button, action_button
from lucid_gateway.policy.roles import STAFF


def buttons_of(status: Status, devices: Sized | None, operator: User, *, governs: bool) -> list[Button]:
    """Return the buttons that change something; `devices` is None if they are unknown, `governs` for super admins."""
    user = status.user
    return [
        action_button(LABELS[action], action, user.pk, "accounts_user", danger=action in UserAdmin.harmful_actions)
        for action in useful_actions(status, devices, operator, governs=governs)
    ]


LABELS = {
    "send_login_link": "Send login link…",
    "end_sessions": "End sessions…",
    "reset_factors": "Reset factors…",
    "change_role": "Change role…",
    "lift_lockouts": "Lift lockouts…",
    "unlock": "Unlock…",
    "lock": "Lock…",
}


def useful_actions(status: Status, devices: Sized | None, operator: User, *, governs: bool) -> Iterator[str]:
    """Yield the names of the actions, in the order of their buttons."""
    user, is_own = status.user, status.user.pk == operator.pk
    if status.lockouts is None or status.lockouts:
        yield "lift_lockouts"
    if is_own:
        return
    if user.is_active and not user.is_locked:
        yield "send_login_link"
    if devices is None or devices or user.role in STAFF:
        yield "end_sessions"
    if user.totp_enabled or user.hardware_wallet_enabled:
        yield "reset_factors"
    if governs:
        yield "change_role"
    yield "unlock" if user.is_locked else "lock"
