"""The packages in requirements/production.txt suffice for the gateway, with the Pythons of Debian 12 and 13."""

import re
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.tests.conftest import run
from testing.servers import ROOT

LOCKED = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements" / "production.txt").read_text(), re.MULTILINE)
# The image has the Python of Debian 13. The lock file is usually compiled with another one.
PYTHONS = {"Debian 12": "3.11.2", "Debian 13": "3.13.5"}

# Loads the worker, the application and, through the checks, its URLs, which gunicorn and Django load lazily.
LOAD_EVERYTHING = """
import lucid_gateway.server.worker, lucid_gateway.wsgi
from django.core.management import call_command
call_command("check")
"""


def top_level_entries(package: Distribution) -> set[Path]:
    """Return the files and folders of the distribution directly below site-packages."""
    site_packages = Path(str(package.locate_file("")))
    names = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
    return {site_packages / name for name in names}


@pytest.fixture
def only_locked_packages(tmp_path: Path) -> Path:
    """A folder with only the locked packages of this environment."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for entry in {entry for name in LOCKED for entry in top_level_entries(distribution(name))}:
        (folder / entry.name).symlink_to(entry)
    return folder


def test_the_gateway_loads_with_the_locked_packages_alone(only_locked_packages: Path, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": f"{ROOT}:{only_locked_packages}", "SQLITE_PATH": str(tmp_path / "db.sqlite3")}
    loaded = run(sys.executable, "-S", "-c", LOAD_EVERYTHING, **variables)  # -S: without this environment's packages
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("version", PYTHONS.values(), ids=PYTHONS)
def test_all_requirements_of_the_locked_packages_are_locked(version: str) -> None:
    python = {"python_version": version.rpartition(".")[0], "python_full_version": version, "extra": ""}
    required = [Requirement(line) for name in LOCKED for line in distribution(name).requires or []]
    needed = {canonicalize_name(it.name) for it in required if it.marker is None or it.marker.evaluate(python)}
    assert needed - {canonicalize_name(name) for name in LOCKED} == set()
