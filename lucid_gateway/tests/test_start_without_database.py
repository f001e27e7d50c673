"""Workers that start while the database is down take over the others' state, or refuse all requests."""

import contextlib
import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucid_gateway.kernel.handover import HEADER, Handover
from testing.gateway import Gateway, running_gateway
from testing.hammer import api, workers
from testing.http.client import ask, request_bytes
from testing.http.messages import Message
from testing.servers import BIN, child, free_port, wait_for_port
from testing.waiting import wait_until

DENIED, OTHER = "203.0.113.9", "198.51.100.7"
LIVE = "/meta/health/live"


class Database:
    """An SQLite database in a folder that can be moved away and back, without loss or mixing of its files."""

    def __init__(self, folder: Path) -> None:
        self.link, self.full, self.empty = folder / "data", folder / "full", folder / "empty"
        self.full.mkdir()
        self.link.symlink_to(self.full)

    @property
    def path(self) -> str:
        return str(self.link / "db.sqlite3")

    def point_to(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        new = self.link.with_name("new")
        new.symlink_to(folder)
        new.replace(self.link)

    def goes(self) -> None:
        shutil.rmtree(self.empty, ignore_errors=True)
        self.point_to(self.empty)

    def comes_back(self) -> None:
        self.point_to(self.full)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    return gateway.issue_token("demo@lucid.test")


@pytest.fixture(scope="module")
def gateway(database: Database) -> Iterator[Gateway]:
    """A gateway that denies an address."""
    with running_gateway(SQLITE_PATH=database.path, TRUSTED_PROXIES="127.0.0.1") as gateway:
        admin = gateway.issue_token("admin@lucid.test")
        rule = api("POST", "/admin/blocked-addresses", {"network": DENIED, "reason": "scanner"}, token=admin)
        assert ask(gateway.port, rule).status == 201
        wait_until(lambda: {status(gateway, DENIED) for _ in range(10)} == {403})
        applied_at = time.monotonic()
        wait_until(lambda: handed_over_at(gateway) > applied_at)
        yield gateway


def handed_over_at(gateway: Gateway) -> float:
    """Return when the workers read what they last left for those that start without the database (monotonic)."""
    files = Path(f"/proc/{gateway.process.pid}/fd").iterdir()
    memory = next(file for file in files if "lucid-handover" in str(file.readlink()))
    with memory.open("rb") as opened:
        return Handover(opened.fileno()).header()[0]


def get(port: int, path: str, address: str = OTHER, token: str = "") -> Message:
    return ask(port, api("GET", path, None, f"X-Forwarded-For: {address}", token=token))


def status(gateway: Gateway, address: str, token: str = "") -> int:
    """Return the status of a request that is forwarded."""
    return get(gateway.port, "/chain/info", address, token).status


def on_every_worker(gateway: Gateway, address: str, token: str = "") -> set[int]:
    return {status(gateway, address, token) for _ in range(10)}


def replaced(gateway: Gateway, number: int) -> None:
    """Kill the workers, or let gunicorn replace them, and wait for the new ones."""
    before = set(workers(gateway))
    for pid in before if number == signal.SIGKILL else [gateway.process.pid]:
        os.kill(pid, number)
    wait_until(lambda: len(now := set(workers(gateway))) == 2 and not now & before, 60)


@contextlib.contextmanager
def another_start(gateway: Gateway, folder: Path) -> Iterator[int]:
    """Start a second instance of the same gateway; yield its port."""
    port = free_port()
    command = [str(BIN / "gunicorn"), "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]
    with child(command, folder / "log", gateway.env | {"HTTP_PORT": str(port)}) as process:
        wait_for_port(port, process)
        yield port


def test_new_workers_take_over_the_state_of_the_others(gateway: Gateway, token: str, database: Database) -> None:
    database.goes()
    for number in (signal.SIGKILL, signal.SIGHUP):
        replaced(gateway, number)
        assert on_every_worker(gateway, DENIED) == {403}
        assert on_every_worker(gateway, OTHER) == {401}
        assert get(gateway.port, "/meta/version").status == 200
    database.comes_back()
    wait_until(lambda: on_every_worker(gateway, OTHER, token) == {502}, 60)  # let in: no cluster listens


def test_a_restarted_gateway_refuses_all_requests_until_it_has_read_its_rules(
    gateway: Gateway, token: str, database: Database, tmp_path: Path
) -> None:
    database.goes()
    with another_start(gateway, tmp_path) as port:
        assert get(port, LIVE).status == 200
        for path in ("/chain/info", "/meta/health/ready", "/meta/version", "/users/me"):
            for address in (OTHER, DENIED):
                answer = get(port, path, address, token)
                assert (answer.status, answer.code) == (503, "5002")
                assert answer.header("retry-after") == "5"

        database.comes_back()
        seen: dict[str, set[int]] = {OTHER: set(), DENIED: set()}

        def both_workers_serve() -> bool:
            now = {address: {get(port, "/chain/info", address, token).status for _ in range(10)} for address in seen}
            for address, statuses in now.items():
                seen[address] |= statuses
            return now == {OTHER: {502}, DENIED: {403}}

        wait_until(both_workers_serve, 60)
        assert seen[OTHER] <= {502, 503}
        assert seen[DENIED] <= {403, 503}


CONSOLE = ["/admin", "/admin/", "/admin/login/", "/admin/accounts/user/?q=a", "/admin/nothing/"]


def console(port: int, path: str, method: str = "GET", address: str = OTHER) -> Message:
    return ask(port, request_bytes(method, path, f"X-Forwarded-For: {address}"))


def test_until_then_operators_get_a_page(gateway: Gateway, database: Database, tmp_path: Path) -> None:
    database.goes()
    with another_start(gateway, tmp_path) as port:
        for path in CONSOLE:
            answer = console(port, path)
            assert (answer.status, answer.header("content-type")) == (503, "text/html; charset=utf-8"), path
            assert "default-src 'none'" in (answer.header("content-security-policy") or "")
            assert answer.header("retry-after") == "5"
            assert answer.header("x-request-id") in answer.body.decode()
            assert "<h1>Gateway not ready</h1>" in answer.body.decode()
        assert console(port, "/admin/login/", "POST").status == 503
        assert console(port, "/admin/", "HEAD").body == b""
        assert console(port, "/admin/overview.json").code == "5002"
        assert console(port, "/static/operators/console.css").status == 200
        assert console(port, "/api/v1/meta/health/live/x").status == 503
    database.comes_back()


def test_until_then_other_networks_do_not_see_that_there_is_a_console(
    gateway: Gateway, database: Database, tmp_path: Path
) -> None:
    database.goes()
    limited = dataclasses.replace(gateway, env=gateway.env | {"ADMIN_NETWORKS": "192.0.2.0/24"})
    with another_start(limited, tmp_path) as port:
        assert console(port, "/admin/", address="192.0.2.1").header("content-type") == "text/html; charset=utf-8"
        hidden, unknown = (console(port, path) for path in ("/admin/", "/other/"))
        assert hidden.code == unknown.code == "5002"
        assert [name for name, _ in hidden.fields] == [name for name, _ in unknown.fields]
    database.comes_back()


def test_a_running_gateway_shows_pages_that_say_that_the_database_is_down(gateway: Gateway, database: Database) -> None:
    def shown(path: str, *fields: str) -> tuple[int, str]:
        answer = ask(gateway.port, request_bytes("GET", path, f"X-Forwarded-For: {OTHER}", *fields))
        return answer.status, answer.body.decode()

    database.goes()
    try:
        # Each worker notices it by itself.
        wait_until(lambda: all("The database is" in shown("/admin/login/")[1] for _ in range(10)), 60)
        status_of_login, login = shown("/admin/login/")
        assert (status_of_login, 'id="login-form"' in login) == (200, True)
        for path in CONSOLE[1:]:
            cookie = f"Cookie: sessionid={'a' * 32}"
            status_of_page, page = shown(path, cookie)
            assert (status_of_page, "<h1>Database unavailable</h1>" in page) == (503, True), path
            wait_until(lambda path=path, cookie=cookie: "The database is" in shown(path, cookie)[1], 60)
    finally:
        database.comes_back()


class Held:
    """A cache that was read from the database, or not."""

    def __init__(self, value: object = None, read_at: float | None = None) -> None:
        self.value, self.read_at = value, read_at

    def state(self) -> object:
        return self.value

    def take_over(self, state: object) -> None:
        self.value = state


@pytest.fixture
def memory() -> Iterator[int]:
    memory = os.memfd_create("test")
    yield memory
    os.close(memory)


def test_a_later_state_is_not_overwritten(memory: int) -> None:
    Handover(memory, Held("new", 20.0), Held("new", 21.0)).write()
    Handover(memory, Held("old", 19.0), Held("old, and longer", 30.0)).write()
    Handover(memory, Held("half", 40.0), Held()).write()
    first, second = Held(), Held("own", 1.0)
    new = Handover(memory, first, second)
    assert not new.is_complete()
    new.take_over()

    assert (first.value, first.read_at, second.value, second.read_at) == ("new", 20.0, "own", 1.0)
    assert new.is_complete()


def test_a_shorter_state_is_read_completely(memory: int) -> None:
    for read_at, value in ((1.0, "long" * 1000), (2.0, "short")):
        Handover(memory, Held(value, read_at)).write()
    taken = Held()
    Handover(memory, taken).take_over()

    assert taken.value == "short"


@pytest.mark.parametrize("written", [b"", HEADER.pack(5.0, 3, bytes(32)) + b"abc"], ids=["nothing", "half"])
def test_an_incomplete_state_is_not_taken_over(memory: int, written: bytes) -> None:
    os.pwrite(memory, written, 0)
    taken = Held()
    new = Handover(memory, taken)
    new.take_over()

    assert not new.is_complete()
