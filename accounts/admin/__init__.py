"""The operator pages of the accounts: each action calls the domain function that the API calls, too."""

from accounts.admin import audit, credentials, limits, lockouts, tokens, users

__all__ = ["audit", "credentials", "limits", "lockouts", "tokens", "users"]
