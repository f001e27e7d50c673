"""The operator pages of the accounts: each action calls the domain function that the API calls, too."""

from accounts.admin import credentials, lockouts, tokens, users

__all__ = ["credentials", "lockouts", "tokens", "users"]
