"""Virtual environments: the gateway is measured with the packages of production, without those of the tests, and its
peers with theirs.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT

PRODUCTION = ROOT / "requirements" / "production.txt"
PEERS = Path(__file__).parent / "requirements.txt"


def gateway_environment() -> Path:
    """The `bin` folder of the gateway's environment."""
    return _prepare("bench-gateway-venv", PRODUCTION)


def peers_environment() -> Path:
    """The `bin` folder of the peers' environment."""
    return _prepare("bench-venv", PEERS)


def _prepare(name: str, requirements: Path) -> Path:
    """The `bin` folder of var/`name`, which is rebuilt when its requirements change."""
    venv = ROOT / "var" / name
    stamp, wanted = venv / "requirements.sha256", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Setting up var/{name} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        install = ["install", "-qq", "--require-hashes", "--requirement", str(requirements)]
        subprocess.run([venv / "bin" / "pip", *install], check=True)
        stamp.write_text(wanted)
    return venv / "bin"
