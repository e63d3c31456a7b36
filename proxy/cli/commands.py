"""Every command but the hot path of `serve`: what it takes, and who does it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy.plugin import BadRequest, NotConfigured, PluginError

DONE, NOT_SO, BAD_USAGE = 0, 1, 2
_ARTIFACT_KEY = "the key that the artifact is stored under in Argo, such as ns/workflow/pod/main.tgz"
_ROLE = "what the identity of this configuration is meant to do; default both: save and load"
_CONFIGURATION = "a file with what Argo sends as artifact.plugin.configuration, or -"
_SCRATCH = "where a tiny artifact is saved and deleted, beneath this key; default .sealgate-doctor"


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line, and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except PluginError as fault:
        remedy = f" {fault.remedy}." if fault.remedy else ""
        print(f"sealgate {options.command}: {fault.fact} ({fault.says}).{remedy}", file=sys.stderr)
        return BAD_USAGE if isinstance(fault, BadRequest | NotConfigured) else NOT_SO
    except KeyboardInterrupt:
        return NOT_SO


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sealgate",
        description="An artifact plugin for Argo Workflows that encrypts what another artifact plugin stores.",
        epilog="Exit codes: 0 done, 1 the thing checked is not so, 2 bad usage or configuration.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="the plugin: serve on SOCKET in front of the downstream")
    serve.add_argument("socket", metavar="SOCKET", help="the path that Argo gives; what follows it is ignored")
    serve.add_argument("ignored", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    serve.set_defaults(run=_serve)

    backend = commands.add_parser("backend", help="the bundled downstream plugin, on an object store")
    backend.add_argument("socket", metavar="SOCKET", help="where to serve")
    backend.set_defaults(run=_backend)

    demo = commands.add_parser("demo", help="the whole chain on this machine, nothing to configure")
    demo.add_argument("--file", type=Path, metavar="F", help="send this file through instead of a made-up one")
    demo.set_defaults(run=_demo)

    seal = commands.add_parser("seal", help="seal a file, a directory or a stream without a server")
    open_ = commands.add_parser("open", help="open what was sealed, without a server")
    for command, verb in ((seal, "sealed"), (open_, "opened")):
        command.add_argument("source", metavar="IN", help="a file, a directory, or - for standard input")
        command.add_argument("target", metavar="OUT", help=f"where the {verb} copy goes, or - for standard output")
        command.add_argument("--artifact-key", default="", metavar="KEY", help=_ARTIFACT_KEY)
    seal.set_defaults(run=_seal)
    open_.set_defaults(run=_open)

    inspect = commands.add_parser("inspect", help="tell what the header of a sealed file says; needs no key")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.add_argument("--output", choices=("text", "json"), default="text")
    inspect.set_defaults(run=_inspect)

    rewrap = commands.add_parser(
        "rewrap",
        help="move stored artifacts to the newest key version without opening them",
        description="Exit codes: 0 nothing is left under an older version, 1 something is, 2 bad usage.",
    )
    rewrap.add_argument("prefix", metavar="PREFIX", help="the first segments of the keys, or one whole key")
    rewrap.add_argument("--dry-run", action="store_true", help="only tell what lies under which key version")
    rewrap.add_argument("--after", default="", metavar="KEY", help="go on behind this key, as an earlier run said")
    rewrap.add_argument("--rate", type=_rate, default=100.0, metavar="N", help="objects a second at most; 0: no limit")
    rewrap.add_argument(
        "--plugin", metavar="NAME", help="the plugin's name in Argo; its settings are laid over the others"
    )
    rewrap.add_argument("--configuration", default="", metavar="FILE", help=_CONFIGURATION)
    rewrap.add_argument("--output", choices=("text", "json"), default="text")
    rewrap.set_defaults(run=_rewrap)

    doctor = commands.add_parser(
        "doctor", help="check a configuration end to end, and tell what to do about each fault"
    )
    which = doctor.add_mutually_exclusive_group()
    which.add_argument(
        "--plugin", type=_segment, metavar="NAME", help="as the plugin NAME, with plugins.NAME laid over"
    )
    which.add_argument("--socket", type=Path, metavar="SOCKET", help="as the plugin that serves on SOCKET")
    doctor.add_argument("--role", choices=("saver", "loader", "both", "rewrapper"), default="both", help=_ROLE)
    doctor.add_argument("--configuration", default="", metavar="FILE", help=_CONFIGURATION)
    doctor.add_argument("--scratch", default=".sealgate-doctor", metavar="KEY", help=_SCRATCH)
    doctor.add_argument("--offline", action="store_true", help="leave downstream and storage alone")
    doctor.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each check; default 60")
    doctor.add_argument(
        "--verbose", action="store_true", help="show the log, the downstream's lines too, on standard error"
    )
    doctor.add_argument("--output", choices=("text", "json"), default="text")
    doctor.set_defaults(run=_doctor)
    return parser


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float("inf"):
        raise argparse.ArgumentTypeError("a number of objects a second, or 0 for no limit")
    return rate


def _serve(options: argparse.Namespace) -> int:
    from proxy.cli.serve import serve  # noqa: PLC0415 - each command loads its own

    return serve(options.socket)


def _backend(options: argparse.Namespace) -> int:
    from proxy.cli.serve import serve_backend  # noqa: PLC0415 - each command loads its own

    return serve_backend(options.socket)


def _demo(options: argparse.Namespace) -> int:
    from proxy.cli.demo import demo  # noqa: PLC0415 - each command loads its own

    return demo(options.file)


def _seal(options: argparse.Namespace) -> int:
    from proxy.cli.recovery import seal  # noqa: PLC0415 - each command loads its own

    seal(options.source, options.target, options.artifact_key)
    return DONE


def _open(options: argparse.Namespace) -> int:
    from proxy.cli.recovery import open_  # noqa: PLC0415 - each command loads its own

    open_(options.source, options.target, options.artifact_key)
    return DONE


def _inspect(options: argparse.Namespace) -> int:
    from proxy.cli.recovery import inspect  # noqa: PLC0415 - each command loads its own

    print(inspect(options.file, as_json=options.output == "json"))
    return DONE


def _rewrap(options: argparse.Namespace) -> int:
    from proxy.cli.rewrap import Order, rewrap  # noqa: PLC0415 - each command loads its own

    order = Order(
        options.prefix,
        plugin=options.plugin,
        configuration=options.configuration,
        rate=options.rate,
        after=options.after,
        dry_run=options.dry_run,
    )
    return rewrap(order, as_json=options.output == "json")


def _doctor(options: argparse.Namespace) -> int:
    from proxy.cli.doctor import Options, doctor  # noqa: PLC0415 - each command loads its own
    from proxy.cli.doctor.checks import Role  # noqa: PLC0415 - each command loads its own

    socket = Path("/tmp/artifact-plugins", options.plugin, "socket") if options.plugin else options.socket  # noqa: S108 - Argo's own path
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


def _segment(text: str) -> str:
    if not text or "/" in text or text in {".", ".."}:
        raise argparse.ArgumentTypeError("it is the name of a plugin, as Argo knows it")
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds
