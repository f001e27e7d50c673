"""The settings from the environment: a wrong one prevents the start, with one line that contains no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from lucid_gateway.kernel.env import ConfigurationError, Environment, load
from lucid_gateway.kernel.redis_urls import urls_of_nodes
from testing.servers import BIN, ROOT

SECRET = "q7Rk2vXw9LmZt4Bn8Yc3Hd6Fj5Gs1PaEuTiOw0Vb7Nx2Mz4Qk9"
MINIMUM = {"ENVIRONMENT": "test", "JWT_SECRET_KEY": SECRET, "REDIS_URL": "redis://redis:6379/0"}
PRODUCTION = MINIMUM | {
    "ENVIRONMENT": "production",
    "SECRET_KEY": SECRET[::-1],
    "BLOCKCHAIN_CORE_URL": "http://blockchain-core:8084",
    "SESSION_MANAGEMENT_URL": "http://session-management:8085",
    "AUTH_SERVICE_URL": "http://auth-service:8086",
    "TRON_PAYMENT_URL": "http://tron-payment:8087",
    "ALLOWED_HOSTS": "api.example.org",
    "CORS_ORIGINS": "https://app.example.org",
    "IDENTITY_SIGNING_SECRET": SECRET[::2] * 2,
}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def problem(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> str:
    """Return the line that refuses the variables, after checking that it contains none of their values."""
    set_variables(monkeypatch, variables)
    with pytest.raises(ConfigurationError) as caught:
        load()
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


def run(command: list[str], variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name not in Environment.model_fields}
    return subprocess.run(
        command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, timeout=60, check=False
    )


CHECK = [sys.executable, "manage.py", "check"]
GUNICORN = [str(BIN / "gunicorn"), "--check-config", "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]


def test_the_minimum_is_enough_outside_production(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, MINIMUM)

    env = load()

    assert (env.HTTP_PORT, env.RATE_LIMIT_REQUESTS_PER_MINUTE, env.SSL_ENABLED) == (8080, 100, True)


def test_production_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {name: value for name, value in PRODUCTION.items() if name != "ENVIRONMENT"})

    assert load().in_production


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "REDIS_URL"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, empty: bool) -> None:
    variables = MINIMUM | {name: ""} if empty else {key: value for key, value in MINIMUM.items() if key != name}

    assert problem(monkeypatch, variables) == f"{name}: is missing; expected a value"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "prod"),
        ("DEBUG", "perhaps"),
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "0"),
        ("HTTPS_PORT", "65536"),
        ("WEB_CONCURRENCY", "0"),
        ("API_VERSION", "v2"),
        ("JWT_ALGORITHM", "none"),
        ("JWT_SECRET_KEY", "short"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "1.5"),
        ("MONGODB_URI", f"mysql://lucid:{SECRET}@db"),
        ("MONGODB_URI", f"mongodb//lucid:{SECRET}℀@db"),
        ("MONGODB_URI", f"mongodb://lucid:{SECRET}@one,two/?replicaSet=rs&w=1"),
        ("MONGODB_URI", "mongodb://db/?W=0"),
        ("MONGODB_URI", "mongodb://db/?journal=false;replicaSet=rs"),
        ("MONGODB_URI", "mongodb+srv://db.example.org/?readPreference=secondaryPreferred"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", f"redis://:{SECRET}/x@redis:6379/0"),
        ("REDIS_URL", f"http://:{SECRET}℀@redis"),
        ("REDIS_URL", f"redis://:{SECRET}℀@redis"),
        ("REDIS_URL", "redis://redis:0"),
        ("REDIS_URL", "redis://redis:99999"),
        ("REDIS_URL", "sentinel://"),
        ("REDIS_URL", "sentinel://one,two:26379/mymaster"),
        ("REDIS_URL", "sentinel://one:26379"),
        ("REDIS_TIMEOUT_SECONDS", "0"),
        ("REDIS_TIMEOUT_SECONDS", "60"),
        ("BLOCKCHAIN_CORE_URL", "blockchain-core:8084"),
        ("BLOCKCHAIN_CORE_URL", "http://blockchain-core/base"),
        ("BLOCKCHAIN_CORE_URL", "http://user:pass@blockchain-core"),
        ("TRON_PAYMENT_URL", "http://tron-payment:8087?x=1"),
        ("TRON_PAYMENT_URL", "http://one,ftp://two"),
        ("TRON_PAYMENT_URL", "http://tron-payment:0"),
        ("STORAGE_DATABASE_URL", "http://[::1"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "0"),
        ("RATE_LIMIT_BURST_SIZE", "-1"),
        ("RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE", "many"),
        ("ALLOWED_HOSTS", "https://api.example.org"),
        ("ALLOWED_HOSTS", "api.example.org:8080"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example.org"),
        ("CORS_ORIGINS", "app.example.org"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "nginx"),
        ("ADMIN_NETWORKS", "10.0.0.1/8"),
        ("ADMIN_NETWORKS", "office"),
        ("STAFF_SECOND_FACTOR", "sometimes"),
        ("PUBLIC_BASE_URL", "api.example.org"),
        ("EMAIL_PORT", "smtp"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("HEALTH_CHECK_INTERVAL", "0"),
        ("HSTS_INCLUDE_SUBDOMAINS", "max-age=1"),
        ("HSTS_PRELOAD", "true"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    line = problem(monkeypatch, MINIMUM | {name: value})

    assert line.startswith(f"{name}: ")


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> str:
    """Return the key as PEM."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


@pytest.mark.parametrize("bits", [1024, 2047])
def test_a_short_rsa_key_prevents_the_start(bits: int) -> None:
    weak = pem(rsa.generate_private_key(public_exponent=65537, key_size=bits))

    result = run(CHECK, MINIMUM | {"JWT_ALGORITHM": "RS256", "JWT_SECRET_KEY": weak})

    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert f"JWT_SECRET_KEY: is an RSA key of {bits} bits; expected an RSA private key" in line
    assert "at least 2048 bits" in line


def test_an_unusable_rsa_key_is_refused_for_rs256(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, curve = rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())
    for unfit in (SECRET, pem(curve), pem(fit, passphrase=b"opens it"), pem(fit).replace("M", "N")):
        line = problem(monkeypatch, MINIMUM | {"JWT_ALGORITHM": "RS256", "JWT_SECRET_KEY": unfit})
        assert line.startswith("JWT_SECRET_KEY: is not ")

    set_variables(monkeypatch, MINIMUM | {"JWT_ALGORITHM": "RS256", "JWT_SECRET_KEY": pem(fit)})
    assert load().JWT_ALGORITHM == "RS256"


CLUSTER_URLS = {
    "redis+cluster://one:6379,two:6380": ["redis://one:6379", "redis://two:6380"],
    "rediss+cluster://[::1]:6379/?ssl_ca_certs=/ca.pem": ["rediss://[::1]:6379?ssl_ca_certs=/ca.pem"],
    "redis+cluster://user:p%40ss@one:6379,two:6379/": ["redis://user:p%40ss@one:6379", "redis://user:p%40ss@two:6379"],
}


@pytest.mark.parametrize("url", CLUSTER_URLS)
def test_the_url_of_a_redis_cluster_names_nodes(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    set_variables(monkeypatch, MINIMUM | {"REDIS_URL": url})

    assert urls_of_nodes(load().REDIS_URL) == CLUSTER_URLS[url]


@pytest.mark.parametrize(
    "rest",
    ["", "one", "one:6379/1", "one:6379,", "one:0", "one:65536", "one:6379,two", "a@b@one:6379", "one:x", " one:1"],
)
def test_a_wrong_url_of_a_redis_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    line = problem(monkeypatch, MINIMUM | {"REDIS_URL": f"redis+cluster://{rest}"})

    assert line == "REDIS_URL: expected redis+cluster://[user:password@]host:port,host:port, without a database"


@pytest.mark.parametrize(
    ("environment", "setting", "required"),
    [("production", "", True), ("staging", "required", True), ("development", "", False), ("test", "", False),
     ("development", "required", True), ("test", "optional", False)],
)  # fmt: skip
def test_staff_must_have_a_second_factor_in_production_and_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, environment: str, setting: str, required: bool
) -> None:
    settings = PRODUCTION | {"ENVIRONMENT": environment, "STAFF_SECOND_FACTOR": setting}

    set_variables(monkeypatch, settings)

    assert load().second_factor_required == required


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, MINIMUM | {"BLOCKCHAIN_CORE_URL": "http://one:1/, http://two:2 ,"})

    assert load().BLOCKCHAIN_CORE_URL == ("http://one:1", "http://two:2")


def test_an_origin_is_kept_as_browsers_send_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, MINIMUM | {"CORS_ORIGINS": "https://App.example.org/"})

    assert load().CORS_ORIGINS == ("https://app.example.org",)


@pytest.mark.parametrize("host", ["api.example.org", ".example.org", "10.0.0.1", "[::1]", "localhost"])
def test_every_form_of_a_host_name_is_accepted(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    set_variables(monkeypatch, MINIMUM | {"ALLOWED_HOSTS": host})

    assert (host,) == load().ALLOWED_HOSTS


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis", "rediss://:pass@redis:6380/1", "redis://[::1]:6379", "unix:///run/redis.sock?db=1",
        "sentinel://one:26379,two:26379/mymaster/0", "sentinel://:pass@one:26379/mymaster",
    ],
)  # fmt: skip
def test_every_kind_of_redis_url_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    set_variables(monkeypatch, MINIMUM | {"REDIS_URL": url})

    assert url == load().REDIS_URL


@pytest.mark.parametrize("options", ["", "?replicaSet=rs&tls=true", "?w=majority&journal=True&readPreference=PRIMARY"])
def test_safe_options_of_mongodb_are_accepted(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    set_variables(monkeypatch, MINIMUM | {"MONGODB_URI": f"mongodb://one,two:27018/{options}"})

    assert load().MONGODB_URI.endswith(options)


def test_the_log_level_may_be_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, MINIMUM | {"LOG_LEVEL": "debug", "LOG_FORMAT": "JSON"})

    assert (load().LOG_LEVEL, load().LOG_FORMAT) == ("DEBUG", "json")


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    set_variables(monkeypatch, MINIMUM | {"JWT_SECRET_KEY": "", "JWT_SECRET_KEY_FILE": str(tmp_path / "secret")})

    assert load().JWT_SECRET_KEY == SECRET


@pytest.mark.parametrize("name", ["SECRET_KEY", "REDIS_URL", "MONGODB_URI", "EMAIL_HOST_PASSWORD"])
def test_a_value_and_a_file_for_it_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(SECRET)

    line = problem(monkeypatch, MINIMUM | {name: SECRET, f"{name}_FILE": str(tmp_path / "secret")})

    assert line == f"{name}: is set both directly and as {name}_FILE; expected one"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)

    line = problem(monkeypatch, MINIMUM | {"SECRET_KEY_FILE": str(tmp_path / "secret")})

    assert line.startswith("SECRET_KEY_FILE: cannot be read")


def test_a_complete_production_environment_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PRODUCTION)

    assert load().in_production


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("DEBUG", "true", "is true in production"),
        ("STAFF_SECOND_FACTOR", "optional", "is optional in production"),
        ("SECRET_KEY", "", "is missing"),
        ("SECRET_KEY", "Zx9-too-short", "is 13 characters long"),
        ("SECRET_KEY", "abababababababababababababababababababab", "is easy to guess"),
        ("SECRET_KEY", "ChangeMe-" + SECRET, "is easy to guess"),
        ("SECRET_KEY", "django-insecure-" + SECRET, "is easy to guess"),
        ("JWT_SECRET_KEY", "", "is missing"),
        ("JWT_SECRET_KEY", SECRET[:31], "is 31 characters long"),
        ("JWT_SECRET_KEY", "your-secret-key-goes-here-" + SECRET, "is easy to guess"),
        ("ALLOWED_HOSTS", "", "is missing"),
        ("ALLOWED_HOSTS", "api.example.org,*", "is `*`"),
        ("CORS_ORIGINS", "", "is missing"),
        ("BLOCKCHAIN_CORE_URL", "", "is missing"),
        ("SESSION_MANAGEMENT_URL", "", "is missing"),
        ("AUTH_SERVICE_URL", "", "is missing"),
        ("TRON_PAYMENT_URL", "", "is missing"),
    ],
)
@pytest.mark.parametrize("environment", ["production", "staging"])
def test_production_refuses_insecure_settings(
    monkeypatch: pytest.MonkeyPatch, environment: str, name: str, value: str, why: str
) -> None:
    line = problem(monkeypatch, PRODUCTION | {"ENVIRONMENT": environment, name: value})

    assert line.startswith(f"{name}: {why}")


@pytest.mark.parametrize("command", [CHECK, GUNICORN], ids=["manage.py", "gunicorn"])
def test_a_bad_value_prevents_the_start_with_a_one_line_message(command: list[str]) -> None:
    weak = "changeme" * 5

    done = run(command, PRODUCTION | {"JWT_SECRET_KEY": weak})

    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == (
        "LUCID_ERR_5004 configuration error: JWT_SECRET_KEY: is easy to guess; expected at least 32 random characters\n"
    )


def test_a_database_folder_that_cannot_be_created_prevents_the_start() -> None:
    done = run(CHECK, MINIMUM | {"SQLITE_PATH": "/dev/null/db.sqlite3"})

    assert done.returncode != 0
    assert done.stderr.startswith("LUCID_ERR_5004 configuration error: SQLITE_PATH: ")
    assert done.stderr.count("\n") == 1


def test_the_deployment_check_finds_nothing_in_production(tmp_path: Path) -> None:
    command = [*CHECK, "--deploy", "--fail-level", "WARNING"]

    done = run(command, PRODUCTION | {"SQLITE_PATH": str(tmp_path / "db.sqlite3")})

    assert "System check identified no issues" in done.stdout + done.stderr
    assert done.returncode == 0
