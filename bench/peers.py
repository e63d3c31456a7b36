"""Other programs that seal and open files: age, rclone and Tink."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import say
from bench.setting import MIB, ROOT

_TOOLS = ROOT / "bench" / ".tools"
_FOUND = _TOOLS / "usr" / "bin"


@dataclass(frozen=True)
class Peer:
    """A way to seal a file to another one and to open it again."""

    seal: Callable[[Path, Path], object]
    open: Callable[[Path, Path], object]


class Absent(Exception):
    """The peer is not available on this machine, for the reason in the text."""


def command(*words: str | Path, **environment: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})


def age(home: Path, *, install: bool) -> Peer:
    """Return the program age, with one recipient whose key is generated here."""
    program, generator = _program("age", install=install), _program("age-keygen", "age", install=install)
    identity = home / "age.key"
    made = subprocess.run([generator, "-o", identity], check=True, capture_output=True, text=True)
    recipient = made.stderr.split()[-1]
    return Peer(
        seal=lambda plain, sealed: command(program, "-r", recipient, "-o", sealed, plain),
        open=lambda sealed, plain: command(program, "-d", "-i", identity, "-o", plain, sealed),
    )


def rclone(home: Path, *, install: bool) -> Peer:
    """Return rclone with a crypt remote on a local directory and its default settings."""
    program = _program("rclone", install=install)
    variables = {"RCLONE_CONFIG": str(home / "rclone.conf"), "LC_ALL": "C"}
    (home / "rclone.conf").touch()
    hidden = subprocess.run(
        [program, "obscure", "a password"], check=True, capture_output=True, text=True, env={**os.environ, **variables}
    )
    variables |= {
        "RCLONE_CONFIG_SEALED_TYPE": "crypt",
        "RCLONE_CONFIG_SEALED_REMOTE": str(home),
        "RCLONE_CONFIG_SEALED_PASSWORD": hidden.stdout.strip(),
        "RCLONE_CONFIG_SEALED_FILENAME_ENCRYPTION": "off",
    }

    def remote(path: Path) -> str:
        return f"sealed:{path.relative_to(home).with_suffix('')}"

    return Peer(
        seal=lambda plain, sealed: command(program, "copyto", plain, remote(sealed), **variables),
        open=lambda sealed, plain: command(program, "copyto", remote(sealed), plain, **variables),
    )


def tink(home: Path, *, install: bool) -> Peer:
    """Return Tink's streaming AEAD with the template of the sealed format, called with 1 MiB at a time."""
    del home, install  # its key stays in memory, and the development lock installs it
    if importlib.util.find_spec("tink") is None:
        raise Absent("tink is not installed; the development lock contains it")
    from tink import new_keyset_handle, streaming_aead  # noqa: PLC0415 - may be missing

    streaming_aead.register()
    handle = new_keyset_handle(streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB)
    primitive = handle.primitive(streaming_aead.StreamingAead)

    def seal(plain: Path, sealed: Path) -> None:
        with plain.open("rb") as source, primitive.new_encrypting_stream(sealed.open("wb"), b"") as target:
            shutil.copyfileobj(source, target, MIB)

    def open_(sealed: Path, plain: Path) -> None:
        with primitive.new_decrypting_stream(sealed.open("rb"), b"") as source, plain.open("wb") as target:
            while data := source.read(MIB):
                target.write(data)

    return Peer(seal, open_)


PEERS = {"age": age, "rclone crypt": rclone, "tink-py": tink}


def _program(name: str, package: str = "", *, install: bool) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_FOUND}")
    if found is None and install:
        _unpack(package or name)
        found = shutil.which(name, path=str(_FOUND))
    if found is None:
        raise Absent(f"{name} is not on this machine" + (", and its Debian package could not be fetched" * install))
    return found


def _unpack(package: str) -> None:
    """Unpack the Debian package beside the bench, without installing it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return
    say(f"fetching the Debian package {package}")
    _TOOLS.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        _quietly("apt-get", "update")
    if _quietly("apt-get", "download", package):
        for archive in _TOOLS.glob(f"{package}_*.deb"):
            _quietly("dpkg", "-x", archive.name, ".")


def _quietly(*words: str) -> bool:
    return subprocess.run(words, cwd=_TOOLS, check=False, capture_output=True).returncode == 0
