"""Print the bill of materials of the image that runs this: its Debian and Python packages, as CycloneDX JSON.

`deploy/build.sh --sbom` runs it inside the image. It uses the standard library only.
"""

import json
import sys
from collections.abc import Iterator
from email import message_from_string
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

SPECIFICATION = "1.6"
# A distroless image describes each Debian package in a file of this folder, in place of one file for all.
DEBIAN_PACKAGES = Path("/var/lib/dpkg/status.d")

Component = dict[str, Any]


def component(kind: str, name: str, version: str, **qualifiers: str) -> Component:
    """Return a package as CycloneDX describes it, with its package URL."""
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(qualifiers.items()))
    url = f"pkg:{kind}/{quote(name.lower(), safe='')}@{quote(version, safe='')}" + (f"?{query}" if query else "")
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def debian_packages(folder: Path) -> Iterator[Component]:
    """Yield the Debian packages that the folder describes."""
    for file in sorted(folder.glob("*")):
        fields = message_from_string(file.read_text(encoding="utf-8"))
        if fields["Package"] and fields["Version"]:
            yield component("deb/debian", fields["Package"], fields["Version"], arch=fields["Architecture"] or "all")


def python_packages() -> Iterator[Component]:
    """Yield the Python packages that this interpreter can import."""
    for found in sorted(distributions(), key=lambda it: it.name.lower()):
        yield component("pypi", found.name, found.version) | licence(found)


def licence(package: Distribution) -> Component:
    """Return the package's licence, if its metadata has an SPDX expression."""
    expression = package.metadata.get("License-Expression")
    return {"licenses": [{"expression": expression}]} if expression else {}


def bill_of_materials(name: str, version: str, debian: Path = DEBIAN_PACKAGES) -> dict[str, Any]:
    """Return the document for an image."""
    parts = {it["bom-ref"]: it for it in (*debian_packages(debian), *python_packages())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": list(parts.values()),
    }


if __name__ == "__main__":
    image, version = sys.argv[1:]
    print(json.dumps(bill_of_materials(image, version), indent=1))
