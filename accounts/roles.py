"""Roles and what they may do (the contract, section 6)."""

from collections.abc import Mapping

from django.db import models


class Role(models.TextChoices):
    """The four roles; each may do all that the ones before it may."""

    USER = "user", "User"
    NODE_OPERATOR = "node_operator", "Node operator"
    ADMIN = "admin", "Admin"
    SUPER_ADMIN = "super_admin", "Super admin"


USER = frozenset(
    {
        "user:read", "user:update",
        "session:create", "session:read", "session:update", "session:delete",
        "blockchain:read",
        "wallet:read", "wallet:write",
        "rdp:read", "rdp:write",
        "node:read",
        "storage:read", "storage:write",
    }
)  # fmt: skip
NODE_OPERATOR = USER | {"blockchain:write", "node:write", "system:monitor"}
ADMIN = NODE_OPERATOR | {"user:delete", "admin:read", "admin:write"}
SUPER_ADMIN = ADMIN | {"admin:delete", "system:manage"}

PERMISSIONS: Mapping[Role, frozenset[str]] = {
    Role.USER: USER,
    Role.NODE_OPERATOR: NODE_OPERATOR,
    Role.ADMIN: ADMIN,
    Role.SUPER_ADMIN: SUPER_ADMIN,
}
STAFF = frozenset({Role.ADMIN, Role.SUPER_ADMIN})
