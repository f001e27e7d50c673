"""manage.py lift_address_rule: the way back for operators who have denied their own address."""

import pytest
from django.core.management import CommandError, call_command

from accounts.tests.operators import actors_of
from ratelimit.models import AddressRule
from ratelimit.rules import address_verdict
from ratelimit.ruling import set_address_rule


def test_the_rule_of_a_network_is_lifted(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    set_address_rule(network="0.0.0.0/0", kind="deny", reason="a slip", by="admin")
    assert address_verdict("192.0.2.7") is not None

    call_command("lift_address_rule", network="0.0.0.0/0")

    assert address_verdict("192.0.2.7") is None
    assert not AddressRule.objects.exists()
    assert actors_of("address.lifted") == [("manage.py", "0.0.0.0/0")]
    assert "the rule of 0.0.0.0/0 was lifted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "reason"), [("192.0.2.1", "has no rule"), ("everybody", "Expected an address or a network")]
)
def test_a_network_without_a_rule_or_an_invalid_one_is_an_error(db: None, network: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("lift_address_rule", network=network)
