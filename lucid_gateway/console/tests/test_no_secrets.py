"""A secret in the query of an operator page leaves the address before the page answers."""

from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from accounts.api_keys import create_api_key
from accounts.models import User

PAGES = (
    "/admin/accounts/apikey/", "/admin/accounts/user/", "/admin/ratelimit/limitrule/", "/admin/requests/",
    "/admin/accounts/automaticlockout/", "/admin/routes/", "/admin/preview/",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_the_page_opens_with_the_prefix_alone(page: Client, owner: User, path: str) -> None:
    key, text = create_api_key(owner, name="key", permissions=[])

    answer = page.get(path, {"q": f" {text} ", "o": "1"})

    assert answer.status_code == 302
    assert text[16:] not in answer["Location"]
    assert parse_qs(urlsplit(answer["Location"]).query) == {"q": [f" lk_{key.key_id} "], "o": ["1"]}
    assert urlsplit(answer["Location"]).path == path


def test_a_key_is_found_by_its_pasted_text(page: Client, owner: User) -> None:
    _, text = create_api_key(owner, name="indexer-prod", permissions=[])

    shown = page.get("/admin/accounts/apikey/", {"q": text}, follow=True).content.decode()

    assert "indexer-prod" in shown
    assert text[16:] not in shown


def test_other_queries_are_left_as_they_are(page: Client) -> None:
    assert page.get("/admin/accounts/apikey/", {"q": "lk_abcdefghijkl"}).status_code == 200
