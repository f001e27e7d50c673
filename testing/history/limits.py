"""Never more than the limit is admitted while Redis is reachable, and how much more when it is not."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from testing.history.operations import Fault, Kind, Operation, Run
from testing.history.verdicts import Verdict, grouped, verdicts

WITH_REDIS = "never more than the limit is admitted while Redis is reachable"
WITHOUT_REDIS = "without Redis, each worker admits the limit at most"
MINUTE = 60.0
RENEWS_AFTER = 300.0  # seconds without a request of the burst
RECOVERY = 3.0  # seconds in which workers return to a Redis that has come back


@dataclass
class Counted:
    """What one user was admitted in one minute of the clock; `number` is that of the minute since 1970.

    `exact` are the requests during which all workers reached Redis, by the number of times that Redis had lost its
    counts before; `others` are the rest.
    """

    user: str
    number: int
    faults: list[Fault]
    exact: dict[int, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    others: list[Operation] = field(default_factory=list)

    @property
    def admitted(self) -> list[Operation]:
        """All admitted requests."""
        return [*(one for some in self.exact.values() for one in some), *self.others]

    @property
    def counters(self) -> int:
        """How many counters, each from 0, can have counted: that of Redis, and those of the workers without it."""
        return 1 + sum(fault.data_lost + fault.new_workers for fault in self.faults)


def check_limits(run: Run, operations: list[Operation], faults: list[Fault]) -> list[Verdict]:
    """Judge what each user was admitted in each minute. Requests during which the minute turned are not counted."""
    by_user = grouped((one for one in operations if one.kind == Kind.LIMITED), lambda one: one.subject)
    of_users = [minutes_of(run, user, some, faults) for user, some in by_user.items()]
    flat = [minute for some in of_users for minute in some]
    broken = [verdict for some in of_users for verdict in over_limit(run, some)]
    exact = [some for minute in flat for some in minute.exact.values()]
    text = f"{len(exact)} stretches, {sum(map(len, exact))} admitted, at most {most(exact)} of {run.limit + run.burst}"
    whole = [minute.admitted for minute in flat if minute.others]
    beyond = f"{len(whole)} minutes with requests near an outage, at most {most(whole)} admitted in one, where Redis "
    beyond += f"alone admits {run.limit + run.burst}"
    return [
        *verdicts(WITH_REDIS, chain.from_iterable(exact), broken, text),
        *verdicts(WITHOUT_REDIS, chain.from_iterable(whole), list(over_local_limits(run, flat)), beyond),
    ]


def most(stretches: list[list[Operation]]) -> int:
    """Return the most that was admitted in one of the stretches."""
    return max(map(len, stretches), default=0)


def minutes_of(run: Run, user: str, operations: list[Operation], faults: list[Fault]) -> list[Counted]:
    """Return the user's minutes in order."""
    minutes: dict[int, Counted] = {}
    for one in sorted(operations, key=lambda one: one.started):
        number = int((run.epoch + one.started) // MINUTE)
        if not one.ok or number != int((run.epoch + one.ended) // MINUTE):
            continue
        if number not in minutes:
            begins = number * MINUTE - run.epoch
            minutes[number] = Counted(user, number, near(faults, begins, begins + MINUTE))
        if any(fault.redis or fault.data_lost for fault in near(faults, one.started, one.ended)):
            minutes[number].others.append(one)
        else:
            lost = sum(fault.data_lost and fault.started < one.started for fault in faults)
            minutes[number].exact[lost].append(one)
    return list(minutes.values())


def near(faults: list[Fault], started: float, ended: float) -> list[Fault]:
    """Return the faults that may have mattered in that time."""
    return [
        fault for fault in faults if fault.started <= ended and started <= fault.ended + RECOVERY * fault.redis
    ]  # fmt: skip


def over_limit(run: Run, minutes: list[Counted]) -> Iterator[Verdict]:
    """Yield the stretches in which more was admitted than the limit and what was left of the burst."""
    spent, spent_at, of_loss = 0, 0, 0
    for minute in minutes:
        for lost, some in minute.exact.items():
            if lost != of_loss or (minute.number - spent_at + 1) * MINUTE >= RENEWS_AFTER:
                spent, of_loss = 0, lost
            beyond = max(0, len(some) - run.limit)
            spent, spent_at = spent + beyond, minute.number if beyond else spent_at
            if beyond and spent > run.burst:
                text = f"{minute.user} was admitted {len(some)} requests in a minute, {spent} of the burst"
                yield Verdict(WITH_REDIS, False, text, tuple(some), tuple(minute.faults))


def over_local_limits(run: Run, minutes: list[Counted]) -> Iterator[Verdict]:
    """Yield the minutes in which more was admitted than all workers, and Redis after each loss, may admit together."""
    for minute in minutes:
        counters = minute.counters + run.workers
        if len(minute.admitted) > counters * (run.limit + run.burst):
            text = f"{minute.user} was admitted {len(minute.admitted)} requests in a minute by {counters} counters"
            yield Verdict(WITHOUT_REDIS, False, text, tuple(minute.admitted), tuple(minute.faults))
