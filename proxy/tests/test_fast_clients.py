"""Clients on connections so fast that the gateway never waits: other requests still get their turn."""

import socket
import threading
from collections.abc import Callable, Iterator

import gevent
import pytest

from lucid_gateway.server.client_socket import BYTES_PER_TURN, PatientSocket

MIB = 1024 * 1024
MUCH = 32 * MIB
# A turn ends after the call that reaches its limit, so it may be nearly twice as long.
LEAST_TURNS = MUCH // (2 * BYTES_PER_TURN)


def turns_of_others(work: Callable[[], None]) -> int:
    """Do the work in a greenlet and return how often another one, which never waits, ran in the meantime."""
    working, turns = gevent.spawn(work), 0
    while not working.ready():
        turns += 1
        gevent.sleep(0)
    working.get()
    return turns


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets; waiting on them does not switch greenlets, only an explicit yield does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_others_run_while_a_client_reads_fast(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reading = threading.Thread(target=lambda: all(iter(lambda: theirs.recv(MIB), b"")))
    reading.start()
    assert turns_of_others(lambda: PatientSocket(ours, 10).sendall(bytes(MUCH))) >= LEAST_TURNS
    ours.close()
    reading.join()


def test_others_run_while_a_client_sends_fast(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sending = threading.Thread(target=lambda: (theirs.sendall(bytes(MUCH)), theirs.close()))
    sending.start()
    patient = PatientSocket(ours, 10)
    assert turns_of_others(lambda: all(iter(lambda: patient.recv(64 * 1024), b""))) >= LEAST_TURNS
    sending.join()
