"""The request of a preview, and whose it would be."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from accounts.directory import keys_called, user_called
from accounts.models import ApiKey, User
from lucid_gateway.kernel.record import Claim
from lucid_gateway.operators.links import page
from ratelimit.client_address import parse

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_CHOICES = 5


class NotFoundInQuestion(ValueError):
    """A user, a key or an address that does not exist; `field` names it, and the text is for staff."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Question:
    """A request that nobody has sent. `path` is that of a request line, without its query.

    It is sent with a new token of the user, or with the API key, or without a credential; at most one of the two is
    set. Without an address, nothing that depends on it is asked.
    """

    method: str
    path: str
    address: str = ""
    user: User | None = None
    key: ApiKey | None = None

    @property
    def claim(self) -> Claim | None:
        """The credential of the request."""
        if self.key is not None:
            return Claim("api_key", self.key.key_id, str(self.key.user_id), self.key.user.role)
        return Claim("token", "", str(self.user.pk), self.user.role) if self.user else None

    @property
    def link(self) -> str:
        """The address of the page that asks this question; it holds ids, but no name."""
        return page(
            "preview", user=self.user.pk if self.user else "", key=self.key.key_id if self.key else "",
            address=self.address, method=self.method, path=self.path,
        )  # fmt: skip


def path_of(text: str) -> str:
    """Return the path in a URL or a request target, without its query."""
    text = text.strip()
    return urlsplit(text).path or "/" if "://" in text else text.partition("?")[0].partition("#")[0]


def address_of(text: str) -> str:
    """Return the address in its usual form; raise NotFoundInQuestion."""
    address = parse(text)
    if address is None:
        raise NotFoundInQuestion("address", "Expected an address such as 192.0.2.7.")
    return str(address)


def user_of(text: str) -> User:
    """Return the user with the email, the username or the id; raise NotFoundInQuestion."""
    found = user_called(text)
    if found is None:
        raise NotFoundInQuestion("user", "No user has this email, username or id.")
    return found


def key_of(text: str) -> ApiKey:
    """Return the API key with the id or the name, or the pasted key, of which only the prefix is read.

    Raises NotFoundInQuestion, also for a name that several keys have: it lists some of them.
    """
    found = keys_called(text)
    if not found:
        raise NotFoundInQuestion("key", "No API key has this name or id.")
    if len(found) > 1:
        choices = ", ".join(f"{key.key_id} of {key.user.email}" for key in found[:MAX_CHOICES])
        raise NotFoundInQuestion("key", f"Several keys have this name. Enter an id: {choices}.")
    return found[0]
