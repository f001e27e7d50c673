"""The rows of a large installation. Each row follows from its number, so that a filled database can be used again."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any, NamedTuple

from django.db import connection, models, transaction

from accounts.models import ApiKey, IssuedToken, User
from lucid_gateway.audit.kinds import KINDS
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.rows import address_forms
from lucid_gateway.figures.models import KEPT_SECONDS, Sample, columns
from lucid_gateway.kernel.histogram import bucket_of
from lucid_gateway.policy.roles import Role
from proxy.models import Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.models import Chunk, Manifest, Session, TrustPolicy

BATCH = 5_000
DAY = timedelta(days=1)
NAMES = ("maria", "john", "aisha", "wei", "olga", "carlos", "fatima", "lars", "priya", "kofi")
DOMAINS = ("example.org", "mail.example.com", "example.net")
TYPES = sorted(KINDS)
REASONS = ("tier_exhausted", "token_expired", "permission_missing", "instance_timeout", "")
STATUSES = (429, 401, 403, 504, 200)
CLUSTERS = ("blockchain_core", "session_management", "tron_payment")
# From this network came a twentieth of all events and requests, and all of them long ago.
OLD_ATTACK = "203.0.113.0/24"
LONG_SESSION = 3  # the number of the session with LONG_CHUNKS chunks, which still records
LONG_COMPLETED = 1  # the number of the one that is completed
LONG_CHUNKS = 200_000


def mixed(number: int) -> int:
    """Return a number that is as good as random."""
    return (number + 1) * 2_654_435_761 % 2**32


def key(number: int) -> uuid.UUID:
    """Return the id of the user, session, event, manifest or policy with this number."""
    return uuid.UUID(int=mixed(number) << 96 | 4 << 76 | 8 << 60 | number)


def address_of(number: int, rows: int) -> str:
    """Return the address of an event or a request: from the old attack, of its time, or from anywhere."""
    if rows * 80 // 100 <= number < rows * 85 // 100:
        return f"203.0.113.{number % 250}"
    if number % 2:
        return f"198.{number // 20_000 % 100}.{number // 100 % 200}.{number % 250}"
    dice = mixed(number)
    return f"10.{dice % 64}.{dice // 64 % 200}.{dice // 12_800 % 250}"


class World(NamedTuple):
    """How many users, audit events and kept requests there are, and the time of the newest rows."""

    rows: int
    now: datetime

    @property
    def people(self) -> int:
        """How many of the users are active: events, requests and tokens are theirs."""
        return min(5000, self.rows)

    def ago(self, days: float, number: int, share: float = 1) -> datetime:
        """Return the time of a row of a table that has a share of the rows, spread over that many days."""
        return self.now - DAY * (days * number / (share * self.rows))


class Made(NamedTuple):
    """A table: how many rows it has for each user, at least how many, and how the row with a number is made."""

    model: type[models.Model]
    share: float
    least: int
    row: Callable[[int, World], Any]


def user(number: int, world: World) -> User:
    dice, name = mixed(number), f"{NAMES[number % 10]}-{number}"
    role = Role.SUPER_ADMIN if number == 0 else Role.USER
    if dice % 1000 == 7:
        role = (Role.ADMIN, Role.NODE_OPERATOR)[dice // 1000 % 2]
    created = world.ago(1000, number)
    is_deleted = number > 100 and dice % 200 == 9
    return User(
        user_id=key(number), email=f"{name}@{DOMAINS[number % 3]}", username=name, password="!", role=role,
        first_name=NAMES[number % 10].title(), last_name=f"Family{dice % 5000}", created_at=created, updated_at=created,
        is_active=not is_deleted and (number < 100 or dice % 50 != 11), deleted_at=created if is_deleted else None,
        totp_enabled=dice % 10 == 3, hardware_wallet_enabled=dice % 1000 == 21,
        locked_until=world.now + DAY * 3000 if number > 100 and dice % 500 == 77 else None,
        last_login=created + DAY if dice % 3 else None,
    )  # fmt: skip


def event(number: int, world: World) -> AuditEvent:
    dice = mixed(number)
    kind = ("login.succeeded", "login.failed")[dice % 8 == 0] if dice % 3 else TYPES[dice // 3 % len(TYPES)]
    outcome = "failure" if kind == "login.failed" or dice % 11 == 0 else "blocked" if dice % 101 == 0 else "success"
    return AuditEvent(
        event_id=key(number), type=kind, outcome=outcome, actor=str(key(dice % world.people)),
        subject=str(key(dice // 7 % world.people)), address=address_of(number, world.rows), user_agent="a client",
        request_id=str(key(number)), created_at=world.ago(90, number),
    )  # fmt: skip


def request(number: int, world: World) -> KeptRequest:
    dice, started = mixed(number), world.ago(1, number)
    address, status = address_forms(address_of(number, world.rows)), STATUSES[dice % 5]
    rare = "rare" if number % 10_000 == 0 else "often"
    cluster = CLUSTERS[dice // 5 % 3]
    return KeptRequest(
        kept_id=key_at(started, random=True), request_id=str(key(number)), gateway=f"gateway-{number % 4}:8080",
        worker="1", method=("GET", "GET", "POST", "PUT")[dice // 16 % 4], path=f"/api/v1/{rare}/{number}",
        route=f"api/v1/{rare}/<str:number>", status=status, status_class=status // 100,
        error_code="" if status == 200 else f"LUCID_ERR_{3001 + dice % 5}", reason=REASONS[dice % 5],
        started_at=started, duration_ms=1.5, address=address.text, address_key=address.key, network=address.network,
        user_agent="a client", role="user", user_id=str(key(1 if number % 100 == 0 else dice % world.people)),
        credential_kind="token", credential_id=f"{number:032x}", cluster=cluster,
        instance=f"http://{cluster}:{dice % 3}", cache="", trace_id="", response_bytes=100,
        details={"steps": [{"step": "path", "outcome": "passed", "reason": None, "ms": 0.1}] * 8},
    )  # fmt: skip


def token(number: int, world: World) -> IssuedToken:
    dice, issued = mixed(number), world.ago(30, number, 0.2)
    kind = ("access", "refresh")[number % 2]
    return IssuedToken(
        jti=f"{dice:08x}{number:024x}", family=key(number // 2),
        user_id=key(1 if number % 500 < 2 else dice % world.people), kind=kind, issued_at=issued, signed_in_at=issued,
        expires_at=issued + (DAY / 24 if number % 2 == 0 else DAY * 30), kid="a-key",
        revoked_at=issued + DAY / 48 if dice % 40 == 3 else None, used_at=issued + DAY / 24 if dice % 4 else None,
        address=address_of(number, world.rows), user_agent="a client",
    )  # fmt: skip


def api_key(number: int, world: World) -> ApiKey:
    dice, created = mixed(number), world.ago(700, number, 0.1)
    return ApiKey(
        key_id=f"k{number:011d}", user_id=key(number), name=("laptop", "ci", f"server-{number}")[number % 3],
        secret_hash="0" * 64, permissions=["user:read"], created_at=created, last_used_at=created + DAY,
        expires_at=created + 365 * DAY if dice % 2 else None, revoked_at=created + 9 * DAY if dice % 10 == 1 else None,
        suspended_at=created + DAY if dice % 100 == 5 else None, place=1,
    )  # fmt: skip


def session(number: int, world: World) -> Session:
    dice, created = mixed(number), world.ago(300, number, 0.1)
    is_active = number % 10 == LONG_SESSION
    status = "active" if is_active else ("failed", "cancelled", *["completed"] * 8)[dice % 10]
    is_settled = not is_active and number != LONG_COMPLETED
    return Session(
        session_id=key(number), user_id=key(number // 10), name=f"Support call {dice % 100_000}", status=status,
        active_slot=0 if is_active else None, created_at=created, updated_at=created, started_at=created,
        completed_at=None if is_active else created + DAY / 24, settled=is_settled,
        size_bytes=number * 1000 * is_settled, chunk_count=number % 50 * is_settled,
        manifest_id=key(number) if number % 2 == 0 and is_settled else None,
    )  # fmt: skip


def manifest(number: int, world: World) -> Manifest:
    dice, created = mixed(number), world.ago(300, number, 0.05)
    return Manifest(
        manifest_id=key(2 * number), session_id=key(2 * number), user_id=key(number // 5), merkle_root="0" * 64,
        chunk_count=number % 50, total_size=number * 1000, created_at=created,
        validation_status="invalid" if dice % 100 == 0 else "valid",
        anchor_status=("none", "none", "pending", "confirmed", "failed")[dice // 100 % 5],
    )  # fmt: skip


def policy(number: int, world: World) -> TrustPolicy:
    created = world.ago(300, number, 0.05)
    return TrustPolicy(
        policy_id=key(number), user_id=key(number // 2), slot=1 + number % 2, name=f"policy {number % 1000}",
        enabled=mixed(number) % 5 > 0, created_at=created, updated_at=created,
    )  # fmt: skip


def address_rule(number: int, world: World) -> AddressRule:
    kind = ("deny", "allow", "blocked", "deny")[number % 4]
    return AddressRule(network=f"{ip_address(0x0B000000 + 256 * number)}/24", kind=kind, reason="an attack")


def limit_rule(number: int, world: World) -> LimitRule:
    return LimitRule(
        tier=("public", "authenticated")[number % 2], subject=f"user:{key(number)}", limit=500, reason="why"
    )


def maintenance(number: int, world: World) -> Maintenance:
    start = world.now - DAY * (number + 1)
    return Maintenance(
        cluster=CLUSTERS[number % 3], kind="drain", reason="an upgrade", starts_at=start, ends_at=start + DAY / 24
    )


MADE = (
    Made(User, 1, 60, user), Made(AuditEvent, 1, 60, event), Made(KeptRequest, 1, 60, request),
    Made(IssuedToken, 0.2, 20, token), Made(ApiKey, 0.1, 20, api_key), Made(Session, 0.1, 40, session),
    Made(Manifest, 0.05, 20, manifest), Made(TrustPolicy, 0.05, 20, policy),
    Made(AddressRule, 0.001, 10, address_rule), Made(LimitRule, 0.001, 10, limit_rule),
    Made(Maintenance, 0.001, 10, maintenance),
)  # fmt: skip


def fill(rows: int, say: Callable[[str], None]) -> None:
    """Add the rows that are missing; `rows` is the number of users, of audit events and of kept requests."""
    User._meta.get_field("created_at").auto_now_add = False  # the rows are of several years
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:  # for this connection only
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.execute("PRAGMA cache_size=-1500000")
    world = World(rows, datetime.now(UTC))
    for model, share, least, row in MADE:
        count = max(least, int(rows * share))
        for start in range(model._default_manager.count(), count, BATCH):
            insert(model, [row(number, world) for number in range(start, min(count, start + BATCH))])
        say(f"{count:,} {model._meta.verbose_name_plural}")
    for number in (LONG_SESSION, LONG_COMPLETED):
        fill_session(number, min(rows, LONG_CHUNKS))
    refresh(world)


def insert(model: type[models.Model], rows: list[Any]) -> None:
    with transaction.atomic():
        model._default_manager.bulk_create(rows)


def fill_session(number: int, chunks: int) -> None:
    """Give a session its chunks; every thousandth index is missing."""
    if Chunk.objects.filter(session_id=key(number)).order_by()[:1]:
        return
    for start in range(0, chunks, BATCH):
        indexes = [index for index in range(start, min(chunks, start + BATCH)) if index % 1000 != 7]
        insert(Chunk, [Chunk(session_id=key(number), index=index, size=4096, state="recorded") for index in indexes])


def refresh(world: World) -> None:
    """Add the requests since the newest one, at most those of an hour, and write the figures of the last 48 hours."""
    newest = KeptRequest.objects.order_by("-pk").values_list("started_at", flat=True).first() or world.now
    missing = int(min(world.now - newest, DAY / 24) / (DAY / world.rows))
    for start in range(0, missing, BATCH):
        insert(KeptRequest, [request(number, world) for number in range(start, min(missing, start + BATCH))])
    Sample.objects.all().delete()
    end = int(world.now.timestamp()) // 10 * 10
    for gateway in ("gateway-0:8080", "gateway-1:8080"):
        for seconds in (10, 60, 600, 3600):
            starts = range((end - KEPT_SECONDS) // seconds * seconds, end, seconds)
            for first in range(0, len(starts), 1000):
                insert(Sample, [sample(gateway, seconds, start) for start in starts[first : first + 1000]])


def sample(gateway: str, seconds: int, start: int) -> Sample:
    return Sample(f"{gateway} {seconds} {start}", gateway, seconds, start, **counts(seconds, mixed(start) % 20))


@cache
def counts(seconds: int, variant: int) -> dict[str, bytes]:
    """Return the columns of a busy gateway's row, in one of several variants."""
    n = seconds // 10
    routes = {f"api/v1/route{number}": n * (number + variant) for number in range(40)}
    histogram = {bucket_of(0.001 * 1.5**step): n * (20 - step) for step in range(20)}
    refused = {reason: n * (place + variant) for place, reason in enumerate(REASONS[:3])}
    subjects = {
        "address": [f"10.1.{variant}.{number}" for number in range(50)],
        "network": [f"10.{number}.{variant}.0/24" for number in range(50)],
        "user": [str(key(variant * 50 + number)) for number in range(50)],
        "key": [f"k{variant * 50 + number:011d}" for number in range(50)],
    }
    offenders = {
        f"offenders.{kind}": {f"{subject} {REASONS[place % 3]}": n * (place + 1) for place, subject in enumerate(names)}
        for kind, names in subjects.items()
    }
    instances = {f"{name} http://{name}:{number}": n * 10 for name in CLUSTERS for number in range(3)}
    return columns({
        "statuses": {"2xx": n * (900 + variant), "4xx": n * 60, "5xx": n * 5}, "seconds": histogram, "routes": routes,
        "clusters": dict.fromkeys(CLUSTERS, n * 300), "instances": instances, "instances.failed": instances,
        **{f"first_byte {name}": histogram for name in instances}, "refused": refused,
        "failed": {"instance_timeout": n * 5}, "routes.refused": routes, "routes.failed": routes,
        "failed.routes": {f"instance_timeout {route}": n for route in routes}, **offenders,
        "events": {"login.succeeded": n * 9, "login.failed": n * 2},
    })  # fmt: skip
