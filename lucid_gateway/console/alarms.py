"""What needs somebody now: one row per kind of alarm, with the function that finds its alarms.

A source that fails leaves the others; nothing here changes anything.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import Error as DatabaseProblem
from django.utils import timezone

from accounts.models import SigningKey, User
from accounts.tokens.signing_keys import ROTATE_AFTER
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.console.remembered import PATIENCE_SECONDS, Remembered
from lucid_gateway.console.stores import database_silent_seconds, redis_lost_seconds
from lucid_gateway.figures.reading import FORGOTTEN_SECONDS, read_gateways, read_lately
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.links import page, requests_page
from proxy.operators.overview import ClusterView, InstanceView, clusters
from ratelimit.models import AddressRule

logger = logging.getLogger(__name__)
WARN, BAD = "warn", "bad"
REUSED_WITHIN = timedelta(hours=24)
MOST_NAMED = 3
MOST_USERS, MOST_EVENTS = 5, 200
LOCKOUT_SURGE = 10  # in ten minutes
SLOW_SECONDS = 2.0  # for the few queries below


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Alarm:
    """Something that needs somebody: `title` is its subject, `sentence` goes on from there. `remedy` is what to do,
    `links` lead to the evidence.
    """

    kind: str
    severity: str
    title: str
    sentence: str
    since: datetime | None = None
    links: tuple[Link, ...] = ()
    remedy: Link | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of alarm; `find` may raise django.db.Error and RedisUnavailable."""

    name: str
    text: str
    find: Callable[[], Iterable[Alarm]]


def links(*pairs: tuple[str, str]) -> tuple[Link, ...]:
    """Return the links to pages that this gateway has."""
    return tuple(Link(text, url) for text, url in pairs if url)


def remedy(text: str, url: str) -> Link | None:
    return Link(text, url) if url else None


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def named(names: list[str]) -> str:
    """Return `a, b, c and 4 more`."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def lost_redis() -> Iterator[Alarm]:
    lost = redis_lost_seconds()
    if lost is not None:
        yield Alarm(
            "redis", BAD, "Redis is unavailable",
            "Each worker counts limits on its own, and logins fail. The database says which tokens are revoked.",
            since=ago(lost),
            links=links(("Requests that failed", requests_page(reason="redis_unavailable", since="1h"))),
        )  # fmt: skip


def silent_database() -> Iterator[Alarm]:
    silent = database_silent_seconds()
    if silent is not None:
        yield database_alarm("The database is unavailable", ago(silent))


def database_alarm(title: str, since: datetime | None = None) -> Alarm:
    return Alarm(
        "database", BAD, title,
        "Tokens and forwarded requests still work. Logins and changes fail, and the console shows old figures.",
        since=since,
        links=links(("Requests that failed", requests_page(reason="database_unavailable", since="1h"))),
    )  # fmt: skip


def clusters_that_fail() -> Iterator[Alarm]:
    views, known = clusters()
    for view in views if known else ():
        yield from alarms_of(view)


def alarms_of(view: ClusterView) -> Iterator[Alarm]:
    """Yield one alarm for a cluster without an instance that serves, otherwise one for each instance that is down."""
    down = [instance for instance in view.instances if instance.condition == "down"]
    if down and view.serving == 0:
        yield Alarm(
            "cluster", BAD, f"{view.name} is down",
            f"None of its {len(view.instances)} instances serves requests: callers get 503.{last_error_of(down[0])}",
            since=down[0].down_since,
            links=cluster_links(view.name),
            remedy=remedy("Clusters", page("proxy_maintenance_changelist")),
        )  # fmt: skip
        return
    for instance in down:
        yield Alarm(
            "instance", WARN, f"{view.name}: {instance.url} is down",
            f"{cause_of(instance)}.{last_error_of(instance)} {served_by(view.serving)}",
            since=instance.down_since,
            links=cluster_links(view.name, instance.url),
            remedy=remedy("Clusters", page("proxy_maintenance_changelist")),
        )  # fmt: skip


def cluster_links(cluster: str, instance: str = "") -> tuple[Link, ...]:
    return links(("Requests that failed", requests_page(cluster=cluster, instance=instance, status="5xx", since="1h")))


def cause_of(instance: InstanceView) -> str:
    return "Its circuit breaker is open" if instance.breaker == "open" else "Its health checks fail"


def served_by(serving: int) -> str:
    return f"Callers are served by {'another instance' if serving == 1 else f'{serving} other instances'}."


def last_error_of(instance: InstanceView) -> str:
    return f" Last error: {instance.last_error}." if instance.last_error else ""


def reused_tokens() -> Iterator[Alarm]:
    """Yield an alarm for each user whose refresh token was used twice in the last day, the latest first."""
    since = timezone.now() - REUSED_WITHIN
    events = AuditEvent.objects.filter(type="token.reused", created_at__gte=since).order_by("-created_at")
    times: dict[str, list[datetime]] = defaultdict(list)
    for subject, moment in events.values_list("subject", "created_at")[:MOST_EVENTS]:
        times[subject].append(moment)
    emails = {str(pk): email for pk, email in User.objects.filter(pk__in=list(times)).values_list("pk", "email")}
    for subject, moments in list(times.items())[:MOST_USERS]:
        yield reused_token_of(subject, emails.get(subject, subject), moments)
    if len(times) > MOST_USERS:
        yield Alarm(
            "token_reuse", BAD, f"Refresh tokens of {len(times) - MOST_USERS} more users were used twice",
            "Somebody may have stolen many tokens: consider to rotate the signing keys.",
            links=links(("All events", page("audit_auditevent_changelist", type="token.reused"))),
        )  # fmt: skip


def reused_token_of(subject: str, email: str, moments: list[datetime]) -> Alarm:
    times = "used twice" if len(moments) == 1 else f"used twice, {len(moments)} times"
    return Alarm(
        "token_reuse", BAD, f"A refresh token of {email} was {times}",
        "Somebody may have a copy. The login has ended; ask the user, or lock the account.",
        since=moments[0],
        links=links(
            ("Events", page("audit_auditevent_changelist", q=subject, type="token.reused")),
            ("Requests", requests_page(user=subject, since="24h")),
        ),
        remedy=remedy("Review user", page("accounts_user_change", subject)),
    )  # fmt: skip


def many_lockouts() -> Iterator[Alarm]:
    """Yield an alarm if ten lockouts began within ten minutes."""
    lately = read_lately()
    begun = lately.groups.get("events", {}).get("lockout.started", 0)
    if begun >= LOCKOUT_SURGE:
        yield Alarm(
            "lockouts", BAD, f"{begun} lockouts began in the last ten minutes",
            f"Somebody may be guessing passwords: {lately.login_failures:,} logins failed. Look for one network.",
            links=links(
                ("Lockouts", page("accounts_automaticlockout_changelist")),
                ("Failed logins", page("audit_auditevent_changelist", type="login.failed")),
            ),
            remedy=remedy("Requests that were refused", requests_page(reason="too_many_attempts", since="1h")),
        )  # fmt: skip


def punished_networks() -> Iterator[Alarm]:
    """Yield an alarm for the networks that the gateway itself has blocked, and one for those that it has halved."""
    rules = AddressRule.objects.in_force().filter(created_by="", kind__in=[Kinds.HALVED, Kinds.BLOCKED])
    found: dict[str, list[AddressRule]] = defaultdict(list)
    for rule in rules.order_by("-created_at")[:MOST_EVENTS]:
        found[rule.kind].append(rule)
    for kind, does in ((Kinds.BLOCKED, "is blocked"), (Kinds.HALVED, "has half its limits")):
        if found[kind]:
            yield punished(found[kind], kind, does)


def punished(rules: list[AddressRule], kind: str, does: str) -> Alarm:
    names = [rule.network for rule in rules]
    if len(names) > 1:
        does = does.replace("is ", "are ").replace("has half its", "have half their")
    return Alarm(
        f"networks_{kind}", WARN, f"{named(names)} {does}",
        "The gateway did this, because the address kept sending far more than its limit.",
        since=rules[0].created_at,
        links=links(
            ("Requests", requests_page(network=names[0], since="24h")),
            ("Rules", page("ratelimit_addressrule_changelist", kind__exact=kind)),
        ),
        remedy=remedy("Review rule", page("ratelimit_addressrule_change", rules[0].pk)),
    )  # fmt: skip


def old_signing_key() -> Iterator[Alarm]:
    for key in SigningKey.objects.filter(state=SigningKey.State.ACTIVE):
        signs_since = key.activated_at or key.created_at
        age = timezone.now() - signs_since
        if age > ROTATE_AFTER:
            yield Alarm(
                "signing_key", WARN, f"The signing key {key.kid} is {age.days} days old",
                f"Rotate it every {ROTATE_AFTER.days} days: nobody is signed out by that.",
                since=signs_since,
                remedy=remedy("Signing keys", page("accounts_signingkey_changelist")),
            )  # fmt: skip


def silent_gateways() -> Iterator[Alarm]:
    """Yield an alarm for each gateway that has written no figures for a while, and was not stopped long ago."""
    now = time.time()
    for gateway in read_gateways(now):
        if not gateway.is_living(now):
            yield Alarm(
                "gateway", WARN, f"The gateway {gateway.name} is silent",
                f"It was stopped, or cannot write to the database. This ends {FORGOTTEN_SECONDS // 60} minutes after"
                " its last figures.",
                since=datetime.fromtimestamp(gateway.up_to, UTC),
            )  # fmt: skip


def unsent_mail() -> Iterator[Alarm]:
    failed = read_lately().groups.get("mail", {}).get("failed", 0)
    if failed:
        yield Alarm(
            "mail", WARN, f"{failed:,} mails could not be sent in the last ten minutes",
            "Users wait for codes and links. The log names the error (`mail not sent`).",
        )  # fmt: skip


def advice() -> Iterator[Alarm]:
    for text in advisories.texts():
        yield Alarm("advisory", WARN, "This gateway advises", text)


Kinds = AddressRule.Kind
KINDS = (
    Kind("redis", "Redis is unavailable to this gateway.", lost_redis),
    Kind("database", "The database is unavailable or slow.", silent_database),
    Kind("clusters", "A cluster or one of its instances is down.", clusters_that_fail),
    Kind("token_reuse", "A refresh token was used twice in the last 24 hours.", reused_tokens),
    Kind("lockouts", f"{LOCKOUT_SURGE} lockouts began in ten minutes.", many_lockouts),
    Kind("networks", "The gateway has halved the limits of a network, or blocked it.", punished_networks),
    Kind("signing_key", f"The signing key is older than {ROTATE_AFTER.days} days.", old_signing_key),
    Kind("gateways", "A gateway has written no figures for 40 seconds.", silent_gateways),
    Kind("mail", "Mails could not be sent in the last ten minutes.", unsent_mail),
    Kind("advisories", "A setting or a server should be corrected.", advice),
)


def find_alarms() -> tuple[Alarm, ...]:
    """Return the open alarms, the bad ones first. The number of queries is constant."""
    found: list[Alarm] = []
    started = time.monotonic()
    for kind in KINDS:
        try:
            found += kind.find()
        except RedisUnavailable:
            continue  # Redis has an alarm of its own
        except DatabaseProblem as error:
            logger.warning("alarms not read", extra={"kind": kind.name, "error": type(error).__name__})
            if not any(alarm.kind == "database" for alarm in found):
                found.append(database_alarm("The database does not answer"))
    taken = time.monotonic() - started
    if taken > SLOW_SECONDS and not any(alarm.kind == "database" for alarm in found):
        found.append(slow_database(taken))
    return tuple(sorted(found, key=lambda alarm: alarm.severity != BAD))


def slow_database(seconds: float) -> Alarm:
    text = f"A few small queries took {seconds:.1f} s. Logins and the pages of the console are slow."
    return Alarm("database", WARN, "The database is slow", text)


remembered: Remembered[tuple[Alarm, ...]] = Remembered(find_alarms, ())


def open_alarms(patience: float = PATIENCE_SECONDS) -> tuple[Alarm, ...]:
    """Return the open alarms as of the last two seconds; wait up to `patience` seconds for newer ones."""
    return remembered.get(patience)


def count(*kinds: str) -> int:
    """Return the number of open alarms, or of those of some kinds, for the menu."""
    return sum(not kinds or alarm.kind in kinds for alarm in open_alarms())
