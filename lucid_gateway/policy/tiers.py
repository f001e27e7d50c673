"""The rate limits: one row per tier (contract, section 5). Settings, throttles, choices and docs come from the rows."""

from dataclasses import dataclass
from enum import StrEnum

WINDOW_SECONDS = 60
BURST_RENEWS_AFTER_SECONDS = 300


class Counts(StrEnum):
    """Whose requests count together: those of an address, or those of a user or an API key."""

    ADDRESS = "address"
    CALLER = "caller"


class Unit(StrEnum):
    """What a tier counts, and the time to which its rate refers."""

    REQUESTS_PER_MINUTE = "requests per minute"
    BYTES_PER_SECOND = "bytes per second"


@dataclass(frozen=True, slots=True)
class Tier:
    """A limit: `rate` is in its unit; `burst`, in requests or bytes, is allowed on top of it.

    The environment variables `rate_setting` and `burst_setting` override both numbers.
    """

    name: str
    label: str
    subject: Counts
    rate_setting: str
    rate: int
    burst_setting: str
    burst: int
    unit: Unit = Unit.REQUESTS_PER_MINUTE

    @property
    def counts_requests(self) -> bool:
        """Whether the tier counts requests rather than bytes."""
        return self.unit == Unit.REQUESTS_PER_MINUTE


PUBLIC = Tier("public", "Public", Counts.ADDRESS, "RATE_LIMIT_REQUESTS_PER_MINUTE", 100, "RATE_LIMIT_BURST_SIZE", 200)
AUTHENTICATED = Tier(
    "authenticated", "Authenticated", Counts.CALLER, "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE", 1_000,
    "RATE_LIMIT_AUTHENTICATED_BURST_SIZE", 2_000,
)  # fmt: skip
ADMIN = Tier(
    "admin", "Admin", Counts.CALLER, "RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE", 10_000,
    "RATE_LIMIT_ADMIN_BURST_SIZE", 20_000,
)  # fmt: skip
BLOCKCHAIN_QUERY = Tier(
    "blockchain_query", "Blockchain query", Counts.CALLER, "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE", 500,
    "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE", 1_000,
)  # fmt: skip
CHUNK_UPLOAD = Tier(
    "chunk_upload", "Chunk upload (bytes per second)", Counts.CALLER, "RATE_LIMIT_CHUNK_UPLOAD_BYTES_PER_SECOND",
    10_485_760, "RATE_LIMIT_CHUNK_UPLOAD_BURST_BYTES", 20_971_520, Unit.BYTES_PER_SECOND,
)  # fmt: skip
LOGIN_ATTEMPT = Tier(
    "login_attempt", "Login attempt", Counts.ADDRESS, "RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE", 10,
    "RATE_LIMIT_LOGIN_ATTEMPT_BURST_SIZE", 0,
)  # fmt: skip

TIERS = {tier.name: tier for tier in (PUBLIC, AUTHENTICATED, ADMIN, BLOCKCHAIN_QUERY, CHUNK_UPLOAD, LOGIN_ATTEMPT)}
