"""The interface of second factors. A new factor is a module with a subclass, and a row in `accounts.factors.table`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from accounts.factors.recovery import use_recovery_code
from accounts.lockouts import charged, signed_in_user
from accounts.models import User
from lucid_gateway.audit.events import Changes, changed
from lucid_gateway.policy.errors import CodeInvalid, NotFound, Unauthenticated


class SecondFactor(ABC):
    """A second factor.

    `name` is the field of a login that holds the proof, `kind` the name in audit events, `enabled` the column of User
    that says whether it is on, `cleared_columns` the columns of an account without it, `secret_columns` those of them
    that the audit log never shows. `wrong_proof` is the error for a wrong proof, `absent_message` that for an account
    without the factor. A factor that `signs` proves itself by signing a challenge.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    enabled: ClassVar[str]
    cleared_columns: ClassVar[Mapping[str, Any]]
    secret_columns: ClassVar[frozenset[str]] = frozenset()
    wrong_proof: ClassVar[type[Unauthenticated]]
    absent_message: ClassVar[str]
    signs: ClassVar[bool] = False

    def is_on(self, user: User) -> bool:
        """Return whether the account has the factor, so that its logins need it."""
        return bool(getattr(user, self.enabled))

    @abstractmethod
    def enrol(self, user: User, **data: str) -> dict[str, Any]:
        """Begin an enrolment with the data of the request; return the answer. Raises AlreadyExists."""

    @abstractmethod
    def confirm(self, user: User, proof: str) -> list[str]:
        """Switch the factor on with a first proof; return new recovery codes if the account had none.

        Raises `wrong_proof`, AlreadyExists, or CodeExpired if no enrolment was begun.
        """

    @abstractmethod
    def prove(self, user: User, proof: str, challenge: str) -> bool:
        """Return whether the proof is right. A proof that works once is used up."""

    @abstractmethod
    def announce_removal(self, user: User, changes: Changes) -> None:
        """Record that the factor was switched off, which changed this, and tell the user."""

    def leave(self, user: User, *, proof: str | None = None, recovery_code: str | None = None) -> None:
        """Switch the factor off. It needs a proof or a recovery code, as the access token may be stolen.

        Raises NotFound if it is not on, `wrong_proof`, CodeInvalid for a wrong recovery code, or TooManyAttempts.
        """
        if not self.is_on(user):
            raise NotFound(self.absent_message)
        if recovery_code is not None:
            spend_recovery_code(user, recovery_code)
        else:
            with charged(signed_in_user(user.pk)):
                if not self.prove(user, proof or "", ""):
                    raise self.wrong_proof()
        changes = self.reset(user)
        user.save(update_fields=[*self.cleared_columns, "updated_at"])
        self.announce_removal(user, changes)

    def reset(self, user: User) -> Changes:
        """Clear the columns of the factor, which the caller saves; return the changes for the audit log."""
        before = {column: getattr(user, column) for column in self.cleared_columns}
        for column, value in self.cleared_columns.items():
            setattr(user, column, value)
        shown = self.cleared_columns.keys() - self.secret_columns
        return changed(before, {column: self.cleared_columns[column] for column in sorted(shown)})


def spend_recovery_code(user: User, code: str) -> None:
    """Use up a recovery code; raise CodeInvalid. No attempt is counted, as nobody can guess such a code."""
    if not use_recovery_code(user, code):
        raise CodeInvalid()
