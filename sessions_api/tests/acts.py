"""What the tests of sessions share: sessions, chunks and policies, and requests about them."""

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


def begun(user: User, **fields: Any) -> Session:
    """Return a new session of the user's, which takes no place."""
    return Session.objects.create(user=user, **({"name": "A session"} | fields))


def over(user: User, **fields: Any) -> Session:
    """Return a completed session of the user's."""
    return begun(user, status=Session.Status.COMPLETED, completed_at=timezone.now(), **fields)


def recorded(session: Session, *sizes: int) -> None:
    """Give the session recorded chunks of these sizes, after those it has."""
    after = session.chunks.count()
    for index, size in enumerate(sizes, after):
        digest = hashlib.sha256(str(index).encode()).hexdigest()
        Chunk.objects.create(session=session, index=index, size=size, hash=digest, state=Chunk.State.RECORDED)


def uploading(session: Session, lease: timedelta = LIVE) -> Chunk:
    """Return a chunk that is being uploaded, or was when its lease has ended."""
    index = session.chunks.count()
    return Chunk.objects.create(session=session, index=index, size=7, lease_until=timezone.now() + lease)


def policy(user: User) -> TrustPolicy:
    """Return a new policy of the user's."""
    return TrustPolicy.objects.create(user=user, slot=next(numbers) % 50, name="a policy")


class Sessions:
    """Somebody's requests about sessions."""

    def __init__(self, token: str) -> None:
        self.api = ApiClient(raise_request_exception=False, HTTP_HOST="testserver")
        self.token = token

    def ask(self, method: str, session: Session | str = "", data: Any = None, **headers: str) -> Any:
        """Return the answer to a request about a session, or about all; `If_Match="..."` is a header."""
        below = f"/{session.pk if isinstance(session, Session) else session}" if session else ""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.send(method, f"/sessions{below}", data, token=self.token, headers=named)

    def create(self, **fields: Any) -> Any:
        """Begin a session."""
        return self.ask("post", data={"name": "A session"} | fields)

    def all(self, **query: Any) -> Any:
        """List sessions."""
        return self.api.send("get", "/sessions", token=self.token, query_params=query)

    def names(self, **query: Any) -> list[str]:
        """Return the names on a page."""
        answer = self.all(**query)
        assert answer.status_code == 200, answer.json()
        return [session["name"] for session in answer.json()["sessions"]]
