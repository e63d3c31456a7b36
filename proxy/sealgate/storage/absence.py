"""Decides whether an answer of a downstream means that nothing is stored under a key.

Argo's contract defines no such answer. Vendors use the status NOT_FOUND, a text in the answer, or a text with another
status. docs/install-vendor.md, "What Sealgate assumes", lists what is recognized here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sealgate.errors import BadRequest, DownstreamStatus, PluginError, Refused, UnclearAnswer
from sealgate.plugin import Artifact
from sealgate.storage.author_words import WORD, AuthorWords

_NAMED = (
    "NoSuchKey",
    "specified key does not exist",
    "no key found of name",
    "no such object",
    "object not found",
    "object does not exist",
    "object doesn t exist",
    "specified blob does not exist",
    "blob not found",
)
"""Texts that name the stored object itself, whatever else the answer contains."""
_GENERAL = (
    "no such key",
    "no such file",
    "no object",
    "not found",
    "not be found",
    "does not exist",
    "doesn t exist",
    "not a directory",
)
"""Texts that may be about something else than the object. They do not count beside one of `_OTHER_SUBJECT`."""
_DIRECTORY = ("directory stream capability currently unimplemented", "is a directory")
"""Texts by which a read says that the key is a directory, so that no object is stored at the key itself."""
_OTHER_SUBJECT = re.compile(
    r"(?:access|accounts?|buckets?|certificates?|command|config|configmaps?|configuration|containers?|credentials?"
    r"|domain|endpoint|executable|host|hostname|hosts|identity|kms|kubeconfig|lookup|method|module|namespaces?|page"
    r"|permission|plugin|policy|profile|project|region|repository|resolver|roles?|secrets?|server|service"
    r"|serviceaccounts?|tenant|tls|tokens?|users?|vault)"
)
"""What an answer with another cause says is absent instead of the object."""

_TEXT_STATUSES = frozenset({"UNKNOWN", "INTERNAL"})
"""With these statuses the text counts as it does in an answer: vendors send every error with one of them."""
_TAUGHT_STATUSES = _TEXT_STATUSES | {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
"""With these statuses a text of `downstream.absentTexts` counts."""

_ABOUT_FILES = frozenset({"no such file", "not a directory"})
"""Texts of an operating system. They do not count beside the path of another file."""
_ABSOLUTE_PATH = re.compile(r"(?<![\w:/<>.-])/(?=[\w.])")
_PARSER = re.compile(r"\bfields?\b|unmarshal", re.IGNORECASE)
"""A parser of the artifact's configuration refuses a field, and names it. No text counts beside that."""
_CLAUSE_END = re.compile("[:;,]")
_OTHER_ABSENT = re.compile(
    rf"\bno such {_OTHER_SUBJECT.pattern}\b"
    rf"|\b{_OTHER_SUBJECT.pattern} (?:\w+ )?(?:(?:is|was|could|can|does) )?"
    r"(?:not found|not be found|(?:not|doesn t) exist)\b"
)
"""Another subject of which an answer says that it is absent, perhaps with its name: `secrets "s3" not found`."""
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BETWEEN = r"[\s_'\u2019-]*"
"""What may be between two words of a text: `NoSuchKey`, `no such key`, `no_such_key`."""
_BETWEEN_TAUGHT = r"[\W_]*"
"""The same for a text of the administrator's, which has the punctuation of the plugin's own."""


class IsDirectory(BadRequest):
    """The artifact was read as one object, and is a directory."""


class _AbsentText:
    """A text that means that nothing is stored there.

    Args:
        text: its words. Upper and lower case are the same.
        between: a pattern of what may be between two words.
    """

    def __init__(self, text: str, between: str = _BETWEEN) -> None:
        self.words = tuple(WORD.findall(text.casefold()))
        self.is_about_files = text in _ABOUT_FILES
        self._pattern = re.compile(between.join(map(re.escape, self.words)), re.IGNORECASE)

    def is_in(self, fact: str) -> bool:
        return self._pattern.search(fact) is not None

    def could_be_of(self, author: AuthorWords) -> bool:
        """Return whether the author of the artifact could have put this text into an answer."""
        return author.words.issuperset(self.words) or any("".join(self.words) in text for text in author.spelled)


class Absence:
    """Recognizes the answers of one downstream that mean that nothing is stored.

    Args:
        taught: further texts, from `downstream.absentTexts`. Each has at least one letter or digit.
    """

    def __init__(self, taught: Sequence[str] = ()) -> None:
        self._taught = tuple(_AbsentText(text, _BETWEEN_TAUGHT) for text in taught)
        known = (*self._taught, *_NAMED_TEXTS, *_GENERAL_TEXTS, *_DIRECTORY_TEXTS)
        self._common = frozenset(word for text in known for word in text.words)

    def of_object(self, error: PluginError, artifact: Artifact) -> bool:
        """Return whether `error`, an answer to a read of `artifact`, means that no object is stored at its key.

        Objects may be stored beneath the key: then the key is a directory.
        """
        return isinstance(error, IsDirectory) or self._is_said(error, artifact, (*_NAMED_TEXTS, *_DIRECTORY_TEXTS))

    def of_all(self, error: PluginError, artifact: Artifact) -> bool:
        """Return whether `error`, an answer about `artifact`, means that nothing is stored at its key or beneath it."""
        return self._is_said(error, artifact, _NAMED_TEXTS)

    def _is_said(self, error: PluginError, artifact: Artifact, named: Sequence[_AbsentText]) -> bool:
        """Return whether one of the texts is in `error`, and its status permits that the text counts.

        An answer may repeat words of the artifact, which its author wrote. So what it repeats does not count, and
        neither does a text that the author could have put there, in one field or spread over several.
        """
        code = _status(error)
        if code == "NOT_FOUND" and not _is_other_absent(error.fact, artifact):
            return True
        if code not in _TAUGHT_STATUSES and code != "NOT_FOUND":
            return False
        texts = list(self._taught)
        if code in _TEXT_STATUSES or code == "NOT_FOUND":
            texts += named
        if code in _TEXT_STATUSES:
            texts += () if _has_other_subject(error.fact, artifact) else _GENERAL_TEXTS
        texts = [text for text in texts if text.is_in(error.fact)]
        return bool(texts) and self._counts(texts, error.fact, artifact)

    def _counts(self, texts: Sequence[_AbsentText], fact: str, artifact: Artifact) -> bool:
        """Return whether one of `texts`, which `fact` contains, is the store's own and is about the artifact."""
        author = AuthorWords(artifact, self._common)
        if not author.is_known or _PARSER.search(fact):
            return False
        pieces = author.remaining(fact)
        names_file = _ABSOLUTE_PATH.search(_without_key(fact, artifact.key)) is not None
        return any(
            any(text.is_in(piece) for piece in pieces)
            and not text.could_be_of(author)
            and not (names_file and text.is_about_files)
            for text in texts
        )


_NAMED_TEXTS = tuple(map(_AbsentText, _NAMED))
_GENERAL_TEXTS = tuple(map(_AbsentText, _GENERAL))
_DIRECTORY_TEXTS = tuple(map(_AbsentText, _DIRECTORY))


def explained(error: PluginError, question: str) -> PluginError:
    """Return the error of a call that needs the answer to `question`, the name of one of the downstream's operations.

    It is an `UnclearAnswer` if the downstream answered with a text, which `downstream.absentTexts` could contain, and
    `error` unchanged otherwise.
    """
    return UnclearAnswer(question, error.fact) if _status(error) in _TAUGHT_STATUSES else error


def has_text(error: PluginError) -> bool:
    """Return whether `error` is an answer of a downstream whose text, and not its status, says what it means."""
    return _status(error) in _TEXT_STATUSES


def is_status(error: PluginError) -> bool:
    """Return whether `error` says by its status, and not by a text alone, that nothing is stored."""
    return _status(error) == "NOT_FOUND"


def _status(error: PluginError) -> str:
    """Return the status by which the text of `error` is judged; empty if it is no answer of a downstream."""
    if isinstance(error, DownstreamStatus):
        return error.code
    return "UNKNOWN" if isinstance(error, Refused) else ""


def _has_other_subject(fact: str, artifact: Artifact) -> bool:
    """Return whether `fact` speaks of something else than the object, apart from where it repeats the key."""
    words = WORD.findall(_CAMEL.sub(" ", _without_key(fact, artifact.key)))
    return any(_OTHER_SUBJECT.fullmatch(word.casefold()) for word in words)


def _is_other_absent(fact: str, artifact: Artifact) -> bool:
    """Return whether `fact` says that something else than the object is absent, such as a bucket or a secret."""
    clauses = _CLAUSE_END.split(_CAMEL.sub(" ", _without_key(fact, artifact.key)).casefold())
    return any(_OTHER_ABSENT.search(" ".join(WORD.findall(clause))) for clause in clauses)


def _without_key(fact: str, key: str) -> str:
    """Return `fact` without `key`, and without the rest of a path or an address that contains it."""
    key, fact = " ".join(key.split()), " ".join(fact.split())
    if not key or _OTHER_SUBJECT.fullmatch(key.casefold()):
        return fact
    kept, at = "", 0
    for repeated in re.finditer(rf"(?<!\w){re.escape(key)}(?![\w/-])", fact):
        if repeated.start() >= at:
            kept += fact[at : max(at, fact.rfind(" ", 0, repeated.start()) + 1)]
            at = end if (end := fact.find(" ", repeated.end())) >= 0 else len(fact)
    return kept + fact[at:]
