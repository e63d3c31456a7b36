"""A store that is a local directory: what is done there without the library, and why.

Objects are files at their names' paths, as obstore lays them out, so both may work on the same directory.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path

from sealgate.backend.errors import SAYS, Missing, store_errors
from sealgate.call import Call
from sealgate.errors import PluginError, Unavailable
from sealgate.plugin import Chunk

_READ_SIZE = 1 << 20
_MOST_TRIES = 1000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class DirectoryStore:
    """The directory of a store."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def read(self, call: Call, name: str) -> Generator[memoryview]:
        """Yield an object, as it was when it was opened. Measured: five times as fast as by the library."""
        with store_errors():
            try:
                file = open(self._at(name), "rb", buffering=0)  # noqa: SIM115 - closed by the second `with`
            except (NotADirectoryError, IsADirectoryError):
                raise Missing from None
        with file:
            size, passed = os.fstat(file.fileno()).st_size, 0
            buffer = memoryview(bytearray(min(_READ_SIZE, size)))
            while passed < size:
                call.check()
                with store_errors():
                    count = file.readinto(buffer)
                if not count:
                    raise Unavailable(f"an object ended after {passed} bytes of {size}", says=SAYS)
                passed += count
                yield buffer[:count]

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        """Store an object, whole or not at all. Measured: a small one in half the time that the library takes."""
        with store_errors(writing=True):
            fd, temporary = self._created(name)
        try:
            try:
                for chunk in chunks:
                    rest = memoryview(chunk)
                    with store_errors(writing=True):
                        while rest:
                            rest = rest[os.write(fd, rest) :]
            finally:
                os.close(fd)
            with store_errors(writing=True):
                os.rename(temporary, self._at(name))
        except BaseException:
            os.unlink(temporary)
            self.prune([name])
            raise

    def _created(self, name: str) -> tuple[int, str]:
        """A new file beside the object, of a kind of name that the library uses for this and never lists."""
        for number in range(1, _MOST_TRIES):
            path = f"{self._at(name)}#{number}"
            # Others may be writing the same object, or removing the directory because it is empty.
            with suppress(FileExistsError, FileNotFoundError):
                try:
                    return os.open(path, _CREATE, 0o666), path
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
        raise PluginError(
            "the store's directory is full of unfinished files", says=SAYS, remedy="Remove those that are old"
        )

    def prune(self, names: Iterable[str]) -> None:
        """Remove the directories that are empty without these objects: they would stand in a file's way."""
        above = {parent for name in names for parent in Path(name).parents[:-1]}
        for parent in sorted(above, key=lambda path: -len(path.parts)):
            with suppress(OSError):
                os.rmdir(self._at(str(parent)))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"
