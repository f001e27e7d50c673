"""A real SMTP server that keeps what it receives."""

import contextlib
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller

from testing.servers import free_port
from testing.waiting import wait_until


class Mailbox:
    """What the server has received, oldest first."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Keep a mail (called by aiosmtpd)."""
        self.mails.append(BytesParser(_class=EmailMessage, policy=default).parsebytes(envelope.original_content))
        return "250 kept"

    def wait_for(self, address: str, count: int = 1, *, subject: str = "") -> EmailMessage:
        """Return the count-th mail to the address, of that subject if given; raise AssertionError if none comes."""

        def found() -> list[EmailMessage]:
            mails = [mail for mail in self.mails if mail["To"] == address and subject in ("", mail["Subject"])]
            return mails[count - 1 : count]

        return wait_until(found)[0]


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
