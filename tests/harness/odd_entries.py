"""Entries of a directory that are neither a regular file nor a directory, or whose name is not UTF-8."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from harness.sealing import directory


def link(path: Path) -> None:
    path.symlink_to("a")


def dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere")


def directory_link(path: Path) -> None:
    path.symlink_to("/etc")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, directory(path.parent) as fd:
        bound.bind(f"/proc/self/fd/{fd}/{path.name}")  # a path of a socket has at most 107 bytes


def not_utf_8(path: Path) -> None:
    os.close(os.open(bytes(path) + b"\xff", os.O_CREAT))


ODD_KINDS = [link, dangling_link, directory_link, pipe, unix_socket]
ODD_ENTRIES = [*ODD_KINDS, not_utf_8]
