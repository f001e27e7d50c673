"""GET /: links for clients that know only the gateway's address."""

import json

from pytest_django.fixtures import Settings

from conftest import ApiClient
from ratelimit.engine.limits import default_limit
from testing.gateway import Gateway
from testing.http.client import RawClient, request_bytes


def test_every_link_of_a_real_gateway_works(gateway: Gateway) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("GET", "/"))
        answer = connection.read_answer()
        links = json.loads(answer.body)["links"]
        statuses = {}
        for name, link in links.items():
            connection.send(request_bytes("GET", link.removeprefix("http://127.0.0.1:8080")))
            statuses[name] = connection.read_answer().status

    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-RateLimit-Limit") == str(default_limit("public").requests_per_minute)
    assert statuses == {"info": 200, "health": 200, "version": 200, "admin": 302, "docs": 200, "openapi": 200}


def test_disabled_documents_have_no_link(settings: Settings, api: ApiClient) -> None:
    settings.ENV = settings.ENV.model_copy(update={"PUBLIC_BASE_URL": "https://gateway.example.org"})

    assert api.get("/").json() == {
        "service": "api-gateway",
        "links": {
            "info": "https://gateway.example.org/api/v1/meta/info",
            "health": "https://gateway.example.org/api/v1/meta/health",
            "version": "https://gateway.example.org/api/v1/meta/version",
            "admin": "https://gateway.example.org/admin/",
            "docs": None,
            "openapi": None,
        },
    }
