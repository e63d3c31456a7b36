"""`sealgate doctor`: its options, the sections that it checks, and its report."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from sealgate import config
from sealgate.call import Call
from sealgate.cli import author as authors
from sealgate.cli.doctor.checks import LOGIN, MAKE, POLICIES, Check, CheckResult, Role, State, findings, not_checked, ok
from sealgate.cli.doctor.keyring import KeyringChecks
from sealgate.cli.doctor.metrics import MetricsChecks
from sealgate.cli.doctor.places import PlaceChecks
from sealgate.cli.doctor.policy_keys import PolicyKeyFinder
from sealgate.cli.doctor.storage import StorageChecks, scratch_artifact
from sealgate.cli.doctor.trail import TrailChecks
from sealgate.cli.doctor.vault import VaultChecks
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.cli.foreign_text import shown
from sealgate.cli.option_types import seconds
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option, add_output_option
from sealgate.compose.policies import load_policies
from sealgate.config import Settings, VaultKeySettings
from sealgate.errors import NotConfigured
from sealgate.rpc.child_output import words_of

_CONFIGURATION = "configuration"
_ROLE = "the task of the identity that this configuration logs in as; default both: save and load"
_SCRATCH = "the prefix under which a small artifact is saved and deleted; default .sealgate-doctor"
_OWN_VOLUME = "a volume that no container of others mounts is mounted there; may be repeated"
_PLUGINS = Path("/tmp/artifact-plugins")  # noqa: S108 - the path is fixed by Argo


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    socket: Path | None
    """The socket of the plugin, whose directory is named after it; None if no plugin was named."""
    role: Role
    configuration: str
    """A file with what Argo would send as an artifact's configuration; `-` for standard input."""
    scratch: str
    """The prefix of the key of the artifact that is saved."""
    offline: bool
    seconds: float
    """The time limit of each check."""
    verbose: bool
    own_volumes: tuple[Path, ...]
    """Mount points of volumes that no container of others mounts."""
    as_json: bool

    @property
    def plugin(self) -> str:
        """The plugin's name in Argo; empty if none was named."""
        return self.socket.absolute().parent.name if self.socket else ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks of all sections examine: the settings and the options."""

    settings: Settings
    options: Options
    author: str = field(repr=False)
    """The author's configuration. It may contain credentials."""
    resources: ExitStack
    """Closes what the checks open."""
    keys: VaultChecks | KeyringChecks | None
    """The checks of the key provider, which others use."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate doctor` to `parser`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--plugin",
        type=_segment,
        metavar="NAME",
        help="check as the plugin NAME, with plugins.NAME laid over the settings",
    )
    which.add_argument("--socket", type=Path, metavar="SOCKET", help="check as the plugin that serves on SOCKET")
    parser.add_argument("--role", choices=[role.value for role in Role], default=Role.BOTH.value, help=_ROLE)
    authors.add_option(parser)
    parser.add_argument("--scratch", default=".sealgate-doctor", metavar="KEY", help=_SCRATCH)
    parser.add_argument("--offline", action="store_true", help="do not use the downstream and its storage")
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="the time limit of each check; default 60"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="write the log, with the downstream's output, to standard error"
    )
    parser.add_argument("--own-volume", action="append", type=Path, default=[], metavar="DIRECTORY", help=_OWN_VOLUME)
    add_config_option(parser)
    add_output_option(parser, "text", "json")


def _segment(text: str) -> str:
    if not text or "/" in text or text in {".", ".."}:
        raise argparse.ArgumentTypeError("must be the name of a plugin in Argo, without /")
    return text


def run(options: argparse.Namespace) -> int:
    """Run `sealgate doctor` with the parsed `options`, and return its exit code."""
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
            own_volumes=tuple(options.own_volume),
            as_json=options.output == "json",
        )
    )


def doctor(options: Options) -> int:
    """Check the configuration that the environment names, and print the report.

    Returns:
        The exit code: 0 if no check failed, 1 if one did, 2 if the configuration does not load.
    """
    author = authors.author_configuration(options.configuration)
    scratch_artifact(options.scratch, "", "")  # finds bad usage before any work
    secrets = words_of(author)
    _log_to(sys.stderr if options.verbose else None, secrets)
    with ExitStack() as resources, Progress("checking", shown=not options.verbose) as progress:
        return _report(progress.each(_examination(options, author, resources)), options, secrets)


def _examination(options: Options, author: str, resources: ExitStack) -> Iterator[CheckResult]:
    try:
        text, source = config.document()
        settings = config.parse(text, source, options.plugin or None)
    except NotConfigured as fault:
        remedy = fault.remedy or "Correct the configuration: docs/configuration.md describes every field"
        yield CheckResult(State.FAILED, f"{fault.fact} ({fault.says})", remedy, check=_CONFIGURATION)
        yield from findings([Check(name, lambda _: [], needs=(_CONFIGURATION,)) for name, _ in SECTIONS], 0)
        return
    differs = options.plugin and settings != config.parse(text, source)
    overlay = f", with plugins.{options.plugin} laid over it" if differs else ""
    if options.plugin and not differs:
        overlay = f"; plugins.{options.plugin} changes nothing"
    yield CheckResult(State.OK, f"{source} loads{overlay}", check=_CONFIGURATION)
    subject = Subject(settings, options, author, resources, _key_checks(settings, options.role))
    yield from findings([check for _, section in SECTIONS for check in section(subject)], options.seconds)


# --- the sections ----------------------------------------------------------------------------------------


def _keys(subject: Subject) -> list[Check]:
    named = Check("keys", lambda _: [ok(f"keys.provider is {subject.settings.required_keys().provider}")])
    return [named, *(subject.keys.checks() if subject.keys else [])]


def _key_checks(settings: Settings, role: Role) -> VaultChecks | KeyringChecks | None:
    """Return the checks of the key provider; None if there is no section `keys`."""
    if settings.keys is None:
        return None
    section, find = settings.keys.section, PolicyKeyFinder(settings)
    if isinstance(section, VaultKeySettings):
        return VaultChecks(section, role, find_policy_keys=find, signing_key=settings.audit.signing_key)
    return KeyringChecks(section, find)


def _policies(subject: Subject) -> list[Check]:
    def loaded(_: Call) -> Iterator[CheckResult]:
        policies = load_policies(subject.settings)
        count = sum(len(document.spec.rules) for document in policies.documents)
        if not policies.documents:
            yield ok("no policy is configured: the baseline allows every canonical key and seals every artifact")
        else:
            yield ok(f"all policies load; documents: {len(policies.documents)}, rules: {count}")

    return [Check(POLICIES, loaded)]


def _trail(subject: Subject) -> list[Check]:
    keys = subject.keys
    if keys is None:
        return []
    needs = LOGIN if isinstance(keys, VaultChecks) else MAKE
    return TrailChecks(subject.settings, needs, lambda: keys.policy).checks()


def _metrics(subject: Subject) -> list[Check]:
    return MetricsChecks(subject.settings.telemetry, subject.options.plugin).checks()


def _places(subject: Subject) -> list[Check]:
    socket = subject.options.socket
    return PlaceChecks(subject.settings, socket.absolute() if socket else None, subject.options.own_volumes).checks()


def _storage(subject: Subject) -> list[Check]:
    options = subject.options
    if options.offline:
        return [Check("downstream", lambda _: [not_checked("skipped, because of --offline")])]
    artifact = scratch_artifact(options.scratch, options.plugin, subject.author)
    beside = options.socket.absolute().parent if options.socket else None
    return StorageChecks(subject.settings, options.role, artifact, beside, subject.resources).checks()


SECTIONS: tuple[tuple[str, Callable[[Subject], list[Check]]], ...] = (
    (POLICIES, _policies),
    ("keys", _keys),
    ("audit", _trail),
    ("metrics", _metrics),
    ("directories", _places),
    ("downstream", _storage),
)
"""The sections of the report after the configuration, in order. A new concern is one more entry."""


# --- the report ------------------------------------------------------------------------------------------


def _report(results: Iterator[CheckResult], options: Options, secrets: frozenset[str]) -> int:
    lines, states, policy = [], set(), ""
    for finding in results:
        states.add((finding.check, finding.state))
        policy = policy or finding.policy
        line = {"check": finding.check, "state": finding.state.value}
        line |= {"fact": shown(finding.fact, secrets), "remedy": shown(finding.remedy, secrets)}
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


def _log_to(stream: TextIO | None, secrets: frozenset[str]) -> None:
    """Write the log, which contains the downstream's output, to `stream`; None for no log at all."""

    def shorten(record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage(), secrets), ()
        return True

    handler = logging.StreamHandler(stream) if stream else logging.NullHandler()
    handler.addFilter(shorten)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("sealgate")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
