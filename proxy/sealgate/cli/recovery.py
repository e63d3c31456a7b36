"""The sealed format by hand: `seal`, `open` and `inspect`, without Argo and without a server."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sealgate import config, envelope
from sealgate.call import Call, Operation
from sealgate.cli.progress import Progress
from sealgate.compose.keys import key_provider
from sealgate.envelope import Binding, Header, Unlock
from sealgate.errors import BadRequest, DataLoss, Truncated
from sealgate.plugin import Chunk
from sealgate.policy import canonical_keys
from sealgate.storage.local_paths import Destination, LocalSource, Roots, local_errors, write_all

_STREAM = "-"
_FILE, _DIRECTORY = 0o644, 0o755
_PRIVATE_FILE, _PRIVATE_DIRECTORY = 0o600, 0o700
_READ_SIZE = 1 << 20


def seal(source: str, target: str, artifact_key: str) -> None:
    """Seal `source` to `target`, bound to `artifact_key` where one is given.

    Raises:
        BadRequest: the source is missing, the target exists, or the key is not canonical.
        NotConfigured: no key provider is configured.
    """
    _check_key(artifact_key)
    _require_absent(target)
    with Progress("sealed", "MiB") as progress:
        if _STREAM in (source, target):
            with _chunks(source) as chunks, _sink(target, _PRIVATE_FILE) as sink:
                header, data_key = _made(artifact_key)
                _pour(envelope.seal_stream(header, data_key, artifact_key, chunks), sink, progress)
            return
        with _source(source) as plain, _destination(target) as into:
            header, data_key = _made(artifact_key)
            if plain.is_directory:
                with into.new_directory(_PRIVATE_DIRECTORY) as fd:
                    envelope.seal_tree(plain.fd, fd, header, data_key, artifact_key, progress.step)
            else:
                with into.new_file(_PRIVATE_FILE) as fd:
                    envelope.seal_file(plain.fd, fd, header, data_key, artifact_key, progress.step)


def _made(artifact_key: str) -> tuple[Header, bytes]:
    """A header and the data key for it. Asked for last: until then a mistake costs the key provider nothing."""
    made = key_provider(config.load()).new_data_key(Call(Operation.SAVE))
    binding = Binding.ARTIFACT_KEY if artifact_key else Binding.NONE
    return envelope.new_header(
        made.plaintext, made.wrapped, sealed_at=int(time.time()), binding=binding
    ), made.plaintext


def open_(source: str, target: str, artifact_key: str) -> None:
    """Open the sealed `source` to `target`, whole and verified or not at all.

    On standard output each segment appears once it has been verified: only the exit code tells that the
    last one has.

    Raises:
        DataLoss: the source is not what was sealed under `artifact_key`.
    """
    _check_key(artifact_key)
    _require_absent(target)
    call = Call(Operation.LOAD)
    keys = key_provider(config.load())

    def unlock(header: Header) -> bytes:
        if header.binding is Binding.ARTIFACT_KEY and not artifact_key:
            raise BadRequest(
                "the file is bound to the artifact that it was sealed for",
                remedy="Name that artifact by --artifact-key",
            )
        return keys.unwrap(call, header.key)

    with Progress("opened", "MiB") as progress:
        if _STREAM in (source, target):
            with _chunks(source) as chunks, _sink(target, _FILE) as sink:
                _pour(envelope.open_stream(chunks, unlock, artifact_key), sink, progress)
        else:
            with _source(source) as sealed, _destination(target) as into:
                _open_from(sealed, into, unlock, artifact_key, progress)


def _open_from(sealed: LocalSource, into: Destination, unlock: Unlock, artifact_key: str, progress: Progress) -> None:
    if sealed.is_directory:
        with into.new_directory(_DIRECTORY) as fd:
            modes = (_FILE, _DIRECTORY)
            envelope.open_tree(sealed.fd, fd, unlock, artifact_key, modes, progress.step)
    else:
        with into.new_file(_FILE) as fd:
            envelope.open_file(sealed.fd, fd, unlock, artifact_key, progress.step)


def inspect(file: Path, *, as_json: bool) -> str:
    """What the header of a sealed file says, as lines for a person or as JSON. Opens nothing.

    Raises:
        NotSealed: the file does not begin as a sealed file does.
        DataLoss: its header is damaged, or no body has its size.
    """
    with _source(str(file)) as source:
        if source.is_directory:
            raise BadRequest(f"{file} is a directory", remedy="Inspect one of its files")
        header, start = envelope.read_header(lambda size, offset: os.pread(source.fd, size, offset))
        body = source.size - start
    try:
        plaintext: int | None = envelope.plaintext_size(body)
    except Truncated:
        plaintext = None
    facts = {
        "format": "sealed artifact v1",
        "suite": "AES256-GCM-HKDF-SHA256, segments of 1 MiB",
        "binding": header.binding.name.lower().replace("_", " "),
        "sealed_at": datetime.fromtimestamp(header.sealed_at, UTC).isoformat(),
        "provider": header.key.provider,
        "mount": header.key.mount,
        "key": header.key.key_name,
        "key_version": header.key.key_version,
        "derived_key": bool(header.key.derivation_context),
        "context": dict(header.context),
        "audit_chain": header.audit_chain,
        "audit_sequence": header.audit_sequence,
        "header_bytes": start,
        "body_bytes": body,
        "plaintext_bytes": plaintext,
    }
    text = json.dumps(facts, indent=2) if as_json else _lines(facts)
    if plaintext is None:
        print(text)
        raise DataLoss(f"the body is cut short: no sealed body has {body} bytes")
    return text


def _lines(facts: dict[str, object]) -> str:
    shown = {name.replace("_", " "): value for name, value in facts.items() if value not in ("", {}, False, None)}
    return "\n".join(f"{name:<16} {_printable(value)}" for name, value in shown.items())


def _printable(value: object) -> str:
    # A header comes from storage: it must not be able to steer a terminal.
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _check_key(artifact_key: str) -> None:
    fault = canonical_keys.fault_of(artifact_key) if artifact_key else ""
    if fault:
        raise BadRequest(fault, remedy="Give --artifact-key as Argo shows it")


def _require_absent(target: str) -> None:
    # Asked before any work, and once more by the rename's own rules at the end.
    if target != _STREAM and os.path.lexists(target):
        raise BadRequest(f"{target} exists already", remedy="Name a path that does not exist")


def _source(path: str) -> AbstractContextManager[LocalSource]:
    return Roots([Path("/")]).source(Path(os.path.realpath(path)))


def _destination(path: str) -> AbstractContextManager[Destination]:
    absolute = Path(path).absolute()
    return Roots([Path("/")]).destination(Path(os.path.realpath(absolute.parent)) / absolute.name)


@contextmanager
def _chunks(source: str) -> Iterator[Iterator[Chunk]]:
    """The bytes of a file or of standard input, as they come."""
    if source == _STREAM:
        yield iter(lambda: os.read(sys.stdin.fileno(), _READ_SIZE), b"")
        return
    with _source(source) as found:
        if found.is_directory:
            raise BadRequest(f"{source} is a directory, and a stream holds one file", remedy="Name a directory as OUT")
        yield iter(lambda: os.read(found.fd, _READ_SIZE), b"")


@contextmanager
def _sink(target: str, mode: int) -> Iterator[int]:
    """Where a stream goes: standard output, or a file that appears only when it is whole."""
    if target == _STREAM:
        yield sys.stdout.fileno()
        return
    with _destination(target) as into, into.new_file(mode) as fd:
        yield fd


def _pour(chunks: Iterator[Chunk], sink: int, progress: Progress) -> None:
    with local_errors("the output"):
        for chunk in chunks:
            write_all(sink, chunk)
            progress.step()
