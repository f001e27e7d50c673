"""Opening an account."""

from django.db import IntegrityError

from accounts.models import User
from lucid_gateway.errors import AlreadyExists


def register(*, email: str, username: str, password: str, first_name: str = "", last_name: str = "") -> User:
    """Create and return a user; raise AlreadyExists, naming the field, if the email or the username is taken."""
    refuse_taken(email, username)
    try:
        return User.objects.create_user(email, username, password, first_name=first_name, last_name=last_name)
    except IntegrityError as error:
        # Another request was faster; the unique keys decide.
        refuse_taken(email, username)
        raise AlreadyExists() from error


def refuse_taken(email: str, username: str) -> None:
    """Raise AlreadyExists for what is taken."""
    if User.objects.filter(email=email).exists():
        raise AlreadyExists("Email is already registered", details={"field": "email"})
    if User.objects.filter(username=username).exists():
        raise AlreadyExists("Username is already taken", details={"field": "username"})
