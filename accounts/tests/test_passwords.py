"""Hashing of passwords, and this project's rules for them."""

import bcrypt
import pytest
from django.contrib.auth.hashers import check_password, identify_hasher, make_password
from django.core.exceptions import ValidationError

from accounts.login.passwords import CharacterClassesValidator, MaximumLengthValidator

PASSWORD = "Correct-Horse-7"


def test_passwords_are_hashed_with_argon2id() -> None:
    hashed = make_password(PASSWORD)

    assert hashed.startswith("argon2$argon2id$")
    assert check_password(PASSWORD, hashed)
    assert not check_password(PASSWORD + "x", hashed)


def test_bcrypt_hashes_are_accepted() -> None:
    hashed = "bcrypt$" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()

    assert check_password(PASSWORD, hashed)
    assert not check_password(PASSWORD + "x", hashed)
    assert identify_hasher(hashed).must_update(hashed)


def test_an_unset_password_matches_no_input() -> None:
    assert not check_password("", make_password(None))


@pytest.mark.parametrize("password", ["aaaaaaa1", "AAAAAAA1", "Aaaaaaaa", "", "12345678"])
def test_each_kind_of_character_is_required(password: str) -> None:
    with pytest.raises(ValidationError, match="upper-case letter, a lower-case letter and a digit"):
        CharacterClassesValidator().validate(password)


def test_letters_of_any_alphabet_count() -> None:
    CharacterClassesValidator().validate("Äéß-Ж٣")


def test_a_password_has_at_most_128_characters() -> None:
    MaximumLengthValidator().validate("x" * 128)
    with pytest.raises(ValidationError, match="at most 128"):
        MaximumLengthValidator().validate("x" * 129)
