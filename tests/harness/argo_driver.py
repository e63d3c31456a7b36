"""Argo's own driver of plugins, in a program that is built with Argo's source (tests/go/driver)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.chain import Proxy
from harness.golang import driver


@dataclass(frozen=True)
class Result:
    """How a call of the driver ended.

    `code` is the gRPC status of the error: `Unknown` if the error was in the answer, `OK` if there was none. `size` and
    `sha256` are those of the bytes that were read of a stream.
    """

    error: str = ""
    code: str = "OK"
    objects: tuple[str, ...] = ()
    directory: bool = False
    size: int = 0
    sha256: str = ""


class ArgoDriver:
    """The program. Any number of plugins can be called by it, with a connection for each call that stays open."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([driver()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> int:
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(20)

    def together(self, *calls: dict[str, Any]) -> list[Result]:
        """Make calls at the same time. Their fields are those of `call` in tests/go/driver/main.go."""
        self._process.stdin.write(json.dumps(calls) + "\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        return [Result(**answer | {"objects": tuple(answer["objects"] or ())}) for answer in answers]

    def pack(self, path: Path, to: Path) -> None:
        """Pack `path` as Argo's executor packs an output artifact without an archive strategy."""
        assert self.together({"operation": "Pack", "path": str(path), "to": str(to)}) == [Result()]


class Plugin:
    """A plugin that the driver calls. Its keys begin with `prefix`, so that two plugins can share a store."""

    def __init__(self, driver: ArgoDriver, socket: Path, prefix: str, work: Path) -> None:
        self.driver = driver
        self.prefix = prefix
        self.work = work / prefix.replace("/", "-")
        self.work.mkdir()
        self._socket = socket

    def call(self, operation: str, key: str, path: Path | None = None, **more: Any) -> dict[str, Any]:
        """Return a call for `together`. `path` is local; `more` are further fields."""
        place = {"socket": str(self._socket), "key": self.prefix + key, "path": str(path or "")}
        return {"operation": operation, "name": "main", **place, **more}

    def together(self, *calls: dict[str, Any]) -> list[Result]:
        return self.driver.together(*calls)

    def one(self, operation: str, key: str, path: Path | None = None, **more: Any) -> Result:
        (result,) = self.together(self.call(operation, key, path, **more))
        return result

    def listed(self, key: str) -> list[str]:
        """Return the listing of `key` without the prefix of each object."""
        result = self.one("ListObjects", key)
        assert result.code == "OK", result
        assert all(name.startswith(self.prefix) for name in result.objects), result
        return [name.removeprefix(self.prefix) for name in result.objects]

    def file(self, name: str, data: bytes) -> Path:
        path = self.work / name
        path.write_bytes(data)
        return path


class Pair:
    """Sealgate in front of the bundled backend, and the backend alone."""

    def __init__(self, driver: ArgoDriver, proxy: Proxy, behind: Proxy, key: str) -> None:
        """`behind` is a proxy whose child is the backend that is called alone."""
        backend = behind.socket.parent / ".sealgate-downstream" / "socket"
        self.proxy = proxy
        self.sealgate = Plugin(driver, proxy.socket, f"{key}/sealed/", proxy.work)
        self.backend = Plugin(driver, backend, f"{key}/plain/", behind.work)

    def both(self, seen: Callable[[Plugin], Any]) -> Any:
        """Return what `seen` sees of Sealgate, and check that it sees the same of the backend."""
        of_sealgate, of_backend = seen(self.sealgate), seen(self.backend)
        assert of_sealgate == of_backend, f"{of_sealgate}\n!= {of_backend}"
        return of_sealgate
