"""Writes the files of the edge, the nginx in front of the gateway."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lucid_gateway.kernel.env import ConfigurationError
from proxy.edge.configuration import EdgeOptions, write_configuration
from proxy.edge.debian import debian_modules


class Command(BaseCommand):
    help = "Write the configuration of the edge (nginx with Lua) into a folder, secrets included."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("--listen", help="address of plain HTTP (default: HTTP_PORT on all addresses)")
        parser.add_argument("--listen-tls", default="", help="address of HTTPS, such as 8081 (default: none)")
        parser.add_argument("--workers", default="auto", help="worker processes of nginx (default: one a core)")
        parser.add_argument("--debian", action="store_true", help="for Debian's nginx and its Lua module; checks them")
        parser.add_argument("--callers-size", default="64m", help="memory for what callers were taught (default: 64m)")
        parser.add_argument("--resolver", default="", help="name servers (default: those of this host)")
        parser.add_argument("--cache-size", default="0", help="of the response cache on disk (default: 0, none)")
        parser.add_argument("--access-log", default="/dev/stdout")
        parser.add_argument("--access-log-buffer", default="64k", help="nginx writes a second late (default: 64k)")
        parser.add_argument("--error-log-level", default="crit")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the files."""
        try:
            chosen = EdgeOptions(
                http_listen=options["listen"] or str(settings.ENV.HTTP_PORT),
                https_listen=options["listen_tls"],
                workers=options["workers"],
                callers_size=options["callers_size"],
                cache_size=options["cache_size"],
                modules=debian_modules() if options["debian"] else (),
                access_log=options["access_log"],
                access_log_buffer=options["access_log_buffer"],
                error_log_level=options["error_log_level"],
                resolver=options["resolver"],
            )
            write_configuration(options["folder"], chosen)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
