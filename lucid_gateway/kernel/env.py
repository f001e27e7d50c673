"""The settings from the environment: typed, and read once. The gateway does not start if one is wrong.

No other module of the project reads `os.environ`.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from lucid_gateway.kernel.redis_urls import is_cluster, is_valid_cluster
from lucid_gateway.kernel.secrets.rsa_keys import UnusableKey, rsa_private_key
from lucid_gateway.policy.claims import HMAC_KEY_BYTES, MIN_RSA_BITS
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.tiers import TIERS

BASE_DIR = Path(__file__).resolve().parents[2]
MIN_SECRET_LENGTH = 32
MIN_DISTINCT_CHARACTERS = 8
PLACEHOLDERS = ("changeme", "change-me", "change_me", "your-secret", "placeholder", "insecure")

HOST = re.compile(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
# Options of MONGODB_URI that could lose a revocation, with the only safe value, which settings.py sets.
MONGODB_GUARANTEES = {"w": "majority", "journal": "true", "readpreference": "primary"}
SENTINEL_GROUP = re.compile(r"sentinel://([^/]*@)?[^/@,]+:[0-9]+(,[^/@,]+:[0-9]+)*/[^/]+(/[0-9]+)?")


def split_commas(value: Any) -> Any:
    """Turn the text `a, b` into ("a", "b")."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def instance_addresses(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of a cluster's instances; raise ValueError.

    Each consists of scheme, host and port only, because each request brings its own path and query.
    """
    if not all(is_origin(url) for url in urls):
        raise ValueError("expected http://host:port or https://host:port, several separated by commas")
    return tuple(url.rstrip("/") for url in urls)


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]
Instances = Annotated[CommaList, AfterValidator(instance_addresses)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigurationError(Exception):
    """A setting is missing or wrong; the message is one line that names the variable, never its value if secret."""


class EnvironmentSource(PydanticBaseSettingsSource):
    """Reads each field from the variable `NAME`, or from the file that `NAME_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return (value or None, field name, False): the values are plain text, never JSON."""
        value, path = os.environ.get(field_name), os.environ.get(f"{field_name}_FILE")
        if value and path:
            raise ConfigurationError(f"{field_name}: is set both directly and as {field_name}_FILE; expected one")
        return (read_secret_file(field_name, path) if path else value), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values that are set; an empty value counts as unset."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value}


def read_secret_file(name: str, path: str) -> str:
    """Return the content of the file without its last newline; raise ConfigurationError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{name}_FILE: cannot be read ({type(error).__name__}); expected a text file"
        ) from error


class FixedEnvironment(BaseSettings):
    """The variables of the environment, except those of the tiers and the clusters."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="ignore", frozen=True)
    # Django's settings look for this attribute on each value; without it, pydantic's search slows down each request.
    _mask_wrapped: ClassVar[bool] = True

    SERVICE_NAME: str = "api-gateway"
    API_VERSION: Literal["v1"] = "v1"
    ENVIRONMENT: Literal["production", "staging", "development", "test"] = "production"
    DEBUG: bool = False
    HTTP_PORT: Port = 8080
    HTTPS_PORT: Port = 8081
    WEB_CONCURRENCY: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=lambda: os.cpu_count() or 1)

    SECRET_KEY: str = ""
    SECRET_KEY_FALLBACKS: CommaList = ()
    JWT_SECRET_KEY: str
    JWT_ALGORITHM: Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] = "HS256"
    JWT_ACCESS_TOKEN_EXPIRE_MINUTES: Annotated[int, Field(ge=1, le=1440)] = 15
    JWT_REFRESH_TOKEN_EXPIRE_DAYS: Annotated[int, Field(ge=1, le=365)] = 7

    MONGODB_URI: str = ""
    MONGODB_DATABASE: str = "lucid_gateway"
    SQLITE_PATH: Path = Path("var/lucid_gateway.sqlite3")
    REDIS_URL: str
    REDIS_TIMEOUT_SECONDS: Annotated[float, Field(ge=0.05, le=10)] = 0.3

    CLUSTER_MAX_IN_FLIGHT: Positive = 1_000
    CLUSTER_BREAKER_ENABLED: bool = True
    CLUSTER_HEALTH_CHECKS_ENABLED: bool = True
    IDENTITY_SIGNING_SECRET: str = ""

    EDGE_SECRET: str = ""
    GATEWAY_SOCKET: str = ""
    EDGE_TUNNEL_MAX_SECONDS: Annotated[int, Field(ge=1, le=86_400)] = 3_600

    RATE_LIMIT_ENABLED: bool = True
    LOGINS_PER_ACCOUNT: Positive = 5
    RATE_LIMIT_CONCURRENT_REQUESTS: Count = 0
    RATE_LIMIT_DAILY_QUOTA: Count = 0
    RATE_LIMIT_OBSERVE_ONLY: CommaList = ()

    SSL_ENABLED: bool = True
    SSL_CERT_PATH: str = ""
    SSL_KEY_PATH: str = ""
    HSTS_INCLUDE_SUBDOMAINS: bool = False
    HSTS_PRELOAD: bool = False
    ALLOWED_HOSTS: CommaList = ()
    CORS_ORIGINS: CommaList = ()
    TRUSTED_PROXIES: CommaList = ()
    PUBLIC_BASE_URL: str = "http://127.0.0.1:8080"

    STAFF_SECOND_FACTOR: Literal["required", "optional"] | None = None
    ADMIN_NETWORKS: CommaList = ()

    EMAIL_HOST: str = ""
    EMAIL_PORT: Port = 25
    EMAIL_HOST_USER: str = ""
    EMAIL_HOST_PASSWORD: str = ""
    EMAIL_USE_TLS: bool = False
    DEFAULT_FROM_EMAIL: str = "Lucid <no-reply@localhost>"

    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    LOG_FORMAT: Literal["json", "console"] = "json"
    METRICS_ENABLED: bool = True
    CLIENT_TIMEOUT_SECONDS: Positive = 30
    MAX_CONNECTIONS_PER_ADDRESS: Count = 1_000
    HEALTH_CHECK_INTERVAL: Annotated[int, Field(ge=1, le=3600)] = 30
    AUDIT_RETENTION_DAYS: Annotated[int, Field(ge=1, le=3650)] = 90
    EXPLORER_SAMPLE_PERCENT: Annotated[float, Field(ge=0, le=100)] = 1.0
    EXPLORER_KEEP_HOURS: Annotated[int, Field(ge=0, le=720)] = 24
    EXPLORER_MAX_ROWS: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    API_DOCS_ENABLED: bool = False

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read keyword arguments (tests) and the environment only."""
        return init_settings, EnvironmentSource(settings_cls)

    @property
    def in_production(self) -> bool:
        """Whether the rules for secure settings apply; staging counts as production."""
        return self.ENVIRONMENT in ("production", "staging")

    @property
    def docs_enabled(self) -> bool:
        """Whether /docs and /openapi.json are served."""
        return self.API_DOCS_ENABLED or self.DEBUG

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks whose X-Forwarded-* and X-Request-ID headers are trusted."""
        return tuple(ipaddress.ip_network(network) for network in self.TRUSTED_PROXIES)

    @property
    def admin_networks(self) -> tuple[Network, ...]:
        """The networks that may open /admin; empty if all may."""
        return tuple(ipaddress.ip_network(network) for network in self.ADMIN_NETWORKS)

    @property
    def second_factor_required(self) -> bool:
        """Whether staff must have a second factor to use /admin."""
        return self.in_production if self.STAFF_SECOND_FACTOR is None else self.STAFF_SECOND_FACTOR == "required"

    @property
    def sqlite_file(self) -> Path:
        """SQLITE_PATH, relative to the project's folder."""
        return BASE_DIR / self.SQLITE_PATH

    @field_validator("LOG_LEVEL", "LOG_FORMAT", mode="before")
    @classmethod
    def any_case(cls, value: Any, info: Any) -> Any:
        """Accept `info` for INFO and `JSON` for json."""
        if not isinstance(value, str):
            return value
        return value.upper() if info.field_name == "LOG_LEVEL" else value.lower()

    @field_validator("CORS_ORIGINS")
    @classmethod
    def explicit_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Cross-origin requests may carry credentials, so each origin must be listed."""
        if not all(is_origin(origin) for origin in origins):
            raise ValueError("expected origins such as https://app.example.org, separated by commas; not `*`")
        return tuple(origin.rstrip("/").lower() for origin in origins)

    @field_validator("ALLOWED_HOSTS")
    @classmethod
    def host_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """An entry with a scheme or a port would match no request."""
        if not all(HOST.fullmatch(host) for host in hosts):
            raise ValueError("expected host names such as api.example.org, without scheme or port")
        return hosts

    @field_validator("TRUSTED_PROXIES", "ADMIN_NETWORKS")
    @classmethod
    def networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        """Each entry must be an address or a CIDR network."""
        try:
            for network in networks:
                ipaddress.ip_network(network)
        except ValueError as error:
            raise ValueError("expected addresses or networks such as 10.0.0.0/8, separated by commas") from error
        return networks

    @field_validator("RATE_LIMIT_OBSERVE_ONLY")
    @classmethod
    def known_tiers(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        """Each entry must be a tier; a misspelled tier would still refuse requests."""
        if not set(tiers) <= set(TIERS):
            raise ValueError(f"expected tiers, separated by commas: {', '.join(TIERS)}")
        return tiers

    @field_validator("PUBLIC_BASE_URL")
    @classmethod
    def public_base_url(cls, url: str) -> str:
        """The base of mailed links must be an origin."""
        if not is_origin(url):
            raise ValueError("expected an address such as https://api.example.org")
        return url.rstrip("/")

    @field_validator("REDIS_URL")
    @classmethod
    def redis_url(cls, url: str) -> str:
        """Accept one server, a Sentinel group as sentinel://host:port,host:port/master-name[/database], or a cluster as
        redis+cluster://host:port,host:port.
        """
        scheme = url.partition("://")[0]
        if is_cluster(url):
            if not is_valid_cluster(url):
                raise ValueError(f"expected {scheme}://[user:password@]host:port,host:port, without a database")
            return url
        if scheme not in ("redis", "rediss", "unix", "sentinel"):
            raise ValueError("expected redis://, rediss://, unix://, sentinel:// or redis+cluster://")
        if scheme == "sentinel" and not SENTINEL_GROUP.fullmatch(url):
            raise ValueError("expected sentinel://host:port,host:port/master-name[/database]")
        if scheme in ("redis", "rediss") and not has_valid_port(url):
            raise ValueError("expected a port of 1 to 65535, and a password with its special characters escaped")
        return url

    @field_validator("MONGODB_URI")
    @classmethod
    def mongodb_uri(cls, uri: str) -> str:
        """Refuse options with which an acknowledged write could be lost in a failover, or not be read."""
        if uri and uri.partition("://")[0] not in ("mongodb", "mongodb+srv"):
            raise ValueError("expected mongodb:// or mongodb+srv://")
        for name, value in parse_qsl(uri.partition("?")[2].replace(";", "&")):
            expected = MONGODB_GUARANTEES.get(name.lower())
            if expected is not None and value.lower() != expected:
                raise ValueError(f"has the option {name}; expected {name}={expected}, or leave it out")
        return uri

    @field_validator("JWT_SECRET_KEY")
    @classmethod
    def long_enough(cls, secret: str) -> str:
        """An HMAC key must be at least as long as the hash (RFC 7518, section 3.2)."""
        if len(secret) < MIN_SECRET_LENGTH:
            raise ValueError(f"is {len(secret)} characters long; expected at least {MIN_SECRET_LENGTH}")
        return secret

    @model_validator(mode="after")
    def key_for_algorithm(self) -> Self:
        """Check the key's length for HMAC (RFC 7518, section 3.2), or that it is an RSA key for RS256."""
        needed = HMAC_KEY_BYTES.get(self.JWT_ALGORITHM, 0)
        if len(self.JWT_SECRET_KEY.encode()) < needed:
            raise ConfigurationError(
                f"JWT_SECRET_KEY: is too short; expected at least {needed} for {self.JWT_ALGORITHM}"
            )
        if self.JWT_ALGORITHM == "RS256":
            try:
                rsa_private_key(self.JWT_SECRET_KEY)
            except UnusableKey as error:
                expected = f"an RSA private key in PEM of at least {MIN_RSA_BITS} bits for RS256"
                raise ConfigurationError(f"JWT_SECRET_KEY: {error}; expected {expected}") from error
        return self

    @model_validator(mode="after")
    def preload_with_subdomains(self) -> Self:
        """Browsers' preload lists accept a host only with all its subdomains (https://hstspreload.org)."""
        if self.HSTS_PRELOAD and not self.HSTS_INCLUDE_SUBDOMAINS:
            raise ConfigurationError("HSTS_PRELOAD: is true; expected HSTS_INCLUDE_SUBDOMAINS to be true, too")
        return self

    @model_validator(mode="after")
    def secure_in_production(self) -> Self:
        if self.in_production:
            for problem in production_problems(self):
                raise ConfigurationError(problem)
        return self


def from_policy() -> dict[str, Any]:
    """Return the settings that the policy tables define: rate and burst of each tier, addresses of each cluster."""
    settings: dict[str, Any] = {}
    for tier in TIERS.values():
        settings |= {tier.rate_setting: (Positive, tier.rate), tier.burst_setting: (Count, tier.burst)}
    return settings | {cluster.setting: (Instances, ()) for cluster in CLUSTERS.values()}


if TYPE_CHECKING:
    Environment = FixedEnvironment
else:
    Environment = create_model("Environment", __base__=FixedEnvironment, **from_policy())


def is_origin(url: str) -> bool:
    """Return whether the text is scheme://host[:port] and nothing more."""
    if not has_valid_port(url):
        return False
    parts = urlsplit(url)
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bare and "*" not in url


def has_valid_port(url: str) -> bool:
    """Return whether the text is a URL whose port, if any, is between 1 and 65535."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def production_problems(env: Environment) -> list[str]:
    """Return a line for each setting that is not allowed in production, the most important first."""
    problems = []
    if env.DEBUG:
        problems.append("DEBUG: is true in production; expected false")
    if env.STAFF_SECOND_FACTOR == "optional":
        problems.append("STAFF_SECOND_FACTOR: is optional in production; expected required")
    optional = [name for name in ("IDENTITY_SIGNING_SECRET", "EDGE_SECRET") if getattr(env, name)]
    secrets = ["SECRET_KEY", "JWT_SECRET_KEY", *optional]
    problems += [weakness for name in secrets if (weakness := secret_weakness(env, name))]
    clusters = (cluster.setting for cluster in CLUSTERS.values() if cluster.required)
    required = (*clusters, "ALLOWED_HOSTS", "CORS_ORIGINS")
    problems += [f"{name}: is missing; expected a value in production" for name in required if not getattr(env, name)]
    if "*" in env.ALLOWED_HOSTS:
        problems.append("ALLOWED_HOSTS: is `*`; expected the host names that clients use, separated by commas")
    return problems


def secret_weakness(env: Environment, name: str) -> str | None:
    """Return a line that says why the secret is weak, without the secret itself, or None."""
    secret: str = getattr(env, name)
    if not secret:
        return f"{name}: is missing; expected at least {MIN_SECRET_LENGTH} random characters"
    if len(secret) < MIN_SECRET_LENGTH:
        return f"{name}: is {len(secret)} characters long; expected at least {MIN_SECRET_LENGTH}"
    guessable = any(word in secret.lower() for word in PLACEHOLDERS)
    if guessable or len(set(secret)) < MIN_DISTINCT_CHARACTERS:
        return f"{name}: is easy to guess; expected at least {MIN_SECRET_LENGTH} random characters"
    return None


def load(values: Mapping[str, Any] | None = None) -> Environment:
    """Return the typed environment; raise ConfigurationError for the first wrong setting."""
    try:
        return Environment(**(values or {}))
    except ValidationError as error:
        raise ConfigurationError(describe(error)) from None


def describe(error: ValidationError) -> str:
    """Return a line for the first problem: the variable, the problem and the expected value, never the actual one."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "environment"
    if first["type"] == "missing":
        return f"{name}: is missing; expected a value"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def metrics_directory() -> Path | None:
    """Return the folder in which the gateway's workers keep their metrics; None in a process that is not a worker.

    deploy/gunicorn.conf.py sets prometheus_client's variable.
    """
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


def disable_metrics() -> None:
    """Set METRICS_ENABLED to false for this process and its children."""
    os.environ.pop("METRICS_ENABLED_FILE", None)
    os.environ["METRICS_ENABLED"] = "false"
    environment.cache_clear()


@cache
def environment() -> Environment:
    """Return this process's environment; end the process if a setting is wrong."""
    try:
        return load()
    except ConfigurationError as error:
        stop(error)


def stop(error: ConfigurationError) -> NoReturn:
    """End the process with a one-line message (LUCID_ERR_5004)."""
    raise SystemExit(f"LUCID_ERR_5004 configuration error: {error}") from None
