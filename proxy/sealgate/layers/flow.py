"""What flows through the layer that seals: counted in the call, told to its meter, held to its terms."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

from sealgate.call import Call, SealingInstructions, logged_key
from sealgate.envelope import Admit, Header, Totals
from sealgate.errors import (
    BadRequest,
    ContextDiffers,
    Denied,
    DownstreamStatus,
    KeyDiffers,
    PluginError,
    Refused,
    shown_key,
)
from sealgate.plugin import Artifact, ArtifactPlugin, Chunk

log = logging.getLogger("sealgate.call")


def admitting(call: Call) -> Admit:
    """Tells the call's meter of each file, and notes those that are no ciphertext."""

    def admit(key: str, size: int | None, sealed: bool) -> None:
        call.instructions.meter.next_object(key, size, sealed=sealed)
        if not sealed:
            call.sealed.unsealed_files += 1
            log.warning("%s reads what was never sealed: %s [d=%s]", call.operation, logged_key(call, key), call.id)

    return admit


def metered(call: Call, key: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Plaintext on its way to storage, counted by the call and its meter."""
    meter = call.instructions.meter
    meter.next_object(key, None, sealed=True)
    for chunk in chunks:
        meter.add_bytes(len(chunk))
        call.sealed.plaintext_bytes += len(chunk)
        yield chunk
    meter.finish()


def stored_as_it_is(call: Call, chunks: Iterator[Chunk]) -> Generator[Chunk]:
    """Plaintext that stays plaintext, counted as what is stored."""
    for chunk in chunks:
        call.check()
        call.sealed.stored_bytes += len(chunk)
        yield chunk


def counted(chunks: Iterator[Chunk], count: Callable[[int], None]) -> Iterator[Chunk]:
    """The same chunks, each one's size told to `count` first."""
    for chunk in chunks:
        count(len(chunk))
        yield chunk


@contextmanager
def undone(call: Call, directory: Artifact, downstream: ArtifactPlugin) -> Iterator[list[Artifact]]:
    """While a directory is stored object by object: an end by a policy or by the local files removes what was new.

    Nothing that lay there before is removed; the error tells of objects that stay, written over or perhaps so.
    """
    try:
        before: list[str] | None = downstream.list_objects(call, directory)
    except (Refused, DownstreamStatus):
        before = None
    written: list[Artifact] = []
    try:
        yield written
    except (Denied, BadRequest) as error:
        # To delete an object deletes what lies beneath its key, too.
        taken = {key[:end] for key in before or () for end in (*_slashes(key), len(key))}
        new = [child for child in written if before is not None and child.key not in taken]
        left = len(written)
        for child in new:
            with suppress(PluginError):
                downstream.delete(call, child)
                left -= 1
        if left:
            error.fact += f"; {left} of its objects had been written, and stay"
        raise


def _slashes(key: str) -> list[int]:
    return [place for place, character in enumerate(key) if character == "/"]


def record(call: Call, totals: Totals) -> None:
    """Add to what the call has learned."""
    call.sealed.files += totals.files
    call.sealed.plaintext_bytes += totals.plaintext_bytes
    call.sealed.stored_bytes += totals.stored_bytes


def require_terms(header: Header, instructions: SealingInstructions) -> None:
    """Refuse a header of another key or context than the terms have. Its body authenticates the header.

    Raises:
        KeyDiffers: it names a key that the terms do not.
        ContextDiffers: it does not hold each entry of the context.
    """
    if instructions.opens and header.key.key_name not in instructions.opens:
        raise KeyDiffers(
            f'the object was sealed under the key "{shown_key(header.key.key_name)}", which the encryption rule '
            "does not name",
            remedy="Save it again, or have the key listed in readKeys of the rule",
        )
    found = dict(header.context)
    for name, value in instructions.context:
        if name not in found or not hmac.compare_digest(found[name].encode(), value.encode()):
            raise ContextDiffers(
                f'the object was sealed for another "{shown_key(name)}" than the encryption rule asks for',
                remedy="Read it as whom it was sealed for",
            )
