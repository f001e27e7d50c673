"""`make test-stress`: the suite several times in a row, with as many busy processes beside it as there are cores.

A test that passes only on a quiet machine, or only most of the time, fails here.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time

from testing.servers import ROOT, die_with_parent

BUSY = "while True: sum(range(100_000))"


def start_busy_process(stack: contextlib.ExitStack) -> None:
    """Keep a core busy until the stack is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        preexec_fn=die_with_parent,  # noqa: PLW1509  # it makes one system call
    )
    stack.callback(process.wait)
    stack.callback(process.kill)


def run_suite(number: int, runs: int) -> bool:
    """Run `make test` once; return whether it passed."""
    started = time.monotonic()
    passed = subprocess.run(["make", "test"], cwd=ROOT, check=False).returncode == 0
    minutes = (time.monotonic() - started) / 60
    sys.stdout.write(f"run {number} of {runs}: {'passed' if passed else 'FAILED'} after {minutes:.0f} minutes\n")
    sys.stdout.flush()
    return passed


def main() -> int:
    """Return the exit status: 0 if all runs passed, 1 after the first one that did not."""
    parser = argparse.ArgumentParser(prog="python -m testing.stress", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="how many busy processes")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        for _ in range(options.busy):
            start_busy_process(stack)
        return 0 if all(run_suite(number, options.runs) for number in range(1, options.runs + 1)) else 1


if __name__ == "__main__":
    sys.exit(main())
