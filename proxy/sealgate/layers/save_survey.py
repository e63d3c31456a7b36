"""The survey of a local file or directory before a Save: how much it takes, and whether all of it can be stored."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sealgate import envelope
from sealgate.call import Call
from sealgate.storage.local_paths import LocalSource, local_errors

_LARGE_HEADER = 512
"""Bytes. More than a header takes, for an estimate."""


@dataclass(frozen=True, slots=True)
class SaveSurvey:
    """What a Save is about to store."""

    stored_bytes: int
    """An upper estimate of the ciphertext with its headers, without the manifest."""
    empty_directory: str | None = None
    """The path of one empty directory, relative to the artifact; None without one. Only a manifest can keep it."""


def survey_source(source: LocalSource, call: Call, key: str) -> SaveSurvey:
    """Measure `source`, and try the policy's limits on it before the Save has any effect.

    The limits apply again while the bytes flow, because the files can change meanwhile.

    Raises:
        Denied: a policy refuses a file, or the removal of an object that this Save would replace.
        BadRequest: the directory contains something that cannot be saved.
        LimitReached: the directory has more entries than a manifest may list, or their names are too long together.
    """
    meter = call.instructions.meter.dry_run()
    if not source.is_directory:
        meter.next_object(key, source.size, sealed=True)
        meter.will_replace(is_directory=False)
        return SaveSurvey(_LARGE_HEADER + envelope.stored_size(source.size))
    stored_bytes, empty, limits = 0, None, envelope.ListingLimits()
    with local_errors("the local path"), envelope.savable():
        for directory in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
            call.check()
            is_empty = not directory.files and not directory.directories
            if directory.path:
                limits.add_directory(directory.path, is_empty=is_empty)
            for name in directory.files:
                path = directory.path_of(name)
                limits.add_file(path)
                size = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_size
                meter.next_object(f"{key}/{path}", size, sealed=True)
                stored_bytes += _LARGE_HEADER + envelope.stored_size(size)
            if is_empty:
                empty = directory.path
    meter.will_replace(is_directory=True)
    return SaveSurvey(stored_bytes, empty)
