"""Signal handling of gunicorn's master around each fork."""

import os
import signal

SIGTERM = {signal.SIGTERM}


def let_children_end_at_sigterm() -> None:
    """Let SIGTERM end a new child until the child has its own handler.

    Until `init_signals`, a worker has the master's handler, which would lose the signal, so that the worker lives on
    until it is killed. Therefore the signal is blocked from before the fork until the child has dropped that handler.
    """

    def end_at_sigterm() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        unblock_sigterm()

    os.register_at_fork(before=block_sigterm, after_in_parent=unblock_sigterm, after_in_child=end_at_sigterm)


def block_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGTERM)


def unblock_sigterm() -> None:
    """Unblock the signal; the kernel first delivers one that arrived while it was blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGTERM)
