"""Workloads about tokens: logins, rotations by one client and by two at once, logouts, locks, and later tries."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from testing.history.clients import Client, claims_of, exchange, succeeded
from testing.history.operations import Kind, Pending
from testing.history.world import Ended, Person
from testing.http.messages import Message

MAIL_SECONDS = 5.0
AGAIN_AFTER = 1.2  # seconds after a lost answer; sooner, it would count as a second client
TRIED = 60  # of the logins that have ended last, one of so many is tried again


def log_in_and_out(client: Client) -> None:
    """Log in with a mailed link, use the login, rotate it, and log out."""
    person = client.world.person()
    tokens = log_in(client, person)
    if tokens is None:
        return
    access, user = tokens["access_token"], person.user
    family = claims_of(access)["family"]
    for _ in range(client.rng.randrange(1, 4)):
        use(client, access, family, user)
    refresh(client, tokens["refresh_token"], family, user)
    log_out(client, access, family, user)


def log_in(client: Client, person: Person) -> Any:
    """Return the tokens of a new login, None if it failed."""
    client = client.from_elsewhere("login")  # an address may log in ten times a minute
    before = len(links_to(client, person))
    gateway = client.world.gateways[client.gateway()]
    if not succeeded(exchange(gateway.port, client.request("POST", "/auth/login", {"email": person.email}))):
        return None
    deadline = time.monotonic() + MAIL_SECONDS
    while len(found := links_to(client, person)) <= before:
        if time.monotonic() > deadline or client.world.stop.wait(0.02):
            return None

    def note(pending: Pending, answer: Message) -> None:
        if succeeded(answer):
            pending.subject = claims_of(answer.json()["access_token"])["family"]

    request = client.request("POST", "/auth/verify", {"email": person.email, "token": found[-1]})
    answer = client.ask(Kind.LOGIN, "", request, note=note, user=person.user)
    return answer.json() if answer is not None and succeeded(answer) else None


def links_to(client: Client, person: Person) -> list[str]:
    """Return the secrets of the links that were mailed to the person."""
    mails = [mail.get_content() for mail in list(client.world.mailbox.mails) if mail["To"] == person.email]
    return [found[1] for mail in mails if (found := re.search(r"token=([\w-]+)", mail))]


def use(client: Client, access: str, family: str, user: str) -> None:
    """Use an access token, at an endpoint of the gateway or of a cluster."""
    path = client.rng.choice(["/users/me", "/chain/info"])
    client.ask(Kind.USE, family, client.request("GET", path, token=access), user=user, family=family, path=path)


def refresh(client: Client, token: str, family: str, user: str) -> Message | None:
    """Trade a refresh token for a new pair."""
    request = client.request("POST", "/auth/refresh", {"refresh_token": token})
    return client.ask(
        Kind.REFRESH, claims_of(token)["jti"], request, user=user, family=family, address=client.address
    )  # fmt: skip


def log_out(client: Client, access: str, family: str, user: str) -> None:
    """End the login, in two tries, and let others try whether it has ended."""
    for _ in range(2):
        request = client.request("POST", "/auth/logout", {}, token=access)
        if succeeded(client.ask(Kind.LOGOUT, family, request, user=user, family=family)):
            client.world.ended.append(Ended(family, user, access))
            return


def rotate_alone(client: Client) -> None:
    """Rotate a login a few times with one client, which asks again once if an answer was lost."""
    person = client.world.person()
    family, token, access = claims_of(person.access)["family"], person.refresh, person.access
    for _ in range(client.rng.randrange(1, 5)):
        answer = refresh(client, token, family, person.user)
        if answer is None or answer.status >= 500:
            time.sleep(AGAIN_AFTER)
            answer = refresh(client, token, family, person.user)
        if answer is None or not succeeded(answer):
            return
        access, token = answer.json()["access_token"], answer.json()["refresh_token"]
        use(client, access, family, person.user)
    log_out(client, access, family, person.user)


def rotate_at_once(client: Client) -> None:
    """Let two clients show the same refresh token at the same time, at the same or another gateway."""
    person = client.world.person()
    family = claims_of(person.access)["family"]
    pair = [client.from_elsewhere(suffix) for suffix in "ab"]
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(refresh, one, person.refresh, family, person.user) for one in pair]
        answers = [one.result() for one in running]
    for answer in answers:
        if answer is not None and succeeded(answer):
            client.world.ended.append(Ended(family, person.user, answer.json()["access_token"]))
            client.pause(2.5)
            refresh(client, answer.json()["refresh_token"], family, person.user)


def use_and_log_out(client: Client) -> None:
    """Use a login and end it."""
    person = client.world.person()
    family = claims_of(person.access)["family"]
    use(client, person.access, family, person.user)
    log_out(client, person.access, family, person.user)


def lock_somebody(client: Client) -> None:
    """Use a login, let the super admin lock its user, and try again."""
    person = client.world.person()
    family = claims_of(person.access)["family"]
    use(client, person.access, family, person.user)
    path = f"/admin/users/{person.user}/lock"
    request = client.request("POST", path, {"reason": "a run of the history checker"}, token=client.world.root)
    if succeeded(client.ask(Kind.LOCK, person.user, request, user=person.user)):
        client.world.ended.append(Ended(family, person.user, person.access))


def try_ended(client: Client) -> None:
    """Use a login that has ended; of the last ones more often, as those may still be accepted somewhere."""
    if ended := client.world.ended[-TRIED:]:
        last = ended[-1 - int(len(ended) * client.rng.random() ** 2)]
        use(client, last.access, last.family, last.user)
