"""Mail without a mail server: mails are printed between two rules, so that a code stands out in the log."""

from django.core.mail import EmailMessage
from django.core.mail.backends import console

RULE = "=" * 78
BOLD, PLAIN = "\033[1m", "\033[0m"


class EmailBackend(console.EmailBackend):
    """Prints what the recipient would read, without the headers for mail servers."""

    def write_message(self, message: EmailMessage) -> None:
        text = f"{RULE}\nTo: {', '.join(message.to)}   {message.subject}\n\n{str(message.body).strip()}\n{RULE}\n"
        bold, plain = (BOLD, PLAIN) if self.stream.isatty() else ("", "")
        self.stream.write(f"\n{bold}{text}{plain}\n")
