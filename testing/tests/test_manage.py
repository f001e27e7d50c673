"""Management commands run in forks, as if in processes of their own."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lucid_gateway.kernel.env import Environment
from testing.manage import command, fork_server, manage
from testing.servers import ROOT
from testing.waiting import wait_until

DESCRIBE = """
import os, signal, sys, threading
print(sys.argv, sys.path, sys.flags, sys.modules["__main__"].__file__, os.getcwd(), os.umask(0), os.getpgrp())
print(dict(os.environ), sorted(name for name in sys.modules if name.partition(".")[0] in {packages}))
print(sorted(os.listdir("/proc/self/fd")), sys.stdin.read(), [file.isatty() for file in (sys.stdin, sys.stdout)])
print([signal.getsignal(number) for number in range(1, 65)], threading.active_count())
"""
PACKAGES = ("lucid_gateway", "accounts", "ratelimit", "proxy", "sessions_api")
LEAVE_TRACES = """
import json, os
os.environ["TRACE"] = os.environ["LOG_LEVEL"] = json.trace = "trace"
os.chdir("/")
"""
FIND_TRACES = (
    'import json, os; print(os.environ.get("TRACE"), os.environ["LOG_LEVEL"], hasattr(json, "trace"), os.getcwd())'
)
STATUSES = {"print(1)\nraise SystemExit(7)": 7, "print(1)\n1 / 0": 1, "import os; os.kill(os.getpid(), 9)": -9}
SLEEPER = """
import os, sys, threading, time
from testing.manage import manage
sleep = "import os, time; print(os.getpid(), os.getppid(), file=open({path!r}, 'w'), flush=True); time.sleep(60)"
threading.Thread(target=manage, args=(os.environ, "shell", "--no-imports", "--command", sleep), daemon=True).start()
time.sleep(60)
"""
IMPORT_LIBRARIES = """
import os, threading
read, getitem = set(), os._Environ.__getitem__
os._Environ.__getitem__ = lambda self, name: read.add(name) or getitem(self, name)
from testing.fork_server import import_libraries
import_libraries()
from django.conf import settings
print(*read, settings.configured, threading.active_count())
"""


def shell(code: str, **variables: str) -> str:
    return manage(os.environ | variables, "shell", "--no-imports", "--command", code)


def test_a_fork_looks_like_a_process_of_its_own() -> None:
    code = DESCRIBE.format(packages=PACKAGES)
    env = os.environ | {"LOG_LEVEL": "ERROR"}
    own = subprocess.run(
        command("shell", "--no-imports", "--command", code), cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shell(code, LOG_LEVEL="ERROR") == own.stdout


@pytest.mark.parametrize("code", STATUSES)
def test_the_status_and_the_output_of_a_fork_are_those_of_its_command(code: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        shell(code)
    assert caught.value.returncode == STATUSES[code]
    assert caught.value.cmd[:3] == [sys.executable, str(ROOT / "manage.py"), "shell"]
    assert caught.value.stdout == ("1\n" if "print" in code else "")
    assert caught.value.stderr.endswith("ZeroDivisionError: division by zero\n" if "/" in code else "")


def test_a_command_leaves_nothing_behind_for_the_next_one() -> None:
    shell(LEAVE_TRACES)
    assert shell(FIND_TRACES).split() == ["None", os.environ["LOG_LEVEL"], "False", str(ROOT)]


def test_commands_run_side_by_side(tmp_path: Path) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(shell, wait.format(str(tmp_path / "made")))
        shell(f"open({str(tmp_path / 'made')!r}, 'w').close()")
        assert waiting.result(60) == ""


def test_a_command_whose_python_starts_differently_is_not_a_fork() -> None:
    parent = "import os, sys; print(os.getppid(), sys.flags.hash_randomization)"
    assert shell(parent).split() == [str(fork_server().process.pid), "1"]
    assert shell(parent, PYTHONHASHSEED="0").split() == [str(os.getpid()), "0"]


def test_the_server_and_its_forks_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", SLEEPER.format(path=str(pids))], cwd=ROOT) as run:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), 60)
        fork, server = (Path("/proc", pid) for pid in pids.read_text().split())
        assert fork.exists()
        assert server.exists()
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not fork.exists() and not server.exists())


def test_no_library_reads_a_setting_or_starts_a_thread_before_the_fork() -> None:
    script = [sys.executable, "-c", IMPORT_LIBRARIES]
    *read, configured, threads = subprocess.run(
        script, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {name.removesuffix("_FILE") for name in read} & set(Environment.model_fields)
    assert "DJANGO_SETTINGS_MODULE" not in read
    assert (configured, threads) == ("False", "1")
