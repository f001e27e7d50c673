"""The permissions of the roles, and their effects."""

from typing import Any

import pytest
from rest_framework.request import Request

from accounts.models import User
from lucid_gateway.api.permissions import HasRoutePermission
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import InsufficientPermissions
from lucid_gateway.policy.roles import PERMISSIONS, Role

USER = {
    "user:read", "user:update", "session:create", "session:read", "session:update", "session:delete",
    "blockchain:read", "wallet:read", "wallet:write", "rdp:read", "rdp:write", "node:read", "storage:read",
    "storage:write",
}  # fmt: skip
NODE_OPERATOR = USER | {"blockchain:write", "node:write", "system:monitor"}
ADMIN = NODE_OPERATOR | {"user:delete", "admin:read", "admin:write"}
SUPER_ADMIN = ADMIN | {"admin:delete", "system:manage"}
TABLE = {"user": USER, "node_operator": NODE_OPERATOR, "admin": ADMIN, "super_admin": SUPER_ADMIN}


def test_the_table_equals_that_of_the_contract() -> None:
    assert {role.value: set(permissions) for role, permissions in PERMISSIONS.items()} == TABLE


@pytest.mark.parametrize("role", Role)
def test_a_caller_has_the_permissions_of_the_role(role: Role) -> None:
    caller = Caller("id", role, "jti", "family", 0)

    assert caller.permissions == TABLE[role.value]
    assert caller.is_staff is (role in ("admin", "super_admin"))


@pytest.mark.parametrize(
    ("role", "staff", "superuser"),
    [("user", False, False), ("node_operator", False, False), ("admin", True, False), ("super_admin", True, True)],
)
def test_the_django_admin_is_for_admins_and_above(role: str, staff: bool, superuser: bool) -> None:
    user = User(role=role)

    assert (user.is_staff, user.is_superuser, user.has_module_perms("accounts")) == (staff, superuser, staff)
    assert user.has_perm("accounts.change_user") is user.has_perm("accounts.view_user") is staff
    assert user.has_perms(["accounts.add_user", "accounts.delete_user"]) is superuser


def test_a_deactivated_super_admin_has_no_permissions() -> None:
    assert not User(role=Role.SUPER_ADMIN, is_active=False).has_perm("accounts.view_user")


class View:
    """A view that requires a permission."""

    def __init__(self, needed: str | None) -> None:
        self.needed = needed

    def permission_for(self, request: Any) -> str | None:
        return self.needed


@pytest.fixture
def asking(rf: Any) -> Request:
    """A request of a plain user."""
    request = Request(rf.get("/"))
    request.user = record_of(request._request).caller = Caller("id", Role.USER, "jti", "family", 0)
    return request


@pytest.mark.parametrize("needed", ["blockchain:read", None])
def test_a_route_admits_a_caller_with_its_permission(asking: Request, needed: str | None) -> None:
    assert HasRoutePermission().has_permission(asking, View(needed)) is True


@pytest.mark.parametrize("needed", ["blockchain:write", ""])
def test_a_route_names_the_missing_permission(asking: Request, needed: str) -> None:
    with pytest.raises(InsufficientPermissions) as refused:
        HasRoutePermission().has_permission(asking, View(needed))
    assert refused.value.details == {"permission": needed}


def test_without_a_caller_every_route_is_closed(rf: Any) -> None:
    from rest_framework.request import Request

    request = Request(rf.get("/"))
    request.user = None

    assert HasRoutePermission().has_permission(request, View(None)) is False
