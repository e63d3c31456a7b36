"""Runs `sealgate doctor` as a process with real files and a vendor's plugin, and parses its report."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.chain import SEALGATE, TESTS, VENDOR, write_keyring


@dataclass
class Report:
    """The report of one run, parsed and as printed."""

    code: int
    output: str
    checks: list[dict[str, str]]
    policy: str

    def state(self, check: str) -> str:
        """Return the worst state of a check; empty if it did not run."""
        states = [found["state"] for found in self.checks if found["check"] == check]
        return next((state for state in ("FAILED", "warning", "not checked", "ok") if state in states), "")

    def line(self, check: str) -> str:
        """Return the facts and remedies of a check."""
        return " | ".join(f"{found['fact']}. {found['remedy']}" for found in self.checks if found["check"] == check)

    def without(self, check: str) -> Report:
        """Return the report without the lines of one check."""
        others = [found for found in self.checks if found["check"] != check]
        return Report(self.code, self.output, others, self.policy)

    def of(self, state: str) -> set[str]:
        return {found["check"] for found in self.checks if found["state"] == state}


class Doctor:
    """Runs the command with settings, and asserts what must be true of every run."""

    def __init__(self, home: Path, temporary: Path) -> None:
        self.home = home
        self.storage = home / "storage"
        self.storage.mkdir()
        self.keyring = write_keyring(home / "keyring.json")
        self.socket = temporary / "crypt" / "socket"
        self._temporary = temporary / "tmp"
        self._temporary.mkdir(mode=0o777)
        self.secrets: list[str] = []
        """Texts that no run may print."""
        self.local: dict[str, object] = {"provider": "local", "local": {"keyring": str(self.keyring)}}

    def text(
        self,
        *arguments: str,
        settings: dict[str, object] | str | None = None,
        within: Sequence[str] = (),
        stdin: str = "",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        written = settings if isinstance(settings, str) else json.dumps(self.settings(**(settings or {})))
        ran = subprocess.run(
            [*within, *SEALGATE, "doctor", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(TESTS.parent / "proxy"),
                "TMPDIR": str(self._temporary),
                "VENDOR_ROOT": str(self.storage),
                "SEALGATE_BACKEND_URL": f"file://{self.storage}",
                "SEALGATE_CONFIG_YAML": written,
                **environment,
            },
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = ran.stdout + ran.stderr
        assert "Traceback" not in shown, shown
        keys = json.loads(self.keyring.read_text())["keys"]["default"]["versions"].values()
        for secret in (*self.secrets, *keys):
            assert secret not in shown, "a secret is in the output"
            assert base64.b64encode(secret.encode()).decode() not in shown, "a secret is in the output"
        assert list(self._temporary.iterdir()) == [], "a temporary file is left behind"
        return ran

    def settings(self, **changed: object) -> dict[str, object]:
        whole = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": {"command": VENDOR, "startTimeout": "20s"},
            "keys": self.local,
            **changed,
        }
        return {name: value for name, value in whole.items() if value is not None}

    def __call__(self, *arguments: str, **options) -> Report:
        ran = self.text("--output", "json", *arguments, **options)
        report = json.loads(ran.stdout)
        assert report["ok"] is (ran.returncode == 0)
        for found in report["checks"]:
            assert found["state"] in {"ok", "warning", "FAILED", "not checked"}
            assert found["remedy"] or found["state"] in {"ok", "not checked"}, f"no remedy: {found}"
            assert found["fact"], found
        assert (ran.returncode != 0) is any(found["state"] == "FAILED" for found in report["checks"])
        return Report(ran.returncode, ran.stdout + ran.stderr, report["checks"], report["policy"])


@contextmanager
def doctor_at(home: Path) -> Iterator[Doctor]:
    # The path of a socket must be short, and the directories of pytest are not.
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        yield Doctor(home, Path(short))
