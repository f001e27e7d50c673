"""`make run` keeps out of the way of another one, keeps the admin's password, and leaves nothing behind."""

import re
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from testing.make_run import STOP_SECONDS, Run, command, environment, make_run
from testing.servers import ROOT, free_port
from testing.waiting import wait_until

ADMIN = "admin@lucid.test"
OWN_PASSWORD = "Correct-Horse-7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[Run]:
    """A running `make run` that prints its mails."""
    with make_run(folder, EMAIL_HOST="") as running:
        yield running


def start_again(folder: Path, port: int | str) -> "subprocess.CompletedProcess[str]":
    """Run it to its end in that folder and on that port; return its status and output."""
    env = environment(HTTP_PORT=str(port), EMAIL_HOST="")
    return subprocess.run(command(folder), cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def content(folder: Path) -> dict[str, bytes]:
    """Return the files that a start writes, without the database, which the running gateway writes, too."""
    return {path.name: path.read_bytes() for path in (folder / "var").iterdir() if path.suffix in (".env", ".json")}


def admin_may_enter(run: Run, password: str) -> bool:
    """Return whether the admin can log in to the operator pages with the password."""
    connection = HTTPConnection("127.0.0.1", run.port, timeout=30)
    connection.request("GET", "/admin/login/")
    page = connection.getresponse()
    cookie = (page.getheader("Set-Cookie") or "").partition(";")[0]
    csrf = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', page.read())
    assert csrf is not None
    form = {"csrfmiddlewaretoken": csrf[1].decode(), "username": ADMIN, "password": password}
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/admin/login/?next=/admin/", urlencode(form), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status == 302


def is_running(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_start_on_a_port_in_use_fails_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    second = start_again(tmp_path, run.port)

    assert second.returncode == 1
    assert f"port {run.port} is in use" in second.stderr
    assert "HTTP_PORT=" in second.stderr
    assert not (tmp_path / "var").exists()


def test_a_start_in_a_folder_in_use_fails_and_changes_nothing(run: Run, folder: Path) -> None:
    before = content(folder)

    second = start_again(folder, free_port())

    assert second.returncode == 1
    assert f"{folder / 'var'} is in use" in second.stderr
    assert content(folder) == before
    assert admin_may_enter(run, run.one_time_password())


@pytest.mark.parametrize("port", ["eighty", "0", "65536"])
def test_an_invalid_port_is_refused(tmp_path: Path, port: str) -> None:
    refused = start_again(tmp_path, port)

    assert refused.returncode == 1
    assert refused.stderr == f"make run: HTTP_PORT: {port} is not a port; expected 1 to 65535\n"


def test_the_gateway_listens_only_on_the_loopback_address(run: Run) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{run.port:04X}")}

    assert listening == {f"0100007F:{run.port:04X}"}


def test_a_mailed_code_stands_out_from_the_log(run: Run) -> None:
    account = {"email": "ada@example.org", "username": "ada", "password": OWN_PASSWORD}
    assert run.call("POST", "/users", account)[0] == 201
    assert run.call("POST", "/auth/login", {"email": "ada@example.org"})[0] == 200

    pattern = r"\n={20,}\nTo: ada@example\.org +Your Lucid login code\n\n[^=]*your login code is ([0-9]{6})\n"
    found = wait_until(lambda: re.search(pattern, run.output.read_text()))
    assert run.call("POST", "/auth/verify", {"email": "ada@example.org", "code": found[1]})[0] == 200


def test_a_killed_run_leaves_no_process_and_keeps_the_admins_password(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        one_time = run.one_time_password()
        set_password(tmp_path, OWN_PASSWORD)
        kill(run)
    with make_run(tmp_path) as run:
        assert "one-time password" not in run.output.read_text()
        assert admin_may_enter(run, OWN_PASSWORD)
        assert not admin_may_enter(run, one_time)


def test_no_process_is_left_when_make_is_killed(tmp_path: Path) -> None:
    # make waits for the command that it starts, and sets MAKELEVEL.
    with make_run(tmp_path, parent=["sh", "-c", '"$@"; exit $?', "sh"], MAKELEVEL="1") as run:
        kill(run)


def set_password(folder: Path, password: str) -> None:
    """Set the admin's password with manage.py beside the running gateway, as README.md describes."""
    code = f"from accounts.models import User; admin = User.objects.get(email={ADMIN!r})"
    code += f"; admin.set_password({password!r}); admin.save()"
    line = f'set -a; . {folder}/var/local.env; exec "$0" manage.py shell -c "$1"'
    subprocess.run(["sh", "-c", line, command(folder)[0], code], cwd=ROOT, env=environment(), check=True)


def kill(run: Run) -> None:
    """Kill the first process of the run and wait until all the others are gone."""
    others = run.descendants()
    assert len(others) >= 5  # Redis, the clusters, gunicorn and its two workers
    run.process.kill()
    run.process.wait(10)
    wait_until(lambda: not any(is_running(pid) for pid in others), STOP_SECONDS)
