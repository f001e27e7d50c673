"""Of a pasted API key or token, only what identifies it stays."""

import pytest

from lucid_gateway.kernel.secrets.pasted import without_secrets


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("lk_abcdefghijkl_" + "s" * 43, "lk_abcdefghijkl"),
        ("lk_abcdefghijkl_half", "lk_abcdefghijkl"),
        ("lk_abcdefghijkl", "lk_abcdefghijkl"),
        ("the key lk_abcdefghijkl_half.", "the key lk_abcdefghijkl"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiJhYmMifQ.c2ln", "Bearer abc"),
        ("eyJhbGciOiJIUzI1NiJ9.bm9uc2Vuc2U.c2ln", ""),
        ("eyJhbGciOiJIUzI1NiJ9.W10.c2ln", ""),
        ("owner@example.org", "owner@example.org"),
    ],
)
def test_secrets_are_replaced_by_what_identifies_them(text: str, left: str) -> None:
    assert without_secrets(text) == left
