"""What a worker does not load until a request needs it, because it would take memory of every worker."""

import json
import subprocess
import sys

from testing.servers import ROOT

APPLICATION = """
import json
import sys
import lucid_gateway.wsgi, lucid_gateway.urls
from sessions_api.conditions import parser
print(json.dumps({"modules": sorted(sys.modules), "parsers": parser.cache_info().currsize}))
"""


def test_the_application_loads_no_library_of_wallet_signatures_and_makes_no_parser_of_conditions() -> None:
    done = subprocess.run([sys.executable, "-c", APPLICATION], check=True, capture_output=True, text=True, cwd=ROOT)
    loaded = json.loads(done.stdout)

    assert "accounts.factors.hardware_wallet" in loaded["modules"]
    assert {"coincurve", "Crypto"}.isdisjoint(loaded["modules"])
    assert loaded["parsers"] == 0
