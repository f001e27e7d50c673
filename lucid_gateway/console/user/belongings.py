"""What a user has: signed-in devices, API keys and recordings. Reads are limited, so that no user makes them slow."""

from dataclasses import dataclass

from accounts.admin.credentials import TONES
from accounts.api_keys import state_of
from accounts.models import ApiKey, IssuedToken, User
from accounts.tokens.devices import devices_of, without_leftovers
from lucid_gateway.operators.buttons import Button, action_button
from lucid_gateway.operators.clients import client_words
from sessions_api.models import Session
from sessions_api.totals import totals_of

MAX_DEVICES = MAX_KEYS = 20
MAX_SESSIONS = 1_000


@dataclass(frozen=True)
class Device:
    token: IssuedToken

    @property
    def client(self) -> str:
        return client_words(self.token.user_agent)

    @property
    def button(self) -> Button:
        return action_button("End…", "end_families", self.token.pk, "accounts_signin")


@dataclass(frozen=True)
class Key:
    """An API key; `state` is live, suspended, expired or revoked."""

    key: ApiKey
    state: str

    @property
    def tone(self) -> str:
        return TONES.get(self.state, "")

    @property
    def can_end(self) -> bool:
        return self.state in ("live", "suspended")

    @property
    def button(self) -> Button:
        return action_button("Revoke…", "revoke", self.key.pk, "accounts_apikey", danger=True)


@dataclass(frozen=True)
class Recordings:
    """The newest sessions and their bytes; `at_least` if there are more."""

    count: int
    size_bytes: int
    at_least: bool


def devices(user: User) -> list[Device]:
    """Return the most recently used devices."""
    found = list(devices_of(str(user.pk))[: MAX_DEVICES + 1])
    return [Device(token) for token in without_leftovers(found)]


def api_keys(user: User) -> list[Key]:
    """Return the newest API keys, those that work first."""
    found = [Key(key, state_of(key)) for key in ApiKey.objects.owned_by(user.pk).order_by("-created_at")[:MAX_KEYS]]
    return sorted(found, key=lambda each: not each.can_end)


def recordings(user: User) -> Recordings:
    """Return how many sessions the user has, and how large they are."""
    rows = Session.objects.owned_by(user.pk).order_by("-created_at", "-pk").only("settled", "size_bytes", "chunk_count")
    found = list(rows[: MAX_SESSIONS + 1])
    counted = found[:MAX_SESSIONS]
    total = sum(totals.size_bytes for totals in totals_of(counted).values())
    return Recordings(len(counted), total, len(found) > MAX_SESSIONS)
