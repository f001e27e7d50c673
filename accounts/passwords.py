"""The project's own password rules, beside Django's validators (the contract, section 7)."""

from typing import Any

from django.core.exceptions import ValidationError

MAX_LENGTH = 128


class CharacterClassesValidator:
    """Asks for an upper-case letter, a lower-case letter and a digit."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if a kind of character is missing."""
        kinds = (str.isupper, str.islower, str.isdigit)
        if not all(any(kind(character) for character in password) for kind in kinds):
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return "The password must hold an upper-case letter, a lower-case letter and a digit."


class MaximumLengthValidator:
    """Refuses passwords so long that hashing them is an attack."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if the password is too long."""
        if len(password) > MAX_LENGTH:
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return f"The password must be at most {MAX_LENGTH} characters long."
