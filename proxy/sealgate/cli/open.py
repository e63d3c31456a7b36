"""`sealgate open`: open what was sealed, without a server (docs/recovery.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sealgate import config, envelope
from sealgate.call import Call, Operation, WrappedKey
from sealgate.cli import recovery_files as files
from sealgate.cli.counting import counted
from sealgate.cli.exit_codes import DONE
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option
from sealgate.compose.keys import key_provider
from sealgate.envelope import Binding, Header, Unlock
from sealgate.errors import BadRequest, NotBound, Tampered, shown_key

SUMMARY = "open a sealed file, directory or stream without a server"
_FILE, _DIRECTORY = 0o644, 0o755
"""Modes of the opened copy."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate open` to `parser`."""
    files.add_copy_arguments(parser, "opened")
    parser.add_argument("--artifact-key", metavar="KEY", help=files.ARTIFACT_KEY_HELP)
    add_config_option(parser)


def run(options: argparse.Namespace) -> int:
    """Open the sealed source to the target, which appears only when all of it has been verified.

    On standard output each segment appears once it has been verified. Only exit code 0 says that the last segment
    was among them. A directory is opened by its manifest: exactly what a Save stored.

    Raises:
        BadRequest: the source is missing, the target exists, or the artifact key is needed or not canonical.
        NotConfigured: the configuration names no key provider.
        DataLoss: the source is not what was sealed under the artifact key, or was sealed without one.
    """
    files.check_copy(options.artifact_key, options.target)
    unlock, artifact_key = _unlocker(options.artifact_key), options.artifact_key or ""
    with _explained(artifact_key), Progress("opened", "MiB") as progress:
        if files.STREAM in (options.source, options.target):
            _open_stream(options.source, options.target, unlock, artifact_key, progress)
            foreign = 0
        else:
            foreign = _open_path(options.source, options.target, unlock, artifact_key, progress)
    if foreign:
        print(f"sealgate open: left out {counted(foreign, 'file')} that no Save stored", file=sys.stderr)
    return DONE


def _unlocker(artifact_key: str | None) -> Unlock:
    """Return a function that asks the configured key provider for the data key of a header, once for each.

    It refuses a header whose binding contradicts `artifact_key`, which is None if the command line has none.
    """
    call = Call(Operation.LOAD)
    keys = key_provider(config.load())
    known: dict[WrappedKey, bytes] = {}

    def unlock(header: Header) -> bytes:
        _require_binding(header, artifact_key)
        if header.key not in known:
            known[header.key] = keys.unwrap(call, header.key)
        return known[header.key]

    return unlock


@contextmanager
def _explained(artifact_key: str) -> Iterator[None]:
    """Let the error about a file that does not open as `artifact_key` name that key: it may be the mistake."""
    try:
        yield
    except Tampered as fault:
        if not artifact_key:
            raise
        remedy = f"Check --artifact-key {shown_key(artifact_key)}. If it is right: {fault.remedy}"
        raise Tampered(fault.fact, says=fault.says, remedy=remedy) from None


def _require_binding(header: Header, artifact_key: str | None) -> None:
    if header.binding is Binding.ARTIFACT_KEY and artifact_key is None:
        raise BadRequest(
            "the file is bound to the artifact that it was sealed for", remedy="Name that artifact by --artifact-key"
        )
    if header.binding is Binding.NONE and artifact_key is not None:
        raise NotBound(
            "the file is not bound to an artifact key, so it can be any other artifact's",
            remedy="Leave out --artifact-key if you trust the place that you have the file from",
        )


def _open_stream(source: str, target: str, unlock: Unlock, artifact_key: str, progress: Progress) -> None:
    with files.source_chunks(source) as chunks, files.target_descriptor(target, _FILE) as descriptor:
        files.write_chunks(envelope.open_stream(chunks, unlock, artifact_key), descriptor, progress)


def _open_path(source: str, target: str, unlock: Unlock, artifact_key: str, progress: Progress) -> int:
    """Open the file or directory `source`; return how many files of a directory its manifest does not list."""
    with files.open_source(source) as sealed, files.open_destination(target) as into:
        if sealed.is_directory:
            modes = (_FILE, _DIRECTORY)
            with into.new_directory(_DIRECTORY) as fd:
                return envelope.open_tree(sealed.fd, fd, unlock, artifact_key, modes, progress.step).foreign
        with into.new_file(_FILE) as fd:
            envelope.open_file(sealed.fd, fd, unlock, artifact_key, progress.step)
        return 0
