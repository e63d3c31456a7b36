"""What `seal`, `open` and `inspect` share: their options, and the files, directories and streams that they work on.

A path here belongs to the person at the command line, so every path is allowed. It is still opened through
`sealgate.storage.local_paths`, so that a target appears whole or not at all.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sealgate.cli.progress import Progress
from sealgate.errors import BadRequest
from sealgate.layers.directories import require_unreserved
from sealgate.plugin import Chunk
from sealgate.policy import canonical_keys
from sealgate.storage.destination import Destination
from sealgate.storage.local_paths import LocalSource, Roots, local_errors, write_all

STREAM = "-"
"""Standard input as a source, standard output as a target."""
ARTIFACT_KEY_HELP = "the key that the artifact is stored under in Argo, such as ns/workflow/pod/main.tgz"
_READ_SIZE = 1 << 20


def add_copy_arguments(parser: argparse.ArgumentParser, done: str) -> None:
    """Add to `parser` the arguments of `seal` and `open`; `done` is "sealed" or "opened"."""
    parser.add_argument("source", metavar="IN", help="a file, a directory, or - for standard input")
    parser.add_argument("target", metavar="OUT", help=f"the path of the {done} copy, or - for standard output")


def check_copy(artifact_key: str | None, target: str) -> None:
    """Check both options before any work is done.

    Raises:
        BadRequest: the key is empty, not canonical or reserved, or the target exists.
    """
    if artifact_key is not None:
        if fault := canonical_keys.fault_of(artifact_key):
            raise BadRequest(fault, remedy="Give --artifact-key as Argo shows it")
        require_unreserved(artifact_key)
    if target != STREAM and os.path.lexists(target):
        raise BadRequest(f"{target} exists already", remedy="Name a path that does not exist")


def open_source(path: str) -> AbstractContextManager[LocalSource]:
    """Open the file or directory at `path` for reading. Symbolic links are followed."""
    return Roots([Path("/")]).source(Path(os.path.realpath(path)))


def open_destination(path: str) -> AbstractContextManager[Destination]:
    """Prepare to create `path`. Symbolic links in its parent are followed."""
    absolute = Path(path).absolute()
    return Roots([Path("/")]).destination(Path(os.path.realpath(absolute.parent)) / absolute.name)


@contextmanager
def source_chunks(source: str) -> Iterator[Iterator[Chunk]]:
    """Read the file `source`, or standard input, as chunks of at most 1 MiB.

    Raises:
        BadRequest: the source is a directory.
    """
    if source == STREAM:
        yield iter(lambda: os.read(0, _READ_SIZE), b"")
        return
    with open_source(source) as file:
        if file.is_directory:
            raise BadRequest(
                f"{source} is a directory, and a stream carries one file", remedy="Give a directory as OUT"
            )
        yield iter(lambda: os.read(file.fd, _READ_SIZE), b"")


@contextmanager
def target_descriptor(target: str, mode: int) -> Iterator[int]:
    """Yield a descriptor to write to: standard output, or a new file that appears only when it is complete."""
    if target == STREAM:
        yield 1  # also where it is closed: the write then fails with a named error
        return
    with open_destination(target) as into, into.new_file(mode) as fd:
        yield fd


def write_chunks(chunks: Iterator[Chunk], descriptor: int, progress: Progress) -> None:
    """Write every chunk to `descriptor`, and count each one as a step."""
    with local_errors("the output"):
        for chunk in chunks:
            write_all(descriptor, chunk)
            progress.step()
