"""Each defect of a plugin is named by one check, and no other check fails for it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from harness import mutant
from harness.conforming import NAMES, SLOW, WITH_PROCESS, run_on

from sealgate.conformance.checks import ContractState
from sealgate.rpc import artifact_pb2 as pb

EXACT = (4 << 20) - 5
"""Bytes of data in a message of 4 MiB."""
PROGRAM = [sys.executable, mutant.__file__]
NAMED = {
    "absent-is-status": "absent-answer",
    "absent-leaves": "absent-clean",
    "absent-stream": "stream-absent",
    "absent-succeeds": "absent-load",
    "climbing-key": "key-climbs",
    "cuts-load": "file-sizes",
    "delete-absent": "delete-absent",
    "deletes-beside": "delete-beside",
    "empty-request": "message-empty",
    "end-with-data": "stream-end",
    "ends-on-delete": "stream-deleted",
    "false-end": "stream-sizes",
    "file-is-directory": "is-directory",
    "follows-links": "directory-links",
    "is-directory-absent": "is-directory-absent",
    "large-message": "stream-messages",
    "leaves-children": "delete-directory",
    "leaves-temporary": "load-beside",
    "loses-empty": "directory-empty",
    "outside-key": "key-outside",
    "reads-again": "stream-replaced",
    "repeats-configuration": "configuration",
    "stores-cut": "upload-cut",
    "writes-through": "load-link",
}
"""Defects, and the check that must name each of them."""
NAMED_TOO = {
    "absent-is-empty": "absent-load",
    "absent-long-text": "absent-text",
    "absent-retried": "absent-retried",
    "absent-without-text": "absent-text",
    "changes-source": "save-source",
    "cleans-keys": "key-odd",
    "cuts-directory": "directory-many",
    "cuts-save": "file-sizes",
    "cuts-upload": "upload",
    "delete-once": "delete-again",
    "deletes-first": "upload-cut-old",
    "directory-wins": "file-over-directory",
    "eats-source": "save-source",
    "empties-load": "file-empty",
    "file-wins": "directory-over-file",
    "flat": "directory",
    "follows-link": "save-link",
    "forgets-delete": "delete",
    "keeps-children": "file-over-directory",
    "keeps-old": "save-replaces",
    "last-chunk-alone": "upload-sizes",
    "late-refusal": "upload-refused",
    "leaks-streams": "stream-cancel",
    "leaves-list": "directory-beside",
    "lists-beside": "list-beside",
    "lists-nothing": "list-absent",
    "lists-one-level": "list",
    "loses-hidden": "directory",
    "merges": "directory-over-directory",
    "mixes-calls": "concurrency",
    "more-data": "stream-sizes",
    "no-capabilities": "capabilities",
    "no-children": "directory-child",
    "no-empty-stream": "stream-empty",
    "no-empty-upload": "upload-empty",
    "one-reader": "stream-slow",
    "private-directory": "directory-readable",
    "private-file": "load-readable",
    "refuses-empty": "file-empty",
    "relative-names": "list",
    "save-without-text": "save-missing",
    "saves-nothing": "save-missing",
    "slow-in-place": "load-cancel",
    "timeout-is-deadline": "connection-timeout",
    "unknown-field": "message-fields",
}
"""More of them, which `make test-large` runs."""
NAMED_OF_PROCESS = {
    "dies": "sigterm",
    "no-directory": "start-directory",
    "private-socket": "start-mode",
}
NAMED_OF_PROCESS_TOO = {
    "cuts-calls": "sigterm-busy",
    "exit-code": "sigterm",
    "no-arguments": "start-arguments",
    "prints-configuration": "output",
    "stale-socket": "start-stale",
}
LEAVES = {"forgets-delete"}
"""Defects because of which artifacts stay behind."""
UPLOADS = {"stores-cut", "deletes-first"}
"""Defects that show only after a cancellation has arrived."""
IN_PROCESS = set(NAMES) - WITH_PROCESS
QUICK = IN_PROCESS - SLOW


def run_mutant(defect, directory, names, seconds=20.0):
    settle = 0.3 if defect in UPLOADS else 0.05
    plugin = mutant.Mutant(defect)
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(plugin, f"{short}/socket")
        try:
            found = run_on(directory, names, socket=f"{short}/socket", seconds=seconds, settle=settle)
        finally:
            server.stop(None)
    assert bool(found.left) == bool(plugin.stored)
    return found


def test_the_plugin_without_a_defect_passes_every_check(tmp_path):
    found = run_mutant("", tmp_path, IN_PROCESS)
    assert found.named(ContractState.PASS) == IN_PROCESS - {"list-large"}, found.found()
    assert found.left == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("defect", sorted(NAMED))
def test_a_defect_is_named_by_its_check_alone(defect, tmp_path):
    found = run_mutant(defect, tmp_path, QUICK)
    assert found.failed == {NAMED[defect]}, found.found()
    assert bool(found.left) == (defect in LEAVES)


@pytest.mark.large
@pytest.mark.parametrize("defect", sorted(NAMED | NAMED_TOO))
def test_a_defect_is_named_by_its_check_alone_of_all(defect, tmp_path):
    found = run_mutant(defect, tmp_path, IN_PROCESS, seconds=3)
    assert found.failed == {(NAMED | NAMED_TOO)[defect]}, found.found()
    assert bool(found.left) == (defect in LEAVES)


def test_what_is_loaded_for_an_absent_key_is_not_named_as_left(tmp_path):
    found = run_mutant("absent-is-empty", tmp_path, {"absent-load", "key-odd"})
    assert found.failed == {"absent-load"}
    assert found.left == []


class ExactFrames(mutant.Mutant):
    """A plugin whose messages are as large as Argo accepts."""

    def _frames(self, _, data):
        for start in range(0, len(data), EXACT):
            yield pb.OpenStreamResponse(data=data[start : start + EXACT])
        yield pb.OpenStreamResponse(is_end=True)


def test_messages_of_exactly_4_mib_pass(tmp_path):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(ExactFrames(), f"{short}/socket")
        found = run_on(tmp_path, {"stream-messages"}, socket=f"{short}/socket")
        server.stop(None)
    assert found.failed == set(), found.found()
    assert found.results["stream-messages"].found == f"the largest message has {4 << 20} bytes"


class Repeating(mutant.Mutant):
    """A plugin that lists one key very often."""

    def list_objects(self, request, context):
        answer = super().list_objects(request, context)
        return pb.ListObjectsResponse(objects=[*answer.objects, *answer.objects[:1] * 100_000])


def test_a_key_that_is_listed_very_often_is_named_at_once(tmp_path):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(Repeating(), f"{short}/socket")
        found = run_on(tmp_path, {"list"}, socket=f"{short}/socket")
        server.stop(None)
    assert found.failed == {"list"}
    assert "twice: " in found.results["list"].found


def _run_program(defect, monkeypatch, directory, names):
    monkeypatch.setenv("MUTANT", defect)
    return run_on(directory, names, command=PROGRAM)


@pytest.mark.parametrize("defect", sorted(NAMED_OF_PROCESS))
def test_a_defect_of_the_process_is_named(defect, tmp_path, monkeypatch):
    found = _run_program(defect, monkeypatch, tmp_path, [NAMED_OF_PROCESS[defect]])
    assert found.failed == {NAMED_OF_PROCESS[defect]}, found.found()


@pytest.mark.large
@pytest.mark.parametrize("defect", sorted(NAMED_OF_PROCESS | NAMED_OF_PROCESS_TOO))
def test_a_defect_of_the_process_is_named_by_its_check_alone(defect, tmp_path, monkeypatch):
    found = _run_program(defect, monkeypatch, tmp_path, WITH_PROCESS)
    assert found.failed == {(NAMED_OF_PROCESS | NAMED_OF_PROCESS_TOO)[defect]}, found.found()


def test_every_check_that_can_fail_has_a_defect_that_it_names():
    every = NAMED | NAMED_TOO | NAMED_OF_PROCESS | NAMED_OF_PROCESS_TOO
    # The first two fail for plugins that do nothing right, "alive" after the others, and a long listing needs time.
    assert set(NAMES) - set(every.values()) == {"connect", "file", "alive", "connections", "list-large"}
    source = Path(mutant.__file__).read_text()
    assert all(f'has("{defect}")' in source for defect in every)
