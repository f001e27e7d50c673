"""The words for clients, by their user agents."""

import pytest

from lucid_gateway.operators.clients import client_words

MOZILLA = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) "


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (MOZILLA.format("Windows NT 10.0; Win64; x64") + "Chrome/140.0.0.0 Safari/537.36", "Chrome on Windows"),
        (MOZILLA.format("Windows NT 10.0") + "Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        (MOZILLA.format("iPhone; CPU iPhone OS 18_0 like Mac OS X") + "Version/18.0 Safari/604.1", "Safari on iPhone"),
        (MOZILLA.format("Linux; Android 15") + "Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.14.1", "curl 8.14.1"),
        ("python-requests/2.32.5", "python-requests 2.32.5"),
        ("Mozilla/5.0", "Mozilla 5.0"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x" * 200, "x" * 30),
        ("", ""),
    ],
)
def test_a_client_has_words(user_agent: str, words: str) -> None:
    assert client_words(user_agent) == words
