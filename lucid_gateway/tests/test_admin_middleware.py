"""The operator pages have sessions and CSRF tokens; the API has no cookies."""

import pytest
from django.test import Client

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from conftest import PASSWORD, ApiClient, error_code

LOGIN = "/admin/login/"


@pytest.fixture
def browser() -> Client:
    """A client that enforces CSRF checks, like a browser."""
    return Client(enforce_csrf_checks=True, HTTP_HOST="testserver", raise_request_exception=False)


def test_the_api_sets_no_cookie(api: ApiClient, tokens: TokenPair) -> None:
    for path in ("/meta/info", "/users/me", "/nothing-here"):
        assert not api.send("get", path, token=tokens.access).cookies


def test_the_api_ignores_a_session(browser: Client, super_admin: User) -> None:
    browser.force_login(super_admin)

    assert browser.get("/api/v1/users/me").status_code == 401
    assert browser.post("/api/v1/auth/login", data="{}", content_type="application/json").status_code == 422


def test_an_operator_logs_in(browser: Client, super_admin: User) -> None:
    page = browser.get(LOGIN)
    form = {
        "username": super_admin.email,
        "password": PASSWORD,
        "csrfmiddlewaretoken": page.cookies["csrftoken"].value,
    }

    response = browser.post(LOGIN, form)

    assert (response.status_code, response["Location"]) == (302, "/accounts/profile/")
    assert response.cookies["sessionid"]["httponly"]
    assert response.cookies["sessionid"]["path"] == "/admin"
    assert browser.get("/admin/").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_a_failed_csrf_check_gets_a_page(browser: Client, method: str) -> None:
    response = getattr(browser, method)(LOGIN)

    assert (response.status_code, response["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "LUCID_ERR_2004" in response.content.decode()
    assert "Form expired" in response.content.decode()


def test_a_plain_user_cannot_open_the_operator_pages(browser: Client, owner: User) -> None:
    browser.force_login(owner)

    response = browser.get("/admin/")

    assert (response.status_code, response["Location"]) == (302, "/admin/login/?next=/admin/")


@pytest.mark.django_db
def test_the_pages_cannot_be_framed(browser: Client) -> None:
    response = browser.get(LOGIN)

    assert response["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [LOGIN, "/admin", "/admin/", "/admin/nothing", "/admin/login/?next=/admin/"])
def test_operator_pages_run_only_the_gateways_own_script_files(browser: Client, path: str) -> None:
    policy = dict(part.strip().split(" ", 1) for part in browser.get(path)["Content-Security-Policy"].split(";"))

    assert policy["default-src"] == policy["base-uri"] == "'none'"
    assert {value for name, value in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert policy["form-action"] == "'self'"


@pytest.mark.django_db
def test_the_api_has_no_policy_for_pages(browser: Client) -> None:
    assert "Content-Security-Policy" not in browser.get("/api/v1/meta/info")


@pytest.mark.django_db
def test_a_path_with_the_same_prefix_is_not_an_operator_page(browser: Client) -> None:
    response = browser.get("/administration")

    assert error_code(response) == "4001"
    assert not response.cookies
