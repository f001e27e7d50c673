"""No acknowledged write is lost: sessions and chunks read back, and logins that nobody has ended."""

from collections.abc import Iterator

from testing.history.operations import Kind, Operation, Outcome
from testing.history.tokens import Causes
from testing.history.verdicts import Verdict, grouped, verdicts

RULE = "no acknowledged write is lost"
REVOKED = "2003"
Writes = dict[str, list[Operation]]


def check_writes(operations: list[Operation]) -> list[Verdict]:
    """Judge every read by the writes of the same subject, and every refused token by what may have ended it."""
    writes = grouped((one for one in operations if one.kind == Kind.WRITE), lambda one: one.subject)
    reads = [one for one in operations if one.kind == Kind.READ and one.ok]
    uses = [one for one in operations if one.kind == Kind.USE and one.outcome != Outcome.UNKNOWN]
    broken = [*lost_values(writes, reads), *lost_logins(operations, uses)]
    acknowledged = [one for some in writes.values() for one in some if one.ok]
    text = f"{len(acknowledged)} acknowledged writes, {len(reads)} reads, {len(uses)} uses of tokens"
    return verdicts(RULE, [*acknowledged, *reads, *uses], broken, text)


def lost_values(writes: Writes, reads: list[Operation]) -> Iterator[Verdict]:
    """Yield a verdict for each read that misses an acknowledged write."""
    for read in reads:
        ours = [one for one in writes.get(read.subject, []) if not one.refused and one.started < read.ended]
        acknowledged = [one for one in ours if one.ok and one.ended <= read.started]
        allowed = {one.facts["value"] for one in ours if not replaced(one, acknowledged)}
        value = read.facts["value"]
        if value not in allowed and (value is not None or acknowledged):
            text = f"{read.subject} was read as {value!r}, expected one of {sorted(allowed)}"
            yield Verdict(RULE, False, text, (*ours, read))


def replaced(write: Operation, acknowledged: list[Operation]) -> bool:
    """Return whether a later write certainly came after this one. A write with an unknown end may still come."""
    return write.ok and any(later.started >= write.ended for later in acknowledged)


def lost_logins(operations: list[Operation], uses: list[Operation]) -> Iterator[Verdict]:
    """Yield a verdict for each login that has ended although nobody asked for it."""
    causes = Causes(operations)
    for use in uses:
        if not use.refused or use.facts.get("code") != REVOKED:
            continue
        if not any(cause.started < use.ended for cause in causes.of(use)):
            yield Verdict(RULE, False, f"login {use.subject} ended, and nobody had asked for that", (use,))
