"""No revoked token is accepted for long, and each refresh token has exactly one winner."""

from collections.abc import Iterator

from testing.history.operations import Kind, Operation, Outcome
from testing.history.verdicts import Verdict, grouped, verdicts

REVOCATION = "no revoked token is accepted later than two seconds after the acknowledgement"
ROTATION = "each rotation has exactly one winner"
SECONDS = 2.0
REUSED = "2010"  # the code of a refused refresh token, whose family has ended
GRACE = (1.0, 30.0)  # seconds in which a client that lost the answer may show its refresh token again


def check_revocations(operations: list[Operation]) -> list[Verdict]:
    """Judge every accepted token by the first acknowledged end of its login or its user. A request that started before
    the acknowledgement may pass however late its answer is.
    """
    ends = first_ends(operations)
    shown = [one for one in operations if one.kind in (Kind.USE, Kind.REFRESH) and family_of(one)]
    broken, judged = [], []
    for one in shown:
        for end in filter(None, (ends.get(family_of(one)), ends.get(one.facts["user"]))):
            late = one.started - end.ended
            if late > 0:
                judged.append(one)
            if one.ok and late > SECONDS:
                text = f"accepted {late:.3f} s after the {end.kind} of {end.subject} was acknowledged"
                broken.append(Verdict(REVOCATION, False, text, (end, one)))
    accepted = sum(one.ok for one in judged)
    text = f"{len(ends)} ends of logins or users, {len(judged)} later requests, {accepted} of them accepted in time"
    return verdicts(REVOCATION, judged, broken, text)


def family_of(one: Operation) -> str:
    """Return the family of the token that was shown."""
    return one.subject if one.kind == Kind.USE else str(one.facts["family"])


def first_ends(operations: list[Operation]) -> dict[str, Operation]:
    """Return the first acknowledged end of each family and user. A refused refresh acknowledges the end, too."""
    ends: dict[str, Operation] = {}
    for one in sorted(operations, key=lambda one: one.ended):
        if one.kind in (Kind.LOGOUT, Kind.LOCK) and one.ok:
            ends.setdefault(one.subject, one)
        if one.kind == Kind.REFRESH and one.refused and one.facts.get("code") == REUSED:
            ends.setdefault(family_of(one), one)
    return ends


class Causes:
    """What may have ended each login, acknowledged or not: logouts, locks, and second uses of a refresh token."""

    def __init__(self, operations: list[Operation]) -> None:
        ends = [one for one in operations if one.kind in (Kind.LOGOUT, Kind.LOCK)]
        refreshes = sorted((one for one in operations if one.kind == Kind.REFRESH), key=lambda one: one.started)
        shown = grouped(refreshes, lambda one: one.subject)
        second = [one for attempts in shown.values() for one in attempts[1:]]
        self.ends = grouped(ends, lambda one: one.subject)
        self.reuses = grouped(second, family_of)

    def of(self, one: Operation) -> list[Operation]:
        """Return what may have ended the login whose token the operation shows."""
        family, user = family_of(one), one.facts["user"]
        return [*self.ends.get(family, []), *self.ends.get(user, []), *self.reuses.get(family, [])]


def check_rotations(operations: list[Operation]) -> list[Verdict]:
    """Judge the attempts with each refresh token: never two winners, not none without a reason, and a client that asks
    again after a lost answer wins.
    """
    attempts = grouped((one for one in operations if one.kind == Kind.REFRESH), lambda one: one.subject)
    ends, broken = Causes(operations), []
    for subject, some in attempts.items():
        causes = [one for one in ends.of(some[0]) if one.subject != subject]
        for text in judge(some, causes):
            broken.append(Verdict(ROTATION, False, f"refresh token {subject}: {text}", (*causes, *some)))
    judged = [one for some in attempts.values() for one in some]
    races = sum(len(some) > 1 for some in attempts.values())
    won = sum(one.ok for one in judged)
    text = f"{len(attempts)} refresh tokens, {races} of them shown more than once, {won} won"
    return verdicts(ROTATION, judged, broken, text)


def judge(attempts: list[Operation], causes: list[Operation]) -> Iterator[str]:
    """Yield what is wrong with the attempts at one rotation; `causes` may have ended the login."""
    if (winners := sum(one.ok for one in attempts)) > 1:
        yield f"{winners} winners"
    if any(cause.started < one.ended for cause in causes for one in attempts):
        return
    if all(one.refused for one in attempts):
        yield "no winner, and no attempt whose end is unknown"
    elif is_lost_answer(attempts) and attempts[1].refused:
        yield "the client that lost the answer was signed out when it asked again"


def is_lost_answer(attempts: list[Operation]) -> bool:
    """Return whether one client asked twice, the second time in the grace after an unknown first outcome."""
    if len(attempts) != 2 or attempts[0].client != attempts[1].client or attempts[0].outcome != Outcome.UNKNOWN:
        return False
    return GRACE[0] <= attempts[1].started - attempts[0].started <= GRACE[1]
