"""Signatures of TRON messages. Those of SIGNED were made by signMessageV2 of tronweb 6.5.1, another implementation."""

import secrets

import base58
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounts.factors.tron_address import is_address
from accounts.factors.tron_message import InvalidSignature, digest, signer

ONE = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC"  # of the private key 1
TWO = "TDvSsdrNM5eeXNL3czpa6AxLDHZA9nwe9K"  # of the private key 2
ANY = "TYy2eZe59pBHRNbNt2vq7aGijuE7wjUdSf"  # of 8f2a559490d6e1b03c77a4fd19c6e258b1740e63a95dd28f6b3e04c7912ba85f
USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"  # a contract that every TRON wallet knows
SIGNED = {
    (ONE, "hello"): (
        "0x1eb45a12a27653b832e450d0fc72b86e70b899fe7bcd2c573144f96d8c84aec7"
        "2ad5057fa7ab80054ee06851b8209ce1957b45f6668c753247976cecad05109c1b"
    ),
    (ONE, ""): (
        "0x5fc8883facaeb9dbebe71ec179c2744f83dc0e4868c6c9a6d63d47b949f33ae4"
        "317dc553f28a9c64b06838dc1adf7f24da330394f05e4ea6318d18608293ffe91b"
    ),
    (ONE, "Log in to Lucid\nNonce: 7f3a\nIssued: 2025-01-31T12:00:00Z\n"): (
        "0xa61d64b7b9f56bc23b6c73949f3bdbd52b59eb59a0bc9ba3927085bda86b5a87"
        "621954764dccd00d949dc334f887cab71aa879b6f37224ad9c9d8bfb42dcc34d1b"
    ),
    (ONE, "ä" * 60): (
        "0xc3b9fe3036dd0814cac1f47868d5ac9910091a082d4da2a06991d0dc5a14bc22"
        "00e2c4945ec14033bf6002b01f9396059ca3c693d28e04b461100ac2b031664b1c"
    ),
    (TWO, "hello"): (
        "0xd96e039d2338b592fda3e30bec3d988393296c7731e8fc16f9081617ed054427"
        "7a86683c3f2c248b6f5969bd8fab9709049f5e0656438ba15b46f318f8f5cbba1c"
    ),
    (TWO, "Grüße aus Zürich 🦊"): (
        "0x1079ad16847099b82396fe5cca9b51dde2a0884d02745b5255f4ffb0f2f9bce9"
        "4b614f2d7fc28b48c1d064fc83992a99bd33dbb5c584d797030ba01f10d290571b"
    ),
    (TWO, "0123456789" * 12): (
        "0x1414f3026fd87dfc7918c6f987a67bd1f96e5b0077b2e575801aeabe8bc92e4d"
        "4829afd686841fab6529641d659e8e4b96bfad8ddc0bae36b7ed0569e84976be1c"
    ),
    (ANY, "hello"): (
        "0x4bf0ec7052c951768f97403e0eabbaf463ddd71a89fde44334a4da7065c7fb88"
        "0f53cf6938720195757d8111cc192757fd3202ec9c37c71e6e3585ff63bb04521c"
    ),
    (ANY, ""): (
        "0x1bd475fe2fbbb5e8a4c102e92e997485a5686924cbe3a439055bca928a25f316"
        "687010c1e656fe1f70956a42ddda1e8eeac52c89960b73000200ac6ecd37d0ea1b"
    ),
    (ANY, "Grüße aus Zürich 🦊"): (
        "0x18598ec095bbda35d7f60efff64bd83da0bad730cbe55d9c2b152c3b6eccd612"
        "44c6fc77350c5250f4870eb220e151560fe6b776d4b19e21c4b5a25ec3fe67541c"
    ),
    (ANY, "0123456789" * 12): (
        "0x329e2e77a8f8489b060211a696e3baec291cdfba1a771862142230a16cbf9016"
        "0fe4a72f4418e3a3efd6516b0b27134996633f050e14ef198297408eda9365fe1b"
    ),
    (ANY, "\r\n\0\ttail "): (
        "0x45eaef3dc3cd69083f1c557efa12b1ed97a23ab9d9cf1e91d16f30d0b144274e"
        "48f1d05306f0ad4a1b862d1ee8c736a3b44cdf102ea74fa90b72487aa463e7ee1b"
    ),
}
HELLO = SIGNED[ONE, "hello"]
R, S = HELLO[2:66], HELLO[66:130]
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# The x of the generator, whose y is even: the r of a signature with the nonce 1 (v 27) or -1 (v 28).
GENERATOR_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
any_text = st.text(st.characters())  # lone surrogates too
almost_hex = st.from_regex(r"(0[xX])?[0-9a-fA-F]{128,132}", fullmatch=True)


def word(number: int) -> str:
    return f"{number:064x}"


def outcome(message: str, signature: str) -> str:
    try:
        return signer(message, signature)
    except InvalidSignature as refusal:
        return str(refusal)


@pytest.mark.parametrize(("address", "message"), SIGNED)
def test_the_signer_of_a_message_signed_by_tronweb_is_found(address: str, message: str) -> None:
    assert signer(message, SIGNED[address, message]) == address


@pytest.mark.parametrize(("address", "message"), SIGNED)
def test_for_another_message_the_signer_is_another_address(address: str, message: str) -> None:
    other = signer(message + " ", SIGNED[address, message])

    assert is_address(other)
    assert other != address


def test_a_flipped_bit_makes_the_signature_invalid_or_that_of_another_address() -> None:
    for bit in range(65 * 8):
        assert outcome("hello", f"{int(HELLO, 16) ^ 1 << bit:0130x}") != ONE, bit


@pytest.mark.parametrize("signature", [HELLO, HELLO[2:], HELLO.upper(), HELLO[2:].upper(), "0x" + HELLO[2:].upper()])
def test_the_prefix_is_optional_and_hex_is_case_insensitive(signature: str) -> None:
    assert signer("hello", signature) == ONE


def test_the_last_byte_may_start_at_0_as_on_a_ledger_or_at_27_as_in_tronweb() -> None:
    assert signer("hello", R + S + "00") == signer("hello", R + S + "1b") == ONE
    assert signer("hello", R + S + "01") == signer("hello", R + S + "1c") != ONE


def test_any_other_last_byte_is_refused() -> None:
    for last in set(range(256)) - {0, 1, 27, 28}:
        with pytest.raises(InvalidSignature, match="last byte"):
            signer("hello", f"{R}{S}{last:02x}")


@pytest.mark.parametrize("last", ["00", "01", "1b", "1c"])
def test_the_same_signature_with_the_high_s_is_refused(last: str) -> None:
    with pytest.raises(InvalidSignature, match="canonical"):
        signer("hello", R + word(ORDER - int(S, 16)) + last)


def test_s_may_be_at_most_half_the_order() -> None:
    assert is_address(signer("hello", R + word(ORDER // 2) + "1b"))
    with pytest.raises(InvalidSignature, match="canonical"):
        signer("hello", R + word(ORDER // 2 + 1) + "1b")


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "0x",
        "hello",
        HELLO[:-2],
        HELLO[:-1],
        HELLO + "0",
        HELLO + "00",
        "0x" + HELLO,
        "1x" + HELLO[2:],
        HELLO + "\n",
        " " + HELLO,
        HELLO[:-4] + "  1b",
        HELLO[:-2] + "0g",
        HELLO[:-2] + "\uff11\uff42",
        HELLO[:-2] + "\ud800\ud800",
    ],
)
def test_a_signature_that_is_not_65_bytes_in_hex_is_refused(signature: str) -> None:
    with pytest.raises(InvalidSignature, match="65 bytes"):
        signer("hello", signature)


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (word(0), S),
        (word(ORDER), S),
        ("f" * 64, S),
        (word(5), S),  # no point of the curve has x = 5
        (R, word(0)),
        (R, word(ORDER)),
        (R, "f" * 64),
        (word(0), word(0)),
    ],
)
@pytest.mark.parametrize("last", ["1b", "1c"])
def test_r_and_s_that_no_key_can_make_are_refused(r: str, s: str, last: str) -> None:
    with pytest.raises(InvalidSignature):
        signer("hello", r + s + last)


def test_a_signature_made_for_the_point_at_infinity_is_refused() -> None:
    number = int.from_bytes(digest(b"hello"))
    last = "1b" if number <= ORDER // 2 else "1c"

    with pytest.raises(InvalidSignature, match="no key"):
        signer("hello", word(GENERATOR_X) + word(min(number, ORDER - number)) + last)


def test_a_message_that_is_not_valid_unicode_has_no_signer() -> None:
    with pytest.raises(InvalidSignature):
        signer("\ud800", HELLO)


@given(any_text, any_text | almost_hex)
@example("hello", "\ud800")
def test_any_text_has_a_signer_or_is_an_invalid_signature(message: str, signature: str) -> None:
    assert outcome(message, signature)


@given(st.text(), st.integers(1, ORDER - 1), st.integers(1, ORDER // 2), st.sampled_from([0, 1, 27, 28]))
def test_the_signer_of_a_well_formed_signature_has_a_valid_address(message: str, r: int, s: int, last: int) -> None:
    found = outcome(message, f"{word(r)}{word(s)}{last:02x}")

    assert is_address(found) or "no key" in found  # about every second r is not the x of a point


@pytest.mark.parametrize("address", [ONE, TWO, ANY, USDT])
def test_a_main_net_address_is_accepted(address: str) -> None:
    assert is_address(address)


def test_every_key_hash_makes_an_address() -> None:
    for key_hash in [bytes(20), b"\xff" * 20, secrets.token_bytes(20)]:
        assert is_address(base58.b58encode_check(b"\x41" + key_hash).decode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        41,
        [ONE],
        ONE.encode(),
        "",
        "T",
        "T" * 34,
        "1" * 34,
        " " * 34,
        ONE[:-1],
        ONE + "1",
        ONE + " ",
        " " + ONE,
        ONE[:-1] + " ",
        ONE[:-1] + "D",  # the last letter should be a C
        ONE[:5] + ONE[6] + ONE[5] + ONE[7:],  # two letters are swapped
        ONE.lower(),
        ONE.upper(),
        ONE[:-1] + "0",  # no letter of Base58
        ONE[:-1] + "\uff23",
        ONE[:-1] + "\ud800",
        "417e5f4552091a69125d5dfcb7b8c2659029395bdf",  # the same address in hex
        base58.b58encode_check(b"\xa0" + bytes(20)).decode(),  # of the old test net
        base58.b58encode_check(b"\x00" + b"\xff" * 20).decode(),  # of Bitcoin
        base58.b58encode_check(b"\x40" + bytes(20)).decode(),
        base58.b58encode_check(b"\x42" + bytes(20)).decode(),
        base58.b58encode_check(b"\x41" + bytes(19)).decode() + " ",  # a byte short, padded to 34 characters
        "T" * 1_000_000,
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_anything_else_is_not_an_address(value: object) -> None:
    assert not is_address(value)


@given(any_text | st.text(st.sampled_from(base58.BITCOIN_ALPHABET.decode()), min_size=34, max_size=34))
def test_a_text_without_a_valid_checksum_is_not_an_address(text: str) -> None:
    assert not is_address(text)
