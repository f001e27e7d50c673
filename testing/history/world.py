"""What a run acts on: two gateways on one Redis and one database, a cluster that counts executions, and people."""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from testing.gateway import prepare_database, prepared_database
from testing.history.operations import History, Kind, Outcome
from testing.http.cluster import RawCluster, Visit
from testing.mail import Mailbox, running_smtp_server
from testing.manage import manage
from testing.plugin import environment
from testing.restartable import Restartable
from testing.servers import free_port

GATEWAYS = 2
WORKERS = 2  # of each gateway
LIMIT, BURST = 10, 5  # of the limited requests
LIMITED = 2  # users who send them
# People with a login each, as `manage.py issue_token` makes it; the first token is that of a super admin.
MAKE_PEOPLE = """
import json
import os
from django.db import transaction
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
names = [f"person-{{number}}" for number in range({count})]
User.objects.bulk_create([User(username=name, email=name + "@example.org", password="!") for name in names])
with transaction.atomic():
    pairs = [(user, issue_tokens(user)) for user in User.objects.filter(username__startswith="person-")]
    root = issue_tokens(User.objects.get(email="admin@lucid.test")).access
people = [[str(user.pk), user.email, pair.access, pair.refresh] for user, pair in pairs]
print(json.dumps({{"root": root, "people": people}}))
"""


@dataclass(frozen=True)
class Person:
    """A user with a login that no client has used yet."""

    user: str
    email: str
    access: str = field(repr=False)
    refresh: str = field(repr=False)


@dataclass(frozen=True)
class Ended:
    """An access token whose login was ended, for those who try whether it still works."""

    family: str
    user: str
    access: str = field(repr=False)


@dataclass
class World:
    """The running servers, and what the clients share."""

    history: History
    gateways: Mapping[str, Restartable]
    mailbox: Mailbox
    root: str = field(repr=False)
    limited: list[Person] = field(repr=False)  # whose requests to /chain/blocks exceed the limit
    people: list[Person] = field(repr=False)
    ended: list[Ended] = field(default_factory=list)
    written: list[tuple[str, str]] = field(default_factory=list)  # (session, access token of its owner)
    owners: list[str] = field(default_factory=list)  # access tokens of those who sent idempotent POSTs of our own
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def person(self) -> Person:
        """Return a person that no other client has; raise OutOfPeople."""
        with self.lock:
            if not self.people:
                raise OutOfPeople
            return self.people.pop()


class OutOfPeople(Exception):
    """All people have had their part in the run."""


class CountingCluster:
    """The behaviour of a cluster that notes each POST with an Idempotency-Key as an execution, and answers later."""

    def __init__(self, history: History, seed: int) -> None:
        self.history, self.rng, self.answer_soon = history, Random(f"{seed} cluster"), threading.Event()

    def __call__(self, visit: Visit) -> None:
        """Answer a request with JSON that also suits an upload."""
        key = visit.request.header("Idempotency-Key")
        if visit.request.method == "POST" and key:
            with self.history.operation("cluster", Kind.EXECUTION, key, "cluster") as execution:
                execution.answered, execution.outcome = True, Outcome.OK
            self.answer_soon.wait(self.rng.uniform(0, 0.05))
        body = b'{"storage_path": "here"}'
        visit.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


@contextlib.contextmanager
def running_world(
    history: History, folder: Path, redis_url: str, *, seed: int, people: int, **settings: str
) -> Iterator[World]:
    """Run the servers; the keywords are settings of the gateways."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(RawCluster())
        cluster.behaviour = CountingCluster(history, seed)
        mailbox, smtp_port = stack.enter_context(running_smtp_server())
        env = settings_of_gateways(redis_url, cluster.url, smtp_port, folder) | settings
        if "MONGODB_URI" in settings:
            prepare_database(env)
        else:
            shutil.copyfile(prepared_database()[0], env["SQLITE_PATH"])
        made = make_people(env, people)
        names = [f"gateway-{number}" for number in range(1, GATEWAYS + 1)]
        gateways = {name: Restartable(env | {"HTTP_PORT": str(free_port())}, folder / f"{name}.log") for name in names}
        for gateway in gateways.values():
            stack.enter_context(gateway.running)
            gateway.start()
        some = [Person(*fields) for fields in made["people"]]
        yield World(history, gateways, mailbox, made["root"], some[:LIMITED], some[LIMITED:])


def make_people(env: Mapping[str, str], count: int) -> Any:
    """Return the token of a super admin, and people as lists of their fields."""
    printed = manage(env, "shell", "--verbosity", "0", "--command", MAKE_PEOPLE.format(count=count))
    return json.loads(printed.splitlines()[-1])


def settings_of_gateways(redis_url: str, cluster: str, smtp_port: int, folder: Path) -> dict[str, str]:
    """Return the environment of the gateways: the real time-outs, and small limits for /chain/blocks alone."""
    return dict(os.environ) | environment(redis_url) | {
        "WEB_CONCURRENCY": str(WORKERS), "SQLITE_PATH": str(folder / "db.sqlite3"), "TRUSTED_PROXIES": "127.0.0.1",
        "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(smtp_port), "REDIS_TIMEOUT_SECONDS": "0.3",
        "BLOCKCHAIN_CORE_URL": cluster, "SESSION_MANAGEMENT_URL": cluster, "TRON_PAYMENT_URL": cluster,
        "JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "1440",
        "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": str(LIMIT),
        "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE": str(BURST),
        "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": "1000000",
        "RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE": "1000000",
        "RATE_LIMIT_REQUESTS_PER_MINUTE": "1000000",
    }  # fmt: skip
