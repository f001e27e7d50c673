"""The history is written while it happens, and read back even if the run was cut short."""

import io
import math

import pytest

from testing.history.operations import History, Kind, Outcome, Run, read_history

RUN = Run(seed=7, redis="single", epoch=12.5, limit=5, burst=2, workers=4)


def lines(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines(keepends=True)


def test_operations_and_faults_are_read_back_as_they_were_written() -> None:
    file = io.StringIO()
    history = History(file)
    history.write(RUN)

    with history.fault("flush", "redis", data_lost=True), history.operation("a", Kind.USE, "f", "one", user="u") as one:
        one.answered, one.outcome, one.facts["code"] = True, Outcome.REFUSED, "2003"
    recorded = read_history(lines(file))

    assert recorded.run == RUN
    (operation,), (fault,) = recorded.operations, recorded.faults
    assert (operation.outcome, operation.facts) == (Outcome.REFUSED, {"user": "u", "code": "2003"})
    assert (fault.kind, fault.data_lost) == ("flush", True)
    assert fault.started <= operation.started <= operation.ended <= fault.ended < math.inf


def test_an_operation_that_a_crash_cut_short_is_unknown() -> None:
    file = io.StringIO()
    history = History(file)
    history.write(RUN)

    with history.operation("a", Kind.WRITE, "s", "one", value="x"):
        seen = read_history([*lines(file), '{"entry": "Oper'])

    (operation,) = seen.operations
    assert (operation.outcome, operation.ended) == (Outcome.UNKNOWN, math.inf)


def test_an_error_of_the_client_leaves_the_outcome_unknown() -> None:
    file = io.StringIO()
    history = History(file)
    history.write(RUN)

    with pytest.raises(ConnectionResetError), history.operation("a", Kind.LOGOUT, "f", "one"):
        raise ConnectionResetError

    (operation,) = read_history(lines(file)).operations
    assert (operation.outcome, operation.ended) == (Outcome.UNKNOWN, math.inf)
