"""sbom.py lists the packages of the image, whose Debian packages have a file each."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from deploy import sbom
from deploy.tests.conftest import DEPLOY

OPENSSL = (
    "Package: libssl3t64\nSource: openssl\nVersion: 3.5.4-1~deb13u1\nArchitecture: amd64\nDescription: TLS\n more\n"
)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A folder like that of a distroless image, which also has the checksums of the packages' files."""
    (tmp_path / "libssl3t64").write_text(OPENSSL)
    (tmp_path / "libssl3t64.md5sums").write_text("0cc175b9c0f1b6a831c399e269772661  usr/lib/libssl.so.3\n")
    return tmp_path


def test_a_debian_package_has_its_exact_version(debian: Path) -> None:
    (found,) = sbom.debian_packages(debian)
    assert (found["name"], found["version"]) == ("libssl3t64", "3.5.4-1~deb13u1")
    assert found["purl"] == "pkg:deb/debian/libssl3t64@3.5.4-1~deb13u1?arch=amd64"


def test_a_python_package_has_its_version_and_its_licence() -> None:
    found = {it["name"]: it for it in sbom.python_packages()}
    assert found["Django"]["purl"] == f"pkg:pypi/django@{version('Django')}"
    assert found["Django"]["licenses"] == [{"expression": "BSD-3-Clause"}]


def test_the_references_are_unique(debian: Path) -> None:
    components = sbom.bill_of_materials("gateway", "1.0", debian)["components"]
    references = [it["bom-ref"] for it in components]
    assert len(set(references)) == len(references) > 1


def test_the_script_works_from_standard_input_as_build_sh_runs_it() -> None:
    with open(DEPLOY / "sbom.py") as script:
        printed = subprocess.run(
            [sys.executable, "-", "lucid-api-gateway", "2.3.4"], stdin=script, capture_output=True, check=True
        ).stdout
    document = json.loads(printed)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"] == {"type": "container", "name": "lucid-api-gateway", "version": "2.3.4"}
