"""The metrics folder: which abandoned folders are removed, and when."""

import fcntl
import os
from pathlib import Path

import pytest

from lucid_gateway.kernel.metrics_files.directory import remove_abandoned


def folder(parent: Path, name: str, *, age: float = 3_600) -> Path:
    """Create a folder whose last change was that many seconds ago."""
    made = parent / name
    made.mkdir()
    (made / "counter_1.db").touch()
    then = made.stat().st_mtime - age
    os.utime(made, (then, then))
    return made


def test_the_folder_of_a_killed_gateway_is_removed(tmp_path: Path) -> None:
    left = folder(tmp_path, "lucid-metrics-a")

    remove_abandoned(tmp_path)

    assert not left.exists()


def test_the_folder_of_a_running_gateway_stays(tmp_path: Path) -> None:
    descriptor = os.open(folder(tmp_path, "lucid-metrics-a"), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)

    remove_abandoned(tmp_path)

    assert (tmp_path / "lucid-metrics-a" / "counter_1.db").exists()
    os.close(descriptor)


@pytest.mark.parametrize(("name", "age"), [("lucid-metrics-a", 5), ("another-folder", 3_600)])
def test_new_folders_and_those_of_other_users_stay(tmp_path: Path, name: str, age: float) -> None:
    left = folder(tmp_path, name, age=age)

    remove_abandoned(tmp_path)

    assert left.exists()
