"""Every exception becomes the envelope, with the API's status, code and headers."""

from typing import Any

import pytest
from django.core import exceptions as django
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.urls import path
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.kernel.error_responses import error_response, translate
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy import errors

ORIGIN = "https://app.example.org"


def fail_in_drf(text: str = "a secret in a text") -> None:
    raise ZeroDivisionError(text)


class FailingView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    def get(self, request: Request) -> None:
        fail_in_drf()


def failing_view(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("a secret in a text")


handler500 = "lucid_gateway.kernel.error_responses.server_error"
urlpatterns = [path("api/v1/drf", FailingView.as_view()), path("api/v1/django", failing_view)]


@pytest.mark.parametrize(
    ("exception", "status", "number"),
    [
        (errors.AlreadyExists(), 409, 4002),
        (drf.ParseError("bad"), 400, 1009),
        (drf.NotAuthenticated(), 401, 2001),
        (drf.AuthenticationFailed(), 401, 2003),
        (drf.PermissionDenied(), 403, 2004),
        (drf.NotFound(), 404, 4001),
        (drf.MethodNotAllowed("PUT"), 405, 4003),
        (drf.NotAcceptable(), 406, 1001),
        (drf.UnsupportedMediaType("text/plain"), 415, 1001),
        (drf.Throttled(2.5), 429, 3001),
        (drf.APIException(), 500, 5001),
        (Http404(), 404, 4001),
        (django.PermissionDenied(), 403, 2004),
        (django.SuspiciousOperation(), 400, 1001),
        (django.DisallowedHost(), 400, 1001),
        (django.BadRequest(), 400, 1001),
        (django.RequestDataTooBig(), 413, 1010),
        (UnreadablePostError(), 400, 1001),
        (OperationalError(), 503, 5002),
        (InterfaceError(), 503, 5002),
        (RedisUnavailable(), 503, 5008),
        (ZeroDivisionError(), 500, 5001),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_exception_has_its_error(exception: Exception, status: int, number: int) -> None:
    error = translate(exception)

    assert (error.status, error.number) == (status, number)


def every_drf_exception() -> list[drf.APIException]:
    """Return one exception of each class that DRF has."""
    arguments: dict[type, str] = {drf.MethodNotAllowed: "PUT", drf.UnsupportedMediaType: "text/plain"}
    kinds = [kind for kind in vars(drf).values() if isinstance(kind, type) and issubclass(kind, drf.APIException)]
    return [kind(arguments[kind]) if kind in arguments else kind() for kind in kinds]


@pytest.mark.parametrize("exception", every_drf_exception(), ids=lambda exception: type(exception).__name__)
def test_each_exception_of_drf_keeps_its_class_of_status(exception: drf.APIException) -> None:
    assert translate(exception).status // 100 == exception.status_code // 100


@pytest.mark.parametrize(
    ("exception", "header", "value"),
    [
        (drf.NotAuthenticated(), "WWW-Authenticate", "Bearer"),
        (errors.TokenExpired(), "WWW-Authenticate", "Bearer"),
        (OperationalError(), "Retry-After", "5"),
        (RedisUnavailable(), "Retry-After", "5"),
        (errors.ServiceUnavailable(retry_after=17), "Retry-After", "17"),
        (drf.Throttled(2.5), "Retry-After", "3"),
        (errors.NotFound(), "Cache-Control", "no-store"),
    ],
    ids=str,
)
def test_a_status_has_its_required_header(exception: Exception, header: str, value: str) -> None:
    assert error_response(None, translate(exception))[header] == value


class Rule(serializers.Serializer[None]):
    priority = serializers.IntegerField(max_value=9)


class Shape(serializers.Serializer[None]):
    name = serializers.CharField(max_length=5, required=False)
    size = serializers.IntegerField(min_value=1, required=False)
    rules = Rule(many=True, required=False)
    tags = serializers.ListField(child=serializers.CharField(max_length=3), required=False)
    owner = Rule(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("name") == "never":
            raise serializers.ValidationError("never say never")
        return attrs


def refusal(data: dict[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """Return the error's number and (field, code) of each problem."""
    with pytest.raises(drf.ValidationError) as caught:
        Shape(data=data).is_valid(raise_exception=True)
    error = translate(caught.value)
    assert error.status == 422
    problems = error.details["validation_errors"]
    assert all(problem["message"] for problem in problems)
    return error.number, [(problem["field"], problem["code"]) for problem in problems]


@pytest.mark.parametrize(
    ("data", "number", "problems"),
    [
        ({"name": "too long"}, 1004, [("name", "max_length")]),
        ({"name": None}, 1002, [("name", "null")]),
        ({"size": "x"}, 1003, [("size", "invalid")]),
        ({"size": 0}, 1004, [("size", "min_value")]),
        ({"size": 0, "name": "too long"}, 1001, [("name", "max_length"), ("size", "min_value")]),
        ({"owner": {}}, 1002, [("owner.priority", "required")]),
        ({"rules": [{"priority": 1}, {"priority": 10}]}, 1004, [("rules.1.priority", "max_value")]),
        ({"rules": "x"}, 1003, [("rules", "not_a_list")]),
        ({"tags": ["abc", "abcd"]}, 1004, [("tags.1", "max_length")]),
        ({"name": "never"}, 1003, [("", "invalid")]),
    ],
)
def test_each_problem_names_its_field(data: dict[str, Any], number: int, problems: list[tuple[str, str]]) -> None:
    assert refusal(data) == (number, problems)


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("view", ["drf", "django"])
def test_an_unknown_exception_reveals_nothing_to_the_client(api: ApiClient, view: str) -> None:
    response = api.send("get", f"/{view}")

    assert (response.status_code, error_code(response)) == (500, "5001")
    assert b"secret" not in response.content
    assert b"Traceback" not in response.content


def test_a_405_lists_the_allowed_methods(api: ApiClient) -> None:
    response = api.send("put", "/meta/info", data={})

    assert (response.status_code, error_code(response)) == (405, "4003")
    assert response["Allow"] == "GET, HEAD, OPTIONS"


def test_a_405_of_a_forwarded_path_lists_the_allowed_methods(api: ApiClient, tokens: TokenPair) -> None:
    response = api.send("delete", "/chain/info", token=tokens.access)

    assert (response.status_code, error_code(response)) == (405, "4003")
    assert response["Allow"] == "GET, HEAD"


def test_a_missing_token_gets_a_challenge(api: ApiClient) -> None:
    response = api.send("get", "/chain/info")

    assert (response.status_code, error_code(response)) == (401, "2001")
    assert response["WWW-Authenticate"] == "Bearer"


def test_an_unknown_path_is_not_found(api: ApiClient) -> None:
    response = api.get("/no/such/page")

    assert (response.status_code, error_code(response)) == (404, "4001")


@pytest.mark.parametrize("url", ["/meta/info", "/nothing-here", "/chain/info", "/%2e%2e/x"])
def test_an_allowed_origin_may_read_every_answer(api: ApiClient, url: str) -> None:
    response = api.send("get", url, headers={"Origin": ORIGIN})

    assert response["Access-Control-Allow-Origin"] == ORIGIN
    assert response["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-ID" in response["Access-Control-Expose-Headers"]
    assert "origin" in response["Vary"].lower()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.org.evil.example"])
def test_another_origin_may_read_nothing(api: ApiClient, origin: str) -> None:
    response = api.send("get", "/chain/info", headers={"Origin": origin})

    assert response.status_code == 401
    assert "Access-Control-Allow-Origin" not in response


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("https://evil.example", False)])
def test_a_preflight_needs_no_token(api: ApiClient, origin: str, allowed: bool) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

    response = api.send("options", "/wallets", headers={"Origin": origin, **asked})

    assert response.status_code in (200, 204)
    assert response.content == b""
    assert ("Access-Control-Allow-Origin" in response) is allowed
    assert not allowed or "authorization" in response["Access-Control-Allow-Headers"]
