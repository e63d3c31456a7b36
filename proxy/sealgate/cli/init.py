"""`sealgate init`: write the files of a first installation, and ask on the terminal for what is not given."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sealgate import identity
from sealgate.cli.exit_codes import DONE
from sealgate.cli.first_installation import FirstInstallation, files_of
from sealgate.errors import BadRequest, NotConfigured

SUMMARY = "write a configuration, a policy and Vault's commands for a first installation"
_VARIABLES = {"address": "VAULT_ADDR", "storage": "SEALGATE_BACKEND_URL"}
_QUESTIONS = {
    "address": "Address of Vault or OpenBao, such as https://vault:8200",
    "storage": "Where artifacts are stored, such as s3://bucket/prefix",
    "namespace": "Kubernetes namespace in which workflows run",
}
_SHAPES = {
    "address": re.compile(r"https?://[^\s'\"`\\{}$]+"),
    "storage": re.compile(r"[a-z0-9]+://[^\s'\"`\\{}$]+"),
    "namespace": re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "argo-namespace": re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "server-account": re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"),
    "mount": re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*"),
    "key": re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"),
    "signing-key": re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"),
}
"""The whole value of each option must match. No shape lets a value leave its quotes in YAML or in a shell."""
_FORMS = {
    "address": "a URL such as https://vault:8200",
    "storage": "a URL such as s3://bucket/prefix",
    "namespace": "small letters, digits and hyphens",
    "argo-namespace": "small letters, digits and hyphens",
    "server-account": "small letters, digits, hyphens and dots",
    "mount": "a path such as transit or team/transit",
    "key": "letters, digits, hyphens, underscores and dots",
    "signing-key": "letters, digits, hyphens, underscores and dots",
}
"""How a remedy describes each shape."""
_USER = re.compile(r"[a-z0-9]+://[^/?#]*@")
"""A URL with a user name, and usually a password."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate init` to `parser`."""
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIRECTORY",
        nargs="?",
        default=Path("sealgate"),
        help="where the files are written; default: %(default)s",
    )
    parser.add_argument("--address", metavar="URL", help="the address of Vault or OpenBao; default: VAULT_ADDR")
    parser.add_argument("--storage", metavar="URL", help="where artifacts are stored; default: SEALGATE_BACKEND_URL")
    parser.add_argument(
        "--namespace", metavar="NAME", action="append", help="a namespace in which workflows run; may be repeated"
    )
    parser.add_argument("--mount", default="transit", help="the mount of Vault's Transit engine; default: %(default)s")
    parser.add_argument("--key", default="artifacts", help="the name of the key in it; default: %(default)s")
    parser.add_argument(
        "--signing-key",
        default="audit",
        metavar="KEY",
        help="the name of the key in it that signs audit trails; default: %(default)s",
    )
    parser.add_argument(
        "--argo-namespace",
        default="argo",
        metavar="NAME",
        help="the namespace of Argo itself; default: %(default)s",
    )
    parser.add_argument(
        "--server-account",
        default="argo-server",
        metavar="NAME",
        help="the service account of Argo's server; default: %(default)s",
    )
    parser.add_argument(
        "--shared-server",
        action="store_true",
        help="let Argo's server show the artifacts of several namespaces; this enables the chart's admission policy",
    )


def run(options: argparse.Namespace) -> int:
    """Write all files into the directory, or none, and print the next steps.

    Raises:
        BadRequest: a file exists already, or a value does not have the shape of its option.
        NotConfigured: a value is missing, and there is no terminal to ask on.
    """
    installation = _installation(options, os.environ)
    _write(options.directory, files_of(options.directory, installation))
    _print_next_steps(options.directory, installation)
    return DONE


def _installation(options: argparse.Namespace, environment: Mapping[str, str]) -> FirstInstallation:
    """Collect and check every value."""
    address = _value("address", options.address, environment)
    storage = _value("storage", options.storage, environment)
    own_namespace = identity.asserted(environment).namespace or None
    namespaces = tuple(options.namespace or ()) or (_value("namespace", own_namespace, environment),)
    for name in ("mount", "key", "signing_key", "argo_namespace", "server_account"):
        _require_shape(name.replace("_", "-"), getattr(options, name))
    for namespace in namespaces:
        _require_shape("namespace", namespace)
    vault_namespace = environment.get("VAULT_NAMESPACE", "")
    if vault_namespace and not _SHAPES["mount"].fullmatch(vault_namespace.strip("/")):
        raise BadRequest("VAULT_NAMESPACE is not a path", says="environment", remedy="Correct VAULT_NAMESPACE")
    return FirstInstallation(
        address,
        storage,
        namespaces,
        options.mount,
        options.key,
        options.signing_key,
        options.argo_namespace,
        options.server_account,
        vault_namespace,
        options.shared_server,
    )


def _value(name: str, given: str | None, environment: Mapping[str, str]) -> str:
    """Return the given value, or else the environment variable, or else the answer on the terminal."""
    value = given or environment.get(_VARIABLES.get(name, ""), "")
    if not value and sys.stdin.isatty():
        with suppress(EOFError):
            value = input(f"{_QUESTIONS[name]}: ").strip()
    if not value:
        variable = f", or set {_VARIABLES[name]}" if name in _VARIABLES else ""
        raise NotConfigured(
            f"the {name} is not given, and standard input is not a terminal to ask on",
            says="init",
            remedy=f"Give --{name}{variable}",
        )
    _require_shape(name, value)
    return value


def _require_shape(name: str, value: str) -> None:
    if _USER.match(value):
        # The text does not repeat the value, because it may contain a password.
        remedy = "Remove the part before the @, and set secrets where the program runs"
        raise BadRequest(f"the {name} contains a user name", says="init", remedy=f"{remedy}, not in --{name}")
    if not _SHAPES[name].fullmatch(value):
        raise BadRequest(f"{value!r} is not a valid {name}", says="init", remedy=f"Give --{name} as {_FORMS[name]}")


def _write(directory: Path, files: Mapping[str, str]) -> None:
    """Write every file, or remove those that were written.

    Raises:
        BadRequest: a file exists already, or the directory cannot be written to.
    """
    for name in files:
        if os.path.lexists(directory / name):
            raise BadRequest(
                f"{directory / name} exists already", says="init", remedy="Name another directory, or remove the file"
            )
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = os.strerror(error.errno or 0).lower()
        raise BadRequest(f"{directory} cannot be written to: {reason}", says="init") from None


def _print_next_steps(directory: Path, installation: FirstInstallation) -> None:
    for name, content in (
        ("sealgate.yaml", "the configuration"),
        ("policies/own-namespace.yaml", "which operations are allowed on which artifacts"),
        ("values.yaml", "the same for the Helm chart"),
        ("vault.sh", "the key, the policies and the roles that Vault needs"),
    ):
        print(f"{directory / name!s:<44} {content}")
    if not installation.server_reads:
        print("\nArgo's server may read no artifact, because it serves several namespaces. --shared-server allows it.")
    variables = f"SEALGATE_CONFIG={directory}/sealgate.yaml"
    scratch = f"{installation.namespaces[0]}/.sealgate-doctor"
    print("\nNext, as an administrator of Vault, create the key, the policies and the roles:")
    print(f"  sh {directory}/vault.sh")
    print("Then check the installation, where workflows run:")
    print(f"  {variables} sealgate doctor --plugin crypt --scratch {scratch}")
