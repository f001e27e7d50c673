"""Each request has an id: that of a trusted proxy, or a new one."""

import uuid

import pytest
from pytest_django.fixtures import Settings

from conftest import ApiClient, error_code

GIVEN = "0af7651916cd43dd8448eb211c80319c"


def is_new(request_id: str) -> bool:
    return uuid.UUID(request_id).version == 4 and request_id != GIVEN


@pytest.fixture
def behind_proxy(settings: Settings, api: ApiClient) -> ApiClient:
    """A client whose requests come from a trusted proxy."""
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXIES": ("127.0.0.0/8",)})
    return api


def test_an_untrusted_client_gets_a_new_id(api: ApiClient) -> None:
    response = api.send("get", "/meta/info", headers={"X-Request-ID": GIVEN})

    assert is_new(response["X-Request-ID"])


def test_a_trusted_proxys_id_is_kept(behind_proxy: ApiClient) -> None:
    assert behind_proxy.send("get", "/meta/info", headers={"X-Request-ID": GIVEN})["X-Request-ID"] == GIVEN


@pytest.mark.parametrize("given", ["", "short", "x" * 129, "with space", "a,b,c,d,e,f", "semi;colon", "ümläutüber"])
def test_an_invalid_id_is_replaced(behind_proxy: ApiClient, given: str) -> None:
    response = behind_proxy.send("get", "/meta/info", HTTP_X_REQUEST_ID=given)

    assert is_new(response["X-Request-ID"])


@pytest.mark.parametrize(("path", "code"), [("/nothing-here", "4001"), ("/chain/info", "2001"), ("/%2e%2e/x", "1001")])
def test_errors_contain_the_id(behind_proxy: ApiClient, path: str, code: str) -> None:
    response = behind_proxy.send("get", path, headers={"X-Request-ID": GIVEN})

    assert error_code(response) == code
    assert response.json()["error"]["request_id"] == GIVEN


def test_two_requests_have_two_ids(api: ApiClient) -> None:
    assert api.send("get", "/meta/info")["X-Request-ID"] != api.send("get", "/meta/info")["X-Request-ID"]
