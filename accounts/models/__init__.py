"""The tables of the accounts app."""

from accounts.models.credentials import ApiKey, RecoveryCode
from accounts.models.idempotency import IdempotentRequest
from accounts.models.tokens import IssuedToken, IssuedTokenQuerySet, SigningKey
from accounts.models.users import User, username_validator
from accounts.models.views import AutomaticLockout, SignIn

__all__ = [
    "ApiKey", "AutomaticLockout", "IdempotentRequest", "IssuedToken", "IssuedTokenQuerySet", "RecoveryCode", "SignIn",
    "SigningKey", "User", "username_validator",
]  # fmt: skip
