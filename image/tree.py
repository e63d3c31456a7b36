"""Build a directory with Sealgate and its own interpreter: `tree.py PACKAGES ROOT`.

The Python that runs this program is the interpreter that is copied. ROOT gets `opt/sealgate`: the interpreter, the
part of the standard library that a server needs, PACKAGES, and every shared library that these load, with the C
library. It runs on any Linux with this machine's processor, and neither uses nor changes anything of the image that
it is copied into. It works only at /opt/sealgate, because the kernel needs an absolute path to a program's loader.
ROOT also gets `tmp`, which Argo needs (docs/argo-contract.md, 72).
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
    """Build the tree of `packages` beneath `root`."""
    tree = root / HOME.relative_to("/")
    standard = tree / "lib" / Path(sysconfig.get_path("stdlib")).name
    shutil.copytree(sysconfig.get_path("stdlib"), standard, ignore=shutil.ignore_patterns(*NOT_FOR_A_SERVER))
    shutil.copytree(
        packages, standard / "site-packages", ignore=shutil.ignore_patterns("__pycache__", "bin", "test", "tests")
    )
    (tree / "bin").mkdir()
    python = tree / "bin" / "python3"
    shutil.copy(Path(sys.executable).resolve(), python)
    # Before any file is changed: the libraries that the loader finds now are the ones to copy.
    for library in sorted(libraries(tree, python)):
        shutil.copy(library, tree / "lib" / library.name)
    for file in (*tree.glob("lib/libpython*"), *standard.glob("lib-dynload/*.so")):
        patchelf("--remove-rpath", file)
    loader = HOME / "lib" / Path(patchelf("--print-interpreter", python)).name
    patchelf("--set-interpreter", loader, "--force-rpath", "--set-rpath", HOME / "lib", python)
    command = tree / "bin" / "sealgate"
    command.write_text(COMMAND.format(home=HOME))
    command.chmod(0o755)
    # Python must not compare it with the source, whose time stamps a copy may change.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(standard, quiet=1, stripdir=root, prependdir="/", invalidation_mode=unchecked):
        sys.exit("tree.py: a module does not compile")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def libraries(tree: Path, python: Path) -> Iterator[Path]:
    """Yield every shared library that files of the tree load and that is not in it, the loader included."""
    seen: set[str] = set()
    for file in (python, *tree.rglob("*.so*")):
        listed = subprocess.run(["ldd", file], check=True, capture_output=True, text=True).stdout  # noqa: S607 - the PATH is that of the build
        if "not found" in listed:
            sys.exit(f"tree.py: {file} needs a library that is missing on this machine:\n{listed}")
        for found in re.findall(r"(/\S+) \(0x", listed):
            if found not in seen and not Path(found).is_relative_to(tree):
                seen.add(found)
                yield Path(found)


def patchelf(*arguments: str | Path) -> str:
    """Run patchelf from the path, and return its output."""
    tool = shutil.which("patchelf") or "patchelf"
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
