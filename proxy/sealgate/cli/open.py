"""`sealgate open`: open what was sealed, without a server (docs/recovery.md)."""

from __future__ import annotations

import argparse

from sealgate import config, envelope
from sealgate.call import Call, Operation
from sealgate.cli import recovery_files as files
from sealgate.cli.exit_codes import DONE
from sealgate.cli.progress import Progress
from sealgate.compose.keys import key_provider
from sealgate.envelope import Binding, Header, Unlock
from sealgate.errors import BadRequest

SUMMARY = "open a sealed file, directory or stream without a server"
_FILE, _DIRECTORY = 0o644, 0o755
"""Modes of the opened copy."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate open` to `parser`."""
    files.add_copy_options(parser, "opened")


def run(options: argparse.Namespace) -> int:
    """Open the sealed source to the target, which appears only when all of it has been verified.

    On standard output each segment appears once it has been verified. Only exit code 0 says that the last segment
    was among them.

    Raises:
        BadRequest: the source is missing, the target exists, or the artifact key is needed or not canonical.
        NotConfigured: the configuration names no key provider.
        DataLoss: the source is not what was sealed under the artifact key.
    """
    files.check_copy(options.artifact_key, options.target)
    unlock = _unlocker(options.artifact_key)
    with Progress("opened", "MiB") as progress:
        if files.STREAM in (options.source, options.target):
            _open_stream(options.source, options.target, unlock, options.artifact_key, progress)
        else:
            _open_path(options.source, options.target, unlock, options.artifact_key, progress)
    return DONE


def _unlocker(artifact_key: str) -> Unlock:
    """Return a function that asks the configured key provider for the data key of a header."""
    call = Call(Operation.LOAD)
    keys = key_provider(config.load())

    def unlock(header: Header) -> bytes:
        if header.binding is Binding.ARTIFACT_KEY and not artifact_key:
            raise BadRequest(
                "the file is bound to the artifact that it was sealed for",
                remedy="Name that artifact by --artifact-key",
            )
        return keys.unwrap(call, header.key)

    return unlock


def _open_stream(source: str, target: str, unlock: Unlock, artifact_key: str, progress: Progress) -> None:
    with files.source_chunks(source) as chunks, files.target_descriptor(target, _FILE) as descriptor:
        files.write_chunks(envelope.open_stream(chunks, unlock, artifact_key), descriptor, progress)


def _open_path(source: str, target: str, unlock: Unlock, artifact_key: str, progress: Progress) -> None:
    with files.open_source(source) as sealed, files.open_destination(target) as into:
        if sealed.is_directory:
            with into.new_directory(_DIRECTORY) as fd:
                envelope.open_tree(sealed.fd, fd, unlock, artifact_key, (_FILE, _DIRECTORY), progress.step)
        else:
            with into.new_file(_FILE) as fd:
                envelope.open_file(sealed.fd, fd, unlock, artifact_key, progress.step)
