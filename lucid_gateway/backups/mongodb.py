"""Backups of MongoDB with its own tools, mongodump and mongorestore."""

import gzip
import json
import shutil
import subprocess
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import bson

from lucid_gateway.backups.files import BackupError, new_file

PACKAGE = "mongodb-database-tools"
MAGIC = b"\x6d\xe2\x99\x81"  # of an archive of mongodump
END = b"\xff\xff\xff\xff"
LARGEST_DOCUMENT_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024


def back_up(uri: str, database: str, target: Path) -> None:
    """Dump all databases of the deployment to the new file `target`; raise BackupError or OSError."""
    with new_file(target) as partial:
        run("mongodump", "--oplog", "--gzip", f"--archive={partial}", uri=uri)
        check_archive(partial, database)


def restore(backup: Path, uri: str) -> None:
    """Replace the collections that the archive has; raise BackupError."""
    try:
        run("mongorestore", "--drop", "--oplogReplay", "--gzip", f"--archive={backup}", uri=uri)
    except BackupError as error:
        raise BackupError(f"{error}; do not start a gateway before a restore has succeeded") from error


def run(tool: str, *arguments: str, uri: str) -> None:
    """Run the tool, with the URI on its standard input because all users can see its arguments; raise BackupError."""
    path = find(tool)
    config = json.dumps({"uri": uri_of_deployment(uri)})  # the tools read YAML, which includes JSON
    done = subprocess.run(
        [path, *arguments, "--config=/dev/stdin"], input=config, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BackupError(f"{tool} failed: {without_password(said[-1], uri)}")


def find(tool: str) -> str:
    """Return the path of the tool; raise BackupError if it is not installed."""
    path = shutil.which(tool)
    if path is None:
        raise BackupError(f"{tool} is not installed: install the package {PACKAGE}")
    return path


def uri_of_deployment(uri: str) -> str:
    """Return the URI without a database, of which the tools would dump nothing else; the user stays that of the
    database. With mongodb+srv, that is a matter of the DNS.
    """
    scheme, _, rest = uri.partition("://")
    address, _, options = rest.partition("?")
    hosts, _, database = address.partition("/")
    if database and "@" in hosts and scheme == "mongodb" and "authsource=" not in options.lower():
        options = "&".join(filter(None, [options, f"authSource={database}"]))
    return f"{scheme}://{hosts}/?{options}"


def without_password(text: str, uri: str) -> str:
    password = urlsplit(uri).password
    for secret in filter(None, [password, unquote(password or "")]):
        text = text.replace(secret, "***")
    return text


def check_archive(path: Path, database: str) -> None:
    """Raise BackupError unless the file is a complete archive that contains the gateway's database; raise OSError."""
    try:
        with gzip.open(path) as archive:
            if archive.read(len(MAGIC)) != MAGIC:
                raise BackupError(f"{path} is not a backup of MongoDB")
            collections = read_collections(archive)
            while archive.read(READ_BYTES):  # to its end, where gzip has a checksum
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, bson.errors.BSONError) as error:
        raise BackupError(f"{path} is damaged or incomplete ({error})") from error
    if (database, "django_migrations") not in collections:
        raise BackupError(f"{path} does not contain the database {database}")


def read_collections(archive: gzip.GzipFile) -> set[tuple[str, str]]:
    """Return (database, collection) of each collection that the beginning of an archive lists; raise BSONError."""
    found = set()
    while (start := archive.read(len(END))) != END:
        length = int.from_bytes(start, "little")
        if not 5 <= length <= LARGEST_DOCUMENT_BYTES:
            raise bson.errors.InvalidBSON("an invalid length")
        document = bson.decode(start + archive.read(length - len(start)))
        found.add((document.get("db", ""), document.get("collection", "")))
    return found
