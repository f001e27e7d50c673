"""Registering an account, below HTTP."""

import pytest

from accounts.models import User
from accounts.users import registration
from accounts.users.registration import register
from lucid_gateway.policy.errors import AlreadyExists

ADA = {"email": "ada@example.org", "username": "ada", "password": "Correct-Horse-7"}


@pytest.mark.parametrize(("other", "field"), [({"username": "other"}, "email"), ({"email": "b@c.org"}, "username")])
@pytest.mark.usefixtures("transactional_db")
def test_the_database_decides_between_parallel_registrations(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, str], field: str
) -> None:
    register(**ADA)
    look, looks = registration.refuse_taken, []

    def look_too_early(*taken: str) -> None:
        looks.append(taken)
        if len(looks) > 1:
            look(*taken)

    monkeypatch.setattr(registration, "refuse_taken", look_too_early)
    with pytest.raises(AlreadyExists) as error:
        register(**(ADA | other))

    assert error.value.details == {"field": field}
    assert User.objects.count() == 1
