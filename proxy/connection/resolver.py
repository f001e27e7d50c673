"""The addresses of each instance's host name, looked up again every few seconds to follow changes in the DNS.

If a lookup fails, the last known addresses stay in use, so a broken DNS server takes no cluster down. A probe of a
failed instance waits for a new lookup, because the instance may have moved.
"""

import math
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from proxy.clusters import Instance
from ratelimit.client_address import parse

FRESH_SECONDS = 5.0
# Family and socket address, as returned by socket.getaddrinfo.
Address = tuple[int, Any]


def look_up(host: str, port: int) -> tuple[Address, ...]:
    """Ask the system's resolver for the addresses of a host; raise OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple((family, address) for family, _, _, _, address in found)


@dataclass
class Lookup:
    """The result of a lookup; `fresh_until` is on the resolver's clock, infinite for an IP address."""

    addresses: tuple[Address, ...]
    fresh_until: float


class Resolver:
    """One process's lookups, cached by instance."""

    def __init__(
        self,
        look_up: Callable[[str, int], tuple[Address, ...]] = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.look_up, self.clock = look_up, clock
        self.cache: dict[Instance, Lookup] = {}
        self.first_lookups: dict[Instance, Future[Lookup]] = {}
        self.refreshes: dict[Instance, threading.Thread] = {}

    def addresses(self, instance: Instance) -> tuple[Address, ...]:
        """Return the instance's addresses; raise OSError or UnicodeError if its name has never resolved."""
        known = self.cache.get(instance)
        if known is None:
            known = self.first_lookup(instance)
        elif known.fresh_until < self.clock():
            self.start_refresh(instance)  # in the background: this request uses the old addresses
        return known.addresses

    def renew(self, instance: Instance, *, within: float) -> None:
        """Look up a known name again and wait at most `within` seconds for the result."""
        known = self.cache.get(instance)
        if known is not None and known.fresh_until < math.inf:
            self.start_refresh(instance).join(within)

    def start_refresh(self, instance: Instance) -> threading.Thread:
        """Return the thread that looks up the name; there is at most one for each instance."""
        thread = self.refreshes.get(instance)
        if thread is None:
            thread = threading.Thread(target=self.refresh, args=[instance], name="resolver", daemon=True)
            self.refreshes[instance] = thread
            thread.start()
        return thread

    def first_lookup(self, instance: Instance) -> Lookup:
        """Look up a new name; concurrent callers share the one lookup, and its error."""
        mine: Future[Lookup] = Future()
        asking = self.first_lookups.setdefault(instance, mine)
        if asking is mine:
            try:
                self.cache[instance] = known = self.lookup(instance)
                mine.set_result(known)
            except BaseException as error:  # noqa: BLE001  # raised below, and in the callers that wait
                mine.set_exception(error)
            finally:
                del self.first_lookups[instance]
        return asking.result()

    def lookup(self, instance: Instance) -> Lookup:
        fresh = FRESH_SECONDS if parse(instance.host) is None else math.inf
        return Lookup(self.look_up(instance.host, instance.port), self.clock() + fresh)

    def refresh(self, instance: Instance) -> None:
        """Look up the name again; if that fails, the known addresses stay."""
        try:
            self.cache[instance] = self.lookup(instance)
        except (OSError, UnicodeError):
            self.cache[instance].fresh_until = self.clock() + FRESH_SECONDS
        finally:
            self.refreshes.pop(instance, None)

    def still_resolves_to(self, instance: Instance, address: Address) -> bool:
        return address in self.addresses(instance)


resolver = Resolver()
