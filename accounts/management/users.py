"""Look-up of the user that a command names."""

from django.core.management.base import CommandError

from accounts.models import User


def user_of(email: str) -> User:
    """Return the user with the email, ignoring case; raise CommandError if there is none."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        raise CommandError(f"no user has the email {email}")
    return user
