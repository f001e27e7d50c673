"""The time of an answer does not reveal whether an account exists.

Requests for known, unknown and locked addresses go to a real gateway, in rounds of one each in random order. What they
took is compared within the rounds, so that whatever else the machine does hits all kinds alike.
"""

import gc
import json
import random
import secrets
import statistics
import time
from collections.abc import Iterator, Sequence

import pytest

from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, request_bytes
from testing.mail import running_smtp_server

pytestmark = [pytest.mark.quiet, pytest.mark.usefixtures("db")]
ROUNDS, WARM_UP = 160, 15
# Both must be so for a failure: it is no accident, and more than the clocks of either side are good for. Reading an
# account's row takes 0.06 to 0.11 ms, which must not be seen.
ACCIDENT, NOTICEABLE_SECONDS = 0.001, 0.00005
PERMUTATIONS = 4000
TRIMMED = 0.2  # of the rounds, at either end: outliers

# One account a request: no lockout and no limit is met, and what is stored for each is the same.
MAKE_ACCOUNTS = """
from django.contrib.auth.hashers import make_password
from lucid_gateway.kernel.secrets.encryption import encrypt
from accounts.users.locks import FOREVER
from accounts.models import User

password, secret = make_password("Correct-Horse-7"), encrypt("JBSWY3DPEHPK3PXP")
more = {"known": {}, "locked": {"locked_until": FOREVER}, "totp": {"totp_enabled": True, "totp_secret": secret}}
for kind in NAMES:
    fields = more[kind]
    User.objects.bulk_create(
        User(email=f"{name}@example.org", username=name, password=password, **fields) for name in NAMES[kind]
    )
"""


class Crowd:
    """People by kind, each used once. Their names do not reveal the kind."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.names: dict[str, list[str]] = {kind: [] for kind in ("known", "locked", "totp", "unknown")}

    def gather(self, count: int) -> None:
        """Provide so many people of each kind, with accounts where the kind needs them."""
        missing = {
            kind: [f"u{secrets.token_hex(8)}" for _ in range(count - len(names))] for kind, names in self.names.items()
        }
        made = {kind: names for kind, names in missing.items() if names and kind != "unknown"}
        if made:
            self.gateway.manage("shell", "-v", "0", "-c", f"NAMES = {made!r}\n{MAKE_ACCOUNTS}")
        for kind, names in missing.items():
            self.names[kind] += names

    def next_email(self, kind: str) -> str:
        """Return the email of a person that was not used yet."""
        return f"{self.names[kind].pop()}@example.org"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with one worker, which trusts the addresses that we name, and with a mail server."""
    with running_smtp_server() as (_, smtp_port):
        settings = {
            "WEB_CONCURRENCY": "1", "TRUSTED_PROXIES": "127.0.0.1", "MONGODB_DATABASE": "timing",
            "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(smtp_port), "DJANGO_SETTINGS_MODULE": "testing.quick_hashes",
        }  # fmt: skip
        with running_gateway(**settings) as gateway:
            yield gateway


@pytest.fixture(scope="module")
def crowd(gateway: Gateway) -> Crowd:
    """As many people as the tests need, unless one has to measure again."""
    crowd = Crowd(gateway)
    crowd.gather(3 * (ROUNDS + WARM_UP))
    return crowd


def post_bytes(path: str, body: dict[str, str]) -> bytes:
    """Return a request from a new address."""
    address = ".".join(str(random.randrange(1, 255)) for _ in range(4))
    fields = ("Content-Type: application/json", f"X-Forwarded-For: {address}")
    return request_bytes("POST", f"/api/v1/auth/{path}", *fields, body=json.dumps(body).encode())


def took(connection: RawClient, request: bytes, status: int) -> float:
    """Return the seconds that the gateway took to answer."""
    started = time.perf_counter()
    connection.send(request)
    answer = connection.read_answer()
    ended = time.perf_counter()
    assert answer.status == status, answer
    return ended - started


def measure(gateway: Gateway, crowd: Crowd, path: str, kinds: Sequence[str], status: int) -> dict[str, list[float]]:
    """Return the times by kind, round by round, in seconds, over one connection."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    guess = {"password": "Wrong-Horse-7", "totp": "000000"} if path == "verify" else {}
    crowd.gather(ROUNDS + WARM_UP)
    gc.disable()
    try:
        with RawClient(gateway.port) as connection:
            for _ in range(ROUNDS + WARM_UP):
                for kind in random.sample(kinds, len(kinds)):
                    request = post_bytes(path, {"email": crowd.next_email(kind)} | guess)
                    times[kind].append(took(connection, request, status))
    finally:
        gc.enable()
    return {kind: found[WARM_UP:] for kind, found in times.items()}


def trimmed_mean(values: list[float]) -> float:
    """Return the mean without the largest and the smallest."""
    cut = int(len(values) * TRIMMED)
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def difference(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return by how many seconds the second kind takes longer, and how likely a difference like that would be by
    accident: a permutation test, in which the two of each round change places.
    """
    pairs = [late - early for early, late in zip(first, second, strict=True)]
    found = trimmed_mean(pairs)
    as_far = sum(
        abs(trimmed_mean([pair if random.getrandbits(1) else -pair for pair in pairs])) >= abs(found)
        for _ in range(PERMUTATIONS)
    )
    return found, (as_far + 1) / (PERMUTATIONS + 1)


def told_apart(times: dict[str, list[float]]) -> set[tuple[str, str]]:
    """Return the kinds that differ from the first one in time, and whether they are slower or faster."""
    first, *others = times
    found = set()
    for kind in others:
        seconds, accident = difference(times[first], times[kind])
        medians = [statistics.median(times[each]) for each in (first, kind)]
        shown = f"{medians[0] * 1000:.3f} and {medians[1] * 1000:.3f} ms, difference {seconds * 1000:+.3f} ms"
        print(f"{first} and {kind}: medians {shown} ({seconds / medians[0]:+.2%}), p = {accident:.4f}")  # noqa: T201  # shown with a failure
        if accident < ACCIDENT and abs(seconds) > NOTICEABLE_SECONDS:
            found.add((kind, "slower" if seconds > 0 else "faster"))
    return found


@pytest.mark.parametrize(
    ("path", "kinds", "status"),
    [
        ("login", ("unknown", "known", "locked"), 200),
        ("password/reset", ("unknown", "known", "locked"), 200),
        ("verify", ("unknown", "totp"), 401),
    ],
)
def test_the_time_of_an_answer_does_not_reveal_who_has_an_account(
    gateway: Gateway, crowd: Crowd, path: str, kinds: tuple[str, ...], status: int
) -> None:
    times = measure(gateway, crowd, path, kinds, status)
    apart = told_apart(times)
    if apart:  # by chance, once in a thousand times: never twice in the same way
        apart &= told_apart(measure(gateway, crowd, path, kinds, status))

    assert not apart
    # What was measured can show a difference: half as much again would be seen however busy the machine is.
    slowed = {kinds[0]: times[kinds[0]], kinds[1]: [1.5 * each for each in times[kinds[1]]]}
    assert told_apart(slowed) == {(kinds[1], "slower")}
