"""A real SMTP server that keeps what it receives."""

import contextlib
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller

from testing.servers import free_port

WAIT_SECONDS = 60.0


class Mailbox:
    """What the server has received, oldest first."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Keep a mail (called by aiosmtpd)."""
        self.mails.append(BytesParser(_class=EmailMessage, policy=default).parsebytes(envelope.original_content))
        return "250 kept"

    def wait_for(self, address: str, count: int = 1) -> EmailMessage:
        """Return the count-th mail to the address; raise AssertionError if it does not come."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = [mail for mail in self.mails if mail["To"] == address]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.02)
        raise AssertionError(f"no mail number {count} to {address}")


@contextlib.contextmanager
def running_smtp_server(port: int | None = None) -> Iterator[tuple[Mailbox, int]]:
    """Run a mail server; yield its mailbox and port."""
    mailbox, port = Mailbox(), port or free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox, port
    finally:
        controller.stop()
