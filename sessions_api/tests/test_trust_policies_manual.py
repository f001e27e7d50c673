"""The examples in docs/trust-policies.md behave as documented."""

import json
import re

import pytest

from sessions_api.comparisons import Undecided
from sessions_api.conditions import ConditionError, parse
from sessions_api.evaluation import decide
from sessions_api.models import TrustPolicy
from sessions_api.serializers.policies import NewPolicySerializer
from testing.servers import ROOT

TEXT = (ROOT / "docs" / "trust-policies.md").read_text()
POLICY, CONTEXT = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
SAYINGS = "holds|does not hold|cannot be decided|is refused"
ROWS = [
    (row[1].replace("\\|", "|"), row[2]) for row in re.finditer(rf"^\| `(.+)` \| ((?:{SAYINGS}).*) \|$", TEXT, re.M)
]


def said_of(condition: str) -> str:
    """Return the result of the condition in the words of the manual."""
    try:
        return "holds" if parse(condition).evaluate(CONTEXT) else "does not hold"
    except Undecided as error:
        return f"cannot be decided: {error}"
    except ConditionError as error:
        return f"is refused at character {error.position}: {error.message}"


@pytest.mark.parametrize(("condition", "saying"), ROWS)
def test_each_condition_behaves_as_its_row_says(condition: str, saying: str) -> None:
    assert said_of(condition) == saying


def test_the_manual_has_rows() -> None:
    assert len(ROWS) == TEXT.split("| condition | |")[1].split("\n\n")[0].count("\n| `")


@pytest.mark.parametrize(("country", "said"), [("CH", ("allow", "office-hours")), ("DE", ("deny", "not-from-abroad"))])
def test_the_policy_of_the_manual_is_valid_and_decides_as_documented(country: str, said: tuple[str, str]) -> None:
    shape = NewPolicySerializer(data=POLICY)
    assert shape.is_valid(), shape.errors
    context = CONTEXT | {"client": {"country": country}}
    decision = decide(TrustPolicy(**shape.validated_data), action="session.view", context=context)
    assert (decision.decision, decision.rule_id) == said
