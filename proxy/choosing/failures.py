"""Why an instance failed, in a few words for operators, such as `connection refused` or `no answer within 2 s`."""

import os
import socket
import ssl

from lucid_gateway.policy.errors import BadUpstreamAnswer, UpstreamTimeout, UpstreamUnreachable
from proxy.connection.upstream import ConnectTimeout, NoAnswer, SilenceTimeout

BROKE_OFF = "the answer broke off"


def failure_words(error: BaseException) -> str:
    """Return the words for an error of an exchange with an instance."""
    match error:
        case UpstreamUnreachable():
            return unreachable_words(error.__cause__)
        case ConnectTimeout():
            return f"no connection within {error.seconds:.2g} s"
        case SilenceTimeout():
            return f"no answer within {error.seconds:.2g} s"
        case UpstreamTimeout():
            return "it does not read the request, or answers too slowly"
        case NoAnswer():
            return "the connection closed without an answer"
        case BadUpstreamAnswer():
            return f"bad answer: {error.details.get('reason', 'not well-formed HTTP')}"
    return "the connection broke off"


def unreachable_words(cause: BaseException | None) -> str:
    """Return the words for a connection that failed with this error."""
    match cause:
        case ssl.SSLCertVerificationError():
            return f"TLS: {cause.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(cause.reason or 'the handshake failed').replace('_', ' ').lower()}"
        case socket.gaierror() | UnicodeError():
            return "the name has no address"
        case OSError(errno=int() as number):
            return os.strerror(number).lower()
    return "the name has no address"


def status_words(status: int) -> str:
    return f"status {status}"
