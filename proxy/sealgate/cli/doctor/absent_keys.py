"""What `sealgate doctor` asks the downstream about a key under which nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

from sealgate.call import Call
from sealgate.cli.doctor.checks import CheckResult, failed, not_checked, ok, warning
from sealgate.errors import DownstreamStatus, PluginError, Refused
from sealgate.plugin import Artifact
from sealgate.storage.absence import IsDirectory, has_text
from sealgate.storage.stored_objects import StoredObjects, Transfer

_ABSENT_ANSWERS = {"lists 0 objects", "answers no", "succeeds"}
_LONGEST_TEXT = 200
"""Characters of an answer that are proposed for `downstream.absentTexts`."""


class AbsentKeyAnswers:
    """Asks about a key that does not exist, and reports whether Sealgate recognizes the answers.

    Args:
        stored: the objects in the downstream.
        artifact: an artifact that was never stored.
        deletes: whether to send a Delete, too.
    """

    def __init__(self, stored: StoredObjects, artifact: Artifact, *, deletes: bool) -> None:
        self._stored = stored
        self._artifact = artifact
        self._deletes = deletes

    def results(self, call: Call) -> Iterator[CheckResult]:
        """Ask, and yield one result for all answers that are recognized, and one for each of the others."""
        recognized: list[str] = []
        others: list[CheckResult] = []
        for question, ask in self._questions(call):
            try:
                answer = ask()
            except (Refused, DownstreamStatus, IsDirectory) as error:
                if self._is_recognized(error, question):
                    recognized.append(f"{question} {_shown(error)}")
                else:
                    others.append(self._unrecognized(error, question))
                continue
            if answer in _ABSENT_ANSWERS:
                recognized.append(f"{question} {answer}")
            else:
                fact = f"for a key under which nothing is stored, {question} {answer}, as if something were"
                others.append(failed(fact, "Ask the vendor of the plugin: rules about stored objects need this answer"))
        if recognized:
            yield ok(f"nothing is stored under a new key, and the downstream says so: {'; '.join(recognized)}")
        yield from others

    def _questions(self, call: Call) -> Iterator[tuple[str, Callable[[], str]]]:
        downstream, artifact = self._stored.downstream, self._artifact
        read = "Load" if self._stored.transfer is Transfer.FILE else "OpenStream"

        def bytes_read() -> str:
            with closing(self._stored.read(call, artifact)) as chunks:
                return "sends an empty stream" if next(chunks, None) is None else "sends data"

        yield "ListObjects", lambda: f"lists {len(downstream.list_objects(call, artifact))} objects"
        yield read, bytes_read
        yield "IsDirectory", lambda: "answers yes" if downstream.is_directory(call, artifact) else "answers no"
        if self._deletes:
            yield "Delete", lambda: str(downstream.delete(call, artifact) or "succeeds")

    def _is_recognized(self, error: PluginError, question: str) -> bool:
        absence = self._stored.absence
        if question in {"Load", "OpenStream"}:
            return absence.of_object(error, self._artifact)
        return absence.of_all(error, self._artifact)

    def _unrecognized(self, error: PluginError, question: str) -> CheckResult:
        if not has_text(error):
            return not_checked(f"{question} {_shown(error)}", "Repair its cause, and check again")
        fact = f"for a key under which nothing is stored, {question} {_shown(error)}, which can mean anything"
        proposed = json.dumps(" ".join(error.fact.replace(self._artifact.key, " ").split())[:_LONGEST_TEXT])
        setting = f"downstream: {{absentTexts: [{proposed}]}}"
        remedy = f"If it means that nothing is stored, set {setting}; otherwise repair its cause"
        return warning(fact, remedy) if question == "Delete" else failed(fact, remedy)


def _shown(error: PluginError) -> str:
    if isinstance(error, IsDirectory):
        return "brings a directory"
    status = f"{error.code} " if isinstance(error, DownstreamStatus) else ""
    return f'answers {status}"{error.fact}"'
