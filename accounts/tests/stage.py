"""A real gateway for tests: two workers, their servers, and people with accounts and mailboxes."""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from typing import Any

import pyotp
from redis import Redis

from accounts.factors.totp import STEP_SECONDS
from conftest import password_hash
from testing.gateway import Gateway, running_gateway
from testing.hammer import api, outcome, volley
from testing.http.client import ask
from testing.http.cluster import RawCluster
from testing.http.messages import Message
from testing.mail import Mailbox, running_smtp_server
from testing.servers import free_port, running_redis
from testing.waiting import wait_until

# Limits that a load test would exceed. The limits of logins stay those of a gateway in production.
HIGH_LIMITS = {f"RATE_LIMIT_{tier}REQUESTS_PER_MINUTE": "1000000" for tier in ("", "AUTHENTICATED_", "ADMIN_")}
LOGINS_PER_MINUTE = 10
PEOPLE = 40
MAKE_PEOPLE = """
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
names = [f"person-{{number}}" for number in range({count})]
people = [User(username=name, email=name + "@example.org", password={password!r}) for name in names]
User.objects.bulk_create(people)
root = issue_tokens(User.objects.get(email="admin@lucid.test")).access
print(json.dumps({{"root": root, "people": {{person.email: str(person.pk) for person in people}}}}))
"""
addresses = itertools.count(1)


def from_anywhere() -> str:
    """Return the header field of a new client address."""
    number = next(addresses)
    return f"X-Forwarded-For: 10.{number // 65536}.{number // 256 % 256}.{number % 256}"


def post(path: str, data: object, **credentials: str) -> bytes:
    """Return a POST from a new address."""
    return api("POST", path, data, from_anywhere(), **credentials)


class ReplaceableRedis:
    """A Redis server that can be replaced by an empty one."""

    def __init__(self) -> None:
        self.port, self.running = free_port(), contextlib.ExitStack()
        self.client = Redis(port=self.port)

    def start(self) -> None:
        self.running.enter_context(running_redis(self.port))

    def stop(self) -> None:
        self.running.close()


@dataclass(frozen=True)
class Stage:
    """A gateway, its servers, the access token of its super admin, and people that no test has used yet."""

    gateway: Gateway
    mailbox: Mailbox
    redis: ReplaceableRedis
    root: str = field(repr=False)
    people: list["Person"] = field(default_factory=list, repr=False)

    def ask(self, method: str, path: str, data: object = None, **credentials: str) -> Message:
        """Send a request below /api/v1 from a new address."""
        return ask(self.gateway.port, api(method, path, data, from_anywhere(), **credentials))

    def get(self, method: str, path: str, data: object = None, **credentials: str) -> Any:
        """Send a request that must succeed; return the body of its answer."""
        answer = self.ask(method, path, data, **credentials)
        assert answer.status < 300, answer.body
        return json.loads(answer.body or b"null")

    def send_all(self, requests: list[bytes]) -> list[Message]:
        """Send the requests in parallel to both workers."""
        return volley(self.gateway, requests)

    def on_both_planes(self, name: str, **credential: str) -> list[tuple[str, bytes]]:
        """Return two requests with the credential, for the gateway and for a cluster, as a hammer takes them. The edge,
        if there is one, forwards the second, `name, forwarded`, itself.
        """
        (text,) = credential.values()
        self.gateway.warm(text, "/chain/info")
        return [
            (name, api("GET", "/users/me", **credential)),
            (f"{name}, forwarded", api("GET", "/chain/info", **credential)),
        ]

    def outcome_with(self, token: str) -> str:
        """Return `200` or the code of the refusal for the access token."""
        return outcome(self.ask("GET", "/users/me", token=token))


@contextlib.contextmanager
def running_stage(database: str, *, prepare: str = "", **settings: str) -> Iterator[Stage]:
    """Run a gateway with its own database (of that name on MongoDB), a cluster behind /chain, and high limits, except
    for logins.

    The Python code in `prepare` runs first, in a shell of the gateway.
    """
    redis = ReplaceableRedis()
    with contextlib.ExitStack() as stack:
        stack.callback(redis.stop)
        redis.start()
        mailbox, smtp_port = stack.enter_context(running_smtp_server())
        chain = stack.enter_context(RawCluster())
        servers = {
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "MONGODB_DATABASE": database, "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(smtp_port), "TRUSTED_PROXIES": "127.0.0.1", "BLOCKCHAIN_CORE_URL": chain.url,
            "RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE": str(LOGINS_PER_MINUTE),
        }  # fmt: skip
        gateway = stack.enter_context(running_gateway(**(HIGH_LIMITS | servers | settings)))
        script = prepare + MAKE_PEOPLE.format(count=PEOPLE, password=password_hash())
        made = json.loads(gateway.manage("shell", "--verbosity", "0", "--command", script))
        stage = Stage(gateway, mailbox, redis, made["root"])
        stage.people.extend(Person(stage, email, user_id) for email, user_id in made["people"].items())
        yield stage


@dataclass(frozen=True)
class Person:
    """A person with an account, a mailbox and perhaps an authenticator app."""

    stage: Stage
    email: str
    user_id: str
    totp_secret: str = ""
    recovery_codes: tuple[str, ...] = ()

    def mails(self) -> list[EmailMessage]:
        """Return the received mails with a code and a link."""
        found = [mail for mail in list(self.stage.mailbox.mails) if mail["To"] == self.email]
        return [mail for mail in found if "login code" in mail["Subject"]]

    def mail(self) -> dict[str, str]:
        """Ask for a login, and return the `code` and the link's `token` of its mail."""
        before = len(self.mails())
        self.stage.get("POST", "/auth/login", {"email": self.email})
        wait_until(lambda: len(self.mails()) > before)
        found = re.search(r"\b([0-9]{6})\b.*token=([\w-]+)", self.mails()[-1].get_content(), re.DOTALL)
        assert found is not None
        return {"code": found[1], "token": found[2]}

    def shows(self, **shown: str) -> bytes:
        """Return the request that finishes a login, from a new address."""
        return post("/auth/verify", {"email": self.email} | shown)

    def verify(self, **shown: str) -> str:
        """Finish a login with these credentials; return `200` or the code of the refusal."""
        return outcome(ask(self.stage.gateway.port, self.shows(**shown)))

    def log_in(self) -> dict[str, str]:
        """Return the tokens of a login by link."""
        shown = {"email": self.email, "token": self.mail()["token"]}
        tokens: dict[str, str] = self.stage.get("POST", "/auth/verify", shown)
        return tokens

    def with_totp(self, token: str) -> "Person":
        """Enrol; the current time step stays unused."""
        totp = pyotp.TOTP(self.stage.get("POST", "/auth/totp", token=token)["secret"])
        if (left := STEP_SECONDS - time.time() % STEP_SECONDS) < 10:
            time.sleep(left)
        earlier = totp.at(int(time.time()) - STEP_SECONDS)
        answer = self.stage.get("POST", "/auth/totp/confirm", {"totp": earlier}, token=token)
        return replace(self, totp_secret=totp.secret, recovery_codes=tuple(answer["recovery_codes"]))

    def totp(self) -> str:
        """Return the code that the authenticator app shows."""
        return pyotp.TOTP(self.totp_secret).now()

    def takes_role(self, role: str) -> None:
        """Let the super admin change the role."""
        self.stage.get("POST", f"/admin/users/{self.user_id}/role", {"role": role}, token=self.stage.root)

    def api_key(self, token: str, *permissions: str) -> str:
        """Return a new API key."""
        data = {"name": "parallel", "permissions": permissions}
        key: str = self.stage.get("POST", "/users/me/api-keys", data, token=token)["api_key"]
        return key

    def events(self, kind: str) -> int:
        """Return the number of audit events of the kind about the person."""
        path = f"/admin/audit?type={kind}&subject={self.user_id}"
        total: int = self.stage.get("GET", path, token=self.stage.root)["pagination"]["total"]
        return total
