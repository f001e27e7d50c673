"""Sessions and chunks as the tests of this app need them."""

import hashlib
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.roles import Role
from accounts.tokens import issue_tokens
from conftest import make_user
from sessions_api.models import Chunk, Session


@pytest.fixture
def token(owner: User) -> str:
    """The owner's access token."""
    return issue_tokens(owner).access


@pytest.fixture
def stranger_token(db: None) -> str:
    """Another user's access token."""
    return issue_tokens(make_user("stranger", Role.USER)).access


@pytest.fixture
def staff_token(db: None) -> str:
    """An admin's access token."""
    return issue_tokens(make_user("looking-on", Role.ADMIN)).access


def a_session(user: User, *sizes: int, status: str = Session.Status.COMPLETED, **fields: Any) -> Session:
    """Return a session with a recorded chunk of each size, whose content is its index in decimal digits."""
    session = Session.objects.create(user=user, name="a session", status=status, completed_at=timezone.now(), **fields)
    for index, size in enumerate(sizes):
        add_chunk(session, index, size)
    return session


def add_chunk(session: Session, index: int, size: int = 1, **fields: Any) -> Chunk:
    """Return a recorded chunk of the session."""
    digest = hashlib.sha256(str(index).encode()).hexdigest()
    fields = {"state": Chunk.State.RECORDED, "hash": digest} | fields
    return Chunk.objects.create(session=session, index=index, size=size, **fields)
