"""Ending logins."""

from accounts.models import User
from accounts.tokens.issuing import end_all, end_family, read_refresh_token
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import RefreshTokenInvalid, TokenInvalid


def log_out(caller: Caller, *, refresh_token: str | None = None, everywhere: bool = False) -> None:
    """End the caller's login, or all of them; with a refresh token of the caller, also the login it belongs to.

    Raises RefreshTokenInvalid, and ends nothing, if the refresh token is not the caller's.
    """
    claims = read_refresh_token(refresh_token) if refresh_token else None
    if claims and claims["user_id"] != caller.user_id:
        raise RefreshTokenInvalid()
    if everywhere:
        user = User.objects.active_user(pk=caller.user_id)
        if user is None:
            raise TokenInvalid()
        ended = end_all(user)
    else:
        ended = end_family(caller.family) + (end_family(claims["family"]) if claims else 0)
    record("logout", subject=caller.user_id, everywhere=everywhere, tokens=ended)
