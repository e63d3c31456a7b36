"""Files and directories to save, and their content for comparison."""

from __future__ import annotations

import random
from pathlib import Path

SIZES = (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 17)


def blob(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def write_tree(root: Path) -> Path:
    """Make a directory with difficult content: depth, spaces, other scripts, an empty file and an empty directory."""
    files = {
        "file": blob(100),
        "empty": b"",
        "with spaces in it.txt": blob(3000),
        "deeper/and deeper/größe-尺寸-🔒.bin": blob((1 << 20) + 5),
        ".hidden": blob(10),
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "nothing in it").mkdir()
    (root / ".hidden").chmod(0o600)
    return root


def read_tree(root: Path) -> dict[str, bytes | None]:
    """Return every path beneath `root` with its bytes; None for a directory."""
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}
