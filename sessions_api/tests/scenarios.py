"""Sessions, chunks and policies for tests, and a client for the session endpoints."""

import hashlib
import itertools
from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import User
from conftest import ApiClient
from sessions_api.models import Chunk, Session, TrustPolicy

LIVE, ENDED = timedelta(minutes=5), timedelta(minutes=-5)
numbers = itertools.count()


def new_session(user: User, **fields: Any) -> Session:
    """Return a new session of the user, which uses no slot."""
    return Session.objects.create(user=user, **({"name": "A session"} | fields))


def completed_session(user: User, **fields: Any) -> Session:
    """Return a completed session of the user."""
    return new_session(user, status=Session.Status.COMPLETED, completed_at=timezone.now(), **fields)


def record_chunks(session: Session, *sizes: int) -> None:
    """Add recorded chunks of these sizes, in bytes, after the session's last chunk."""
    after = session.chunks.count()
    for index, size in enumerate(sizes, after):
        digest = hashlib.sha256(str(index).encode()).hexdigest()
        Chunk.objects.create(session=session, index=index, size=size, hash=digest, state=Chunk.State.RECORDED)


def uploading_chunk(session: Session, lease: timedelta = LIVE) -> Chunk:
    """Return a chunk whose upload is in progress, or abandoned if the lease is negative."""
    index = session.chunks.count()
    return Chunk.objects.create(session=session, index=index, size=7, lease_until=timezone.now() + lease)


def new_policy(user: User) -> TrustPolicy:
    return TrustPolicy.objects.create(user=user, slot=next(numbers) % 50, name="a policy")


class SessionsClient:
    """Sends requests to the session endpoints with a user's token."""

    def __init__(self, token: str) -> None:
        self.api = ApiClient(raise_request_exception=False, HTTP_HOST="testserver")
        self.token = token

    def request(self, method: str, session: Session | str = "", data: Any = None, **headers: str) -> Any:
        """Send a request for a session, or for the list; `If_Match="..."` is a header. Return the response."""
        below = f"/{session.pk if isinstance(session, Session) else session}" if session else ""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.send(method, f"/sessions{below}", data, token=self.token, headers=named)

    def create(self, **fields: Any) -> Any:
        return self.request("post", data={"name": "A session"} | fields)

    def all(self, **query: Any) -> Any:
        return self.api.send("get", "/sessions", token=self.token, query_params=query)

    def names(self, **query: Any) -> list[str]:
        """Return the names of the sessions on a page of the list."""
        answer = self.all(**query)
        assert answer.status_code == 200, answer.json()
        return [session["name"] for session in answer.json()["sessions"]]
