"""A store that is a local directory: the operations that are faster here than in obstore.

Each object is a file whose path is its name. This is obstore's own layout: both work on the same directory.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path

from sealgate.backend import keys
from sealgate.backend.errors import SAYS, Missing, NotOffered, store_errors
from sealgate.call import Call
from sealgate.errors import AlreadyStored, PluginError, Unavailable
from sealgate.plugin import Chunk
from sealgate.storage.local_paths import write_all

_READ_SIZE = 1 << 20
_MOST_TRIES = 1000
_UNFINISHED = re.compile(r"#\d+$")
"""How the paths of files end that are still being written."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class DirectoryStore:
    """The directory of a store."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def read(self, call: Call, name: str) -> Generator[memoryview]:
        """Yield the bytes that an object had when it was opened. Measured: five times as fast as with obstore.

        Raises:
            Missing: there is no such object.
        """
        with store_errors():
            try:
                file = open(self._at(name), "rb", buffering=0)  # noqa: SIM115 - closed by the second `with`
            except (NotADirectoryError, IsADirectoryError):
                raise Missing from None
        with file:
            size, done = os.fstat(file.fileno()).st_size, 0
            buffer = memoryview(bytearray(min(_READ_SIZE, size)))
            while done < size:
                call.check()
                with store_errors():
                    count = file.readinto(buffer)
                if not count:
                    raise Unavailable(f"an object ended after {done} of {size} bytes", says=SAYS)
                done += count
                yield buffer[:count]

    def write(self, name: str, chunks: Iterable[Chunk], *, only_new: bool = False) -> None:
        """Store an object, complete or not at all. Measured: a small one takes half the time of obstore.

        Args:
            name: the path of its file.
            chunks: its bytes.
            only_new: whether an existing file stays as it is.

        Raises:
            AlreadyStored: there is such a file, and `only_new` is set.
        """
        with store_errors(writing=True):
            fd, temporary = self._create_temporary(name)
        try:
            try:
                for chunk in chunks:
                    with store_errors(writing=True):
                        write_all(fd, chunk)
            finally:
                os.close(fd)
            with store_errors(writing=True):
                if only_new:
                    self._put_new_in_place(temporary, name)
                else:
                    self._put_in_place(temporary, name)
        except BaseException:
            os.unlink(temporary)
            self.remove_empty_directories([name])
            raise

    def _put_in_place(self, temporary: str, name: str) -> None:
        try:
            os.rename(temporary, self._at(name))
        except IsADirectoryError:  # other programs leave empty directories behind, which are no objects
            self._remove_empty_beneath(name)
            os.rename(temporary, self._at(name))

    def _put_new_in_place(self, temporary: str, name: str) -> None:
        if os.path.isdir(self._at(name)):
            self._remove_empty_beneath(name)
        try:
            os.link(temporary, self._at(name), follow_symlinks=False)
        except FileExistsError:
            raise AlreadyStored(says=SAYS) from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise NotOffered("the store's file system has no hard links", says=SAYS) from None
            raise
        os.unlink(temporary)

    def _remove_empty_beneath(self, name: str) -> None:
        for directory, _, _ in os.walk(self._at(name), topdown=False):
            _remove_if_empty(directory)

    def beneath(self, call: Call, name: str) -> Generator[tuple[str, int]]:
        """Yield path and size in bytes of each file beneath the directory `name`, in any order.

        A symbolic link is not an object and is not followed. Unfinished files are left out.
        """
        waiting = [name]
        while waiting:
            call.check()
            directory = waiting.pop()
            for entry in self._entries(directory):
                path = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_file(follow_symlinks=False) and not _UNFINISHED.search(path):
                    # Another call may remove the file at this moment.
                    with store_errors(), suppress(FileNotFoundError):
                        yield path, entry.stat(follow_symlinks=False).st_size

    def remove_beneath(self, call: Call, name: str) -> None:
        """Remove everything beneath the directory `name`, and the directory, but for unfinished files."""
        for directory, names, others in os.walk(self._at(name), topdown=False):
            call.check()
            with store_errors(writing=True):
                for entry in (*names, *others):
                    path = os.path.join(directory, entry)
                    with suppress(FileNotFoundError):
                        if entry in names and not os.path.islink(path):
                            _remove_if_empty(path)
                        elif not _UNFINISHED.search(path):
                            os.unlink(path)
        _remove_if_empty(self._at(name))
        self.remove_empty_directories([name])

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        """Return the entries of a directory; none if there is no such directory."""
        with store_errors(), suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._at(directory)) as found:
            return list(found)
        return []

    def _create_temporary(self, name: str) -> tuple[int, str]:
        """Create a file beside the object, and return its descriptor and its path.

        Its name ends in `#` and a number, as obstore's own temporary files do. obstore never lists those.
        """
        beside = self._at(name)
        directory, _, file = beside.rpartition("/")
        if len(file.encode()) > keys.LONGEST_SEGMENT - len(str(_MOST_TRIES)) - 1:
            beside = f"{directory}/{keys.shortened(file)}"
        number = 1
        for _ in range(_MOST_TRIES):
            path = f"{beside}#{number}"
            try:
                return os.open(path, _CREATE, 0o666), path
            except FileExistsError:  # another call writes the same object
                number += 1
            except FileNotFoundError:
                with suppress(FileExistsError, FileNotFoundError):  # another call may remove it because it is empty
                    os.makedirs(directory, exist_ok=True)
        raise PluginError(
            "the store's directory has too many unfinished files", says=SAYS, remedy="Remove the old ones"
        )

    def remove_empty_directories(self, names: Iterable[str]) -> None:
        """Remove the directories above the removed objects `names` that are empty now.

        Such a directory would prevent that a file of its name is stored.
        """
        above = {parent for name in names for parent in keys.above(name)}
        for parent in sorted(above, key=len, reverse=True):  # children first
            _remove_if_empty(self._at(parent))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


def _remove_if_empty(directory: str) -> None:
    with suppress(OSError):
        os.rmdir(directory)
