"""The gateway's main job, end to end, with `make run`: users log in, their requests are forwarded and limited."""

import contextlib
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from testing.make_run import Run, make_run
from testing.minutes import early_in_the_minute
from testing.servers import running_mongod
from testing.waiting import wait_until

pytestmark = pytest.mark.planes

EMAIL, PASSWORD = "ada@example.org", "Correct-Horse-7"
LIMIT, BURST = 100, 200  # of the tier blockchain_query: lower than the defaults, for slow machines
SETTINGS = {
    "LOG_FORMAT": "json",
    "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": str(LIMIT),
    "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE": str(BURST),
}
PROCESSES = 4


@pytest.fixture(params=["sqlite", "mongodb"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """`make run` on each database."""
    with contextlib.ExitStack() as stack:
        uri = {"MONGODB_URI": stack.enter_context(running_mongod())} if request.param == "mongodb" else {}
        yield stack.enter_context(make_run(tmp_path, **SETTINGS, **uri))


def log_in(run: Run, email: str, mail: int = 1) -> dict[str, Any]:
    """Log in with the code of the mail; return the tokens."""
    status, _, answer = run.call("POST", "/auth/login", {"email": email})
    assert (status, answer["expires_in"]) == (200, 300)
    code = re.search(r"\b[0-9]{6}\b", run.mailbox.wait_for(email, mail).get_content())
    assert code is not None
    status, _, tokens = run.call("POST", "/auth/verify", {"email": email, "code": code[0]})
    assert status == 200
    return dict(tokens)


def statuses(port: int, token: str, count: int) -> list[int]:
    """Request the blocks `count` times over one connection, and return the statuses. It runs in its own process."""
    connection, found = HTTPConnection("127.0.0.1", port, timeout=30), []
    for _ in range(count):
        connection.request("GET", "/api/v1/chain/blocks?limit=1", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
        found.append(response.status)
    return found


def test_a_user_logs_in_is_forwarded_and_is_limited(run: Run) -> None:
    # The user registers and logs in.
    account = {"email": EMAIL, "username": "ada", "password": PASSWORD}
    status, _, user = run.call("POST", "/users", account)
    assert (status, user["role"]) == (201, "user")
    tokens = log_in(run, EMAIL)
    token = tokens["access_token"]
    assert run.call("GET", "/users/me", token=token)[2]["user_id"] == user["user_id"]

    # Requests with a token are forwarded, others refused.
    assert run.call("GET", "/chain/info")[0] == 401
    status, headers, info = run.call("GET", "/chain/info", token=token)
    assert (status, info["network"]) == (200, "lucid_blocks")
    seen = run.call("GET", "/chain/consensus/echo", token=token)[2]
    sent = {name.lower(): value for name, value in seen["headers"]}
    assert (sent["x-user-id"], sent["x-user-role"]) == (user["user_id"], "user")
    assert "authorization" not in sent

    # Parallel requests of several processes are limited after exactly the allowed number.
    early_in_the_minute(25)
    each = (LIMIT + BURST) // PROCESSES + 25
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(statuses, run.port, token, each) for _ in range(PROCESSES)]
        found = Counter(status for job in jobs for status in job.result())
    assert found == {200: LIMIT + BURST, 429: PROCESSES * 25}
    status, refused, answer = run.call("GET", "/chain/blocks", token=token)
    assert (status, answer["error"]["code"]) == (429, "LUCID_ERR_3001")
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert refused["X-RateLimit-Limit"] == str(LIMIT)

    # A revoked token is refused.
    assert run.call("POST", "/auth/logout", {}, token=token)[0] == 200
    status, _, answer = run.call("GET", "/chain/info", token=token)
    assert (status, answer["error"]["code"]) == (401, "LUCID_ERR_2003")
    assert run.call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})[0] == 401

    # The log confirms all of this. An edge writes its lines within a second.
    total = LIMIT + BURST + PROCESSES * 25 + 1
    wait_until(lambda: sum(line["route"] == "api/v1/chain/blocks" for line in run.access_lines()) == total)
    lines = run.access_lines()
    served = next(line for line in lines if line["request_id"] == headers["X-Request-ID"])
    assert (served["method"], served["route"], served["status"]) == ("GET", "api/v1/chain/info", 200)
    assert (served["cluster"], served["upstream_status"]) == ("blockchain_core", 200)
    assert served["user_id"] == user["user_id"]
    limited = [line for line in lines if line["route"] == "api/v1/chain/blocks"]
    assert Counter(line["status"] for line in limited) == {200: LIMIT + BURST, 429: PROCESSES * 25 + 1}
    assert all(line["cluster"] is None for line in limited if line["status"] == 429)
    output = run.output.read_text().partition("Lucid API Gateway")[0] + "".join(map(str, lines))
    for secret in (token, tokens["refresh_token"], PASSWORD):
        assert secret not in output


def test_the_printed_commands_work(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        lines = [line for line in run.output.read_text().splitlines() if line.startswith("curl ")]
        answers = [subprocess.check_output(["sh", "-c", line], text=True) for line in lines]

    assert json.loads(answers[0])["status"] == "healthy"
    assert json.loads(answers[1])["network"] == "lucid_blocks"
    assert answers[2].startswith("HTTP/1.1 200 OK")
    assert "X-RateLimit-Limit: 500" in answers[2]


def test_a_second_start_is_quick_and_finds_the_data(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        assert run.call("POST", "/users", {"email": EMAIL, "username": "ada", "password": PASSWORD})[0] == 201
        password = run.one_time_password()
    started = time.monotonic()
    with make_run(tmp_path) as run:
        took = time.monotonic() - started
        assert log_in(run, EMAIL)["user"]["username"] == "ada"
        assert run.one_time_password() == password

    assert took < 20  # five seconds on an idle machine; the benchmark has the exact figure
