"""Every command but the hot path of `serve`: what it takes, and who does it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sealgate.errors import BadRequest, NotConfigured, PluginError

DONE, NOT_SO, BAD_USAGE = 0, 1, 2
_ARTIFACT_KEY = "the key that the artifact is stored under in Argo, such as ns/workflow/pod/main.tgz"
_OWN_OPTIONS = {
    "rewrap": ("move stored artifacts to the newest key version without opening them", "sealgate.cli.rewrap"),
    "doctor": ("check a configuration end to end, and tell what to do about each fault", "sealgate.cli.doctor"),
    "policy": ("check, test, explain and replay policies", "sealgate.cli.policy"),
    "audit": ("verify an audit trail, ask it, make a page of it", "sealgate.cli.audit"),
}
"""Commands that say by themselves what they take, in a module that is loaded for them alone: help, and the module,
which has `add_options` and `run`."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line, and return its exit code."""
    options = _parser(arguments).parse_args(arguments)
    try:
        return int(options.run(options))
    except PluginError as fault:
        remedy = f" {fault.remedy}." if fault.remedy else ""
        print(f"sealgate {options.command}: {fault.fact} ({fault.says}).{remedy}", file=sys.stderr)
        return BAD_USAGE if isinstance(fault, BadRequest | NotConfigured) else NOT_SO
    except KeyboardInterrupt:
        return NOT_SO
    except BrokenPipeError:
        # Whoever read the output has enough of it; the interpreter must not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_SO


class _Version(argparse.Action):
    """Reads the version when it is asked for: that takes longer than the whole way to the socket."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Tell it, and end."""
        from sealgate import program_version  # noqa: PLC0415 - few ask for it

        print(parser.prog, program_version())
        parser.exit()


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sealgate",
        description="An artifact plugin for Argo Workflows that encrypts what another artifact plugin stores.",
        epilog="Exit codes: 0 done, 1 the thing checked is not so, 2 bad usage or configuration.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="tell the version of this program")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="the plugin: serve on SOCKET in front of the downstream")
    serve.add_argument("socket", metavar="SOCKET", help="the path that Argo gives; what follows it is ignored")
    serve.add_argument("ignored", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    serve.set_defaults(run=_serve)

    backend = commands.add_parser("backend", help="the bundled downstream plugin, on an object store")
    backend.add_argument("socket", metavar="SOCKET", help="where to serve")
    backend.set_defaults(run=_backend)

    init = commands.add_parser(
        "init", help="write a configuration, a policy and Vault's commands for a first installation"
    )
    init.add_argument("directory", type=Path, metavar="DIRECTORY", nargs="?", default=Path("sealgate"))
    init.add_argument("--address", metavar="URL", help="of Vault or OpenBao; else VAULT_ADDR")
    init.add_argument("--storage", metavar="URL", help="where artifacts are stored; else SEALGATE_BACKEND_URL")
    init.add_argument("--namespace", metavar="NAME", action="append", help="in which workflows run; may be repeated")
    init.add_argument("--mount", default="transit", help="of Vault's Transit engine; default: %(default)s")
    init.add_argument("--key", default="artifacts", help="in it; default: %(default)s")
    init.add_argument("--argo-namespace", default="argo", metavar="NAME", help="where Argo runs; default: %(default)s")
    init.add_argument(
        "--server-account",
        default="argo-server",
        metavar="NAME",
        help="the service account of Argo's server; default: %(default)s",
    )
    init.set_defaults(run=_init)

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

    for name, (summary, module) in _OWN_OPTIONS.items():
        command = commands.add_parser(name, help=summary)
        if arguments[:1] == [name]:
            options = importlib.import_module(module)
            options.add_options(command)
            command.set_defaults(run=options.run)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from sealgate.cli.serve import serve  # noqa: PLC0415 - each command loads its own

    return serve(options.socket)


def _backend(options: argparse.Namespace) -> int:
    from sealgate.cli.serve import serve_backend  # noqa: PLC0415 - each command loads its own

    return serve_backend(options.socket)


def _init(options: argparse.Namespace) -> int:
    from sealgate.cli.init import Wishes, init  # noqa: PLC0415 - each command loads its own

    wishes = Wishes(
        options.address,
        options.storage,
        tuple(options.namespace or ()),
        options.mount,
        options.key,
        options.argo_namespace,
        options.server_account,
    )
    init(options.directory, wishes)
    return DONE


def _demo(options: argparse.Namespace) -> int:
    from sealgate.cli.demo import demo  # noqa: PLC0415 - each command loads its own

    return demo(options.file)


def _seal(options: argparse.Namespace) -> int:
    from sealgate.cli.recovery import seal  # noqa: PLC0415 - each command loads its own

    seal(options.source, options.target, options.artifact_key)
    return DONE


def _open(options: argparse.Namespace) -> int:
    from sealgate.cli.recovery import open_  # noqa: PLC0415 - each command loads its own

    open_(options.source, options.target, options.artifact_key)
    return DONE


def _inspect(options: argparse.Namespace) -> int:
    from sealgate.cli.recovery import inspect  # noqa: PLC0415 - each command loads its own

    print(inspect(options.file, as_json=options.output == "json"))
    return DONE
