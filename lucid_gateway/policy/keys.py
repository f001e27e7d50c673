"""The name of every key that the gateway has in Redis.

All keys that one decision reads have the same owner, written in braces: a Redis Cluster keeps keys with the same text
in braces on the same node (Redis Cluster specification, "Hash tags"). The owners are `user:<id>` (also for the user's
tokens and API keys), `ip:<address or /64 network>`, `login:<keyed hash of an email>` and `gateway:<host:port>`.
"""


def in_slot(name: str, tag: str) -> str:
    """Return the key under which a slot of a cluster has a copy of `name`; `tag` is a text that belongs to the slot.

    Outside a cluster, where the tag is empty, there is one key, `name` itself.
    """
    return f"{name}:{{{tag}}}" if tag else name


# Subjects: whose requests are counted. Each begins with its owner.


def user(user_id: object) -> str:
    """Return the subject of a user's requests."""
    return f"{{user:{user_id}}}"


def api_key(user_id: object, key_id: str) -> str:
    """Return the subject of the requests with one of the user's API keys."""
    return f"{{user:{user_id}}}:key:{key_id}"


def address(bucket: str, endpoint: str = "") -> str:
    """Return the subject of an address (IPv4, or an IPv6 /64 network), or of its requests to one endpoint."""
    return f"{{ip:{bucket}}}:{endpoint}" if endpoint else f"{{ip:{bucket}}}"


# The rate limiter.


def rate(subject: str, tier: str) -> str:
    """Return the key of the subject's window and burst in a tier: a hash."""
    return f"{subject}:rate:{tier}"


def quota(subject: str) -> str:
    """Return the key of the subject's daily quota: a hash."""
    return f"{subject}:quota"


def concurrent(subject: str) -> str:
    """Return the key of the leases of the subject's requests in progress: a sorted set, by their end."""
    return f"{subject}:concurrent"


def bandwidth(subject: str, tier: str) -> str:
    """Return the key of the subject's token bucket in a tier that counts bytes: a hash."""
    return f"{subject}:bandwidth:{tier}"


def shadow_refusals(day: int) -> str:
    """Return the key of the refusals in shadow mode on a day (days since the epoch): a hash."""
    return f"shadow_refusals:{day}"


def shadow_subjects(day: int, scope: str) -> str:
    """Return the key of whom shadow mode would have refused on a day: a sorted set of subjects by their refusals.

    The scope is `tier:<name>` for a limit or `network:<network>` for an address rule.
    """
    return f"shadow_subjects:{day}:{scope}"


# Revocation. Redis caches the revocations of the database; the cache is complete while the first of these keys exists.
# In a cluster, each slot has the first key and each master the next three (`in_slot`).

REVOCATIONS_COMPLETE = "revocations:complete"
REBUILD_LEASE = "revocations:rebuild_lease"
REBUILDS_BEGUN = "revocations:rebuilds_begun"
REBUILDS_DONE = "revocations:rebuilds_done"


def rebuild(rebuild_id: str) -> str:
    """Return the key whose existence proves that Redis was not emptied during a rebuild."""
    return f"revocations:rebuild:{rebuild_id}"


def revoked(user_id: object, credential_id: str) -> str:
    """Return the key that exists if a token (by `jti`) or an API key (by id) of the user is revoked."""
    return f"{{user:{user_id}}}:revoked:{credential_id}"


def locked(user_id: object) -> str:
    """Return the key that exists if staff have locked the account."""
    return f"{{user:{user_id}}}:locked"


def epoch(user_id: object) -> str:
    """Return the key of the user's token epoch."""
    return f"{{user:{user_id}}}:epoch"


def ticket(user_id: object, ticket_hash: str) -> str:
    """Return the key of a ticket for a WebSocket: JSON, until it is used."""
    return f"{{user:{user_id}}}:ticket:{ticket_hash}"


EVERY_EPOCH = epoch("*")  # a pattern for SCAN


def user_id_of(key: str) -> str:
    """Return the id of the user who owns the key."""
    return key.partition("{user:")[2].partition("}")[0]


# Logins, lockouts and mailed links. Emails appear only as keyed hashes.


def logins(email_hash: str) -> str:
    """Return the key of the logins that wait for a code or link: a hash."""
    return f"{{login:{email_hash}}}:waiting"


def decoy_logins(email_hash: str, secret: str) -> str:
    """Return a key like that of `logins` that is never read, so that a login with a wrong password takes as long."""
    return f"{{login:{email_hash}}}:decoy:{secret}"


def login_starts(email_hash: str) -> str:
    """Return the key of the number of recently started logins."""
    return f"{{login:{email_hash}}}:starts"


LOCKOUTS = "lockouts"


def lockout(kind: str, name_hash: str) -> str:
    """Return the key of a subject's failed attempts: a hash."""
    return f"lockout:{kind}:{name_hash}"


def mail_link(purpose: str, token_hash: str) -> str:
    """Return the key of a mailed link."""
    return f"mail_link:{purpose}:{token_hash}"


def mail_link_starts(purpose: str, requester_hash: str) -> str:
    """Return the key of the number of links that a person requested recently."""
    return f"mail_link_starts:{purpose}:{requester_hash}"


EVERYTHING_MAILED = (logins("*"), mail_link("*", "*"))  # patterns for SCAN


def wallet_registration(user_id: object) -> str:
    """Return the key of the registration of a hardware wallet, until its first signature: a hash."""
    return f"{{user:{user_id}}}:wallet_registration"


# Forwarding.


def idempotent_request(subject: str, key_hash: str) -> str:
    """Return the key of the record of a forwarded request with an Idempotency-Key: a hash."""
    return f"{subject}:idempotency:{key_hash}"


def probe_lease(gateway: str, instance: str) -> str:
    """Return the key of the lease for the probe of an instance whose breaker is open."""
    return f"{{gateway:{gateway}}}:probe:{instance}"


def health_checker(gateway: str) -> str:
    """Return the key of the lease of the worker that checks the health of the instances."""
    return f"{{gateway:{gateway}}}:health_checker"


def open_breakers(gateway: str) -> str:
    """Return the key of the gateway's open breakers: a hash."""
    return f"{{gateway:{gateway}}}:open_breakers"


def instance_health(gateway: str) -> str:
    """Return the key of the results of the gateway's health checks: a hash."""
    return f"{{gateway:{gateway}}}:health"


def downtimes(gateway: str) -> str:
    """Return the key of the instances that the gateway finds down: a hash."""
    return f"{{gateway:{gateway}}}:downtimes"


# The edge. What it was taught about a caller holds while these two revisions stay the same.

KEYRING_REVISION = "revisions:keyring"
# In a cluster, each master has a hash of all revisions, whose fields are the names of the keys (`in_slot`).
REVISIONS = "revisions"


def limits_revision(shard: int) -> str:
    """Return the key of the revision of the limits of one in 256 callers."""
    return f"revisions:limits:{shard}"


def edge_snapshot(gateway: str) -> str:
    """Return the key of what the gateway tells its edge each second: JSON."""
    return f"{{gateway:{gateway}}}:edge:snapshot"


def edge_addresses(gateway: str) -> str:
    """Return the key of the address rules for the edge: JSON."""
    return f"{{gateway:{gateway}}}:edge:addresses"


def edge_publisher(gateway: str) -> str:
    """Return the key of the lease of the worker that publishes to the edge and reads its reports."""
    return f"{{gateway:{gateway}}}:edge:publisher"


def edge_in_flight(gateway: str) -> str:
    """Return the key of the requests in progress at the edge: a hash, by worker of nginx."""
    return f"{{gateway:{gateway}}}:edge:in_flight"


def edge_reports(gateway: str) -> str:
    """Return the key of what the edge reports to the gateway: a stream."""
    return f"{{gateway:{gateway}}}:edge:reports"


def edge_state(gateway: str) -> str:
    """Return the key of what the gateway knows of its edge from the last reports: JSON."""
    return f"{{gateway:{gateway}}}:edge:state"


WORKER_REPORTS = "worker_reports"
REDIS_PROBE = "redis_probe"
