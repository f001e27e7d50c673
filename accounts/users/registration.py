"""Registration of accounts."""

from django.db import IntegrityError

from accounts.login.passwords import hash_password
from accounts.models import User
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import AlreadyExists


def register(*, email: str, username: str, password: str, first_name: str = "", last_name: str = "") -> User:
    """Create and return a user; raise AlreadyExists, naming the field, if the email or the username is taken."""
    refuse_taken(email, username)
    user = User(
        email=email, username=username, password=hash_password(password), first_name=first_name, last_name=last_name
    )
    try:
        user.save(force_insert=True)
    except IntegrityError as error:
        # A parallel request took one of them first; the unique constraints decide.
        refuse_taken(email, username)
        raise AlreadyExists() from error
    record("user.registered", subject=user)
    return user


def refuse_taken(email: str | None, username: str | None, *, but: User | None = None) -> None:
    """Raise AlreadyExists if another user has the email or the username."""
    others = User.objects.exclude(pk=but.pk) if but else User.objects.all()
    if email and others.filter(email=email).exists():
        raise AlreadyExists("Email is already registered", details={"field": "email"})
    if username and others.filter(username=username).exists():
        raise AlreadyExists("Username is already taken", details={"field": "username"})
