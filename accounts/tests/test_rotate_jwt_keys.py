"""manage.py rotate_jwt_keys. What a rotation does is tested in test_signing_keys.py."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import IssuedToken, SigningKey
from accounts.tokens import signing_keys
from accounts.tokens.issuing import TokenPair
from accounts.tokens.keyring import keyring_cache
from accounts.tokens.signing_keys import RotationUnderway, bootstrap_kid
from testing.plugin import JWT_SECRET_KEY

FIRST = bootstrap_kid(JWT_SECRET_KEY)


@pytest.fixture(autouse=True)
def quick(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotations do not wait, and run in a process that has not read the keys yet."""
    monkeypatch.setattr(signing_keys, "PUBLISHED_AFTER_SECONDS", 0)
    keyring_cache.ring = None


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("rotate_jwt_keys", *arguments, stdout=output)
    return output.getvalue().strip()


def states() -> list[str]:
    return sorted(SigningKey.objects.values_list("state", flat=True))


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("builtins.input", lambda _: text)


def test_it_names_the_key_that_signs_now_and_the_end_of_the_earlier_one() -> None:
    printed = run()

    active = SigningKey.objects.get(state="active").kid
    assert printed == (f"{active} (HS256) signs now; {FIRST} verifies until its last token expires; 0 tokens ended")
    assert states() == ["active", "next", "retiring"]


def test_the_json_output_has_the_ids_of_the_keys() -> None:
    printed = json.loads(run("--json", "--algorithm", "EdDSA"))

    active = SigningKey.objects.get(state="active")
    assert printed == {"active": active.kid, "replaced": [FIRST], "tokens_ended": 0}
    assert active.algorithm == "EdDSA"


def test_the_algorithm_of_the_settings_is_the_default(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"JWT_ALGORITHM": "ES256"})
    run()

    assert SigningKey.objects.get(state="active").algorithm == "ES256"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'none'"):
        run("--algorithm", "none")
    assert states() == []


@pytest.mark.parametrize("how", [[], ["--retire-now"]])
def test_a_dry_run_prints_what_would_happen_and_changes_nothing(how: list[str], tokens: TokenPair) -> None:
    ended = 2 if how else 0

    assert run("--dry-run", *how) == f"would replace {FIRST} with a new HS256 key and end {ended} live tokens"
    assert json.loads(run("--dry-run", "--json", "--algorithm", "RS256", *how)) == {
        "algorithm": "RS256", "replaces": FIRST, "retire_now": bool(how), "tokens_ended": ended,
    }  # fmt: skip
    assert states() == ["active", "next"]
    assert IssuedToken.objects.live().count() == 2


NOT_YES = ["", "no", "y", "YES"]


def test_retiring_now_asks_and_accepts_only_yes(tokens: TokenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in NOT_YES:
        answer(monkeypatch, text)
        with pytest.raises(CommandError, match="nothing was changed"):
            run("--retire-now")

    assert states() == ["active", "next"]
    assert IssuedToken.objects.live().count() == 2


def test_with_yes_every_other_key_and_all_tokens_end(tokens: TokenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "yes")
    printed = run("--retire-now").splitlines()

    assert printed[0] == "All earlier keys and 2 live tokens will be revoked. All users must log in again."
    assert printed[1].endswith(f"signs now; {FIRST} is revoked; 2 tokens ended")
    assert states() == ["active", "next", "revoked", "revoked"]
    assert not IssuedToken.objects.live().exists()


def test_scripts_are_not_asked(tokens: TokenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: str) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", ask)
    assert json.loads(run("--retire-now", "--no-input", "--json"))["tokens_ended"] == 2


def test_a_parallel_rotation_is_refused_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise RotationUnderway

    monkeypatch.setattr("accounts.management.commands.rotate_jwt_keys.rotate", busy)
    with pytest.raises(CommandError, match="another process is rotating the keys"):
        run()


def test_it_works_if_no_key_can_be_decrypted(settings: Settings) -> None:
    run()
    settings.SECRET_KEY, keyring_cache.ring = "another key of an installation 0123456789", None
    run()

    assert keyring_cache.load().active.kid == SigningKey.objects.get(state="active").kid


def test_no_secret_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run() + run("--json") + run("--dry-run") + "".join(capsys.readouterr())

    for key in keyring_cache.load().verifying:
        assert str(key.material.signing) not in printed
    assert JWT_SECRET_KEY not in printed
