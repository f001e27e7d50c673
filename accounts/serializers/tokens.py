"""Answers that several endpoints and commands share."""

from typing import Any

from accounts.models import User
from accounts.serializers.users import UserSerializer
from accounts.tokens.issuing import TokenPair


def tokens_answer(user: User, pair: TokenPair) -> dict[str, Any]:
    """Return the answer of `auth/verify`, `auth/refresh` and `issue_token --json`."""
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
        "user": UserSerializer(user).data,
    }
