"""The judge: from a history to verdicts, without any input or output."""

from testing.history.idempotency import check_keys
from testing.history.limits import check_limits
from testing.history.operations import Recorded
from testing.history.tokens import check_revocations, check_rotations
from testing.history.verdicts import Verdict
from testing.history.writes import check_writes


def check(history: Recorded) -> list[Verdict]:
    """Return one verdict for each rule that holds, and one for each violation of the others."""
    operations = history.operations
    return [
        *check_writes(operations),
        *check_revocations(operations),
        *check_rotations(operations),
        *check_keys(operations, history.faults),
        *check_limits(history.run, operations, history.faults),
    ]
