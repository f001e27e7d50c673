"""Ending logins."""

from accounts.callers import Caller
from accounts.models import IssuedToken
from accounts.revocation import revoke
from accounts.tokens import end_family, read_refresh_token
from lucid_gateway.errors import RefreshTokenInvalid


def log_out(caller: Caller, *, refresh_token: str | None = None, everywhere: bool = False) -> None:
    """End the caller's login, or all of them; with a refresh token of the caller's, the login that it belongs to, too.

    Raises RefreshTokenInvalid, with nothing ended, for a token that is not the caller's.
    """
    claims = read_refresh_token(refresh_token) if refresh_token else None
    if claims and claims["user_id"] != caller.user_id:
        raise RefreshTokenInvalid()
    if everywhere:
        revoke(IssuedToken.objects.filter(user_id=caller.user_id))
        return
    end_family(caller.family)
    if claims:
        end_family(claims["family"])
