"""The kinds of audit events: one row per kind. Their subject is a user, unless the row names something else."""

from dataclasses import dataclass
from enum import StrEnum


class Concerns(StrEnum):
    """The kind of thing that the subject of an event is."""

    USER = "user"
    SESSION = "session"
    MANIFEST = "manifest"
    TRUST_POLICY = "trust_policy"
    SIGNING_KEY = "signing_key"
    ADDRESS = "address"
    LIMIT = "limit"
    CLUSTER = "cluster"
    ROUTE = "route"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: its name in the log, a sentence for people, and the kind of its subject."""

    name: str
    text: str
    concerns: Concerns = Concerns.USER


ROWS = (
    Kind("user.registered", "An account was created"),
    Kind("user.updated", "An account was changed"),
    Kind("user.role_changed", "The role of a user was changed"),
    Kind("user.email_changed", "A user changed the email address"),
    Kind("user.password_changed", "A user changed the password"),
    Kind("user.password_reset", "A user set a new password through a mailed link"),
    Kind("user.locked", "Staff locked an account"),
    Kind("user.unlocked", "Staff unlocked an account"),
    Kind("user.deleted", "An account was deleted"),
    Kind("login.succeeded", "A login succeeded"),
    Kind("login.failed", "A login failed"),
    Kind("login.blocked", "A login was refused after too many failures"),
    Kind("login.mailed", "Staff mailed a login link"),
    Kind("admin.login", "A member of staff signed in to the operator pages"),
    Kind("logout", "A user signed out"),
    Kind("lockout.started", "A lockout began after too many failures"),
    Kind("lockout.lifted", "Staff lifted a lockout"),
    Kind("totp.enabled", "An authenticator app was added"),
    Kind("totp.disabled", "An authenticator app was removed"),
    Kind("totp.reset", "Staff removed an authenticator app"),
    Kind("wallet.enabled", "A hardware wallet was added"),
    Kind("wallet.removed", "A hardware wallet was removed"),
    Kind("wallet.reset", "Staff removed a hardware wallet"),
    Kind("recovery_code.used", "A recovery code was used"),
    Kind("recovery_code.renewed", "A user made new recovery codes"),
    Kind("token.issued", "A command issued tokens"),
    Kind("token.revoked", "Tokens were revoked"),
    Kind("token.reused", "A refresh token was used twice, which ended its login"),
    Kind("token.refused", "A revoked refresh token was used"),
    Kind("api_key.created", "An API key was created"),
    Kind("api_key.revoked", "An API key was revoked"),
    Kind("api_key.confirmed", "Staff confirmed an API key from a backup"),
    Kind("signing_key.created", "A signing key was created", Concerns.SIGNING_KEY),
    Kind("signing_key.active", "A signing key began to sign", Concerns.SIGNING_KEY),
    Kind("signing_key.retiring", "A signing key stopped signing and only verifies now", Concerns.SIGNING_KEY),
    Kind("signing_key.revoked", "A signing key was revoked", Concerns.SIGNING_KEY),
    Kind("address.ruled", "An operator set a rule for a network", Concerns.ADDRESS),
    Kind("address.lifted", "An operator removed the rule for a network", Concerns.ADDRESS),
    Kind("limit.set", "An operator changed limits", Concerns.LIMIT),
    Kind("limit.lifted", "An operator removed changed limits", Concerns.LIMIT),
    Kind("cluster.closed", "An operator took a cluster or an instance out of service", Concerns.CLUSTER),
    Kind("cluster.opened", "An operator put a cluster or an instance back into service", Concerns.CLUSTER),
    Kind("edge.off", "An operator took a route, or all routes, off the edge", Concerns.ROUTE),
    Kind("edge.on", "An operator put a route, or all routes, back on the edge", Concerns.ROUTE),
    Kind("session.created", "A session was created", Concerns.SESSION),
    Kind("session.completed", "A session was completed", Concerns.SESSION),
    Kind("session.failed", "A session failed", Concerns.SESSION),
    Kind("session.cancelled", "A session was cancelled", Concerns.SESSION),
    Kind("session.deleted", "A session was deleted", Concerns.SESSION),
    Kind("session.purged", "The recordings of a deleted session were removed", Concerns.SESSION),
    Kind("manifest.made", "A manifest was created", Concerns.MANIFEST),
    Kind("manifest.verified", "A manifest was verified", Concerns.MANIFEST),
    Kind("manifest.anchoring", "A manifest was sent to the chain", Concerns.MANIFEST),
    Kind("manifest.anchor_confirmed", "A manifest was anchored on the chain", Concerns.MANIFEST),
    Kind("manifest.anchor_failed", "The chain did not anchor a manifest", Concerns.MANIFEST),
    Kind("trust_policy.created", "A trust policy was created", Concerns.TRUST_POLICY),
    Kind("trust_policy.changed", "A trust policy was changed", Concerns.TRUST_POLICY),
    Kind("trust_policy.deleted", "A trust policy was deleted", Concerns.TRUST_POLICY),
    Kind("audit.exported", "The audit log was exported", Concerns.GATEWAY),
    Kind("database.restored", "The database was restored from a backup", Concerns.GATEWAY),
    Kind("pruned", "Old rows were deleted", Concerns.GATEWAY),
)
KINDS = {kind.name: kind for kind in ROWS}
# The first words of kinds, with what they are about.
GROUPS = {
    "user": "Accounts", "login": "Logins", "logout": "Sign-outs", "admin": "Sign-ins of staff", "lockout": "Lockouts",
    "totp": "Authenticator apps", "wallet": "Hardware wallets", "recovery_code": "Recovery codes", "token": "Tokens",
    "api_key": "API keys", "signing_key": "Signing keys", "address": "Address rules", "limit": "Limits",
    "cluster": "Clusters", "edge": "The edge", "session": "Sessions", "manifest": "Manifests",
    "trust_policy": "Trust policies", "audit": "Exports", "database": "Restored databases",
    "pruned": "Deleted old rows",
}  # fmt: skip


def text_of(name: str) -> str:
    """Return the sentence for a kind of event; a kind of an earlier release that no longer exists is its own."""
    return KINDS[name].text if name in KINDS else name
