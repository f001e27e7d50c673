"""The steps of a preview for the API, those that were not asked, too."""

from dataclasses import dataclass
from enum import StrEnum

from lucid_gateway.console.preview.case import PreviewCase
from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.explorer.decided import passed_words
from lucid_gateway.explorer.words import plain
from lucid_gateway.kernel.record import Outcome
from lucid_gateway.policy.reasons import REASONS, Step


class State(StrEnum):
    """How a step would end. `observed` passes only because of shadow mode; `unknown` could not be decided."""

    PASSED = "passed"
    REFUSED = "refused"
    FAILED = "failed"
    OBSERVED = "observed"
    NOT_ASKED = "not_asked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its words; `reason` is a name of `policy.reasons`, or None if the step refuses nothing."""

    step: Step
    state: State
    text: str
    reason: str | None = None


def steps_of(case: PreviewCase) -> list[StepView]:
    """Return all steps, in their order."""
    return [step_view(case, step, *outcome_of(case.found, step)) for step in Step]


def outcome_of(found: Preview, step: Step) -> tuple[State, str | None]:
    """Return how the step ended, and its reason; what refuses counts more than what passed."""
    taken = [entry for entry in found.record.steps if entry.step == step]
    for entry in taken:
        if entry.outcome != Outcome.PASSED:
            return State(entry.outcome), entry.reason
    if taken:
        return State.PASSED, None
    return State.UNKNOWN if step in found.unknown else State.NOT_ASKED, None


def step_view(case: PreviewCase, step: Step, state: State, reason: str | None) -> StepView:
    """Return the step with its words."""
    if reason is not None:
        text = REASONS[reason].text
        return StepView(step, state, f"Shadow mode: {text}" if state == State.OBSERVED else text, reason)
    if state == State.PASSED:
        return StepView(step, state, plain(passed_words(case, [step])))
    return StepView(step, state, case.notes.get(step, ""))
