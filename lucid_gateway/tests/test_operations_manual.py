"""docs/operations.md lists all commands."""

from django.core.management import get_commands

from testing.servers import ROOT

MANUAL = (ROOT / "docs" / "operations.md").read_text()
OWN_APPS = ("accounts", "proxy", "sessions_api")


def test_the_manual_has_every_command() -> None:
    commands = {name for name, app in get_commands().items() if app in OWN_APPS}

    assert commands
    assert {name for name in commands if f"`{name}" not in MANUAL} == set()
