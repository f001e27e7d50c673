"""What the edge reports each second: its requests are counted, kept for the explorer and judged by the breakers like
those of this gateway.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.record import AttemptRecord, Claim, Outcome, RequestRecord
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.policy import keys
from lucid_gateway.policy.reasons import REASONS, Step
from lucid_gateway.server import request_metrics, samples
from lucid_gateway.server.access_log import CUT, UPSTREAM_CUT
from lucid_gateway.server.kept_requests import LEFT_OUT, FinishedRequest, kept_requests
from lucid_gateway.server.open_connections import TOO_MANY_CONNECTIONS, CrowdLog
from proxy.choosing.failures import BROKE_OFF, status_words
from proxy.choosing.instances import FAILED_STATUSES, InstanceState, states_of
from proxy.clusters import configured
from proxy.edge.state import latest_reports
from ratelimit.engine.limiter import Decision, Verdict
from ratelimit.engine.limits import RequestLimit
from ratelimit.rules import refusals

logger = logging.getLogger(__name__)
crowd_log = CrowdLog(environment().MAX_CONNECTIONS_PER_ADDRESS)
take_script = RedisScript(Path(__file__).parent / "take_reports.lua")
AT_A_TIME = 50
BUSY = "cluster_busy"
Report = Mapping[str, Any]
# Steps that a request has passed before its limit, a stored answer, the bulkhead, and before its cluster was asked.
BEFORE_LIMIT = (Step.PATH, Step.ROUTE, Step.IDENTITY, Step.LOCK, Step.REVOCATION, Step.EPOCH, Step.PERMISSION)
BEFORE_CACHE = (*BEFORE_LIMIT, Step.RATE_LIMIT)
BEFORE_BULKHEAD = (*BEFORE_CACHE, Step.MAINTENANCE)
BEFORE_ATTEMPT = (*BEFORE_BULKHEAD, Step.BULKHEAD)
# Outcome of an attempt at the edge -> why, in words for operators.
WORDS = {
    "instance_unreachable": "no connection from the edge",
    "instance_connect_timeout": "no connection from the edge in time",
    "instance_timeout": "no answer to the edge in time",
    "instance_no_answer": "the connection from the edge closed without an answer",
}


def process_reports() -> None:
    """Take the reports that have arrived and count them; raise RedisUnavailable."""
    while texts := take_script([keys.edge_reports(gateway_name())], [AT_A_TIME]):
        for text in texts:
            try:
                add_report(json.loads(text))
            except (AttributeError, KeyError, TypeError, ValueError) as error:  # from an edge of another release
                logger.warning("a report of the edge is not counted", extra={"error": repr(error)})
    latest_reports.write()


def add_report(report: Report) -> None:
    """Count what a worker of the edge did in a second."""
    outcomes: dict[tuple[str, str], AtInstance] = defaultdict(AtInstance)
    for row in report.get("rows", ()):
        count_row(row)
        judge(row, outcomes)
    for (cluster, url), found in outcomes.items():
        note_outcomes(cluster, url, found)
    for early in report.get("early", ()):
        count_early(early)
    for refused in report.get("limited", ()):
        samples.count_offenders(record_of_row(refused), refused["reason"], refused["count"])
    for crowd in report.get("crowds", ()):
        metrics.REFUSED.labels("edge", TOO_MANY_CONNECTIONS).inc(crowd["count"])
        crowd_log.write(crowd["client"])
    for kept in report.get("kept", ()):
        kept_requests.offer(finished(kept))
    if left_out := report.get("left_out"):
        samples.count(LEFT_OUT, "edge", left_out)
    latest_reports.note(report)
    metrics.EDGE_SNAPSHOT_AGE.set(report.get("age") or 0)


def record_of_row(row: Report) -> RequestRecord:
    """Return the record of a request as the edge describes it; rows for several requests say less."""
    record = RequestRecord(client_address=row.get("client", ""), user_agent=row.get("user_agent", ""))
    record.plane = "edge"
    record.method, record.path, record.route = row.get("method", ""), row.get("path"), row.get("route")
    record.request_id = row.get("request_id", "")
    record.traceparent = row.get("trace", "")
    record.cluster = row.get("cluster")
    record.cache = row.get("cache")
    record.attempts = [AttemptRecord(**attempt) for attempt in row.get("attempts", ())]
    if record.attempts and record.attempts[-1].outcome == "answered":
        record.upstream_status = row["status"]
    if user_id := row.get("user_id"):
        kind = "api_key" if row.get("api_key") else "token"
        record.claim = Claim(kind, row.get("credential", ""), user_id, row.get("role", ""))
    if answer := row.get("answer"):
        record.limits = decision_of(row, answer)
    record.reason, record.error_code = row.get("reason") or None, row.get("code") or None
    return record


def decision_of(row: Report, answer: list[int]) -> Decision:
    """Return the decision that `admit.lua` answered to the edge."""
    limit = RequestLimit(row["tier"], row["limit"], row["burst"], daily_quota=row["quota"])
    verdict, left, burst_left, resets_in, now, refused = answer
    return Decision(limit, Verdict(verdict), left, burst_left, resets_in, now + resets_in, refused=refused)


def times_of(row: Report) -> Iterator[tuple[float, float | None, int]]:
    """Yield the seconds of a request, the milliseconds to the first byte of its answer, and how many took so long."""
    for text, n in row["times"].items():
        total, _, first = text.partition(" ")
        yield int(total) / 1000, float(first) if first else None, n


def count_row(row: Report) -> None:
    """Count the requests that a row stands for in the metrics and in the figures."""
    record = record_of_row(row)
    for seconds, first_byte_ms, n in times_of(row):
        record.upstream_ms = first_byte_ms
        if record.attempts:
            record.attempts[-1].first_byte_ms = first_byte_ms
        request_metrics.count(record, row["status"], seconds, row["outcome"], n)
        samples.count_request(record, row["status"], seconds, cut=row["outcome"] == UPSTREAM_CUT, n=n)
        if record.reason == BUSY:  # as the bulkhead of a worker counts
            metrics.CLUSTER_REFUSED.labels(record.cluster, "bulkhead").inc(n)


def count_early(row: Report) -> None:
    """Count requests that were refused before they were read: by an address rule, or as malformed."""
    record = record_of_row(row)
    if network := row.get("network"):
        refusals.add(network, row["count"])
    request_metrics.count_refused(record, row["status"], row["count"])


def finished(kept: Report) -> FinishedRequest:
    """Return the request for the explorer, with the steps of the decision."""
    record, cut = record_of_row(kept), CUT.get(kept["outcome"])
    seconds = kept["ms"] / 1000
    if network := kept.get("network"):
        record.note(network=network)
    if record.route:
        record.passed(*steps_before_the_end(record))
    record.upstream_ms = record.attempts[-1].first_byte_ms if record.attempts else None
    for attempt in record.attempts:
        if attempt.outcome in REASONS:
            record.ended(attempt.outcome, Outcome.FAILED)
    if record.upstream_status is not None:
        record.passed(Step.ATTEMPT)
    if cut is not None:
        record.ended(cut, Outcome.FAILED)
    elif record.reason is None:
        record.passed(Step.ANSWER)
    elif record.reason not in WORDS or not record.attempts:
        record.ended(record.reason)
    return FinishedRequest(record, kept["status"], kept["size"], seconds, kept["ended_at"], cut)


def steps_before_the_end(record: RequestRecord) -> tuple[Step, ...]:
    """Return the steps that the request has passed for certain."""
    if record.attempts:
        return BEFORE_ATTEMPT
    if record.reason == BUSY:
        return BEFORE_BULKHEAD
    return BEFORE_CACHE if record.cache else BEFORE_LIMIT


@dataclass
class AtInstance:
    """How attempts at an instance ended within a report; `words` say why the last one failed."""

    answers: int = 0
    failures: int = 0
    without_answer: int = 0
    words: str = ""


def judge(row: Report, outcomes: dict[tuple[str, str], AtInstance]) -> None:
    """Add the attempts of a row's requests, as `proxy.choosing.instances` judges them."""
    n, cut = sum(row["times"].values()), row["outcome"] == UPSTREAM_CUT
    for attempt in row.get("attempts", ()):
        found = outcomes[row["cluster"], attempt["instance"]]
        if attempt["outcome"] in WORDS:
            found.failures += n
            found.without_answer += n
            found.words = WORDS[attempt["outcome"]]
        elif attempt["outcome"] == "answered":
            failed = cut or row["status"] in FAILED_STATUSES
            found.failures += n * failed
            found.answers += n * (not failed)
            found.words = found.words or (failed and (BROKE_OFF if cut else status_words(row["status"]))) or ""


def note_outcomes(cluster: str, url: str, found: AtInstance) -> None:
    """Report the outcomes to the breaker of the instance, which may have been removed from the settings."""
    state = instance_state(cluster, url)
    if state is None:
        return
    state.requests += found.answers + found.failures
    state.failures += found.failures
    if found.failures:
        state.note_error(found.words)
    state.breaker.note(found.answers, found.failures, found.without_answer)


def instance_state(cluster: str, url: str) -> InstanceState | None:
    """Return the state of the cluster's instance with this address."""
    known = configured().get(cluster)
    return next((state for state in states_of(known) if state.instance.url == url), None) if known else None
