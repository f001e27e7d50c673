"""A kept request with everything that the sentences about it mention. Each word is a property, as HTML."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

from django.conf import settings
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString

from accounts.models import ApiKey, User
from accounts.users.locks import FOREVER
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.conditions import Equal
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.naming import Names, is_uuid, link, names_of
from lucid_gateway.explorer.words import clock, moment, number
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import duration, size, thousands
from lucid_gateway.policy.routes import ROUTES, Route
from lucid_gateway.policy.tiers import TIERS, Counts
from proxy.forwarding.resolving import django_path
from ratelimit.models import AddressRule, LimitRule

MAX_ALIKE = 1_000
HOUR_MS = 3_600_000
TOTALS = ("quota_exhausted", "too_many_concurrent")


@cache
def forwarded_routes() -> dict[tuple[str, str], Route]:
    """Return the routes to clusters by the pattern that requests have as their route, and method."""
    return {(f"api/v1/{django_path(route.path)}", method): route for route in ROUTES for method in route.methods}


class Case:
    """The words of one request. Rows of other tables are read once, and only for the words that need them."""

    def __init__(self, row: KeptRequest, names: Names | None = None) -> None:
        self.row = row
        self.names = names_of([row]) if names is None else names

    # Who.

    @property
    def is_key(self) -> bool:
        return self.row.credential_kind == "api_key"

    @cached_property
    def key_row(self) -> ApiKey | None:
        return self.names.keys.get(self.row.credential_id) if self.is_key else None

    @cached_property
    def user_id(self) -> str:
        """The user's id; for an API key whose secret was not checked, its owner's."""
        return self.row.user_id or (str(self.key_row.user_id) if self.key_row else "")

    @property
    def user_row(self) -> User | None:
        return self.names.users.get(self.user_id)

    @property
    def user(self) -> SafeString:
        return self.names.user(self.user_id) if self.user_id else SafeString("somebody unknown")

    @property
    def key(self) -> SafeString:
        return self.names.key(self.row.credential_id)

    @property
    def who(self) -> SafeString:
        """Whom the request counts for, at the beginning of a sentence."""
        if self.is_key:
            return format_html("The API key {}", self.key)
        if self.user_id:
            return format_html("The user {}", self.user)
        return format_html("The address {}", self.address)

    @property
    def is_counted_by_address(self) -> bool:
        """Whether the limiter counted the request for its address, as it does without a valid credential."""
        tier = TIERS.get(str(self.row.limits.get("tier", "")))
        return tier is not None and tier.subject == Counts.ADDRESS

    @property
    def counted(self) -> SafeString:
        """Whose requests the limiter counts together, at the beginning of a sentence."""
        return format_html("The address {}", self.address) if self.is_counted_by_address else self.who

    @property
    def subject(self) -> str:
        """The subject of operators' limit rules for the caller, "" for an address."""
        if self.is_key:
            return f"key:{self.row.credential_id}"
        return f"user:{self.row.user_id}" if self.row.user_id else ""

    @property
    def address(self) -> SafeString:
        shown = self.row.address or "unknown"
        return link(page("requests", address=shown) if self.row.address_key else "", shown)

    # What.

    @property
    def path(self) -> SafeString:
        return format_html("<code>{}</code>", self.row.path or "no path")

    @property
    def method(self) -> str:
        return self.row.method or "no method"

    @property
    def forwarded(self) -> Route | None:
        """The row of the route table, None for a path that the gateway answers itself or does not have."""
        return forwarded_routes().get((self.row.route, self.row.method))

    @property
    def reason(self) -> str:
        return self.row.reason.replace("_", " ")

    @property
    def status(self) -> int:
        return self.row.status

    @property
    def duration(self) -> str:
        return duration(self.row.duration_ms)

    @property
    def started(self) -> SafeString:
        return clock(self.row.started_at)

    @property
    def message(self) -> str:
        """What the error said to the client, as a sentence."""
        text = str(self.row.facts.get("message", "")).strip()
        return f"{text[:1].upper()}{text[1:]}." if text else ""

    @property
    def parser(self) -> str:
        """What the parser objected to, such as `invalid request line`."""
        name = str(self.row.facts.get("parser", ""))
        return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip() or "the request"

    @property
    def body_limit(self) -> str:
        return size(number(self.row.facts.get("limit_bytes")))

    @property
    def body_sent(self) -> str:
        announced = number(self.row.facts.get("content_length"))
        return f"The client announced {size(announced)}" if announced else "The client sent a longer body in chunks"

    @property
    def fields(self) -> str:
        """The invalid fields with the code of each problem."""
        found = self.row.facts.get("fields", [])
        listed = ", ".join(f"{name or 'the body'} ({code})" for name, code in found)
        return f"The problems: {listed}." if listed else ""

    # Limits.

    @property
    def tier(self) -> SafeString:
        name = str(self.row.limits.get("tier") or self.row.facts.get("tier") or "unknown")
        label = TIERS[name].name if name in TIERS else name
        return link(page("ratelimit_limitrule_changelist", q=name), label)

    @property
    def limit(self) -> str:
        return thousands(self.row.limits.get("limit"))

    @property
    def burst(self) -> str:
        return thousands(self.row.limits.get("burst"))

    @property
    def daily_quota(self) -> str:
        return thousands(self.row.limits.get("daily_quota"))

    @property
    def concurrent_requests(self) -> str:
        return thousands(self.row.limits.get("concurrent_requests"))

    @property
    def bytes_per_second(self) -> str:
        return size(number(self.row.limits.get("limit")))

    @property
    def refusals(self) -> str:
        """Which refusal of the window it was, as a sentence."""
        refused = self.row.limits.get("refused")
        return f"This was refusal {thousands(refused)} in this minute." if refused else ""

    @property
    def resets(self) -> SafeString:
        """When the next request passes."""
        at = self.row.limits.get("resets_at")
        return clock(datetime.fromtimestamp(at, UTC)) if at else SafeString("the next window")

    @property
    def retry_at(self) -> SafeString:
        """When the client was told to come back."""
        seconds = number(self.row.facts.get("retry_after"))
        if seconds is None:
            return SafeString("a later time")
        return clock(datetime.fromtimestamp(self.row.started_at.timestamp() + seconds, UTC))

    @cached_property
    def limit_rule(self) -> LimitRule | None:
        """The operator's rule that set the numbers, if it is still there."""
        totals = self.row.reason in TOTALS
        subject = self.row.limits.get("totals_rule" if totals else "rule", "")
        if not subject:
            return None
        tier = "all" if totals else self.row.limits.get("tier", "")
        return LimitRule.objects.filter(tier=tier, subject="" if subject == "everyone" else subject).first()

    @property
    def whose_numbers(self) -> SafeString:
        """Where the numbers come from, as a sentence."""
        rule = self.limit_rule
        if rule is None:
            return SafeString("")
        rule_page = page("ratelimit_limitrule_change", rule.pk)
        return format_html("The numbers come from {}.", link(rule_page, "an operator's rule"))

    # Rules for addresses.

    @property
    def network(self) -> str:
        return str(self.row.facts.get("network") or self.row.network or self.row.address or "its network")

    @cached_property
    def address_rule(self) -> AddressRule | None:
        """The rule for the network, if it is still there."""
        return AddressRule.objects.filter(network=self.network).first()

    @property
    def network_link(self) -> SafeString:
        rule = self.address_rule
        return link(page("ratelimit_addressrule_change", rule.pk) if rule else "", self.network)

    @property
    def rule_reason(self) -> SafeString:
        """Who refuses the network, until when and why, as a sentence."""
        rule, until = self.address_rule, moment(self.row.facts.get("until"))
        if rule is None:
            return SafeString("The rule has been lifted since, so the address is served again.")
        by = self.person(rule.created_by) if rule.created_by else "The gateway itself"
        ends = format_html("until {}", clock(until)) if until else "until somebody lifts it"
        return format_html("{} set this rule, which lasts {}: “{}”.", by, ends, rule.reason)

    def person(self, who: str) -> SafeString:
        """Return the name of an operator as a link; `who` is an id, an email or the name of a command."""
        if not is_uuid(who):
            return conditional_escape(who)
        if who not in self.names.users and (user := User.objects.filter(pk=who).first()):
            self.names.users[who] = user
        return self.names.user(who)

    # The account.

    @property
    def locked_by(self) -> SafeString:
        return self.person(str(self.row.facts.get("locked_by") or "Staff"))

    @property
    def lock_reason(self) -> str:
        return str(self.row.facts.get("lock_reason") or "no reason was given")

    @cached_property
    def lock_event(self) -> AuditEvent | None:
        events = AuditEvent.objects.filter(
            subject=self.user_id, type="user.locked", created_at__lte=self.row.started_at
        )
        return events.order_by("-created_at").first()

    @property
    def lock(self) -> SafeString:
        """Who locked the account, when, why and until when, as sentences."""
        since = clock(self.lock_event.created_at) if self.lock_event else None
        until = moment(self.row.facts.get("locked_until"))
        ends = (
            format_html("until {}", clock(until))
            if until and until.year < FOREVER.year
            else "until somebody unlocks it"
        )
        begun = format_html(" at {}", since) if since else ""
        says = format_html("{} locked it{}, {}: “{}”.", self.locked_by, begun, ends, self.lock_reason)
        return says if self.is_still_locked else format_html("{} It has been unlocked since.", says)

    @property
    def is_still_locked(self) -> bool:
        return self.user_row is not None and self.user_row.is_locked

    @property
    def permission(self) -> str:
        return str(self.row.facts.get("permission") or "that the endpoint requires")

    @property
    def lacking(self) -> SafeString:
        """Why the caller lacks the permission, as a sentence."""
        if self.row.facts.get("needs") == "access_token":
            return format_html("{} may not do this: only a signed-in user may, with an access token.", self.who)
        if self.is_key:
            given = ", ".join(self.key_row.permissions) if self.key_row else ""
            return format_html("{} has only these permissions: {}.", self.who, given or "none")
        return format_html("The role {} of {} does not include it.", self.row.role or "unknown", self.user)

    @property
    def key_state(self) -> SafeString:
        """What is known of an API key that was not accepted, as sentences."""
        if not self.row.credential_id:
            return SafeString("What the client sent does not have the form of an API key.")
        if self.key_row is None:
            return format_html("There is no key with the id {}.", self.row.credential_id)
        owner = format_html("{} of {}", self.key, self.user)
        if self.key_row.revoked_at is not None:
            return format_html("The key {} was revoked at {}.", owner, clock(self.key_row.revoked_at))
        return format_html("The key {} exists, but the secret was wrong.", owner)

    @property
    def epoch(self) -> SafeString:
        """Since when the user's earlier tokens are invalid."""
        at = self.user_row.token_epoch_at if self.user_row else None
        return clock(at) if at else SafeString("an earlier time")

    @property
    def token_minutes(self) -> int:
        return settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES

    # The cluster.

    @property
    def cluster(self) -> SafeString:
        name = self.row.cluster or (self.forwarded.cluster if self.forwarded else "the cluster")
        return link(page("proxy_maintenance_changelist"), name)

    @property
    def instance(self) -> str:
        return self.row.instance or "no instance"

    @property
    def tries(self) -> str:
        """How many instances were tried, as a sentence."""
        attempts: Sequence[Any] = self.row.details.get("attempts", [])
        if len(attempts) < 2:
            return ""
        return f"The gateway tried {len(attempts)} times: {', '.join(each['instance'] for each in attempts)}."

    @property
    def waited(self) -> str:
        """Whether the client left before its answer began, as a sentence."""
        if not self.row.cluster:
            return ""
        if self.row.upstream_status is None:
            return f"Its request had been sent to {self.instance}, which had not answered yet."
        return f"{self.instance} had answered {self.row.upstream_status} after {duration(self.row.upstream_ms or 0)}."

    @property
    def opens(self) -> SafeString:
        """When the cluster is expected back, as a sentence."""
        until = moment(self.row.facts.get("until"))
        return format_html("It is expected back at {}.", clock(until)) if until else SafeString("No end is set.")

    # How often.

    @cached_property
    def alike(self) -> int:
        """How many requests of this address were refused for the same reason in the hour before, this one included."""
        if not self.row.address_key or not self.row.reason:
            return 1
        condition = Equal("address_key", self.row.address_key)
        keys = KeptRequest.objects.filter(**condition.lookups(), pk__lte=self.row.pk, pk__gt=self.hour_before)
        reasons = list(keys.order_by("-pk").values_list("reason", flat=True)[:MAX_ALIKE])
        return reasons.count(self.row.reason)

    @property
    def hour_before(self) -> Any:
        return key_at(datetime.fromtimestamp(self.row.started_at.timestamp() - HOUR_MS / 1000, UTC))

    @property
    def how_often(self) -> SafeString:
        """How often the address was refused like this, as a sentence."""
        if self.alike < 2:
            return format_html("It is the only such request of {} in the hour before.", self.address)
        more = "at least " if self.alike >= MAX_ALIKE else ""
        return format_html(
            "It is one of {}{} such requests of {} within an hour.", more, thousands(self.alike), self.address
        )
