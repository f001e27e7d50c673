"""What a gateway says at its start about its database: one line, with which it ends if MONGODB_URI is wrong."""

import pytest

from lucid_gateway.mongodb.at_start import problem
from lucid_gateway.settings import mongodb
from testing.gateway import Gateway, refusal
from testing.servers import child, folder, free_port, mongod_binary, running_mongod, wait_for_port

LINE = "LUCID_ERR_5004 configuration error: MONGODB_URI: "


def test_a_member_of_another_replica_set_is_refused() -> None:
    with running_mongod() as uri:
        down = f"127.0.0.1:{free_port()}"
        other = uri.replace("/?replicaSet=test", f",{down}/?replicaSet=other")

        assert refusal(MONGODB_URI=other) == (
            f"{LINE}leads to a member of another replica set; expected replicaSet=test\n"
        )


def test_a_server_without_a_replica_set_is_refused_as_one_of_a_set() -> None:
    port = free_port()
    with folder() as path:
        command = [mongod_binary(), "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(path),
                   "--nounixsocket"]  # fmt: skip
        with child(command, path / "log") as process:
            wait_for_port(port, process)

            assert refusal(MONGODB_URI=f"mongodb://127.0.0.1:{port}/?replicaSet=test") == (
                f"{LINE}leads to a server without a replica set; expected no option replicaSet\n"
            )


def test_a_connection_string_that_cannot_be_read_is_refused_without_its_password() -> None:
    line = refusal(MONGODB_URI="mongodb://lucid:pass@word@127.0.0.1/?replicaSet=test")

    assert line.startswith(f"{LINE}is not a connection string of MongoDB; expected mongodb://")
    assert line.count("\n") == 1
    assert "pass@" not in line


@pytest.mark.parametrize("name", ["test", "other"])
def test_a_server_that_is_down_is_no_reason_to_refuse(name: str) -> None:
    options = mongodb()["OPTIONS"] | {"serverSelectionTimeoutMS": 300}

    assert problem(f"mongodb://127.0.0.1:{free_port()}/?replicaSet={name}", options) == ""


def test_a_gateway_on_sqlite_says_that_its_database_is_for_one_host(gateway: Gateway) -> None:
    said = gateway.logged().count("SQLite")

    assert said == (0 if "MONGODB_URI" in gateway.env else 1)
