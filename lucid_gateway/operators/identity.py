"""The proof that an operator is who signed in: dangerous actions ask for it again after 15 minutes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.errors import ServiceUnavailable, TooManyAttempts, Unauthenticated

PROOF = "proof"  # the name of the form field
PROVED_AT = "proved_at"  # in the session: seconds since the epoch
PROOF_SECONDS = 15 * 60
CHECK_UNAVAILABLE = "The gateway cannot check passwords right now. Try again shortly."
WRONG_PROOF = "The password or code is wrong."


def note_proof(request: HttpRequest) -> None:
    """Remember that the operator has just entered the password or a code."""
    request.session[PROVED_AT] = int(time.time())


def has_recent_proof(request: HttpRequest) -> bool:
    """Return whether the operator has entered the password or a code in the last 15 minutes."""
    seconds_ago: float = time.time() - request.session.get(PROVED_AT, 0)
    return 0 <= seconds_ago < PROOF_SECONDS


def proof_fields(request: HttpRequest) -> dict[str, forms.Field]:
    """Return the form field for the proof under its name, or nothing if the last proof is recent."""
    if has_recent_proof(request):
        return {}
    field = forms.CharField(
        label="Your password, or a code of your authenticator app", max_length=128, strip=False,
        help_text="Asked again because you last entered it more than 15 minutes ago.",
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip
    return {PROOF: field}


def check_proof(site: AdminSite, request: HttpRequest, proof: str) -> None:
    """Check the proof, and remember it if it is right; raise ValidationError.

    `site.prove_operator(user, proof)` checks it: this module may not import the accounts.
    """
    owner: Any = site
    with as_form_error(WRONG_PROOF):
        owner.prove_operator(request.user, proof)
    note_proof(request)


def too_many_attempts(seconds: int) -> forms.ValidationError:
    """Return the form's error for an attempt that was refused without a check."""
    return forms.ValidationError(f"Too many attempts. Try again in {seconds} seconds.", code="too_many")


@contextmanager
def as_form_error(wrong: str) -> Iterator[None]:
    """Turn the errors of a check of credentials into ValidationError; `wrong` is the text if they are wrong."""
    try:
        yield
    except TooManyAttempts as error:
        raise too_many_attempts(error.details["retry_after"]) from error
    except Unauthenticated as error:
        raise forms.ValidationError(wrong, code="wrong") from error
    except ServiceUnavailable as error:
        raise forms.ValidationError(error.message) from error
    except RedisUnavailable as error:
        raise forms.ValidationError(CHECK_UNAVAILABLE) from error
