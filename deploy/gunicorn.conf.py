"""gunicorn's configuration, with all values from the environment; docs/decisions/0002 has the measurements."""

import gc
import logging
import os
from typing import Any

from lucid_gateway.kernel.env import disable_metrics, environment
from lucid_gateway.kernel.handover import Handover, shared_memory
from lucid_gateway.kernel.logs import logging_config
from lucid_gateway.kernel.metrics_files.directory import make_directory, reserve
from lucid_gateway.server import kept_requests  # noqa: F401  # its memory is made before the fork
from lucid_gateway.server.forks import let_children_end_at_sigterm
from lucid_gateway.server.listener import ending
from lucid_gateway.server.open_connections import empty, free_row
from lucid_gateway.server.start_checks import refuse_wrong_servers

env = environment()

bind = f"unix:{env.GATEWAY_SOCKET}" if env.GATEWAY_SOCKET else f"0.0.0.0:{env.HTTP_PORT}"
workers = env.WEB_CONCURRENCY
worker_class = "lucid_gateway.server.worker.GatewayWorker"
worker_connections = 4000
backlog = 4096

# Seconds for the next request's header block to arrive, the first one included; nginx keeps its connections for less.
keepalive = 15
graceful_timeout = 30
timeout = 60

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 16380

# Only the gateway's own middleware decides which proxies to trust (TRUSTED_PROXIES).
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
header_map = "drop"

control_socket_disable = True
logger_class = "lucid_gateway.server.worker.GatewayLogger"
logconfig_dict = logging_config(env.LOG_LEVEL, env.LOG_FORMAT)
logconfig_dict["loggers"] |= {
    "gunicorn.error": {"level": env.LOG_LEVEL, "handlers": [], "propagate": True},
    "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
}

metrics_directory = make_directory(env.WEB_CONCURRENCY) if env.METRICS_ENABLED else None
if metrics_directory is not None:
    # prometheus_client reads this variable when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
else:
    disable_metrics()

memory = shared_memory()  # allocated before the fork, so that the workers inherit it


def when_ready(server: Any) -> None:
    """Log what an operator should know, now that logging is set up. Let the workers know of the end."""
    if not env.MONGODB_URI:
        logging.getLogger(__name__).info("the database is SQLite, which is for one host: for more, set MONGODB_URI")
    if env.METRICS_ENABLED and metrics_directory is None:
        logging.getLogger(__name__).warning("no space for metrics in /dev/shm: metrics are off (METRICS_ENABLED)")
    announce_shutdown(server)


def on_starting(server: Any) -> None:
    """Refuse servers that the settings do not describe; let new workers end at SIGTERM immediately."""
    refuse_wrong_servers()
    let_children_end_at_sigterm()


def announce_shutdown(server: Any) -> None:
    """Let the workers know when the whole gateway shuts down, for which gunicorn has no hook: then no worker waits for
    a successor.
    """
    stop = server.stop

    def announce_and_stop(graceful: bool = True) -> None:
        # Another master may listen on the same sockets: the predecessor or successor in an upgrade, or systemd.
        ending[0] = not (server.reexec_pid or server.master_pid or server.systemd)
        stop(graceful)

    server.stop = announce_and_stop


def pre_fork(server: Any, worker: Any) -> None:
    """Assign the worker a row of the shared table in which it counts its connections."""
    worker.row = free_row({other.row for other in server.WORKERS.values()})


def post_fork(server: Any, worker: Any) -> None:
    """Reserve space for the worker's metrics."""
    if metrics_directory is not None:
        reserve(metrics_directory, worker.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """Write the figures and the requests that are still in memory; a worker that never served has none."""
    if not worker.booted:
        return
    from lucid_gateway.explorer.writing import finish_writing  # noqa: PLC0415

    worker.figures.finish()
    finish_writing()


def child_exit(server: Any, worker: Any) -> None:
    """Keep a dead worker's counters, and clear its open connections. An error here must not end the master."""
    empty(worker.row)
    if metrics_directory is None:
        return
    # Not imported before PROMETHEUS_MULTIPROC_DIR is set, see above.
    from lucid_gateway.kernel.metrics_files.dead_workers import collect_dead_worker  # noqa: PLC0415

    try:
        collect_dead_worker(metrics_directory, worker.pid, living=server.WORKERS)
    except Exception as error:  # noqa: BLE001
        logging.getLogger(__name__).warning("metrics of a dead worker", extra={"error": type(error).__name__})


def post_worker_init(worker: Any) -> None:
    """Start the loops that follow changes at run time; serve no request before this worker or another has read the
    tables. Exclude the loaded application from garbage collection, which stopped requests for 100 ms to walk it.
    """
    # Django is set up only now.
    from accounts.tokens.keyring import keyring_cache  # noqa: PLC0415
    from accounts.tokens.revocation.gates import READ_EVERY_SECONDS, late_revocations  # noqa: PLC0415
    from lucid_gateway.explorer.writing import start_writing  # noqa: PLC0415
    from lucid_gateway.figures.writing import start_writing_figures  # noqa: PLC0415
    from lucid_gateway.kernel.loops import poll  # noqa: PLC0415
    from lucid_gateway.kernel.redis.watch import EVERY_SECONDS as WATCH_SECONDS  # noqa: PLC0415
    from lucid_gateway.kernel.redis.watch import RedisWatch  # noqa: PLC0415
    from lucid_gateway.kernel.snapshots.snapshot import revisions  # noqa: PLC0415
    from proxy.choosing.closures import closures_cache  # noqa: PLC0415
    from proxy.choosing.sharing import start_sharing  # noqa: PLC0415
    from proxy.edge.exclusions import excluded_cache  # noqa: PLC0415
    from proxy.edge.publishing import start_publishing  # noqa: PLC0415
    from proxy.edge.revisions import worker_revisions  # noqa: PLC0415
    from ratelimit.addresses.front_gate import ClosedGate  # noqa: PLC0415
    from ratelimit.engine.shadow import shadow_subjects  # noqa: PLC0415
    from ratelimit.rules import observations, refusals, rules_cache  # noqa: PLC0415

    poll(late_revocations.read, seconds=READ_EVERY_SECONDS)
    handover = Handover(memory, keyring_cache, rules_cache, closures_cache, excluded_cache)
    # The revisions come first: a table is read again only if its revision has changed.
    counts = (refusals.write, observations.write, shadow_subjects.write)
    tables = (keyring_cache.load, revisions.read, rules_cache.renew, closures_cache.renew, excluded_cache.renew)
    poll(*tables, worker_revisions.publish_changes, *counts, handover.write)
    handover.take_over()
    if not handover.is_complete():
        ClosedGate(worker.wsgi, handover.is_complete)
    start_sharing()
    start_publishing()
    start_writing(prunes=worker.row == 0)
    worker.figures = start_writing_figures()
    poll(RedisWatch().check, seconds=WATCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
