"""Where an instance's name leads: looked up again every few seconds, so that changes in the DNS are followed.

While a name cannot be looked up the addresses that it had are used: a broken resolver takes no cluster down. What
probes an instance that failed waits for the look-up: the instance may have moved.
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
# Family and socket address, as socket.getaddrinfo gives them.
Address = tuple[int, Any]


def look_up(host: str, port: int) -> tuple[Address, ...]:
    """Return the addresses that the system's resolver knows; raise OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple((family, address) for family, _, _, _, address in found)


@dataclass
class Known:
    """What a name led to, and until when that is believed."""

    addresses: tuple[Address, ...]
    fresh_until: float


class Resolver:
    """The names that a process has looked up."""

    def __init__(
        self,
        look_up: Callable[[str, int], tuple[Address, ...]] = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.look_up, self.clock = look_up, clock
        self.known: dict[Instance, Known] = {}
        self.asking: dict[Instance, Future[Known]] = {}
        self.asking_again: dict[Instance, threading.Thread] = {}

    def addresses(self, instance: Instance) -> tuple[Address, ...]:
        """Return where the instance listens; raise OSError or UnicodeError for a name that never led anywhere."""
        known = self.known.get(instance)
        if known is None:
            known = self.ask_first(instance)
        elif known.fresh_until < self.clock():
            self.ask_again(instance)  # this request does not wait for it
        return known.addresses

    def renew(self, instance: Instance, *, within: float) -> None:
        """Look a name that is known up again before a probe, and wait so many seconds for it at most."""
        known = self.known.get(instance)
        if known is not None and known.fresh_until < math.inf:
            self.ask_again(instance).join(within)

    def ask_again(self, instance: Instance) -> threading.Thread:
        """Return what looks the name up in the background, one at a time."""
        thread = self.asking_again.get(instance)
        if thread is None:
            thread = threading.Thread(target=self.refresh, args=[instance], name="resolver", daemon=True)
            self.asking_again[instance] = thread
            thread.start()
        return thread

    def ask_first(self, instance: Instance) -> Known:
        """Look the name up; who comes meanwhile gets the same answer, or error: the resolver is asked once."""
        mine: Future[Known] = Future()
        asking = self.asking.setdefault(instance, mine)
        if asking is mine:
            try:
                self.known[instance] = known = self.ask(instance)
                mine.set_result(known)
            except BaseException as error:  # noqa: BLE001  # raised below, and wherever it is waited for
                mine.set_exception(error)
            finally:
                del self.asking[instance]
        return asking.result()

    def ask(self, instance: Instance) -> Known:
        """Look the name up."""
        fresh = FRESH_SECONDS if parse(instance.host) is None else math.inf
        return Known(self.look_up(instance.host, instance.port), self.clock() + fresh)

    def refresh(self, instance: Instance) -> None:
        """Look the name up again; where that fails what was known stays."""
        try:
            self.known[instance] = self.ask(instance)
        except (OSError, UnicodeError):
            self.known[instance].fresh_until = self.clock() + FRESH_SECONDS
        finally:
            self.asking_again.pop(instance, None)

    def still_leads_to(self, instance: Instance, address: Address) -> bool:
        """Return whether the name still leads to the address that a connection was made to."""
        return address in self.addresses(instance)


resolver = Resolver()
