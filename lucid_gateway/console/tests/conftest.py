"""Fixtures of the console's tests: the browsers of staff, a mailbox, and a clock of TOTP that stands still."""

import pytest
from pytest_django import Settings

from accounts.tests.conftest import clock, mailbox, page, smtp_server, super_admin_page

__all__ = ["clock", "mailbox", "page", "smtp_server", "super_admin_page"]


@pytest.fixture
def required(settings: Settings) -> None:
    """Staff must have a second factor."""
    settings.ENV = settings.ENV.model_copy(update={"STAFF_SECOND_FACTOR": "required"})


@pytest.fixture
def with_edge(settings: Settings) -> None:
    """An edge is in use."""
    settings.ENV = settings.ENV.model_copy(update={"EDGE_SECRET": "the-secret-of-the-edge-0123456789-abcdef"})
