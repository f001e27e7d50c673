"""The operator page for automatic lockouts."""

import pytest
from django.test import Client

from accounts.lockouts import GuessAttempt, LockoutSubject, account, second_factor
from accounts.models import User
from accounts.tests.conftest import failures_of
from accounts.tests.operators import actors_of, messages_of, signed_in
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import Outage, breaker

LIST = "/admin/accounts/automaticlockout/"
ADDRESS = LockoutSubject("address", "2001:db8::/64")


def lock_out(subject: LockoutSubject, failures: int) -> None:
    """Let the subject fail that often; record the last failure in the audit log."""
    for _ in range(failures - 1):
        GuessAttempt(subject)
    GuessAttempt(subject).fail()


@pytest.fixture
def lockouts(db: None) -> None:
    """An address and an account are locked out; another account has failures but no lockout yet."""
    lock_out(account("guessed@example.org"), 10)
    lock_out(ADDRESS, 20)
    lock_out(account("lucky@example.org"), 9)


def listed(client: Client) -> list[tuple[str, str, int]]:
    """Return (kind, name, failures) of the listed lockouts."""
    found = client.get(LIST).context["lockouts"]
    return [(lockout.subject.kind, lockout.subject.name, lockout.failures) for lockout in found]


def lift(client: Client, subject: str) -> list[str]:
    """Press the button of a row; return the messages on the page that follows."""
    return messages_of(client.post(LIST, {"subject": subject}, follow=True))


def test_active_lockouts_are_listed(page: Client, lockouts: None) -> None:
    assert sorted(listed(page)) == [("account", "guessed@example.org", 10), ("address", "2001:db8::/64", 20)]

    shown = page.get(LIST).content.decode()
    assert "guessed@example.org" in shown
    assert "lucky@example.org" not in shown


def test_without_lockouts_the_page_says_so(page: Client) -> None:
    assert "There are no active lockouts." in page.get(LIST).content.decode()


def test_a_lockout_is_lifted(page: Client, lockouts: None) -> None:
    assert lift(page, "account:guessed@example.org") == ["The lockout of guessed@example.org was lifted."]

    assert [name for _, name, _ in listed(page)] == ["2001:db8::/64"]
    assert failures_of(account("guessed@example.org")) == 0
    GuessAttempt(account("guessed@example.org"))


def test_the_lockout_of_an_address_is_lifted(page: Client, lockouts: None) -> None:
    assert lift(page, ADDRESS.text) == ["The lockout of 2001:db8::/64 was lifted."]

    assert [name for _, name, _ in listed(page)] == ["guessed@example.org"]


def test_a_lockout_of_second_factors_is_lifted(page: Client) -> None:
    lock_out(second_factor("guessed@example.org"), 10)

    assert lift(page, "second-factor:guessed@example.org") != []
    assert listed(page) == []


def test_an_admin_cannot_lift_the_lockouts_of_other_staff(page: Client, super_admin: User) -> None:
    lock_out(account(super_admin.email), 10)

    assert 'name="subject"' not in page.get(LIST).content.decode()
    text = f"account:{super_admin.email}"
    assert lift(page, text) == ["Only a super admin may lift the lockout of other staff."]
    assert [name for _, name, _ in listed(page)] == [super_admin.email]

    assert lift(signed_in(super_admin), text) == [f"The lockout of {super_admin.email} was lifted."]


def test_a_lockout_that_is_not_active_is_not_lifted(page: Client, lockouts: None) -> None:
    assert lift(page, "account:lucky@example.org") == []
    assert actors_of("lockout.lifted") == []


def test_lifting_is_recorded_with_the_operator_and_the_subject_of_the_lockout(
    page: Client, admin: User, lockouts: None
) -> None:
    lift(page, ADDRESS.text)

    (subject,) = AuditEvent.objects.filter(type="lockout.started", details={"counted": "address"}).values_list(
        "subject", flat=True
    )
    assert actors_of("lockout.lifted") == [(str(admin.pk), subject)]


@pytest.mark.parametrize("subject", ["", "nonsense", "king:arthur", "lockouts"])
def test_an_unknown_subject_is_ignored(page: Client, lockouts: None, subject: str) -> None:
    assert lift(page, subject) == []

    assert len(listed(page)) == 2
    assert actors_of("lockout.lifted") == []


def test_the_button_needs_its_csrf_token(admin: User, lockouts: None) -> None:
    client = Client(HTTP_HOST="testserver", enforce_csrf_checks=True)
    client.force_login(admin)

    assert client.post(LIST, {"subject": ADDRESS.text}).status_code == 403


def test_without_redis_the_page_says_that_the_lockouts_are_unknown(page: Client, lockouts: None) -> None:
    breaker.outage = Outage()

    for response in (page.get(LIST), page.post(LIST, {"subject": ADDRESS.text})):
        assert messages_of(response) == ["Redis is unavailable: the lockouts are unknown."]
        assert response.status_code == 200
        assert "There are no active lockouts" not in response.content.decode()
    breaker.outage = None
    assert len(listed(page)) == 2


@pytest.mark.parametrize("path", ["1/change/", "add/", "1/delete/", "1/history/"])
def test_a_lockout_has_no_page_of_its_own(super_admin_page: Client, path: str) -> None:
    assert super_admin_page.get(f"{LIST}{path}").status_code == 404


def test_subjects_of_lockouts_are_escaped(page: Client) -> None:
    lock_out(account("<script>alert(1)</script>"), 10)

    assert "<script>alert" not in page.get(LIST).content.decode()
