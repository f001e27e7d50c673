"""Writes the figures of this gateway to the database, in the background of each worker."""

import logging
import os
import time

from django.db import Error as DatabaseProblem

from lucid_gateway.figures.ledger import Ledger
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.figures.stores import OwnMemory, SharedFolder, Store
from lucid_gateway.kernel.env import metrics_directory
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.server import samples

logger = logging.getLogger(__name__)
EVERY_SECONDS = 2.0
PRUNE_EVERY_SECONDS = 600
ROUND = {"figures": {"rounds": 1}}
PATIENCE_SECONDS = 1.0  # of a worker that ends, while another one writes


def store_of_this_process() -> Store:
    """Return the folder that the gateway's workers share or, without one or space for it, this process's memory."""
    directory = metrics_directory()
    if directory is not None:
        try:
            return SharedFolder(directory / "samples")
        except OSError as error:
            logger.warning("no folder for the figures", extra={"error": type(error).__name__})
    return OwnMemory()


class Writer:
    """Delivers what this worker counted every two seconds; every ten seconds one worker writes the rows."""

    def __init__(self, store: Store, counted: samples.Samples = samples.samples) -> None:
        self.store, self.counted = store, counted
        self.fails = False

    def start(self) -> None:
        Loop("figures", self.work, every=EVERY_SECONDS).start()

    def work(self, now: float | None = None) -> None:
        """Deliver this worker's samples and, if it is time, write the rows; raise OSError."""
        now = time.time() if now is None else now
        self.deliver(now)
        if self.store.is_due(now):
            self.collect_and_write(now)

    def finish(self, now: float | None = None) -> None:
        """Deliver and write everything before the worker ends. No problem may prevent the end."""
        now = time.time() if now is None else now
        try:
            self.deliver(now)
            self.store.note_end()
            self.collect_and_write(now, patience=PATIENCE_SECONDS, again=not self.fails)
        except Exception as error:  # noqa: BLE001
            logger.warning("figures not delivered", extra={"error": type(error).__name__})

    def deliver(self, now: float) -> None:
        """Put this worker's samples into the store; keep what it has no space for."""
        taken = self.counted.take()
        try:
            self.store.deliver(taken, now)
            self.store.note_alive(now)
        except OSError as error:
            self.counted.put_back(taken)
            logger.warning("figures wait for space", extra={"error": type(error).__name__})

    def collect_and_write(self, now: float, *, patience: float = 0.0, again: bool = True) -> None:
        """Write the rows that have changed, unless another worker does. While the database is unavailable, the ledger
        keeps them.
        """
        with self.store.collected(now, patience=patience) as ledger:
            if ledger is None:
                return
            # Also a row without requests says that the gateway is alive, and which of its workers are.
            start = int(now) // samples.SECONDS * samples.SECONDS - samples.SECONDS
            ledger.add(samples.Sample(start, ROUND), now)
            ledger.note_workers(start, self.store.silent_seconds(now))
            if again:
                self.write(ledger, now)
            ledger.forget(now)

    def write(self, ledger: Ledger, now: float) -> None:
        """Write the rows, and delete old ones every ten minutes; log the first of several failures."""
        try:
            write_rows(ledger)
            if int(now) % PRUNE_EVERY_SECONDS < samples.SECONDS:
                Sample.objects.over(now).delete()
        except DatabaseProblem as error:
            if not self.fails:
                logger.warning("figures wait for the database", extra={"error": type(error).__name__})
            self.fails = True
        else:
            self.fails = False
        if ledger.lost:
            samples.count("figures", "rows_lost", ledger.lost)
            ledger.lost = 0


def write_rows(ledger: Ledger) -> None:
    """Write each row that has changed; raise django.db.Error."""
    for key, row in ledger.unwritten():
        Sample(key, gateway_name(), row.seconds, row.start, **columns(row.shown())).save()
        row.is_written = True


def start_writing_figures() -> Writer:
    """Start the loop in this worker, after the fork; call `finish` of the writer when the worker ends."""
    writer = Writer(store_of_this_process())
    writer.start()
    logger.debug("figures are written", extra={"pid": os.getpid()})
    return writer
