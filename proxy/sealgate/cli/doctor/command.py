"""`sealgate doctor`: a configuration tried end to end, one line for each thing that is so or is not."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from sealgate import config, identity
from sealgate.call import Call
from sealgate.cli import author as authors
from sealgate.cli.doctor.checks import POLICIES, Check, CheckResult, Role, State, failed, findings, not_checked, ok
from sealgate.cli.doctor.places import PlaceChecks
from sealgate.cli.doctor.storage import StorageChecks, scratch_artifact
from sealgate.cli.doctor.vault import MAKE, OPEN, VaultChecks
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.compose.policies import load_policies, policy_identity
from sealgate.config import LocalKeySettings, Settings, VaultKeySettings
from sealgate.errors import NotConfigured, PluginError, one_line
from sealgate.keys import DataKey
from sealgate.keys.local import LocalKeys
from sealgate.policy import templates
from sealgate.policy.load import key_name

_CONFIGURATION = "configuration"
_ROLE = "what the identity of this configuration is meant to do; default both: save and load"
_SCRATCH = "where a tiny artifact is saved and deleted, beneath this key; default .sealgate-doctor"
_PLUGINS = Path("/tmp/artifact-plugins")  # noqa: S108 - Argo's own path
_LONGEST_TEXT = 1000
"""Characters of a fact or a remedy: what a downstream says can have any length."""
_SECRET_LIKE = re.compile(r"[^\s\"',:;{}\[\]]{8,}")
"""What could be a secret in an author's configuration; shorter ones are in every other text as well."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    socket: Path | None
    """Of the plugin in question: its directory's name is the plugin's."""
    role: Role
    configuration: str
    """A file, or `-`: what Argo would send as an artifact's configuration."""
    scratch: str
    offline: bool
    seconds: float
    """For each check."""
    verbose: bool
    as_json: bool

    @property
    def plugin(self) -> str:
        """The plugin's name, as Argo knows it; empty where none was named."""
        return self.socket.absolute().parent.name if self.socket else ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined: the settings, and what the checks of all sections need beside them."""

    settings: Settings
    options: Options
    author: str = field(repr=False)
    """The author's configuration. It may hold credentials."""
    resources: ExitStack


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what `sealgate doctor` takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--plugin", type=_segment, metavar="NAME", help="as the plugin NAME, with plugins.NAME laid over"
    )
    which.add_argument("--socket", type=Path, metavar="SOCKET", help="as the plugin that serves on SOCKET")
    parser.add_argument("--role", choices=[role.value for role in Role], default=Role.BOTH.value, help=_ROLE)
    authors.add_option(parser)
    parser.add_argument("--scratch", default=".sealgate-doctor", metavar="KEY", help=_SCRATCH)
    parser.add_argument("--offline", action="store_true", help="leave downstream and storage alone")
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each check; default 60")
    parser.add_argument("--verbose", action="store_true", help="show the log, with what the downstream writes")
    parser.add_argument("--output", choices=("text", "json"), default="text")


def _segment(text: str) -> str:
    if not text or "/" in text or text in {".", ".."}:
        raise argparse.ArgumentTypeError("it is the name of a plugin, as Argo knows it")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("a number of seconds")
    return seconds


def run(options: argparse.Namespace) -> int:
    """See `doctor`."""
    socket = _PLUGINS / options.plugin / "socket" if options.plugin else options.socket
    return doctor(
        Options(
            socket=socket,
            role=Role(options.role),
            configuration=options.configuration,
            scratch=options.scratch,
            offline=options.offline,
            seconds=options.timeout,
            verbose=options.verbose,
            as_json=options.output == "json",
        )
    )


def doctor(options: Options) -> int:
    """Examine the configuration that the environment names, and print what was found.

    Returns 0 if all is so (warnings and what nobody can tell included), 1 if something is not, and 2 if the
    configuration does not load.
    """
    author = authors.author_configuration(options.configuration)
    scratch_artifact(options.scratch, "", "")  # bad usage is found before any work
    secrets = set(_SECRET_LIKE.findall(author))
    _log_to(sys.stderr if options.verbose else None, secrets)
    with ExitStack() as resources:
        return _report(_examination(options, author, resources), options, secrets)


def _examination(options: Options, author: str, resources: ExitStack) -> Iterator[CheckResult]:
    try:
        text, source = config.document()
        settings = config.parse(text, source, options.plugin or None)
    except NotConfigured as fault:
        remedy = fault.remedy or "Correct it there: docs/configuration.md has every field"
        yield CheckResult(State.FAILED, f"{fault.fact} ({fault.says})", remedy, check=_CONFIGURATION)
        yield from findings([Check(name, lambda _: [], needs=(_CONFIGURATION,)) for name, _ in SECTIONS], 0)
        return
    differs = options.plugin and settings != config.parse(text, source)
    over = f", with plugins.{options.plugin} laid over it" if differs else ""
    none = f", which says nothing apart for plugin {options.plugin}" if options.plugin and not differs else ""
    yield CheckResult(State.OK, f"{source} loads{over}{none}", check=_CONFIGURATION)
    subject = Subject(settings, options, author, resources)
    yield from findings([check for _, section in SECTIONS for check in section(subject)], options.seconds)


# --- the sections ----------------------------------------------------------------------------------------


def _keys(subject: Subject) -> list[Check]:
    named = Check("keys", lambda _: [ok(f"keys.provider is {subject.settings.required_keys().provider}")])
    keys = subject.settings.keys
    if keys is None:
        return [named]
    if isinstance(keys.section, VaultKeySettings):
        seal, read = _keys_of_policies(subject.settings)
        checks = VaultChecks(
            keys.section,
            subject.options.role,
            other_keys=seal,
            read_keys=read,
            signing_key=subject.settings.audit.signing_key,
        )
        return [named, *checks.checks()]
    return [named, *LocalChecks(keys.section).checks()]


def _keys_of_policies(settings: Settings) -> tuple[frozenset[str], frozenset[str]]:
    """The keys that policies seal under in this process, and those that they read under. Faults are told elsewhere."""
    seal: set[str] = set()
    read: set[str] = set()
    known = policy_identity(identity.asserted())
    with suppress(PluginError):
        for document in load_policies(settings).documents:
            for rule in document.spec.encryption:
                for keys, found in (((rule.key, *rule.author_keys), seal), (rule.read_keys, read)):
                    for key in filter(None, keys):
                        with suppress(templates.NotKnown, ValueError):
                            found.add(key_name(templates.filled(key, known, document.spec.params))[1])
    return frozenset(seal), frozenset(read)


def _policies(subject: Subject) -> list[Check]:
    def loaded(_: Call) -> Iterator[CheckResult]:
        found = load_policies(subject.settings)
        count = sum(len(document.spec.rules) for document in found.documents)
        if not found.documents:
            yield ok("there is no policy: the built-in baseline allows every canonical key, sealed")
        else:
            yield ok(f"{len(found.documents)} load, with {count} rules")

    return [Check(POLICIES, loaded)]


def _places(subject: Subject) -> list[Check]:
    socket = subject.options.socket
    return PlaceChecks(subject.settings, socket.absolute() if socket else None).checks()


def _storage(subject: Subject) -> list[Check]:
    options = subject.options
    if options.offline:
        return [Check("downstream", lambda _: [not_checked("--offline leaves downstream and storage alone")])]
    artifact = scratch_artifact(options.scratch, options.plugin, subject.author)
    beside = options.socket.absolute().parent if options.socket else None
    return StorageChecks(subject.settings, options.role, artifact, beside, subject.resources).checks()


SECTIONS: tuple[tuple[str, Callable[[Subject], list[Check]]], ...] = (
    ("keys", _keys),
    (POLICIES, _policies),
    ("directories", _places),
    ("downstream", _storage),
)
"""What is examined once the configuration loads, in order. A new concern is one more entry."""


class LocalChecks:
    """The questions about a local keyring."""

    def __init__(self, settings: LocalKeySettings) -> None:
        self._settings = settings
        self._keys = LocalKeys(settings.keyring, settings.key)
        self._made: DataKey | None = None

    def checks(self) -> list[Check]:
        """A data key is made and opened."""
        return [Check(MAKE, self._make), Check(OPEN, self._open, needs=(MAKE,))]

    def _make(self, call: Call) -> Iterator[CheckResult]:
        made = self._made = self._keys.new_data_key(call)
        under = f"key {made.wrapped.key_name} version {made.wrapped.key_version}"
        yield ok(f"the keyring {self._settings.keyring} is its owner's alone, and a data key was made under {under}")

    def _open(self, call: Call) -> Iterator[CheckResult]:
        if self._made and self._keys.unwrap(call, self._made.wrapped) == self._made.plaintext:
            yield ok("the data key that was made is opened again")
        else:
            yield failed("the keyring does not give back the data key that it wrapped", "Make a new keyring")


# --- in and out ------------------------------------------------------------------------------------------


def _report(found: Iterator[CheckResult], options: Options, secrets: set[str]) -> int:
    lines, states, policy = [], set(), ""
    for finding in found:
        states.add((finding.check, finding.state))
        policy = policy or finding.policy
        line = {"check": finding.check, "state": finding.state.value}
        line |= {"fact": _shown(finding.fact, secrets), "remedy": _shown(finding.remedy, secrets)}
        lines.append(line)
        if not options.as_json:
            remedy = f". {line['remedy']}." if line["remedy"] else ""
            print(f"{line['state']:<12} {line['check']:<20} {line['fact']}{remedy}", flush=True)
    code = NOT_SO if any(state is State.FAILED for _, state in states) else DONE
    code = BAD_USAGE if (_CONFIGURATION, State.FAILED) in states else code
    if options.as_json:
        print(json.dumps({"ok": code == DONE, "checks": lines, "policy": policy}, indent=2))
    elif policy:
        print(f"\nThe policy that a {options.role.shown} needs in Vault:\n\n{policy}")
    return code


def _log_to(stream: TextIO | None, secrets: set[str]) -> None:
    """Show the log, which holds what the downstream writes; or nothing of it, warnings neither."""

    def shorten(record: logging.LogRecord) -> bool:
        record.msg, record.args = _shown(record.getMessage(), secrets), ()
        return True

    handler = logging.StreamHandler(stream) if stream else logging.NullHandler()
    handler.addFilter(shorten)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("sealgate")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _shown(text: str, secrets: set[str]) -> str:
    """One line of bounded length; a downstream may repeat what it was sent, and that is not for a screen."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return one_line(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
