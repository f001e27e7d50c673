"""Turns: what takes long lets the worker's other requests go on in between."""

import time


def give_way() -> None:
    """Let the worker's other requests have their turn. A timer, however short, makes gevent look at its sockets, which
    after sleep(0) it does not.
    """
    time.sleep(0.000_001)
