"""The one interface of second factors: a new one is a module with a subclass, and a row in `accounts.factors.table`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from accounts.factors.recovery import use_recovery_code
from accounts.login.lockouts import charged, signed_in_user
from accounts.models import User
from lucid_gateway.policy.errors import CodeInvalid, NotFound, Unauthenticated


class SecondFactor(ABC):
    """A second factor.

    `name` is the field of a login that holds the proof, `kind` its word in audit events, `enabled` the column of User
    that says whether an account has it, `without` the columns of an account that does not. A wrong proof is answered
    with `wrong`, an account without the factor with `absent`. What `signs` proves itself over a challenge.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    enabled: ClassVar[str]
    cleared_columns: ClassVar[Mapping[str, Any]]
    wrong_proof: ClassVar[type[Unauthenticated]]
    absent_message: ClassVar[str]
    signs: ClassVar[bool] = False

    def is_on(self, user: User) -> bool:
        """Return whether logins of the account ask for the factor."""
        return bool(getattr(user, self.enabled))

    @abstractmethod
    def enrol(self, user: User, **data: str) -> dict[str, Any]:
        """Begin an enrolment with what the request says; return the answer. Raises AlreadyExists."""

    @abstractmethod
    def confirm(self, user: User, proof: str) -> list[str]:
        """Switch the factor on with a first proof; return recovery codes, if the account had none.

        Raises `wrong`, AlreadyExists, or CodeExpired where no enrolment waits.
        """

    @abstractmethod
    def prove(self, user: User, proof: str, challenge: str) -> bool:
        """Return whether the proof is right, and use it up if it works once."""

    @abstractmethod
    def announce_removal(self, user: User) -> None:
        """Record that the user has left the factor, and tell them."""

    def leave(self, user: User, *, proof: str | None = None, recovery_code: str | None = None) -> None:
        """Switch the factor off: an access token alone does not suffice, or a stolen one would.

        Raises NotFound if it is not on, `wrong` for the proof, CodeInvalid for the recovery code, TooManyAttempts.
        """
        if not self.is_on(user):
            raise NotFound(self.absent_message)
        if recovery_code is not None:
            spend_recovery_code(user, recovery_code)
        else:
            with charged(signed_in_user(user.pk)):
                if not self.prove(user, proof or "", ""):
                    raise self.wrong_proof()
        self.reset(user)
        user.save(update_fields=[*self.cleared_columns, "updated_at"])
        self.announce_removal(user)

    def reset(self, user: User) -> None:
        """Take the factor off the account; the caller saves the columns of `without`."""
        for column, value in self.cleared_columns.items():
            setattr(user, column, value)


def spend_recovery_code(user: User, code: str) -> None:
    """Use a recovery code up; raise CodeInvalid. Nobody can guess one, so no attempt is counted."""
    if not use_recovery_code(user, code):
        raise CodeInvalid()
