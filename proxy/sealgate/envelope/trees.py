"""A directory artifact (docs/format.md, "Keys"): one header for all files, each body bound to the path of its file.

No symbolic link is followed, neither on reading nor on writing. Memory and open descriptors depend neither on the
number of files nor on their depth.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealgate.envelope.directories import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    NotRegular,
    create_directory,
    create_regular,
    descend,
    open_regular,
    savable,
    walk,
)
from sealgate.envelope.files import Admit, Check, admit_any, open_file, seal_file
from sealgate.envelope.header import Header, Unlock
from sealgate.errors import Tampered


@dataclass(slots=True)
class Totals:
    """How many files of a tree were sealed or opened, and their sizes."""

    files: int = 0
    plaintext_bytes: int = 0
    stored_bytes: int = 0

    def add(self, plaintext: int, stored: int) -> None:
        """Count one more file of `plaintext` plaintext bytes and `stored` stored bytes."""
        self.files += 1
        self.plaintext_bytes += plaintext
        self.stored_bytes += stored


def seal_tree(
    source: int,
    target: int,
    header: Header,
    data_key: bytes,
    artifact_key: str,
    check: Check = lambda: None,
    admit: Admit = admit_any,
    *,
    skip_links: bool = False,
) -> Totals:
    """Seal every file of the directory open as `source` to the same path in the empty directory open as `target`.

    Empty directories are created too. All that is created is private to this user (0600, 0700).

    Args:
        source: a descriptor of the directory to seal.
        target: a descriptor of an empty directory.
        header: the artifact's header.
        data_key: the data key that `header` contains in wrapped form.
        artifact_key: the key of the whole directory.
        check: see `Check`.
        admit: see `Admit`.
        skip_links: leave out symbolic links instead of refusing the directory.

    Raises:
        BadRequest: the directory has a link, a device or a name that is not UTF-8, or changed while it was read.
    """
    totals = Totals()
    with savable():
        for place in walk(source, skip_links=skip_links):
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, PRIVATE_DIRECTORY)
                for name in place.files:
                    key = f"{artifact_key}/{place.path_of(name)}"
                    with (
                        open_regular(name, place.fd) as plain,
                        create_regular(name, into, PRIVATE_FILE) as sealed,
                    ):
                        totals.add(*seal_file(plain, sealed, header, data_key, key, check, admit))
    return totals


def open_tree(
    source: int,
    target: int,
    unlock: Unlock,
    artifact_key: str,
    modes: tuple[int, int],
    check: Check = lambda: None,
    admit: Admit = admit_any,
    *,
    consume: bool = False,
    plain: bool = False,
) -> Totals:
    """Open every sealed file of the directory `source` to the same path in the empty directory `target`.

    The content of `target` may be used only if this returns.

    Args:
        source: a descriptor of the stored directory.
        target: a descriptor of an empty directory.
        unlock: see `Unlock`.
        artifact_key: the key of the whole directory.
        modes: exact modes of the files and of the directories that are created, whatever the umask.
        check: see `Check`.
        admit: see `Admit`.
        consume: truncate the files of `source` while they are opened, see `open_file`.
        plain: copy files that are not sealed unchanged instead of refusing them.

    Raises:
        DataLoss: a file is not the one that was sealed at its path, or the directory has something other than files.
    """
    totals = Totals()
    file_mode, directory_mode = modes
    try:
        for place in walk(source):
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, directory_mode)
                for name in place.files:
                    key = f"{artifact_key}/{place.path_of(name)}"
                    with (
                        open_regular(name, place.fd, writable=consume) as sealed,
                        create_regular(name, into, file_mode) as opened,
                    ):
                        sizes = open_file(sealed, opened, unlock, key, check, admit, consume=consume, plain=plain)
                        totals.add(*sizes)
    except NotRegular as fault:
        raise Tampered(f"the stored directory has an entry that was not sealed: {fault.fact}") from None
    return totals
