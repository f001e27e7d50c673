"""Incidents on a real gateway: an operator finds cause and remedy from the overview in at most four clicks."""

import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.browser import noted_requests, sign_in
from testing.gateway import Gateway, running_gateway
from testing.http.cluster import RawCluster, saying
from testing.servers import RedisServer, running_redis
from testing.waiting import wait_until

PASSWORD = "Correct-Horse-7"
STAFF = "ada@lucid.test"
MAX_CLICKS = 4
# Staff, and a user and a key for each incident.
MAKE = f"""
from django.contrib.auth.hashers import make_password
from accounts.models import User
password = make_password({PASSWORD!r})
User.objects.create(email={STAFF!r}, username="ada", role="super_admin", password=password)
for name in ("locked", "guessed", "busy", "limited", "denied", "leaked", "uploader", "reused", "caller", "writer"):
    User.objects.create(
        email=f"{{name}}@example.org", username=name, role="node_operator" if name == "writer" else "user",
        password=password, email_verified=True)
"""


@dataclass
class Stage:
    """A running gateway with a cluster of two instances, of which tests break the second."""

    gateway: Gateway
    good: RawCluster
    bad: RawCluster
    redis: RedisServer
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    def token(self, name: str) -> str:
        """Return an access token of the user with that name or email."""
        if name not in self.tokens:
            self.tokens[name] = self.gateway.issue_token(name if "@" in name else f"{name}@example.org")
        return self.tokens[name]

    def ask(self, method: str, path: str, *, by: str = "", **options: Any) -> httpx.Response:
        """Send a request below /api/v1, as the user `by`."""
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {self.token(by)}"} if by else {})
        return httpx.request(method, f"{self.gateway.url}{path}", headers=headers, timeout=60, **options)

    def wait_until_kept(self, count: int, **filters: str) -> None:
        """Wait until the explorer has so many requests with these filters."""
        wait_until(lambda: len(self.kept(filters)) >= count, every=0.5)

    def kept(self, filters: dict[str, str]) -> list[Any]:
        found: list[Any] = self.ask("GET", "/admin/requests", by=STAFF, params=filters).json()["requests"]
        return found

    def shell(self, code: str) -> str:
        """Run Python beside the gateway; return what it printed."""
        return self.gateway.manage("shell", "--no-imports", "--command", code)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with contextlib.ExitStack() as running:
        good, bad = running.enter_context(RawCluster()), running.enter_context(RawCluster())
        sessions, redis = running.enter_context(RawCluster()), running.enter_context(running_redis())
        gateway = running.enter_context(
            running_gateway(
                BLOCKCHAIN_CORE_URL=f"{good.url},{bad.url}",
                SESSION_MANAGEMENT_URL=sessions.url,
                REDIS_URL=redis.url,
                CLUSTER_BREAKER_ENABLED="true",
                CLUSTER_HEALTH_CHECKS_ENABLED="true",
                HEALTH_CHECK_INTERVAL="1",
                TRUSTED_PROXIES="127.0.0.1",
            )
        )
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield Stage(gateway, good, bad, redis)


@pytest.fixture(scope="module")
def cookies(browser: Browser, stage: Stage) -> StorageState:
    return sign_in(browser, stage.base_url, STAFF, PASSWORD)


class Operator:
    """A member of staff at the overview, who may click four times."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0
        self.main = page.get_by_role("main")

    def click(self, name: str | re.Pattern[str], *, row: str = "") -> None:
        """Click the first link or button with that name, of the table's row that contains `row`."""
        self.count_click()
        part = self.main.get_by_role("row").filter(has_text=row) if row else self.main
        part.get_by_role("link", name=name).or_(part.get_by_role("button", name=name)).first.click()

    def find(self, text: str) -> None:
        """Type into the search field of the frame and press Enter, which counts as a click."""
        self.count_click()
        self.page.keyboard.press("Control+k")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def count_click(self) -> None:
        self.clicks += 1
        assert self.clicks <= MAX_CLICKS

    def sees(self, *texts: str | re.Pattern[str]) -> None:
        for text in texts:
            expect(self.main).to_contain_text(text)

    def reloads_until_seen(self, text: str | re.Pattern[str]) -> None:
        """Wait for what gateways write in the background; the overview refreshes itself meanwhile."""
        expect(self.main).to_contain_text(text, timeout=60_000)


@pytest.fixture
def operator(browser: Browser, stage: Stage, cookies: StorageState) -> Iterator[Operator]:
    size = {"width": 1280, "height": 800}
    with browser.new_page(base_url=stage.base_url, storage_state=cookies, viewport=size) as page:
        page.goto("/admin/")
        yield Operator(page)


def test_locked_by_staff(stage: Stage, operator: Operator) -> None:
    stage.gateway.manage("lock_user", "--email", "locked@example.org", "--reason", "a chargeback")

    operator.find("locked@example.org")
    operator.sees("Locked", "a chargeback")
    operator.click("Unlock…")
    operator.click(re.compile("^Unlock"))
    operator.sees("Active")


def test_locked_out_by_failures(stage: Stage, operator: Operator) -> None:
    for _ in range(12):
        stage.ask("POST", "/auth/login", json={"email": "guessed@example.org", "password": "Wrong-Horse-8"})

    operator.find("guessed@example.org")
    operator.sees("paused until")
    operator.click(re.compile("^Lift"))
    operator.click(re.compile("^Lift"))
    operator.sees("Active")


def limit(stage: Stage, name: str, requests: int) -> None:
    """Let the user send so many requests a minute."""
    stage.shell(
        "from accounts.models import User; from ratelimit.ruling import set_limit_rule; "
        f"user = User.objects.get(username={name!r}); set_limit_rule("
        f"tier='authenticated', subject=f'user:{{user.pk}}', limit={requests}, burst=0, by='ada', reason='a trial')"
    )


def test_a_429(stage: Stage, operator: Operator) -> None:
    limit(stage, "busy", 2)
    wait_until(lambda: stage.ask("GET", "/users/me", by="busy").status_code == 429, every=0.1)

    stage.wait_until_kept(1, reason="tier_exhausted")
    operator.reloads_until_seen("tier exhausted")
    operator.click("tier exhausted")
    operator.click("GET /api/v1/users/me")
    operator.sees("the limit of the tier authenticated was used up", "may send 2 requests a minute")
    operator.click("Change the rule…")
    operator.sees("busy@example.org")
    expect(operator.main.get_by_label("Limit")).to_have_value("2")


def over_the_limit(stage: Stage) -> httpx.Response:
    """Return the first answer that a user gets whose limit is three requests a minute."""
    limit(stage, "limited", 3)
    return wait_until(lambda: refusal(stage.ask("GET", "/users/me", by="limited")), every=0.1)


def refusal(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 429 else None


def bad_answer(stage: Stage) -> httpx.Response:
    """Return the answer of a cluster whose instances do not speak HTTP; one is asked, as a POST is not repeated."""
    stage.good.behaviour = stage.bad.behaviour = saying(b"nonsense\r\n\r\n")
    try:
        return stage.ask("POST", "/chain/transactions", by="writer", json={})
    finally:
        stage.good.forget()
        stage.bad.forget()


STATUSES: dict[int, tuple[Callable[[Stage], httpx.Response], str]] = {
    401: (lambda stage: stage.ask("GET", "/users/me", headers={"Authorization": "Bearer a.b.c"}), "not a token"),
    403: (lambda stage: stage.ask("GET", "/admin/users", by="denied"), "admin:read"),
    404: (lambda stage: stage.ask("GET", "/no/such/path", by="denied"), "no endpoint with this path"),
    413: (lambda stage: stage.ask("POST", "/users", content=b"x" * (1024**2 + 1)), "the body was too large"),
    429: (over_the_limit, "may send 3 requests a minute"),
    502: (bad_answer, "not well-formed HTTP"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_request_id_from_a_customer(stage: Stage, operator: Operator, status: int) -> None:
    send, cause = STATUSES[status]
    answer = send(stage)
    assert answer.status_code == status
    request_id = answer.headers["X-Request-ID"]
    stage.wait_until_kept(1, q=request_id)

    operator.find(request_id)
    operator.sees(request_id[:6], str(status), cause)


def test_a_hung_instance(stage: Stage, operator: Operator) -> None:
    stage.bad.behaviour = lambda visit: visit.over.wait(60) and None
    try:
        operator.reloads_until_seen(f"{stage.bad.url} is down")
        operator.click("Clusters")
        operator.sees("Callers are served by")
        operator.click("Take out of service", row=stage.bad.url)
        operator.main.get_by_label("Reason").fill("It does not answer.")
        operator.click("Take the instance out of service")
        expect(operator.main.get_by_role("row").filter(has_text=stage.bad.url)).to_contain_text("drain")
    finally:
        stage.bad.forget()


def test_a_reused_refresh_token(stage: Stage, operator: Operator) -> None:
    issued = stage.gateway.manage("issue_token", "--email", "reused@example.org", "--json")
    refresh = {"refresh_token": httpx.Response(200, text=issued).json()["refresh_token"]}
    assert [stage.ask("POST", "/auth/refresh", json=refresh).status_code for _ in range(2)] == [200, 401]

    operator.reloads_until_seen("refresh token")
    operator.click("Review user")
    operator.sees("A refresh token was used twice")
    operator.click(re.compile("^Lock…"))
    operator.main.get_by_label("Reason").fill("Somebody else has the token.")
    operator.click(re.compile("^Lock"))
    operator.sees("Locked by")


def test_a_lost_redis(stage: Stage, operator: Operator) -> None:
    stage.redis.process.send_signal(signal.SIGSTOP)
    try:
        operator.reloads_until_seen("Redis is unavailable")
        operator.sees("Each worker counts limits on its own")
        operator.click("Requests that failed")
    finally:
        stage.redis.process.send_signal(signal.SIGCONT)


def test_a_leaked_api_key(stage: Stage, operator: Operator) -> None:
    made = stage.shell(
        "from accounts.api_keys import create_api_key; from accounts.models import User; "
        "print(create_api_key(User.objects.get(username='leaked'), name='ci', permissions=['user:read'])[1])"
    )
    key = made.split()[-1]
    for address in ("198.51.100.7", "203.0.113.9"):
        stage.ask("GET", "/admin/users", headers={"X-API-Key": key, "X-Forwarded-For": address})
    stage.wait_until_kept(2, q=key.split("_")[1])
    sent = noted_requests(operator.page)

    operator.find(key)
    operator.sees("ci", "leaked@example.org", "198.51.100.7", "203.0.113.9", "2 kept requests from 2 addresses")
    operator.click("Revoke…")
    operator.click("Revoke API keys")
    operator.sees("1 API key revoked.")
    secret = key.split("_", 2)[2]
    assert not [request.url for request in sent if secret in request.url or secret in (request.post_data or "")]


def test_a_refused_chunk_upload(stage: Stage, operator: Operator) -> None:
    session = stage.ask("POST", "/sessions", by="uploader", json={"name": "a recording"}).json()["session_id"]
    headers = {"Content-Type": "application/octet-stream", "X-Chunk-Index": "0", "X-Chunk-SHA256": "0" * 64}
    answer = stage.ask("POST", f"/sessions/{session}/chunks", by="uploader", content=b"a chunk", headers=headers)
    assert answer.status_code == 422

    stage.wait_until_kept(1, q=f"/api/v1/sessions/{session}/chunks")
    operator.reloads_until_seen("invalid data")
    operator.click("invalid data")
    operator.click(f"POST /api/v1/sessions/{session}/chunks")
    operator.sees("X-Chunk-SHA256", "uploader@example.org")


def test_a_burst_of_5xx(stage: Stage, operator: Operator) -> None:
    stage.good.behaviour = stage.bad.behaviour = saying(b"nonsense\r\n\r\n")
    try:
        for _ in range(3):
            assert stage.ask("GET", "/chain/info", by="caller").status_code in (502, 503)
        stage.wait_until_kept(1, reason="instance_bad_answer")
        operator.reloads_until_seen("instance bad answer")
        operator.click(re.compile("Errors"))
        operator.click("GET /api/v1/chain/info")
        operator.sees("not well-formed HTTP", "blockchain_core")
        operator.click(re.compile("Take .* out of service"))
    finally:
        stage.good.forget()
        stage.bad.forget()


def test_an_attack_from_one_network(stage: Stage, operator: Operator) -> None:
    attacker = {"Authorization": "Bearer a.b.c", "X-Forwarded-For": "198.18.7.31"}
    for host in range(1, 31):
        stage.ask("GET", "/users/me", headers=attacker | {"X-Forwarded-For": f"198.18.7.{host}"})

    operator.reloads_until_seen("198.18.7.0/24")
    operator.click("Block…", row="198.18.7.0/24")
    expect(operator.main.get_by_label("Network")).to_have_value("198.18.7.0/24")
    operator.main.get_by_label("Reason").fill("An attack.")
    operator.click("Save")
    operator.sees("198.18.7.0/24")
    wait_until(lambda: "blocked" in stage.ask("GET", "/meta/info", headers=attacker).text, every=0.25)
