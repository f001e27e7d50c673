"""The promises about accounts, under parallel requests to the two workers of a real gateway."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import pytest
import requests
from django.utils import timezone
from redis import Redis

from accounts.api_keys import MAX_KEYS
from accounts.lockouts import RULES, account
from accounts.models import IssuedToken
from accounts.tests.stage import LOGINS_PER_MINUTE, Person, Stage, from_anywhere, post, running_stage
from accounts.tokens.revocation import publishing
from accounts.tokens.revocation import rebuild as rebuilding
from accounts.tokens.revocation.publishing import Entry
from accounts.tokens.revocation.revoking import revoke
from conftest import PASSWORD
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys
from testing.hammer import api, hammering, outcome, outcomes
from testing.http.client import request_bytes
from testing.http.messages import Message
from testing.minutes import in_one_minute
from testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("db")
MANY = 8
REFRESHES = 20
FREE = RULES["account"].free_failures


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage("parallel") as stage:
        yield stage


@pytest.fixture
def person(stage: Stage) -> Person:
    """A person that no other test uses."""
    return stage.people.pop()


def waits(answers: Iterable[Message]) -> set[int]:
    """Return the seconds to wait that the refusals for too many attempts name."""
    return {int(answer.header("Retry-After") or 0) for answer in answers if answer.status == 429}


@pytest.mark.parametrize("attempt", range(3))
def test_of_parallel_refreshes_one_succeeds_and_the_family_ends(stage: Stage, person: Person, attempt: int) -> None:
    tokens = person.log_in()

    answers = stage.send_all([post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})] * REFRESHES)

    assert outcomes(answers) == {"200": 1, "2010": REFRESHES - 1}
    # A use that finds the family ended and no pair yet is recorded as a refusal.
    reused, refused = person.events("token.reused"), person.events("token.refused")
    assert reused >= 1
    assert reused + refused == REFRESHES - 1
    (new,) = [json.loads(answer.body) for answer in answers if answer.status == 200]
    assert stage.outcome_with(tokens["access_token"]) == stage.outcome_with(new["access_token"]) == "2003"
    assert outcome(stage.ask("POST", "/auth/refresh", {"refresh_token": new["refresh_token"]})) == "2010"


@pytest.mark.parametrize("shown", [["code"], ["token"], ["code", "token"]], ids="+".join)
def test_of_parallel_uses_of_one_mail_one_succeeds(stage: Stage, person: Person, shown: list[str]) -> None:
    mail = person.mail()

    answers = stage.send_all([person.shows(**{name: mail[name]}) for name in shown * (MANY // len(shown))])

    assert outcomes(answers) == {"200": 1, "2006": MANY - 1}
    assert person.events("login.succeeded") == 1


def test_of_parallel_wrong_codes_five_are_checked_and_the_link_still_works(stage: Stage, person: Person) -> None:
    mail = person.mail()
    guesses = [f"{(int(mail['code']) + number) % 10**6:06d}" for number in range(1, 25)]

    seen = outcomes(stage.send_all([person.shows(code=code) for code in guesses]))

    assert seen["2007"] == 5
    assert set(seen) <= {"2007", "2006", "3003"}
    assert person.verify(code=mail["code"]) == "2006"
    assert person.verify(token=mail["token"]) == "200"


@pytest.mark.parametrize("factor", ["totp", "recovery_code"])
def test_of_parallel_logins_with_one_second_factor_one_succeeds(stage: Stage, person: Person, factor: str) -> None:
    person = person.with_totp(person.log_in()["access_token"])
    second = {factor: person.totp() if factor == "totp" else person.recovery_codes[0]}
    first = [{"token": person.mail()["token"]} for _ in range(4)] + [{"password": PASSWORD}] * 4

    seen = outcomes(stage.send_all([person.shows(**shown, **second) for shown in first]))

    assert seen["200"] == 1
    assert set(seen) <= {"200", "2001", "2006", "2007"}
    assert person.events("login.succeeded") == 2  # including the login before TOTP was enabled
    assert person.events("recovery_code.used") == (factor == "recovery_code")


def test_parallel_guesses_lock_out_guessing_and_nothing_else(stage: Stage, person: Person) -> None:
    token = person.log_in()["access_token"]
    person = person.with_totp(token)
    code = person.totp()
    wrong_code = {"password": PASSWORD, "totp": f"{(int(code) + 1) % 10**6:06d}"}
    wrong_password = {"password": "Wrong-Horse-7", "totp": code}

    answers = stage.send_all([person.shows(**guess) for guess in [wrong_code, wrong_password] * FREE])

    assert outcomes(answers) == {"2001": FREE, "3003": FREE}
    assert waits(answers) <= {59, 60}
    mail = person.mail()
    assert person.verify(code=mail["code"], totp=code) == "3003"
    assert person.verify(token=mail["token"], totp=code) == "200"
    assert stage.outcome_with(token) == "200"


def test_each_lockout_is_twice_as_long_as_the_last(stage: Stage, person: Person) -> None:
    failures = account(person.email).key
    guesses = [person.shows(password="Wrong-Horse-7", totp="123456") for _ in range(MANY)]
    stage.redis.client.hset(failures, "n", FREE - 1)

    for wait in (60, 120, 240):
        answers = stage.send_all(guesses)
        assert outcomes(answers) == {"2001": 1, "3003": MANY - 1}
        assert waits(answers) <= {wait, wait - 1}
        stage.redis.client.hset(failures, "u", 0)  # the lockout is over


def test_of_parallel_logins_of_an_account_five_get_a_mail(stage: Stage, person: Person) -> None:
    answers = stage.send_all([post("/auth/login", {"email": person.email}) for _ in range(12)])

    assert outcomes(answers) == {"200": 5, "3003": 7}
    assert all(290 < wait <= 300 for wait in waits(answers))
    stage.mailbox.wait_for(person.email, 5)


def test_of_parallel_logins_from_an_address_ten_a_minute_are_admitted(stage: Stage) -> None:
    def log_in() -> Counter[str]:
        address = from_anywhere()
        logins = [api("POST", "/auth/login", {"email": f"nobody-{i}@example.org"}, address) for i in range(16)]
        return outcomes(stage.send_all(logins))

    assert in_one_minute(log_in) == {"200": LOGINS_PER_MINUTE, "3001": 16 - LOGINS_PER_MINUTE}


@pytest.mark.parametrize("same", ["email", "username"])
def test_of_parallel_registrations_one_succeeds(stage: Stage, same: str) -> None:
    def names(number: int) -> dict[str, str]:
        if same == "email":
            email = "Twins@Example.ORG" if number % 2 else "twins@example.org"
            return {"email": email, "username": f"twin-{number}"}
        return {"email": f"namesake-{number}@example.org", "username": "namesake"}

    answers = stage.send_all([post("/users", names(number) | {"password": PASSWORD}) for number in range(MANY)])

    assert outcomes(answers) == {"201": 1, "4002": MANY - 1}


def admin_session(stage: Stage, person: Person) -> str:
    """Sign the staff member in to the operator pages; return the Cookie field."""
    page = f"http://127.0.0.1:{stage.gateway.port}/admin/login/"
    with requests.Session() as browser:
        browser.get(page)
        shown = {"username": person.email, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post(page, data=shown, headers={"Referer": page}, allow_redirects=False)
        return f"Cookie: sessionid={browser.cookies['sessionid']}"


def lock_by_command(person: Person) -> None:
    person.stage.gateway.manage("lock_user", "--email", person.email)


def lock_by_request(person: Person) -> None:
    person.stage.get("POST", f"/admin/users/{person.user_id}/lock", {"reason": "test"}, token=person.stage.root)


@pytest.mark.planes
@pytest.mark.parametrize("lock", [lock_by_command, lock_by_request])
def test_a_staff_lock_stops_everything_at_once(stage: Stage, person: Person, lock: Callable[[Person], None]) -> None:
    person.takes_role("admin")
    token = person.log_in()["access_token"]
    asked = stage.on_both_planes("token", token=token)
    asked += stage.on_both_planes("key", key=person.api_key(token, "user:read", "blockchain:read"))
    asked += [("page", request_bytes("GET", "/admin/password_change/", admin_session(stage, person)))]
    with hammering(stage.gateway, asked, pause=0.1) as hammer:
        hammer.go_on(3)
        before = [set(hammer.seen(name)) for name, _ in asked]
        lock(person)
        locked = hammer.go_on(3)

    assert before == [{"200"}] * 5
    assert [set(hammer.seen(name, after=locked)) for name, _ in asked] == [{"2005"}] * 4 + [{"302"}]


@pytest.mark.planes
def test_no_request_that_starts_after_a_key_was_revoked_is_admitted(stage: Stage, person: Person) -> None:
    token = person.log_in()["access_token"]
    key = person.api_key(token, "user:read", "blockchain:read")
    asked = stage.on_both_planes("key", key=key)
    with hammering(stage.gateway, asked) as hammer:
        hammer.go_on(20)
        before = [set(hammer.seen(name)) for name, _ in asked]
        stage.get("DELETE", f"/users/me/api-keys/{key.split('_')[1]}", token=token)
        revoked = hammer.go_on(20)

    assert before == [{"200"}] * 2
    assert [set(hammer.seen(name, after=revoked)) for name, _ in asked] == [{"2003"}] * 2


def change_password(person: Person, token: str) -> str:
    data = {"current_password": PASSWORD, "password": "Better-Horse-8"}
    return str(person.stage.get("POST", "/auth/password/change", data, token=token)["access_token"])


def log_out_everywhere(person: Person, token: str) -> str:
    person.stage.get("POST", "/auth/logout", {"everywhere": True}, token=token)
    return person.log_in()["access_token"]


@pytest.mark.planes
@pytest.mark.parametrize("end_all", [change_password, log_out_everywhere])
def test_all_tokens_end_on_all_workers_and_keys_keep_working(
    stage: Stage, person: Person, end_all: Callable[[Person, str], str]
) -> None:
    token, other = (person.log_in()["access_token"] for _ in range(2))
    tokens = stage.on_both_planes("token", token=token) + stage.on_both_planes("other", token=other)
    keys = stage.on_both_planes("key", key=person.api_key(token, "user:read", "blockchain:read"))
    with hammering(stage.gateway, tokens + keys) as hammer:
        hammer.go_on(5)
        before = [set(hammer.seen(name)) for name, _ in tokens]
        new = end_all(person, token)
        ended = hammer.go_on(5)

    assert before == [{"200"}] * 4
    assert [set(hammer.seen(name, after=ended)) for name, _ in tokens] == [{"2003"}] * 4
    assert [set(hammer.seen(name)) for name, _ in keys] == [{"200"}] * 2
    assert outcomes(stage.send_all([api("GET", "/users/me", token=new)] * 4)) == {"200": 4}


@pytest.mark.planes
def test_a_new_role_ends_tokens_and_applies_to_keys_on_all_workers(stage: Stage, person: Person) -> None:
    person.takes_role("admin")
    token = person.log_in()["access_token"]
    key = person.api_key(token, "admin:read", "blockchain:read", "blockchain:write")
    for credential in (token, key):
        stage.gateway.warm(credential, "/chain/info")
    asked = [
        ("token", api("GET", "/admin/users", token=token)),
        ("token, forwarded", api("POST", "/chain/transactions", {}, token=token)),
        ("key", api("GET", "/admin/users", key=key)),
        ("key, forwarded", api("POST", "/chain/transactions", {}, key=key)),
    ]
    with hammering(stage.gateway, asked) as hammer:
        hammer.go_on(5)
        before = [set(hammer.seen(name)) for name, _ in asked]
        person.takes_role("user")
        demoted = hammer.go_on(5)
        as_user = [set(hammer.seen(name, after=demoted)) for name, _ in asked]
        person.takes_role("admin")
        promoted = hammer.go_on(5)

    assert before == [{"200"}] * 4
    assert as_user == [{"2003"}] * 2 + [{"2004"}] * 2
    assert [set(hammer.seen(name, after=promoted)) for name, _ in asked] == [{"2003"}] * 2 + [{"200"}] * 2


def test_of_parallel_requests_for_api_keys_exactly_fifty_get_one(stage: Stage, person: Person) -> None:
    token = person.log_in()["access_token"]
    for _ in range(MAX_KEYS - MANY // 2):
        person.api_key(token, "user:read")
    request = post("/users/me/api-keys", {"name": "a key", "permissions": ["user:read"]}, token=token)

    seen = outcomes(stage.send_all([request] * 2 * MANY))

    assert seen == {"201": MANY // 2, "4003": 3 * MANY // 2}
    assert len(stage.get("GET", "/users/me/api-keys", token=token)["api_keys"]) == MAX_KEYS


@contextlib.contextmanager
def rebuilds(redis: Redis) -> Iterator[list[str]]:
    """Yield a list that gets an entry each time a worker has rebuilt the revocations in Redis."""
    seen: list[str] = []
    with redis.monitor() as monitor:

        def watch() -> None:
            for command in monitor.listen():
                if command["command"].startswith(f"SET {keys.REVOCATIONS_COMPLETE}"):
                    seen.append(command["command"])
                if command["command"] == "ECHO enough":
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield seen
        finally:
            redis.echo("enough")
            watcher.join()


@pytest.mark.planes
def test_no_revoked_token_works_again_when_redis_is_flushed_or_replaced_under_load(
    stage: Stage, person: Person
) -> None:
    live, tokens = person.log_in()["access_token"], person.log_in()
    revoked = [tokens["access_token"]]
    for _ in range(20):
        tokens = stage.get("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        revoked.append(tokens["access_token"])
    stage.get("POST", "/auth/logout", token=revoked[0])
    asked = stage.on_both_planes("live", token=live)
    asked += [("revoked", api("GET", path, token=text)) for text in revoked for path in ("/users/me", "/chain/info")]

    with hammering(stage.gateway, asked, pause=0) as hammer:
        hammer.go_on(5)
        with rebuilds(stage.redis.client) as after_flush:
            for _ in range(5):
                stage.redis.client.flushall()
                wait_until(lambda: stage.redis.client.exists(keys.REVOCATIONS_COMPLETE))
        for _ in range(300):  # some of them in the middle of a rebuild
            stage.redis.client.flushall()
            time.sleep(0.001)
        stage.redis.stop()
        hammer.go_on(2)
        stage.redis.start()
        wait_until(lambda: stage.redis.client.exists(keys.REVOCATIONS_COMPLETE))  # by a worker that tries Redis again
        hammer.go_on(10)
        # The new server counts from its first rebuild, which may happen before the watcher starts.
        after_outage = int(stage.redis.client.get(keys.REBUILDS_BEGUN) or 0)

    assert set(hammer.seen("revoked")) == {"2003"}
    assert [set(hammer.seen(name)) for name in ("live", "live, forwarded")] == [{"200"}] * 2
    # One for each flush; a worker that misses Redis for a moment, as on a busy machine, rebuilds once more.
    assert 5 <= len(after_flush) <= 8
    assert 1 <= after_outage <= 4


@pytest.mark.usefixtures("tokens")
def test_a_cache_that_was_emptied_during_its_rebuild_is_not_complete(
    empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = rebuilding.publish

    def publish_and_lose(server: Server, entries: list[Entry], now: int) -> None:
        publish(server, entries, now=now)
        empty_redis.flushall()

    revoke(IssuedToken.objects.all())
    monkeypatch.setattr(rebuilding, "publish", publish_and_lose)

    with pytest.raises(RedisUnavailable):
        rebuilding.rebuild()
    assert [key for key in empty_redis.scan_iter() if not key.startswith(b"revisions:")] == []


def test_an_entry_added_while_the_publisher_writes_is_written_too(
    empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, publisher = publishing.publish, publishing.Publisher()
    first, second = (Entry(keys.revoked("user", name), timezone.now() + timedelta(minutes=1)) for name in "ab")

    def publish_slowly(server: Server, entries: list[Entry]) -> None:
        publish(server, list(entries))
        if second not in entries:
            publisher.add([second])

    monkeypatch.setattr(publishing, "publish", publish_slowly)
    publisher.add([first])

    assert publisher.wait(5)
    assert empty_redis.exists(first.key, second.key) == 2
