"""Look-ups of the account that a request is about."""

from rest_framework.request import Request

from accounts.models import User
from lucid_gateway.api.requests import caller, uuid_of
from lucid_gateway.policy.errors import NotFound, Unauthenticated


def account_of(request: Request) -> User:
    """Return the caller's account; raise Unauthenticated if it was deleted."""
    user = User.objects.active_user(pk=caller(request).user_id)
    if user is None:
        raise Unauthenticated()
    return user


def user_or_404(text: str) -> User:
    """Return the user with the id; raise NotAUUID or NotFound."""
    user = User.objects.filter(pk=uuid_of(text)).first()
    if user is None:
        raise NotFound()
    return user
