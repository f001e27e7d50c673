"""Verifies a manifest against the recorded chunks."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from sessions_api.manifests import Verification, verify
from sessions_api.models import Manifest


class Command(BaseCommand):
    help = "Recompute a manifest's root and the proof of each chunk; exit with status 1 if anything does not match."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("manifest_id", help="the manifest's id")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, manifest_id: str, **options: Any) -> None:
        verdict = self.verdict_on(manifest_named(manifest_id))
        if options["json"]:
            found = {"manifest_id": manifest_id, "valid": verdict.valid, "problems": verdict.problems,
                     "merkle_root": verdict.merkle_root, "chunks": verdict.chunks}  # fmt: skip
            self.stdout.write(json.dumps(found))
        else:
            for problem in verdict.problems:
                self.stdout.write(problem)
            word = "valid" if verdict.valid else "INVALID"
            self.stdout.write(f"{word}: {verdict.chunks} chunks, root {verdict.merkle_root}")
        if not verdict.valid:
            raise SystemExit(1)

    def verdict_on(self, manifest: Manifest) -> Verification:
        """Verify the manifest, with a progress bar on a terminal."""
        with tqdm(total=manifest.chunk_count, unit="proof", disable=not sys.stderr.isatty()) as bar:
            for step in verify(manifest):
                if isinstance(step, Verification):
                    return step
                bar.update(1)
        raise CommandError("the verification ended without a verdict")


def manifest_named(manifest_id: str) -> Manifest:
    try:
        return Manifest.objects.select_related("session").get(pk=manifest_id)
    except (Manifest.DoesNotExist, ValidationError, ValueError) as error:
        raise CommandError(f"no manifest {manifest_id}") from error
