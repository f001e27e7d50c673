"""The roles and their permissions (contract, section 6)."""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """The four roles, from the fewest permissions to the most; each role includes the permissions of the one before."""

    USER = "user"
    NODE_OPERATOR = "node_operator"
    ADMIN = "admin"
    SUPER_ADMIN = "super_admin"

    @property
    def label(self) -> str:
        """The name on pages, such as "Node operator"."""
        return self.value.replace("_", " ").capitalize()


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
# What staff may do while they have no second factor but need one.
WITHOUT_SECOND_FACTOR = NODE_OPERATOR
STAFF = frozenset({Role.ADMIN, Role.SUPER_ADMIN})
