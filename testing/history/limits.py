"""Never more than the limit is admitted while Redis is reachable, and how much more when it is not."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from testing.history.operations import Fault, Kind, Operation, Run
from testing.history.verdicts import Verdict, grouped, verdicts

WITH_REDIS = "never more than the limit is admitted while Redis is reachable"
WITHOUT_REDIS = "without Redis, each worker admits the limit at most"
MINUTE = 60.0
RENEWS_AFTER = 300.0  # seconds without a request of the burst
RECOVERY = 3.0  # seconds in which workers return to a Redis that has come back


@dataclass
class Minute:
    """What one user was admitted in one minute of the clock; `number` is that of the minute since 1970."""

    user: str
    number: int
    started: float
    faults: list[Fault]
    admitted: list[Operation] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """How often Redis lost its counts in the minute."""
        return sum(fault.data_lost for fault in self.faults)

    @property
    def exact(self) -> bool:
        """Whether all workers reached Redis, and it kept its counts."""
        return not any(fault.redis or fault.data_lost for fault in self.faults)


def check_limits(run: Run, operations: list[Operation], faults: list[Fault]) -> list[Verdict]:
    """Judge what each user was admitted in each minute. Requests during which the minute turned are not counted."""
    by_user = grouped((one for one in operations if one.kind == Kind.LIMITED), lambda one: one.subject)
    minutes = [minutes_of(run, user, some, faults) for user, some in by_user.items()]
    flat = [minute for some in minutes for minute in some]
    exact, others = [one for one in flat if one.exact], [one for one in flat if not one.exact]
    broken = [verdict for some in minutes for verdict in over_limit(run, some)]
    text = f"{len(exact)} minutes of users, at most {most(exact)} of {run.limit + run.burst} admitted"
    judged = [one for minute in exact for one in minute.admitted]
    beyond = list(over_local_limits(run, others))
    text_beyond = f"{len(others)} minutes of users, at most {most(others)} admitted, where Redis alone would have "
    text_beyond += f"admitted {run.limit + run.burst}"
    judged_beyond = [one for minute in others for one in minute.admitted]
    return [
        *verdicts(WITH_REDIS, judged, broken, text),
        *verdicts(WITHOUT_REDIS, judged_beyond, beyond, text_beyond),
    ]


def most(minutes: list[Minute]) -> int:
    """Return the most that was admitted in one of the minutes."""
    return max((len(minute.admitted) for minute in minutes), default=0)


def minutes_of(run: Run, user: str, operations: list[Operation], faults: list[Fault]) -> list[Minute]:
    """Return the user's minutes in order, each with the faults that may have mattered in it."""
    minutes: dict[int, Minute] = {}
    for one in sorted(operations, key=lambda one: one.started):
        number = int((run.epoch + one.started) // MINUTE)
        if not one.ok or number != int((run.epoch + one.ended) // MINUTE):
            continue
        if number not in minutes:
            begins = number * MINUTE - run.epoch
            near = [fault for fault in faults if fault.started < begins + MINUTE and begins < fault.ended + RECOVERY]
            minutes[number] = Minute(user, number, begins, near)
        minutes[number].admitted.append(one)
    return list(minutes.values())


def over_limit(run: Run, minutes: list[Minute]) -> Iterator[Verdict]:
    """Yield the minutes in which more was admitted than the limit and what was left of the burst."""
    spent, spent_at = 0, 0.0
    for minute in minutes:
        if minute.lost or minute.started + MINUTE - spent_at >= RENEWS_AFTER:
            spent = 0
        if not minute.exact or (beyond := len(minute.admitted) - run.limit) <= 0:
            continue
        spent, spent_at = spent + beyond, minute.started
        if spent > run.burst:
            text = f"{minute.user} was admitted {len(minute.admitted)} requests in a minute, {spent} of the burst"
            yield Verdict(WITH_REDIS, False, text, tuple(minute.admitted), tuple(minute.faults))


def over_local_limits(run: Run, minutes: list[Minute]) -> Iterator[Verdict]:
    """Yield the minutes in which more was admitted than all workers, and Redis after each loss, may admit together. A
    worker that was started during the minute counts anew.
    """
    for minute in minutes:
        counters = 1 + minute.lost + run.workers * (1 + sum(not fault.redis for fault in minute.faults))
        if len(minute.admitted) > counters * (run.limit + run.burst):
            text = f"{minute.user} was admitted {len(minute.admitted)} requests in a minute by {counters} counters"
            yield Verdict(WITHOUT_REDIS, False, text, tuple(minute.admitted), tuple(minute.faults))
