"""Helpers of `Sealed` for the bytes that flow through it: count them, report them to the meter, undo a partial Save."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from sealgate.call import Call, SealingInstructions, logged_key
from sealgate.envelope import Admit, Header, Totals
from sealgate.errors import (
    BadRequest,
    ContextDiffers,
    Denied,
    KeyDiffers,
    PluginError,
    shown_key,
)
from sealgate.log_event import LogEvent
from sealgate.plugin import Artifact, ArtifactPlugin, Chunk

log = logging.getLogger("sealgate.call")

_UNDONE_AT_ONCE = 1000
"""Objects that are deleted together where the downstream can do that."""


def admit_callback(call: Call) -> Admit:
    """Return the envelope's `Admit` for `call`: it reports each file to the meter, and counts and logs plaintext."""

    def admit(key: str, size: int | None, sealed: bool) -> None:
        call.instructions.meter.next_object(key, size, sealed=sealed)
        if not sealed:
            call.sealed.unsealed_files += 1
            shown = logged_key(call, key)
            log.warning(
                LogEvent("an unsealed object is read", operation=call.operation, key=shown, decision_id=call.id)
            )

    return admit


def metered_plaintext(call: Call, key: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the plaintext of the object `key` on its way to storage; count it and report it to the meter."""
    meter = call.instructions.meter
    meter.next_object(key, None, sealed=True)
    for chunk in chunks:
        meter.add_bytes(len(chunk))
        call.sealed.plaintext_bytes += len(chunk)
        yield chunk
    meter.finish()


def counted_to_storage(call: Call, chunks: Iterator[Chunk]) -> Generator[Chunk]:
    """Yield what goes to storage, and count it as stored bytes. Raise once the caller no longer waits."""
    for chunk in chunks:
        call.check()
        call.sealed.stored_bytes += len(chunk)
        yield chunk


def counted_from_storage(call: Call, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield what comes from storage, and count it as stored bytes."""
    for chunk in chunks:
        call.sealed.stored_bytes += len(chunk)
        yield chunk


@contextmanager
def undo_partial_save(
    call: Call, artifact: Artifact, before: frozenset[str] | None, downstream: ArtifactPlugin, *, whenever: bool
) -> Iterator[dict[str, int]]:
    """Delete the new objects of the directory `artifact` if a policy or the local files end its Save midway.

    With `whenever`, any other failure does so, too, such as a caller who goes away.

    The body adds the path of each file that it has stored to the mapping that this yields, with its size. The objects
    `before`, which existed before the Save, are not deleted. Neither is anything if they are unknown (None). A Save
    that must not replace anything keeps an object of its own beneath which another Save has stored something meanwhile.
    The error then states how many written objects remain.
    """
    written: dict[str, int] = {}
    try:
        yield written
    except Exception as error:
        ended_here = isinstance(error, Denied | BadRequest)
        if not (whenever or ended_here):
            raise
        undoing = call.undoing()
        # Deleting an object also deletes what is stored beneath its key, so the ancestors of old keys are kept, too.
        kept = {old for key in before or () for old in (*keys_above(key), key)}
        files = (replace(artifact, key=f"{artifact.key}/{path}") for path in written)
        new = [file for file in files if before is not None and file.key not in kept]
        if call.only_new:
            new = _without_those_above(undoing, artifact, new, downstream)
        remaining = len(written)
        for start in range(0, len(new), _UNDONE_AT_ONCE):
            batch = new[start : start + _UNDONE_AT_ONCE]
            remaining -= _delete_new(undoing, artifact, batch, downstream, only_new=call.only_new)
        if remaining and isinstance(error, Denied | BadRequest):
            error.fact += f"; objects already stored and not removed: {remaining}"
        raise


def _delete_new(
    call: Call, artifact: Artifact, new: Sequence[Artifact], downstream: ArtifactPlugin, *, only_new: bool
) -> int:
    """Delete the objects `new`, as far as the downstream does; return how many it has deleted.

    Where it deletes exactly these objects, it touches none that another Save stores beneath one of them meanwhile.
    """
    with suppress(PluginError):
        if downstream.delete_objects(call, artifact, [file.key for file in new]):
            return len(new)
    deleted = 0
    for file in new:
        with suppress(PluginError):
            if not downstream.delete_objects(call, file, [file.key]):
                if only_new and _has_beneath(call, file, downstream):
                    continue
                downstream.delete(call, file)
            deleted += 1
    return deleted


def _without_those_above(
    call: Call, artifact: Artifact, new: Sequence[Artifact], downstream: ArtifactPlugin
) -> list[Artifact]:
    """Return the objects of `new` beneath which nothing is listed; all of them if the downstream does not list."""
    above: set[str] = set()
    with suppress(PluginError):
        above.update(key for listed in downstream.list_objects(call, artifact) for key in keys_above(listed))
    return [file for file in new if file.key not in above]


def _has_beneath(call: Call, artifact: Artifact, downstream: ArtifactPlugin) -> bool:
    return any(key.startswith(f"{artifact.key}/") for key in downstream.list_objects(call, artifact))


def keys_above(key: str) -> list[str]:
    """Return every key that `key` is beneath."""
    return [key[:end] for end, character in enumerate(key) if character == "/"]


def add_totals(call: Call, totals: Totals) -> None:
    """Add `totals` to what the call has sealed or opened so far."""
    call.sealed.files += totals.files
    call.sealed.plaintext_bytes += totals.plaintext_bytes
    call.sealed.stored_bytes += totals.stored_bytes


def require_key_and_context(header: Header, instructions: SealingInstructions) -> None:
    """Check the key name and the context of `header` against the call's instructions.

    Nothing has authenticated the header yet; opening its body does.

    Raises:
        KeyDiffers: the instructions do not list the key that the header names.
        ContextDiffers: the header lacks an entry of the required context, or has another value for it.
    """
    if instructions.opens and header.key.key_name not in instructions.opens:
        raise KeyDiffers(
            f'the object was sealed under the key "{shown_key(header.key.key_name)}", which the encryption rule '
            "does not name",
            remedy="Save it again, or have the key listed in readKeys of the rule",
        )
    context = dict(header.context)
    for name, value in instructions.context:
        if name not in context or not hmac.compare_digest(context[name].encode(), value.encode()):
            raise ContextDiffers(
                f'the object was sealed with another value of "{shown_key(name)}" than the encryption rule requires',
                remedy="Read it from a workflow with the same context",
            )
