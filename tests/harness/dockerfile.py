"""Build a Dockerfile without an engine, in directories and a chroot.

Base images are replaced. A stage with RUN instructions has this machine as its base, with an overlay that takes what
they write and with this machine's Python. Every other stage has an empty directory as its base, because what runs
there needs nothing of its image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CHROOT = 'mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"'


@dataclass
class Stage:
    """The result of one FROM and the instructions after it."""

    root: Path
    base: str
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    workdir: str = "/"


def overlay_works(place: Path) -> bool:
    """Return whether this user may mount an overlay over the machine's root."""
    for name in ("upper", "work", "merged"):
        (place / name).mkdir(parents=True, exist_ok=True)
    command = ["unshare", "--mount", "sh", "-c", _CHROOT, "-", str(place)]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return each instruction with its argument, with continued lines joined."""
    lines = (line for line in dockerfile.read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


class Build:
    """Builds stages of a Dockerfile on demand, and those that they depend on."""

    def __init__(self, place: Path, context: Path, images: dict[str, Stage], arguments: dict[str, str]) -> None:
        self._place = place
        self._context = context
        self._images = images
        self._given = arguments
        self._stages: dict[str, Stage] = {}
        self._global: dict[str, str] = {}
        self._parts: dict[str, tuple[str, list[tuple[str, str]]]] = {}
        for word, rest in instructions(context / "Dockerfile"):
            if word == "FROM":
                base, _, name = rest.partition(" AS ")
                self._parts[name or "default"] = (base, instructions_of := [])
            elif not self._parts:
                name, _, value = rest.partition("=")
                self._global[name] = arguments.get(name, value)
            else:
                instructions_of.append((word, rest))

    def stage(self, name: str) -> Stage:
        if name not in self._stages:
            base, parts = self._parts[name]
            self._stages[name] = self._carried_out(name, _filled(base, self._global), parts)
        return self._stages[name]

    def _carried_out(self, name: str, base: str, parts: list[tuple[str, str]]) -> Stage:
        place = self._place / name
        has_steps = any(word == "RUN" for word, _ in parts)
        stage = Stage(place / "upper" if has_steps else place, base)
        stage.root.mkdir(parents=True)
        if base in self._parts:
            below = self.stage(base)
            shutil.copytree(below.root, stage.root, symlinks=True, dirs_exist_ok=True)
            stage = Stage(stage.root, base, dict(below.environment), dict(below.labels), below.user, below.entrypoint)
        elif base in self._images:
            shutil.copytree(self._images[base].root, stage.root, symlinks=True, dirs_exist_ok=True)
            stage.environment.update(self._images[base].environment)
        arguments: dict[str, str] = {}
        for word, rest in parts:
            self._one(stage, word, rest, arguments)
        return stage

    def _one(self, stage: Stage, word: str, rest: str, arguments: dict[str, str]) -> None:
        if word == "ARG":
            name, _, default = rest.partition("=")
            # Without a default of its own, an argument has that from before the first stage.
            arguments[name] = self._given.get(name, default or self._global.get(name, ""))
        elif word in {"ENV", "LABEL"}:
            values = {**stage.environment, **arguments}
            pairs = dict(pair.split("=", 1) for pair in shlex.split(_filled(rest, values)))
            (stage.environment if word == "ENV" else stage.labels).update(pairs)
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            self._copy(stage, shlex.split(_filled(rest, arguments)))
        elif word == "USER":
            stage.user = rest
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)  # fails for the shell form
        elif word == "RUN":
            self._run(stage, rest)
        else:
            raise NotImplementedError(word)

    def _copy(self, stage: Stage, words: list[str]) -> None:
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self._context
        if "from" in options:
            found = self.stage(options["from"])
            # What a stage with RUN instructions does not contain is on this machine.
            origin = found.root
        into = stage.root / target.lstrip("/") if target.startswith("/") else stage.root / stage.workdir[1:] / target
        for source in sources:
            path = origin / source.lstrip("/")
            path = path if path.exists() else Path("/") / source
            if path.is_dir():
                subprocess.run(["cp", "-a", f"{path}/.", into], check=True) if into.exists() else shutil.copytree(
                    path, into, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                as_directory = target.endswith("/")
                (into if as_directory else into.parent).mkdir(parents=True, exist_ok=True)
                copied = Path(shutil.copy(path, into))
                if "chmod" in options:
                    copied.chmod(int(options["chmod"], 8))

    def _run(self, stage: Stage, command: str) -> None:
        place = stage.root.parent
        for name in ("work", "merged"):
            (place / name).mkdir(exist_ok=True)
        script = f'{_CHROOT} && exec chroot "$1/merged" /bin/sh -ec \'cd "$0"; eval "$1"\' "$2" "$3"'
        python = Path(sys.base_prefix, "bin")
        settings = {
            name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()
        }
        path = f"{python}:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {**settings, "PATH": path, "HOME": "/root", **stage.environment}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "-", place, stage.workdir, command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)
