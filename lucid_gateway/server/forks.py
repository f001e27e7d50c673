"""What gunicorn's master does around each fork."""

import os
import signal

SIGTERM = {signal.SIGTERM}


def let_children_end_at_sigterm() -> None:
    """Let SIGTERM end a child until it has a handler of its own, from the first moment.

    With the handler of the master, which it has until `init_signals`, a worker loses the signal, and lives on until it
    is killed. So the signal waits from before the fork until the child has done without that handler.
    """

    def end_at_sigterm() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        take_sigterm()

    os.register_at_fork(before=hold_sigterm, after_in_parent=take_sigterm, after_in_child=end_at_sigterm)


def hold_sigterm() -> None:
    """Let the kernel keep the signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGTERM)


def take_sigterm() -> None:
    """Take the signal again, one that was kept first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGTERM)
