"""Commands of the pages on Helm and on Vault, run in the cluster as the pages have them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """A page, and a directory in which its commands run like in a clone.

    Args:
        path: the page.
        clone: the directory; it has the chart and the examples.
        environment: the environment of the commands.
        replaced: texts that stand for a reader's own names, and what the reader would write.
    """

    def __init__(self, path: Path, clone: Path, environment: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self._text = path.read_text()
        self._clone = clone
        self._environment = environment
        self._replaced = replaced
        self.ran: list[str] = []
        """Every command that ran, in order."""

    def other(self, path: Path, folder: Path, replaced: Mapping[str, str]) -> Page:
        """Return another page, whose commands run in `folder` with the same environment."""
        return Page(path, folder, self._environment, replaced)

    def values(self) -> str:
        """Return the page's values, with the reader's own names."""
        (text,) = [text for language, _, text in _BLOCK.findall(self._text) if language == "yaml"]
        return self._own(text)

    def run_block(self, beginning: str, below: str = "") -> str:
        """Run the first block of the page whose first command begins so, and return what its commands print.

        Args:
            beginning: how the first command of the block begins.
            below: words of the page, after which the block is looked for.
        """
        block = next(lines for lines in self._blocks(below) if lines[0].startswith(beginning))
        return "".join(map(self._carried_out, block))

    def _blocks(self, below: str) -> list[list[str]]:
        text = self._text[self._text.index(below) :]
        found = [text for language, _, text in _BLOCK.findall(text) if language in {"sh", "console"}]
        lines = [block.replace("\\\n", " ").splitlines() for block in found]
        return [[line.removeprefix("$ ") for line in block if line] for block in lines]

    def _carried_out(self, line: str) -> str:
        command = self._own(line)
        self.ran.append(line)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._clone,
            env=dict(self._environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"the page's command fails: {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def _own(self, text: str) -> str:
        for found, own in self._replaced.items():
            text = text.replace(found, own)
        return text
