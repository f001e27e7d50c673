"""Finding the user that a command is about."""

from django.core.management.base import CommandError

from accounts.models import User


def user_of(email: str) -> User:
    """Return the user of that email, in any case; raise CommandError."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        raise CommandError(f"no user has the email {email}")
    return user
