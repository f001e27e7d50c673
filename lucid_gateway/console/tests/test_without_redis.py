"""A real gateway whose Redis is down: a super admin signs in with a code, and every operator page opens."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyotp
import pytest
import requests

from lucid_gateway.console.tests.pages import PAGES, address
from testing.gateway import Gateway, running_gateway
from testing.servers import running_redis

pytestmark = pytest.mark.quiet
EMAIL, PASSWORD, SECRET = "breaker@lucid.test", "Correct-Horse-7", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
# Files and what scripts read.
WITHOUT_FRAME = {
    "jsi18n/",
    "overview.json",
    "alarms.json",
    "audit/auditevent/export/<str:form>/",
    "proxy/maintenance/now.json",
}
MAKE = f"""
import json
from django.contrib.auth.hashers import make_password
from accounts.models import User
from lucid_gateway.console.tests.pages import make_rows
from lucid_gateway.kernel.secrets.encryption import encrypt
staff = User.objects.create(
    email={EMAIL!r}, username="breaker", role="super_admin", password=make_password({PASSWORD!r}),
    totp_enabled=True, totp_secret=encrypt({SECRET!r}))
print(json.dumps(make_rows(staff)))
"""


@dataclass(frozen=True)
class Console:
    """A gateway without Redis, the rows of its pages, and the browser of a super admin who has signed in since."""

    gateway: Gateway
    rows: dict[str, str]
    session: requests.Session

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.gateway.port}{path}"


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    """Redis has worked until the rows were made, and does not come back."""
    with contextlib.ExitStack() as redis, requests.Session() as session:
        server = redis.enter_context(running_redis())
        with running_gateway(REDIS_URL=server.url, REDIS_TIMEOUT_SECONDS="0.3") as gateway:
            rows = json.loads(gateway.manage("shell", "--no-imports", "--command", MAKE))
            redis.close()
            console = Console(gateway, rows, session)
            login = console.url("/admin/login/?next=/admin/")
            session.get(login, timeout=30)
            form = {"username": EMAIL, "password": PASSWORD, "second_factor": pyotp.TOTP(SECRET).now()}
            token = {"csrfmiddlewaretoken": session.cookies["csrftoken"]}
            answer = session.post(login, form | token, timeout=30, allow_redirects=False)
            assert (answer.status_code, answer.headers.get("Location")) == (302, "/admin/"), answer.text
            yield console


def test_every_page_opens_and_says_that_redis_is_down(console: Console) -> None:
    found, silent = {}, []
    for pattern in PAGES:
        path = address(pattern, console.rows)
        with console.session.get(console.url(path), timeout=30, allow_redirects=False) as answer:
            found[pattern] = answer.status_code
            shows_frame = 'id="strip"' in answer.text
            in_words = re.search(r"<b>Redis is unavailable\.?</b>", answer.text)
            if shows_frame and not (in_words and re.search(r'class="dot bad">Redis unavailable', answer.text)):
                silent.append(pattern)
            assert shows_frame or answer.status_code in (302, 405) or pattern in WITHOUT_FRAME, pattern

    assert found == {pattern: page.super_admin for pattern, page in PAGES.items()}
    assert silent == []


def test_the_login_page_says_that_redis_is_down(console: Console) -> None:
    with requests.get(console.url("/admin/login/"), timeout=30) as answer:
        assert "Redis is unavailable. Until it is back, only super admins can sign in" in answer.text


def test_a_code_that_was_used_does_not_open_a_second_session(console: Console) -> None:
    with requests.Session() as other:
        other.get(console.url("/admin/login/"), timeout=30)
        script = f"from accounts.models import User; print(User.objects.get(email={EMAIL!r}).totp_last_step)"
        last_step = console.gateway.manage("shell", "--no-imports", "--command", script)
        used = pyotp.TOTP(SECRET).at(int(last_step) * 30)
        form = {"username": EMAIL, "password": PASSWORD, "second_factor": used}
        token = {"csrfmiddlewaretoken": other.cookies["csrftoken"]}
        answer = other.post(console.url("/admin/login/"), form | token, timeout=30, allow_redirects=False)

        assert answer.status_code == 200
        assert "sessionid" not in other.cookies


def test_the_audit_log_says_how_the_super_admin_got_in(console: Console) -> None:
    script = (
        "from lucid_gateway.audit.models import AuditEvent; print(AuditEvent.objects.get(type='admin.login').details)"
    )

    assert "'break_glass': True" in console.gateway.manage("shell", "--no-imports", "--command", script)
