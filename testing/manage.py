"""Management commands for tests."""

import subprocess
import sys
from collections.abc import Mapping

from testing.servers import ROOT


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run manage.py and return what it printed; raise CalledProcessError."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(env), check=True, capture_output=True, text=True).stdout
