"""The packages of Debian that the edge runs on, and their versions."""

import shutil
import subprocess
from pathlib import Path

from lucid_gateway.kernel.env import ConfigurationError

# With the least version. Before this one HEAD requests could be smuggled through the Lua module (CVE-2024-33452).
PACKAGES = {
    "nginx": "1.22.1", "libnginx-mod-http-lua": "1:0.10.23-1+deb12u1", "lua-resty-core": "0.1.25", "lua-cjson": "2.1.0",
}  # fmt: skip
MODULES = Path("/usr/lib/nginx/modules")
NAMES = ("ndk_http_module.so", "ngx_http_lua_module.so")


def debian_modules() -> tuple[str, ...]:
    """Return the paths of the modules that nginx must load; raise ConfigurationError if a package is missing or old."""
    if shutil.which("dpkg-query") is None:
        raise ConfigurationError("edge: this is not Debian; expected nginx with Lua, such as OpenResty")
    wanting = [name for name, version in PACKAGES.items() if not is_installed(name, version)]
    if wanting:
        raise ConfigurationError(f"edge: packages are missing or too old; expected: apt install {' '.join(wanting)}")
    return tuple(str(MODULES / name) for name in NAMES)


def is_installed(name: str, version: str) -> bool:
    """Return whether the package is installed in this version or a later one."""
    query = ["dpkg-query", "--show", "--showformat=${Status} ${Version}", name]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    status, _, installed = found.rpartition(" ")
    if not status.endswith(" installed"):
        return False
    return subprocess.run(["dpkg", "--compare-versions", installed, "ge", version], check=False).returncode == 0
