"""GET /meta/info."""

from pytest_django.fixtures import Settings

from conftest import ApiClient, error_code


def test_info_describes_the_gateway(api: ApiClient) -> None:
    response = api.send("get", "/meta/info")

    assert response.status_code == 200
    assert response.json() == {
        "service": "api-gateway",
        "description": "Primary entry point for all Lucid blockchain system APIs",
        "version": "v1",
        "environment": "test",
        "documentation": None,
    }


def test_info_links_the_documents_if_they_are_served(settings: Settings, api: ApiClient) -> None:
    settings.ENV = settings.ENV.model_copy(update={"API_DOCS_ENABLED": True})

    assert api.send("get", "/meta/info").json()["documentation"] == "http://127.0.0.1:8080/docs"


def test_a_wrong_token_does_not_matter(api: ApiClient) -> None:
    assert api.send("get", "/meta/info", token="wrong").status_code == 200


def test_head_has_no_body(api: ApiClient) -> None:
    response = api.send("head", "/meta/info")

    assert (response.status_code, response.content) == (200, b"")


def test_post_is_not_allowed(api: ApiClient) -> None:
    assert error_code(api.send("post", "/meta/info", data={})) == "4003"
