"""The operator pages of the accounts. Each action calls the same domain function as the API."""

from accounts.admin import credentials, lockouts, tokens, users

__all__ = ["credentials", "lockouts", "tokens", "users"]
