"""The tables of the accounts app."""

from accounts.models.audit import AppendOnly, AuditEvent, AuditEventQuerySet
from accounts.models.credentials import ApiKey, RecoveryCode
from accounts.models.idempotency import IdempotentRequest
from accounts.models.tokens import IssuedToken, IssuedTokenQuerySet, SigningKey
from accounts.models.users import User, username_validator
from accounts.models.views import AutomaticLockout, SignIn

__all__ = [
    "ApiKey", "AppendOnly", "AuditEvent", "AuditEventQuerySet", "AutomaticLockout", "IdempotentRequest",
    "IssuedToken", "IssuedTokenQuerySet", "RecoveryCode", "SignIn", "SigningKey", "User", "username_validator",
]  # fmt: skip
