"""Runs management commands for `make run`."""

import subprocess
import sys
from collections.abc import Mapping

from demo.children import ROOT, Failed


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """Run a management command and return what it printed; raise Failed if it fails."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
