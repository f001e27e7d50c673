"""How .venv is made: requirements/install.sh and the rules of the Makefile. Nothing here asks a package index."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testing.servers import ROOT

SHELL = shutil.which("sh") or "/bin/sh"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh clone, as far as an installation goes."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{SHELL}\n{text}\n")
    path.chmod(0o755)


def install(project: Path, path: Path, name: str = "local") -> "subprocess.CompletedProcess[str]":
    """Run the script where the programs in `path` are the only ones."""
    path.mkdir(exist_ok=True)
    (path / "dirname").symlink_to(shutil.which("dirname") or "")
    script = [SHELL, str(project / "requirements" / "install.sh"), name]
    return subprocess.run(script, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60, check=False)


def test_without_python_it_says_how_to_get_it(project: Path) -> None:
    done = install(project, project / "bin")

    assert done.returncode == 1
    assert "Python 3.11 or later is missing" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert "apt-get install python3.11 python3.11-venv" in done.stderr


def test_a_python_that_is_too_old_counts_as_missing(project: Path) -> None:
    write_program(project / "bin" / "python3", "exit 1")  # what it answers when asked whether it is new enough

    assert "Python 3.11 or later is missing" in install(project, project / "bin").stderr


def test_without_the_venv_module_it_says_how_to_get_it(project: Path) -> None:
    # Debian and Ubuntu leave ensurepip out of Python where python3-venv is not installed.
    (project / "without" / "ensurepip").mkdir(parents=True)
    (project / "without" / "ensurepip" / "__init__.py").write_text("raise ImportError")
    write_program(project / "bin" / "python3.11", f'PYTHONPATH={project}/without exec {sys.executable} "$@"')

    done = install(project, project / "bin")

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode == 1
    assert f"Python {version} is here (python3.11), but its venv module is missing" in done.stderr
    assert f"apt-get install python{version}-venv" in done.stderr
    assert not (project / ".venv").exists()


def test_where_uv_does_not_work_pip_installs(project: Path) -> None:
    calls = project / "calls"
    fails = 'case "$*" in *uv.txt*) exit 1;; esac'
    write_program(project / ".venv" / "bin" / "python", f'echo "$@" >> {calls}; {fails}')

    done = install(project, project / "bin")

    assert done.returncode == 0
    last = calls.read_text().splitlines()[-1]
    assert last.endswith("install --require-hashes -r requirements/local.txt")


def test_the_index_that_pip_is_told_of_is_uvs_too(project: Path) -> None:
    write_program(project / ".venv" / "bin" / "python", 'case "$*" in *"config get"*) echo http://mirror.test/;; esac')
    write_program(project / ".venv" / "bin" / "uv", f'echo "$UV_DEFAULT_INDEX $@" > {project}/calls')

    install(project, project / "bin")

    index, *arguments = (project / "calls").read_text().split()
    assert index == "http://mirror.test/"
    assert arguments[:2] == ["pip", "install"]


def test_neither_running_nor_testing_installs_again_what_the_other_has_installed(project: Path) -> None:
    log = project / "installed"
    write_program(project / "requirements" / "install.sh", f"mkdir -p .venv; echo $1 >> {log}")
    targets = ["local", "test", "local", "test"]

    for name in targets:
        make = ["make", "--silent", f".venv/.installed-{name}"]
        subprocess.run(make, cwd=project, env=dict(os.environ), check=True, timeout=60)

    assert log.read_text().split() == ["local", "test"]


def test_what_tests_need_includes_what_running_needs() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))

    assert pins("local") <= pins("test")
