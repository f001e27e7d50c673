"""Authentication by access token: only our own, unchanged tokens are accepted (TRAPS, section 2)."""

import time
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from accounts.tests.forge import LEFT_OUT, encode, forge
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code

CHAIN = "/chain/info"


def send(api: ApiClient, authorization: str) -> Any:
    return api.send("get", CHAIN, headers={"Authorization": authorization})


def refusal(api: ApiClient, authorization: str) -> str:
    """Return the error's code, after checking that it is a 401 (in a test without `db` a query would make it a 500)."""
    response = send(api, authorization)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    return error_code(response)


@pytest.fixture
def someone() -> User:
    """A user for tokens; the database is unavailable."""
    return User(email="someone@example.org")


def test_a_token_made_like_ours_is_accepted(api: ApiClient, owner: User) -> None:
    assert error_code(send(api, f"Bearer {forge(owner)}")) == "5005"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  ", " Bearer"])
def test_the_scheme_is_case_insensitive(api: ApiClient, tokens: TokenPair, scheme: str) -> None:
    assert error_code(send(api, f"{scheme} {tokens.access}")) == "5005"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("digest", ["", "sha256"])
def test_a_token_without_a_signature_is_refused(api: ApiClient, someone: User, algorithm: Any, digest: str) -> None:
    token = forge(someone, header={"alg": algorithm}, digest=digest)

    assert refusal(api, f"Bearer {token}") == "2003"
    assert refusal(api, f"Bearer {token.rpartition('.')[0]}.") == "2003"
    assert refusal(api, f"Bearer {token.rpartition('.')[0]}") == "2003"


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [("HS384", "sha384"), ("HS512", "sha512"), ("hs256", "sha256"), ("RS256", "sha256"), ("ES256", "sha256"),
     ("PS256", "sha256"), ("EdDSA", "sha256"), (["HS256"], "sha256"), ({"a": 1}, "sha256")],
)  # fmt: skip
def test_another_algorithm_is_refused_although_the_signature_is_valid(
    api: ApiClient, someone: User, algorithm: Any, digest: str
) -> None:
    assert refusal(api, f"Bearer {forge(someone, header={'alg': algorithm}, digest=digest)}") == "2003"


@pytest.mark.parametrize(
    "kid", [LEFT_OUT, None, "", "unknown", "../../dev/null", "' OR 1=1 --", 0, True, [], {}, "x" * 3000]
)
def test_an_odd_kid_is_refused(api: ApiClient, someone: User, kid: Any) -> None:
    assert refusal(api, f"Bearer {forge(someone, header={'kid': kid})}") == "2003"


@pytest.mark.parametrize(
    "field",
    [{"jwk": {"kty": "oct", "k": "YQ"}}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/x"},
     {"x5c": []}, {"x5t": ""}, {"x5t#S256": ""}, {"crit": ["exp"]}, {"b64": False}, {"zip": "DEF"}],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_a_header_that_points_elsewhere_is_refused(api: ApiClient, someone: User, field: dict[str, Any]) -> None:
    assert refusal(api, f"Bearer {forge(someone, header=field)}") == "2003"


@pytest.mark.parametrize("claim", ["iss", "aud", "iat", "type", "role", "user_id", "family"])
@pytest.mark.parametrize(
    "value", [LEFT_OUT, None, "", "other", 1.5, True, [], ["lucid-api"], {}], ids=lambda value: repr(value)[:12]
)
def test_a_missing_or_wrong_claim_is_refused(api: ApiClient, someone: User, claim: str, value: Any) -> None:
    assert refusal(api, f"Bearer {forge(someone, claims={claim: value})}") == "2003"


@pytest.mark.parametrize("claim", ["exp", "jti"])
@pytest.mark.parametrize("value", [LEFT_OUT, None, [], {}], ids=lambda value: repr(value)[:12])
def test_a_token_without_an_id_or_an_expiry_is_refused(api: ApiClient, someone: User, claim: str, value: Any) -> None:
    assert refusal(api, f"Bearer {forge(someone, claims={claim: value})}") == "2003"


@pytest.mark.parametrize("claim", ["exp", "iat"])
@pytest.mark.parametrize(
    "value", [2e9, float("nan"), float("inf"), float("-inf"), 10**18, 10**30, "2000000000", True, -1, -(10**30)]
)
def test_a_time_that_is_no_valid_number_of_seconds_is_refused(
    api: ApiClient, someone: User, claim: str, value: Any
) -> None:
    assert refusal(api, f"Bearer {forge(someone, claims={claim: value})}") in ("2002", "2003")


def test_a_token_from_the_future_is_refused(api: ApiClient, someone: User) -> None:
    later = int(time.time()) + 3600

    assert refusal(api, f"Bearer {forge(someone, claims={'iat': later})}") == "2003"
    assert refusal(api, f"Bearer {forge(someone, claims={'nbf': later})}") == "2003"


def test_an_expired_token_has_its_own_error_code(api: ApiClient, someone: User) -> None:
    assert refusal(api, f"Bearer {forge(someone, claims={'exp': int(time.time()) - 1})}") == "2002"


def test_an_expired_token_with_a_wrong_signature_is_just_invalid(api: ApiClient, someone: User) -> None:
    token = forge(someone, claims={"exp": int(time.time()) - 1}, secret="another secret")

    assert refusal(api, f"Bearer {token}") == "2003"


@pytest.mark.parametrize("kind", ["refresh", "login", "Access"])
def test_another_kind_of_token_is_refused(api: ApiClient, someone: User, kind: str) -> None:
    assert refusal(api, f"Bearer {forge(someone, claims={'type': kind})}") == "2003"


@pytest.mark.parametrize("secret", ["", "another secret", settings.SECRET_KEY])
def test_another_key_is_refused(api: ApiClient, someone: User, secret: str) -> None:
    assert refusal(api, f"Bearer {forge(someone, secret=secret)}") == "2003"


def test_a_changed_claim_is_refused(api: ApiClient, someone: User) -> None:
    head, _, signature = forge(someone).split(".")
    _, claims, _ = forge(someone, claims={"role": "super_admin"}).split(".")

    assert refusal(api, f"Bearer {head}.{claims}.{signature}") == "2003"


@pytest.mark.parametrize("padding", ["=", "==", "====", "%3D", "\u00a0", "!", "+", "/"])
def test_stray_characters_are_refused(api: ApiClient, someone: User, padding: str) -> None:
    assert refusal(api, f"Bearer {forge(someone)}{padding}") == "2003"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer x", "Bearer a.b", "Bearer a.b.c", "Bearer a.b.c.d.e", "Bearer ...", "Token abc",
     "Basic b3duZXI6cGFzc3dvcmQ=", "Bearer " + "a" * 8000 + ".b.c", "Bearer W10.W10.W10", "Bearer bnVsbA.bnVsbA.x"],
)  # fmt: skip
def test_garbage_is_refused(api: ApiClient, authorization: str) -> None:
    assert refusal(api, authorization) == "2003"


def test_a_deeply_nested_header_is_refused(api: ApiClient) -> None:
    head = encode(b'{"alg":' + b"[" * 6000 + b"]" * 6000 + b"}")

    assert refusal(api, f"Bearer {head}.e30.eA") == "2003"


def test_the_scheme_must_occur_exactly_once(api: ApiClient, someone: User) -> None:
    token = forge(someone)

    assert refusal(api, f"Bearer{token}") == "2003"
    assert refusal(api, f"Bearer Bearer {token}") == "2003"
    assert refusal(api, token) == "2003"


def test_two_tokens_in_one_request_are_refused(api: ApiClient, tokens: TokenPair) -> None:
    response = send(api, f"Bearer {tokens.access},Bearer {tokens.access}")

    assert response.status_code == 400
    assert error_code(response) == "1001"


def test_a_token_in_the_query_or_a_cookie_does_not_count(api: ApiClient, tokens: TokenPair) -> None:
    api.cookies["access_token"] = tokens.access

    assert error_code(api.send("get", f"{CHAIN}?access_token={tokens.access}")) == "2001"


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Bearer x, Bearer y"])
def test_a_flood_without_a_valid_token_meets_the_limit_of_its_address(
    api: ApiClient, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    statuses = [api.send("get", CHAIN, headers=headers).status_code for _ in range(410)]

    assert set(statuses[:300]) <= {400, 401}
    assert statuses[-10:] == [429] * 10  # after 400 even when the minute turned meanwhile


def test_a_flood_with_a_revoked_token_meets_the_limit_of_its_address(api: ApiClient, tokens: TokenPair) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    statuses = [send(api, f"Bearer {tokens.access}").status_code for _ in range(410)]

    assert statuses[:300] == [401] * 300
    assert statuses[-10:] == [429] * 10


def test_a_flood_from_an_address_does_not_block_a_valid_token_from_it(api: ApiClient, tokens: TokenPair) -> None:
    for _ in range(410):
        send(api, "Bearer x")

    assert error_code(send(api, f"Bearer {tokens.access}")) == "5005"
