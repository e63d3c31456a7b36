"""Checks of how a plugin starts and ends. They need its command."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

from sealgate.conformance.checks import ContractCheck, NotChecked, Violation
from sealgate.conformance.client import CallFailed
from sealgate.conformance.content import Content
from sealgate.conformance.program import NotServing, PluginProcess, Program
from sealgate.conformance.workspace import Workspace

_EXECUTOR_ARGUMENTS = ("--loglevel", "debug", "--gloglevel", "6", "--kubeconfig=/kube/config")
"""What Argo appends to the socket where its executor has arguments."""
_POLL_SECONDS = 1.0
"""How often Argo checks whether the socket exists."""
_CONNECTION_SECONDS = 5.0
"""How long Argo waits for HTTP/2."""
_END_SECONDS = 30.0
"""Argo sends SIGKILL after this time."""
_CONNECTABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_UNDER_WAY = (2 << 20) + 9
_numbers = itertools.count()


def _program(workspace: Workspace) -> Program:
    assert workspace.program is not None  # noqa: S101 - these checks say that they need it
    return workspace.program


def _started(workspace: Workspace, path: Path, arguments: tuple[str, ...] = ()) -> PluginProcess:
    """Start the plugin. The first process that serves is the one that all other checks call."""
    try:
        process = _program(workspace).start(path, arguments)
    except NotServing as fault:
        raise Violation(str(fault)) from None
    if workspace.has_client:
        _program(workspace).waiting.append(process)
    else:
        workspace.use(str(path))
        workspace.process = process
    return process


def _missing_directory(workspace: Workspace) -> str:
    process = _started(workspace, _program(workspace).place("missing/directory"))
    seconds = f"{process.seconds:.2f} s"
    late = "; Argo checks once a second" if process.seconds > _POLL_SECONDS else ""
    return f"it made the directory of its socket and accepted a connection after {seconds}{late}"


def _arguments(workspace: Workspace) -> str:
    path = _program(workspace).place("arguments")
    path.parent.mkdir()
    _started(workspace, path, _EXECUTOR_ARGUMENTS)
    return "it ignored " + " ".join(_EXECUTOR_ARGUMENTS)


def _stale(workspace: Workspace) -> str:
    path = _program(workspace).place("stale")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    _started(workspace, path)
    return "it replaced the socket of an earlier process"


def _connect(workspace: Workspace) -> str:
    if not workspace.has_client:
        path = _program(workspace).place("plain")
        path.parent.mkdir()
        _started(workspace, path)
    workspace.client.connect(min(_CONNECTION_SECONDS, workspace.extent.seconds))
    return "HTTP/2 was ready in time"


def _mode(workspace: Workspace) -> str:
    assert workspace.process is not None  # noqa: S101 - these checks need a program, and "connect" has started it
    mode = stat.S_IMODE(os.stat(workspace.process.path).st_mode)
    if mode & _CONNECTABLE != _CONNECTABLE:
        raise Violation(f"the socket has mode {mode:04o}")
    return f"the socket has mode {mode:04o}"


def _output(workspace: Workspace) -> str:
    assert workspace.process is not None  # noqa: S101 - these checks need a program, and "connect" has started it
    if workspace.process.output_has(workspace.canary):
        raise Violation("its output repeats an artifact's configuration")
    return "its output does not repeat an artifact's configuration"


def _another(workspace: Workspace) -> PluginProcess:
    """Return a process that no other check needs."""
    program = _program(workspace)
    if program.waiting:
        return program.waiting.pop()
    path = program.place(f"another-{next(_numbers)}")
    path.parent.mkdir()
    try:
        return program.start(path)
    except NotServing as fault:
        raise NotChecked(str(fault)) from None


def _require_zero(process: PluginProcess) -> None:
    code = process.exit_code(_END_SECONDS)
    if not code:
        raise Violation(f"it had not ended {_END_SECONDS:g} s after SIGTERM")
    if code != "exit code 0":
        raise Violation(f"it ended with {code} after SIGTERM")


def _sigterm(workspace: Workspace) -> str:
    process = _another(workspace)
    client = workspace.client_of(str(process.path))
    with suppress(CallFailed):
        client.is_directory(workspace.key("never-saved"))
    client.close()
    time.sleep(workspace.extent.settle)  # a plugin may begin to handle signals after it has begun to serve
    process.terminate(group=False)
    _require_zero(process)
    return "it ended with exit code 0 after SIGTERM"


def _sigterm_busy(workspace: Workspace) -> str:
    process, content = _another(workspace), Content(_UNDER_WAY, 50)
    client = workspace.client_of(str(process.path))
    received = bytearray()
    key, source = workspace.key("under-way.bin"), workspace.source(content)
    try:
        client.save(key, source)
    except CallFailed as fault:
        client.close()
        raise NotChecked(f"nothing could be saved before SIGTERM: {fault}") from None
    try:
        with client.frames(key) as stream:
            for number, frame in enumerate(stream):
                if frame.error:
                    raise Violation(f"SIGTERM ended a stream under way: {frame.error}")
                received += frame.data
                if frame.is_end:
                    break
                if number == 0:
                    process.terminate(group=True)
                    process.terminate(group=True)
    except CallFailed as fault:
        raise Violation(f"SIGTERM ended a call under way: {fault}") from None
    finally:
        client.close()
    if difference := content.difference([bytes(received)]):
        raise Violation(f"after SIGTERM, a stream under way gave {difference}")
    _require_zero(process)
    return "two SIGTERMs to its process group let a stream end, and then it ended with exit code 0"


START_CHECKS = (
    ContractCheck(
        "start-directory",
        (2, 6),
        "It makes the directory of its socket",
        "in an init container the plugin ends before Argo makes the directory, and the step fails after 120 s",
        _missing_directory,
        asks_process=True,
    ),
    ContractCheck(
        "start-arguments",
        (1,),
        "It ignores arguments after the socket",
        "in an installation whose executor has arguments the plugin does not start, and steps fail after 120 s",
        _arguments,
        asks_process=True,
    ),
    ContractCheck(
        "start-stale",
        (3,),
        "It replaces a socket that an earlier process left",
        "Argo's server does not start again after the plugin beside it was restarted",
        _stale,
        asks_process=True,
    ),
    ContractCheck(
        "connect",
        (5,),
        "It answers HTTP/2 within 5 s of a connection",
        "Argo waits for the connection for 5 s, and then fails the step",
        _connect,
    ),
    ContractCheck(
        "start-mode",
        (4, 17),
        "Every user may connect to its socket",
        "Argo's server runs as another user, cannot connect, and does not start",
        _mode,
        needs=("connect",),
        asks_process=True,
    ),
)
END_CHECKS = (
    ContractCheck(
        "output",
        (19,),
        "Its output does not repeat an artifact's configuration",
        "credentials in it are in the container's log",
        _output,
        needs=("configuration",),
        asks_process=True,
    ),
    ContractCheck(
        "sigterm",
        (13, 66, 67),
        "SIGTERM ends it with exit code 0",
        "garbage collection is reported as failed, and its pod stays",
        _sigterm,
        needs=("connect",),
        asks_process=True,
    ),
    ContractCheck(
        "sigterm-busy",
        (13, 14),
        "After SIGTERM, twice and to the whole group, it finishes the calls under way",
        "an artifact that is being saved or read when the pod ends is lost",
        _sigterm_busy,
        needs=("sigterm",),
        asks_process=True,
    ),
)
