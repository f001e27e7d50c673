"""Django's settings, all derived from `lucid_gateway.kernel.env`, for every way to start the gateway."""

import hashlib
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from redis.connection import parse_url

from lucid_gateway.kernel.env import BASE_DIR, ConfigurationError, environment, stop
from lucid_gateway.kernel.logs import configure_structlog, logging_config
from lucid_gateway.kernel.redis.connections import NO_RETRY, Primary, PrimaryConnection, timeout_options
from lucid_gateway.kernel.redis_urls import is_cluster, urls_of_nodes
from lucid_gateway.policy.claims import AUDIENCE, ISSUER

ENV = environment()

# Django's own DEBUG would answer errors with HTML and tracebacks; the variable DEBUG only enables the API documents.
DEBUG = False
SECRET_KEY = ENV.SECRET_KEY or hashlib.sha256(b"django " + ENV.JWT_SECRET_KEY.encode()).hexdigest()
SECRET_KEY_FALLBACKS = list(ENV.SECRET_KEY_FALLBACKS)
ALLOWED_HOSTS = list(ENV.ALLOWED_HOSTS) or ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "lucid_gateway.urls"
WSGI_APPLICATION = "lucid_gateway.wsgi.application"

ON_MONGODB = bool(ENV.MONGODB_URI)
INSTALLED_APPS = [
    "lucid_gateway.mongodb.apps.MongoAdminConfig" if ON_MONGODB else "lucid_gateway.admin_app.GatewayAdminConfig",
    "lucid_gateway.mongodb.apps.MongoAuthConfig" if ON_MONGODB else "django.contrib.auth",
    "lucid_gateway.mongodb.apps.MongoContentTypesConfig" if ON_MONGODB else "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    *(["drf_spectacular_sidecar"] if ENV.docs_enabled else []),
    "lucid_gateway",
    "lucid_gateway.kernel.snapshots",
    "lucid_gateway.audit",
    "lucid_gateway.operators",
    "lucid_gateway.figures",
    "ratelimit",
    "accounts",
    "proxy",
    "sessions_api",
    "lucid_gateway.explorer",
    "lucid_gateway.console",
    "chartkick.django",  # Chart.js as a static file; its template tags need inline scripts and are not used
]

MIDDLEWARE = [
    "lucid_gateway.server.access_log.AccessLogMiddleware",
    *(["proxy.edge.teaching.TeachingMiddleware"] if ENV.EDGE_SECRET else []),
    "ratelimit.middleware.TrustedProxyMiddleware",
    "lucid_gateway.server.request_id.RequestIDMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "lucid_gateway.server.admin_middleware.PagePolicyMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "ratelimit.middleware.RateLimitHeadersMiddleware",
    "ratelimit.middleware.UncountedRequestsMiddleware",
    "ratelimit.middleware.OperatorNetworksMiddleware",  # before a path is refused, which would show a page
    "proxy.forwarding.request_target.RequestTargetMiddleware",
    "ratelimit.middleware.OperatorNetworksMiddleware",  # again: judges the canonical path
    "ratelimit.middleware.NotReadyMiddleware",
    "lucid_gateway.meta.static_files.StaticFilesMiddleware",
    "django.middleware.common.CommonMiddleware",
    "lucid_gateway.server.body.BodyLimitMiddleware",
    "lucid_gateway.server.admin_middleware.AdminSessionMiddleware",
    "lucid_gateway.server.admin_middleware.AdminIdleMiddleware",
    "lucid_gateway.server.admin_middleware.AdminCsrfMiddleware",
    "lucid_gateway.server.admin_middleware.AdminAuthenticationMiddleware",
    "ratelimit.middleware.OperatorPagesLimitMiddleware",
    "lucid_gateway.server.admin_middleware.AdminMessageMiddleware",
    "lucid_gateway.server.admin_middleware.AdminErrorsMiddleware",
    "lucid_gateway.console.middleware.NoSecretsMiddleware",
    "lucid_gateway.console.middleware.SecondFactorMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def sqlite() -> dict[str, Any]:
    """Return the default database. With WAL, readers never wait; `lucid_gateway.sqlite` lets writers wait."""
    try:
        ENV.sqlite_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        stop(ConfigurationError(f"SQLITE_PATH: cannot create its folder ({type(error).__name__})"))
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
    options = {"transaction_mode": "IMMEDIATE", "init_command": pragmas}
    return {"ENGINE": "lucid_gateway.sqlite", "NAME": ENV.sqlite_file, "OPTIONS": options}


def mongodb() -> dict[str, Any]:
    """Return the MongoDB database. Timeouts limit each wait to seconds, instead of the driver's half minute. A write is
    acknowledged when a majority has it in the journal, so that no failover can undo it.

    A member that answers no heartbeat for `heartbeatFrequencyMS` and `connectTimeoutMS` together is given up, and what
    waits for it is tried again at the new primary.
    """
    waits = {"serverSelectionTimeoutMS": 2000, "connectTimeoutMS": 2000, "socketTimeoutMS": 10000}
    waits |= {"heartbeatFrequencyMS": 1000}
    pool = {"maxPoolSize": 50, "waitQueueTimeoutMS": 2000}
    writes = {"w": "majority", "journal": True, "wTimeoutMS": 5000, "retryWrites": True}
    return {
        "ENGINE": "lucid_gateway.mongodb",
        "HOST": ENV.MONGODB_URI,
        "NAME": ENV.MONGODB_DATABASE,
        "OPTIONS": {**waits, **pool, **writes, "tz_aware": False},
    }


DATABASES = {"default": mongodb() if ON_MONGODB else sqlite()}
DEFAULT_AUTO_FIELD = (
    "django_mongodb_backend.fields.ObjectIdAutoField" if ON_MONGODB else "django.db.models.BigAutoField"
)
MIGRATION_MODULES = (
    {app: f"lucid_gateway.mongodb.{app}_migrations" for app in ("admin", "auth", "contenttypes")} if ON_MONGODB else {}
)


def redis_pool() -> dict[str, Any]:
    """Return the options of a blocking pool: a burst of requests waits for connections instead of failing."""
    timeouts = timeout_options(ENV.REDIS_TIMEOUT_SECONDS)
    return {"max_connections": 32, "timeout": 2, "protocol": 2, "retry": NO_RETRY, **timeouts}


def redis_cache() -> dict[str, Any]:
    """Return the cache on a single server or a Sentinel group."""
    pool, location = redis_pool(), ENV.REDIS_URL
    if urlsplit(ENV.REDIS_URL).scheme == "sentinel":
        location, options = sentinel_group()
        pool |= options
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {
            "CONNECTION_POOL_CLASS": "lucid_gateway.kernel.redis.connections.RedisPool",
            "CONNECTION_POOL_KWARGS": pool,
        },
    }


def sentinel_group() -> tuple[str, dict[str, Any]]:
    """Return location and connection options for sentinel://host:port,host:port/master-name[/database]."""
    hosts, _, rest = ENV.REDIS_URL.removeprefix("sentinel://").partition("/")
    credentials, _, hosts = hosts.rpartition("@")
    name, _, database = rest.partition("/")
    sentinels = [(address.rpartition(":")[0], int(address.rpartition(":")[2])) for address in hosts.split(",")]
    primary = Primary(sentinels, name, seconds=ENV.REDIS_TIMEOUT_SECONDS)
    options = {"connection_class": PrimaryConnection, "primary": primary}
    password = credentials.rpartition(":")[2]
    return f"redis://sentinel/{database or 0}", options | ({"password": password} if password else {})


def redis_cluster() -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the addresses of some nodes, and the options of each node's pool, for a cluster's URL."""
    nodes = [
        parse_url(url)  # type: ignore[no-untyped-call]
        for url in urls_of_nodes(ENV.REDIS_URL)
    ]
    options = {name: value for name, value in nodes[0].items() if name not in ("host", "port", "db")}
    return [(node["host"], node["port"]) for node in nodes], options | redis_pool()


# The arguments of lucid_gateway.kernel.redis.cluster.RedisCluster, which needs no cache of Django's.
REDIS_CLUSTER = redis_cluster() if is_cluster(ENV.REDIS_URL) else None
if REDIS_CLUSTER is None:
    CACHES = {"default": redis_cache()}

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.BCryptPasswordHasher",
]
VALIDATION = "django.contrib.auth.password_validation."
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": f"{VALIDATION}MinimumLengthValidator", "OPTIONS": {"min_length": 8}},
    {"NAME": f"{VALIDATION}UserAttributeSimilarityValidator",
     "OPTIONS": {"user_attributes": ("email", "username", "first_name", "last_name")}},
    {"NAME": f"{VALIDATION}CommonPasswordValidator"},
    {"NAME": f"{VALIDATION}NumericPasswordValidator"},
    {"NAME": "accounts.login.passwords.CharacterClassesValidator"},
    {"NAME": "accounts.login.passwords.MaximumLengthValidator"},
]  # fmt: skip

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["ratelimit.throttling.AuthenticatedThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["lucid_gateway.api.negotiation.LineRenderer"],
    "DEFAULT_PARSER_CLASSES": ["lucid_gateway.api.json_parser.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "lucid_gateway.api.negotiation.AlwaysJSON",
    "DEFAULT_SCHEMA_CLASS": "lucid_gateway.api.openapi.GatewaySchema",
    "EXCEPTION_HANDLER": "lucid_gateway.kernel.error_responses.drf_exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=ENV.JWT_REFRESH_TOKEN_EXPIRE_DAYS),
    "ALGORITHM": ENV.JWT_ALGORITHM,
    "SIGNING_KEY": ENV.JWT_SECRET_KEY,
    "ISSUER": ISSUER,
    "AUDIENCE": AUDIENCE,
    "TOKEN_TYPE_CLAIM": "type",
    "USER_ID_CLAIM": "user_id",
    "USER_ID_FIELD": "user_id",
    "UPDATE_LAST_LOGIN": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Lucid API Gateway",
    "DESCRIPTION": "The public entry point of the Lucid system: accounts, tokens, and the clusters behind it.",
    "VERSION": ENV.API_VERSION,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": ["lucid_gateway.api.openapi.describe_errors"],
}

CORS_ALLOWED_ORIGINS = list(ENV.CORS_ORIGINS)
CORS_ALLOW_CREDENTIALS = True
CORS_URLS_REGEX = r"^/(api|\.well-known)/"
CORS_PREFLIGHT_MAX_AGE = 3600
CORS_EXPOSE_HEADERS = [
    "X-Request-ID", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy",
    "Retry-After", "ETag", "Location",
]  # fmt: skip
CORS_ALLOW_HEADERS = [
    "accept", "authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "traceparent",
    "x-api-key", "x-chunk-index", "x-chunk-sha256", "x-requested-with",
]  # fmt: skip

# nginx terminates TLS and redirects. RequestTargetMiddleware and TrustedProxyMiddleware decide which proxies to trust.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000 if ENV.SSL_ENABLED else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS, SECURE_HSTS_PRELOAD = ENV.HSTS_INCLUDE_SUBDOMAINS, ENV.HSTS_PRELOAD
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.SSL_ENABLED
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = "/admin"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# For /admin; other pages have their own policies. Pages contain no inline scripts or styles.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"], "script-src": ["'self'"], "style-src": ["'self'"], "img-src": ["'self'"],
        "connect-src": ["'self'"], "base-uri": ["'none'"], "form-action": ["'self'"], "frame-ancestors": ["'none'"],
    }
}  # fmt: skip
CSRF_FAILURE_VIEW = "lucid_gateway.kernel.error_responses.csrf_failed"
CSRF_TRUSTED_ORIGINS = [ENV.PUBLIC_BASE_URL]
SILENCED_SYSTEM_CHECKS = [
    "security.W002",  # Clickjacking: PagePolicyMiddleware protects pages; the API has none.
    "security.W003",  # CSRF: AdminCsrfMiddleware protects /admin; the API has no cookies.
    "security.W005",  # HSTS for subdomains, which may belong to other services: HSTS_INCLUDE_SUBDOMAINS.
    "security.W021",  # HSTS preload, which takes months to undo: HSTS_PRELOAD.
    "security.W008",  # SECURE_SSL_REDIRECT: nginx redirects plain HTTP; the container network uses it.
    "security.W009",  # SECRET_KEY: `lucid_gateway.kernel.env` refuses weak ones.
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = ["lucid_gateway.formats"]
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "lucid_gateway.meta.static_storage.VersionedStorage"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

EMAIL_BACKEND = f"{'django.core.mail.backends.smtp' if ENV.EMAIL_HOST else 'accounts.printed_mail'}.EmailBackend"
EMAIL_HOST = ENV.EMAIL_HOST
EMAIL_PORT = ENV.EMAIL_PORT
EMAIL_HOST_USER = ENV.EMAIL_HOST_USER
EMAIL_HOST_PASSWORD = ENV.EMAIL_HOST_PASSWORD
EMAIL_USE_TLS = ENV.EMAIL_USE_TLS
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = ENV.DEFAULT_FROM_EMAIL

configure_structlog(ENV.LOG_LEVEL, ENV.LOG_FORMAT)
LOGGING = logging_config(ENV.LOG_LEVEL, ENV.LOG_FORMAT)
