"""build.sh and deploy.sh: real runs with a stand-in for the Docker client, which is not available everywhere."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from deploy.tests.conftest import DEPLOY, run, tool

SCRIPTS = sorted(path.name for path in DEPLOY.glob("*.sh"))
SECRETS = {"secret_key", "jwt_secret_key", "identity_signing_secret", "edge_secret", "mongodb_root_password",
           "mongodb_uri", "redis_password", "redis_url", "email_host_password"}  # fmt: skip

STAND_IN = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
    *"$FAILS_AT"*) exit 1 ;;
    inspect*) echo "$HEALTH" ;;
    *"compose "*logs*) echo "a line of a service" ;;
esac
"""


class Host:
    """A machine to deploy on: a folder for secrets, and a `docker` that records its arguments."""

    def __init__(self, folder: Path) -> None:
        self.secrets, self.log = folder / "secrets", folder / "docker.log"
        self.log.touch()
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").write_text(STAND_IN)
        (folder / "bin" / "docker").chmod(0o755)
        self.variables = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SECRETS_DIR": str(self.secrets),
            "LOG": str(self.log),
            "HEALTH": "healthy",
            "FAILS_AT": "(never)",
        }

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run(str(DEPLOY / script), *arguments, **(self.variables | variables))

    @property
    def asked(self) -> list[str]:
        """The arguments of each call of docker, one line per call."""
        return self.log.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def ready(host: Host) -> Host:
    """A host with all secrets and a certificate, on which nothing runs yet."""
    tool("openssl")
    host.run("deploy.sh", "--init", "--self-signed", "api.example.org,127.0.0.1", FAILS_AT="compose version")
    host.log.write_text("")
    return host


def rewrite(path: Path, text: str) -> None:
    """Replace the content of a secret, whose file is read-only."""
    path.chmod(0o644)
    path.write_text(text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_no_problem(script: str) -> None:
    checked = run(tool("shellcheck"), str(DEPLOY / script))
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_and_does_nothing(script: str, host: Host) -> None:
    result = host.run(script, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"Usage: deploy/{script}")
    assert host.asked == []
    assert not host.secrets.exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_is_refused(script: str, host: Host) -> None:
    result = host.run(script, "--frobnicate")
    assert result.returncode == 1
    assert "--frobnicate" in result.stderr
    assert host.asked == []


# The Docker commands of build.sh


def test_the_build_passes_version_and_date_and_checks_the_image(host: Host) -> None:
    result = host.run("build.sh", "--version", "2.3.4")
    assert result.returncode == 0, result.stderr
    build, run = host.asked
    assert "--build-arg VERSION=2.3.4" in build
    assert "--tag lucid-api-gateway:2.3.4" in build
    assert re.search(r"--build-arg REVISION=([0-9a-f]{40}|unknown) ", build)
    assert re.search(r"--build-arg BUILD_DATE=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", build)
    assert run.startswith("run --rm lucid-api-gateway:2.3.4 -c ")


def test_the_bill_of_materials_is_made_in_the_image(host: Host, tmp_path: Path) -> None:
    result = host.run("build.sh", "--version", "2.3.4", "--sbom", str(tmp_path / "sbom.json"))
    assert result.returncode == 0, result.stderr
    assert host.asked[-1] == "run --rm --interactive lucid-api-gateway:2.3.4 - lucid-api-gateway 2.3.4"
    assert (tmp_path / "sbom.json").exists()


def test_a_bill_of_materials_that_cannot_be_written_is_an_error(host: Host, tmp_path: Path) -> None:
    result = host.run("build.sh", "--sbom", str(tmp_path / "missing" / "sbom.json"))
    assert result.returncode == 1
    assert "sbom.json could not be written" in result.stderr


@pytest.mark.parametrize(("step", "message"), [("build --file", "build failed"), ("run --rm", "cannot be imported")])
def test_a_failed_build_says_which_step_failed(step: str, message: str, host: Host) -> None:
    result = host.run("build.sh", FAILS_AT=step)
    assert result.returncode == 1
    assert message in result.stderr


def test_an_invalid_tag_is_refused(host: Host) -> None:
    assert host.run("build.sh", "--version", "1.0 beta").returncode == 1
    assert host.asked == []


# The secrets that deploy.sh checks and creates


def test_init_creates_every_secret_that_is_missing(ready: Host) -> None:
    assert {path.name for path in ready.secrets.iterdir()} == SECRETS | {"api-gateway.crt", "api-gateway.key"}
    assert len((ready.secrets / "jwt_secret_key").read_text()) == 64
    assert (ready.secrets / "redis_password").read_text() in (ready.secrets / "redis_url").read_text()
    values = [(ready.secrets / name).read_text() for name in SECRETS]
    assert len(set(values)) == len(SECRETS)


def test_only_the_owner_of_the_folder_and_the_containers_can_read_them(ready: Host) -> None:
    assert stat.S_IMODE(ready.secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in ready.secrets.iterdir()} == {0o444}


def test_init_keeps_existing_secrets(ready: Host) -> None:
    before = {path.name: path.read_text() for path in ready.secrets.iterdir()}
    assert ready.run("deploy.sh", "--init", "--self-signed", "other.example.org").returncode == 0
    assert {path.name: path.read_text() for path in ready.secrets.iterdir()} == before


def test_the_self_signed_certificate_is_for_the_names_that_were_given(ready: Host) -> None:
    certificate = str(ready.secrets / "api-gateway.crt")
    shown = run(tool("openssl"), "x509", "-noout", "-ext", "subjectAltName", "-in", certificate).stdout
    assert "DNS:api.example.org, IP Address:127.0.0.1" in shown


def test_nothing_is_created_without_an_option(host: Host) -> None:
    result = host.run("deploy.sh")
    assert result.returncode == 1
    assert "--init" in result.stderr
    assert not host.secrets.exists()
    assert host.asked == []


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_missing_secret_is_named_before_anything_starts(name: str, ready: Host) -> None:
    (ready.secrets / name).unlink()
    result = ready.run("deploy.sh")
    assert result.returncode == 1
    assert f"/{name} is missing" in result.stderr
    assert ready.asked == []


@pytest.mark.parametrize("name", ["secret_key", "jwt_secret_key", "edge_secret"])
def test_a_short_secret_is_refused_without_showing_it(name: str, ready: Host) -> None:
    rewrite(ready.secrets / name, "x" * 31 + "\n")
    result = ready.run("deploy.sh")
    assert result.returncode == 1
    assert f"{name} has 31 characters; expected at least 32" in result.stderr
    assert "xxx" not in result.stderr


def test_a_redis_url_with_another_password_is_refused(ready: Host) -> None:
    rewrite(ready.secrets / "redis_password", "something-else")
    assert "redis_url does not contain the password" in ready.run("deploy.sh").stderr


def test_a_folder_open_to_others_is_refused(ready: Host) -> None:
    ready.secrets.chmod(0o755)
    assert "set its mode to 0700" in ready.run("deploy.sh").stderr


# The services that deploy.sh starts


def test_a_deployment_starts_the_services_and_ends_when_they_are_healthy(ready: Host) -> None:
    result = ready.run("deploy.sh")
    assert result.returncode == 0, result.stderr
    assert any(line.endswith("up --detach --remove-orphans") for line in ready.asked)
    assert "The gateway is up" in result.stdout


def test_the_network_of_the_clusters_is_created_if_it_is_missing(ready: Host) -> None:
    assert ready.run("deploy.sh", FAILS_AT="network inspect").returncode == 0
    assert "network create lucid-network" in ready.asked


def test_a_deployment_lets_the_edge_read_its_configuration_again(ready: Host) -> None:
    assert ready.run("deploy.sh").returncode == 0
    assert any("exec -T api-edge openresty" in line and line.endswith("-s reload") for line in ready.asked)


def test_recreate_replaces_the_containers(ready: Host) -> None:
    assert ready.run("deploy.sh", "--recreate").returncode == 0
    assert any(line.endswith("--force-recreate") for line in ready.asked)


@pytest.mark.parametrize("variables", [{"HEALTH": "starting"}, {"FAILS_AT": "up --detach"}])
def test_a_failed_deployment_prints_the_logs_and_fails(variables: dict[str, str], ready: Host) -> None:
    result = ready.run("deploy.sh", "--timeout", "1", **variables)
    assert result.returncode == 1
    assert "a line of a service" in result.stderr


@pytest.mark.parametrize(("fails_at", "message"), [("compose version", "version 2"), ("info", "does not answer")])
def test_a_missing_engine_is_reported(fails_at: str, message: str, ready: Host) -> None:
    result = ready.run("deploy.sh", FAILS_AT=fails_at)
    assert result.returncode == 1
    assert message in result.stderr


# Three gateways


@pytest.fixture
def scaled(host: Host) -> Host:
    """A host with all secrets for three gateways, on which nothing runs yet."""
    tool("openssl")
    host.run("deploy.sh", "--scale", "--init", "--self-signed", "api.example.org", FAILS_AT="compose version")
    host.log.write_text("")
    return host


def test_the_secrets_of_a_scaled_deployment_name_all_servers(scaled: Host) -> None:
    read = {path.name: path.read_text() for path in scaled.secrets.iterdir()}
    assert set(read) == SECRETS | {"mongodb_replica_set_key", "api-gateway.crt", "api-gateway.key"}
    hosts = "api-mongodb:27017,api-mongodb-2:27017,api-mongodb-3:27017"
    assert read["mongodb_uri"].endswith(f"@{hosts}/lucid_gateway?replicaSet=rs0")
    sentinels = "api-sentinel-1:26379,api-sentinel-2:26379,api-sentinel-3:26379"
    assert read["redis_url"] == f"sentinel://:{read['redis_password']}@{sentinels}/lucid/0"


def test_a_scaled_deployment_waits_for_all_gateways_and_reloads_all_edges(scaled: Host) -> None:
    result = scaled.run("deploy.sh", "--scale")
    assert result.returncode == 0, result.stderr
    assert any(re.search(r"--file \S+yml --file \S+scale.yml up --detach", line) for line in scaled.asked)
    inspected = {line.split()[-1] for line in scaled.asked if line.startswith("inspect")}
    assert inspected == {f"lucid-api-{kind}{number}" for kind in ("gateway", "edge") for number in ("", "-2", "-3")}
    reloaded = [line for line in scaled.asked if line.endswith("-s reload")]
    assert [re.search(r"-T (\S+)", line)[1] for line in reloaded] == ["api-edge", "api-edge-2", "api-edge-3"]


def test_a_scaled_deployment_needs_the_key_of_the_replica_set(ready: Host) -> None:
    assert "mongodb_replica_set_key is missing" in ready.run("deploy.sh", "--scale").stderr
    assert ready.asked == []
