"""Each Idempotency-Key has exactly one winner: its request is executed once, however often it is sent."""

from collections.abc import Iterator

from testing.history.operations import Fault, Kind, Operation
from testing.history.verdicts import Verdict, grouped, verdicts

RULE = "each idempotency key has exactly one winner"


def check_keys(operations: list[Operation], faults: list[Fault]) -> list[Verdict]:
    """Judge the executions of each key. A forwarded request may be executed again if Redis lost its data in between."""
    executions = grouped((one for one in operations if one.kind == Kind.EXECUTION), lambda one: one.subject)
    posts = grouped((one for one in operations if one.kind == Kind.POST), lambda one: one.subject)
    losses = [fault for fault in faults if fault.data_lost]
    broken: list[Verdict] = []
    for key, sent in posts.items():
        broken += judge(key, sent, sorted(executions.get(key, []), key=lambda one: one.started), losses)
    judged = [one for some in (*posts.values(), *executions.values()) for one in some]
    twice = sum(len(some) > 1 for some in executions.values())
    text = f"{len(posts)} keys, {len(judged)} requests and executions, {twice} executed again after a loss of Redis"
    return verdicts(RULE, judged, broken, text)


def judge(key: str, sent: list[Operation], executions: list[Operation], losses: list[Fault]) -> Iterator[Verdict]:
    """Yield what is wrong with one key."""
    if any(one.ok for one in sent) and not executions:
        yield Verdict(RULE, False, f"key {key}: acknowledged, but never executed", tuple(sent))
    begun = min(one.started for one in sent)
    for again in executions[1:]:
        between = [loss for loss in losses if loss.started <= again.started and begun <= loss.ended]
        if not (between and sent[0].facts["forwarded"]):
            text = f"key {key}: {len(executions)} executions"
            yield Verdict(RULE, False, text, (*sent, *executions), tuple(losses))
            return
        begun = again.started
