"""`sealgate seal`: seal a file, a directory or a stream without a server (docs/recovery.md)."""

from __future__ import annotations

import argparse
import time

from sealgate import config, envelope
from sealgate.call import Call, Operation
from sealgate.cli import recovery_files as files
from sealgate.cli.exit_codes import DONE
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option
from sealgate.compose.keys import key_provider
from sealgate.envelope import Binding, Header

SUMMARY = "seal a file, a directory or a stream without a server"
_FILE, _DIRECTORY = 0o600, 0o700
"""Modes of the sealed copy."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate seal` to `parser`."""
    files.add_copy_arguments(parser, "sealed")
    binding = parser.add_mutually_exclusive_group(required=True)
    binding.add_argument("--artifact-key", metavar="KEY", help=files.ARTIFACT_KEY_HELP)
    binding.add_argument(
        "--unbound",
        action="store_true",
        help="bind the copy to no artifact key. It can then take the place of any other unbound file, and a plugin "
        "opens it only where allowUnbound is set",
    )
    add_config_option(parser)


def run(options: argparse.Namespace) -> int:
    """Seal the source to the target, bound to the artifact key or, with --unbound, to none.

    Raises:
        BadRequest: the source is missing, the target exists, or the key is not canonical.
        LimitReached: the source is a directory with more entries than a manifest may list.
        NotConfigured: the configuration names no key provider.
    """
    files.check_copy(options.artifact_key, options.target)
    _seal(options.source, options.target, options.artifact_key or "")
    return DONE


def _seal(source: str, target: str, artifact_key: str) -> None:
    """Seal `source` to `target`; an empty `artifact_key` binds the copy to no artifact.

    The data key is made last, so that a mistake in a path costs the key provider no request.
    """
    with Progress("sealed", "MiB") as progress:
        if files.STREAM in (source, target):
            with files.source_chunks(source) as chunks, files.target_descriptor(target, _FILE) as descriptor:
                header, data_key = _new_header(artifact_key)
                files.write_chunks(envelope.seal_stream(header, data_key, artifact_key, chunks), descriptor, progress)
            return
        with files.open_source(source) as plain, files.open_destination(target) as into:
            header, data_key = _new_header(artifact_key)
            if plain.is_directory:
                with into.new_directory(_DIRECTORY) as fd:
                    envelope.seal_tree(plain.fd, fd, header, data_key, artifact_key, progress.step)
            else:
                with into.new_file(_FILE) as fd:
                    envelope.seal_file(plain.fd, fd, header, data_key, artifact_key, progress.step)


def _new_header(artifact_key: str) -> tuple[Header, bytes]:
    """Ask the key provider for a data key, and return a header with it and the data key in plaintext."""
    made = key_provider(config.load()).new_data_key(Call(Operation.SAVE))
    binding = Binding.ARTIFACT_KEY if artifact_key else Binding.NONE
    header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=int(time.time()), binding=binding)
    return header, made.plaintext
