"""What a search asks of a row, in a form that both the database and Python can check."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from lucid_gateway.explorer.rows import address_forms
from lucid_gateway.kernel.addresses import NETWORK_LENGTHS, keys_of_network
from lucid_gateway.operators.search import AFTER_ALL
from lucid_gateway.server.samples import CLIENT_LEFT
from ratelimit.client_address import parse


@dataclass(frozen=True)
class Equal:
    """The field has the value."""

    field: str
    value: Any

    def lookups(self) -> dict[str, Any]:
        return {self.field: self.value}

    def accepts(self, value: Any) -> bool:
        return bool(value == self.value)


@dataclass(frozen=True)
class Between:
    """The field's text is at least `low` and below `high`, in the order of code points."""

    field: str
    low: str
    high: str

    def lookups(self) -> dict[str, Any]:
        return {f"{self.field}__gte": self.low, f"{self.field}__lt": self.high}

    def accepts(self, value: str) -> bool:
        return self.low <= value < self.high


@dataclass(frozen=True)
class OneOf:
    """The field has one of the values; it never selects rows by an index."""

    field: str
    values: frozenset[str]

    def accepts(self, value: str) -> bool:
        return value in self.values


@dataclass(frozen=True)
class NotEmpty:
    """The field is not empty; it never selects rows by an index."""

    field: str

    def accepts(self, value: str) -> bool:
        return bool(value)


@dataclass(frozen=True)
class Not:
    """The field has another value; it never selects rows by an index."""

    field: str
    value: Any

    def accepts(self, value: Any) -> bool:
        return bool(value != self.value)


Condition = Equal | Between | OneOf | NotEmpty | Not
# Outcomes as the figures count them (`lucid_gateway.server.samples.count_request`).
OUTCOMES: dict[str, tuple[Condition, ...]] = {
    "refused": (Equal("status_class", 4), NotEmpty("reason"), Not("status", CLIENT_LEFT)),
    "instance_error": (Equal("status_class", 5), OneOf("reason", frozenset({""}))),
}


def path_below(prefix: str) -> Between:
    """Return the condition for paths that begin with the prefix."""
    return Between("path", prefix, prefix + AFTER_ALL)


def of_address(text: str) -> Equal:
    """Return the condition for one client address; raise ValueError."""
    if parse(text) is None:
        raise ValueError(text)
    return Equal("address_key", address_forms(text).key)


def of_network(text: str) -> Equal | Between:
    """Return the condition for addresses of a network in CIDR form, or for one address; raise ValueError."""
    if "/" not in text:
        return of_address(text)
    network = ipaddress.ip_network(text, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return of_address(str(network.network_address))
    if network.prefixlen == NETWORK_LENGTHS[network.version]:
        return Equal("network", str(network))
    first, last = keys_of_network(text)
    return Between("address_key", first, last + AFTER_ALL)


def of_status(text: str) -> Equal:
    """Return the condition for a status such as 429 or a class such as 4xx; raise ValueError."""
    if len(text) == 3 and text[1:].lower() == "xx" and text[0] in "12345":
        return Equal("status_class", int(text[0]))
    if len(text) == 3 and text.isascii() and text.isdigit():
        return Equal("status", int(text))
    raise ValueError(text)


def of_error_code(text: str) -> Equal:
    """Return the condition for an error code such as 3001 or LUCID_ERR_3001; raise ValueError."""
    number = text.upper().removeprefix("LUCID_ERR_")
    if len(number) != 4 or not (number.isascii() and number.isdigit()):
        raise ValueError(text)
    return Equal("error_code", f"LUCID_ERR_{number}")
