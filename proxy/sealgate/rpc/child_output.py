"""The output of a downstream that is a child: logged line by line, with its last line kept for errors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import select
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO
from urllib.parse import quote, urlsplit

from sealgate.call import Operation
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.downstream")

_LONGEST_LINE = 8192
"""Bytes. A longer line of output is logged in several lines."""
_LEVELS: Mapping[str, int] = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}
"""The level of a line that says its own. All others are informational."""
_LONGEST_SHOWN = 200
"""Characters of a line in an error."""
_REST_TIMEOUT = 1.0
"""Seconds for which output that is already in the pipe is logged once the child has ended."""
_SHORTEST_SECRET = 6
"""Characters. A shorter value of a variable is not replaced: it could be part of any word."""
_SECRET_LIKE = re.compile(r"[^\s\"',:;{}\[\]]{8,}")
"""What may be a secret in an author's configuration. Shorter words occur in every other text as well."""
_ASCII_RUN = re.compile(r"[!-~]{8,}")
"""What is left of such a word where a program escapes the letters of other scripts."""
_NO_SECRETS = frozenset(map(str, Operation))
"""The names of the operations of Argo's contract, which many lines contain."""
_SEPARATORS = (b" ", b"\t", b'"', b"'", b",", b":", b";")
"""What no such word contains."""
_LONG_NAME = 8
"""Characters. The last segment of a hidden key is also removed on its own, unless it is shorter."""
_MOST_CONCEALED = 4000
"""Texts. The oldest configurations and keys are forgotten beyond that."""
_WITHHELD_LINE = "(a line of output is not shown: the configuration of an artifact has too many words to remove)"
_PLAIN_VARIABLES = frozenset(
    {"HOME", "HOSTNAME", "LANG", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
)
"""Variables whose values are no secrets. The values of all others are replaced in a line that an error repeats."""


class ConcealedTexts:
    """Removes from a child's output what the authors of artifacts wrote in their configurations, and hidden keys.

    Some plugins print each request that they get. A configuration may contain credentials.
    """

    def __init__(self) -> None:
        self._by_request: OrderedDict[bytes, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()
        self._size = 0
        """How many texts `_by_request` has, where one that several requests share counts for each."""
        self._ordered: tuple[str, ...] | None = ()
        """What `_texts` returns; None until it is asked for what was added last."""
        self._too_many = False

    def add(self, configuration: str) -> None:
        """Remove the words of `configuration` from every later line."""
        self._add(configuration, words_of)

    def add_key(self, key: str) -> None:
        """Remove `key` from every later line, also as programs escape it."""
        self._add(key, _spellings_of)

    def _add(self, text: str, texts_of: Callable[[str], frozenset[str]]) -> None:
        digest = hashlib.sha256(f"{texts_of.__name__} {text}".encode(errors="surrogatepass")).digest()
        with self._lock:
            if digest in self._by_request:
                self._by_request.move_to_end(digest)
                return
            if not (texts := texts_of(text)):
                return
            self._by_request[digest] = texts
            self._size += len(texts)
            while len(self._by_request) > 1 and self._size > _MOST_CONCEALED:
                self._size -= len(self._by_request.popitem(last=False)[1])
            self._too_many |= self._size > _MOST_CONCEALED
            self._ordered = None

    def removed_from(self, line: str) -> str:
        """Return `line` as the log may contain it."""
        if self._too_many:
            return _WITHHELD_LINE
        for text in self._texts():
            line = line.replace(text, "…")
        return line

    def removed_from_value(self, value: object) -> object:
        """Return a value of JSON as the log may contain it, with every text in it as `removed_from` returns it."""
        if isinstance(value, str):
            return self.removed_from(value)
        if isinstance(value, dict):
            return {self.removed_from(name): self.removed_from_value(one) for name, one in value.items()}
        return [self.removed_from_value(one) for one in value] if isinstance(value, list) else value

    def _texts(self) -> tuple[str, ...]:
        """Return all texts, the longest first, because one can be a part of another."""
        with self._lock:
            if self._ordered is None:
                self._ordered = tuple(sorted(frozenset().union(*self._by_request.values()), key=len, reverse=True))
            return self._ordered


class ChildOutput:
    """Logs what a child writes, on a thread of its own.

    Args:
        pipe: the reading end of the child's standard output and error. It is closed at the end.
        concealed: removes from each line what the log must not contain.
    """

    def __init__(self, pipe: IO[bytes], concealed: ConcealedTexts) -> None:
        self._concealed = concealed
        self._pipe = pipe
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._last_line = ""
        self._thread = threading.Thread(target=self._run, name="sealgate-downstream-log", daemon=True)
        self._thread.start()

    def end(self) -> str:
        """Log what the ended child has left in the pipe, close it, and return the last line.

        A process that the child has left behind may still have the pipe open. Its later output is not read.
        """
        os.eventfd_write(self._ended, 1)
        self._thread.join(2 * _REST_TIMEOUT)
        if not self._thread.is_alive():
            os.close(self._ended)
        return self._last_line

    def _run(self) -> None:
        rest = b""
        continues = False
        with self._pipe:
            for data in self._read():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._log_line(line, continues=continues)
                    continues = False
                while len(rest) > _LONGEST_LINE:
                    part = rest[: _end_of_part(rest)]
                    self._log_line(part, continues=continues)
                    rest, continues = rest[len(part) :], True
        self._log_line(rest, continues=continues)

    def _read(self) -> Iterator[bytes]:
        """Yield the output until every writer has closed the pipe, or the child has ended and the pipe is empty."""
        pipe = self._pipe.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        until: float | None = None
        while until is None or time.monotonic() < until:
            ready = {fd for fd, _ in poll.poll()}
            if pipe in ready:
                data = os.read(pipe, _LONGEST_LINE)
                if not data:
                    return
                yield data
            elif self._ended in ready:
                return
            if until is None and self._ended in ready:
                until = time.monotonic() + _REST_TIMEOUT

    def _log_line(self, line: bytes, *, continues: bool) -> None:
        """Log `line`, in several lines if it is too long; `continues` if its beginning is logged already."""
        start = 0
        while start < len(line):
            part = line[start:]
            part = part[: _end_of_part(part)]
            text = part.decode(errors="replace").rstrip()
            if text:
                self._log_text(text)
            if text and not start and not continues:
                self._last_line = text
            start += len(part)

    def _log_text(self, text: str) -> None:
        """Log one line of output. A line that is a JSON object becomes an object in the log, with its own level."""
        shown: object = None
        if text.startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):
                parsed = json.loads(text)
                json.dumps(parsed, allow_nan=False)  # Python reads NaN and 1e999, and no other parser does
                shown = self._concealed.removed_from_value(parsed)
        level = str(shown.get("level")).lower() if isinstance(shown, dict) else ""
        if shown is None:
            shown = self._concealed.removed_from(text)
        log.log(_LEVELS.get(level, logging.INFO), LogEvent("the downstream printed a line", output=shown))


def words_of(configuration: str) -> frozenset[str]:
    """Return the words of an author's configuration that may be secrets, also with foreign letters left out."""
    words = set(_SECRET_LIKE.findall(configuration))
    words |= {run for word in words for run in _ASCII_RUN.findall(word)}
    return frozenset(words) - _NO_SECRETS


def _spellings_of(key: str) -> frozenset[str]:
    """Return the texts by which a program may print `key`: as it is, escaped, and its last segment if that is long."""
    forms = {unicodedata.normalize(form, key) for form in ("NFC", "NFD")} | {key}
    forms |= {name for name in (form.rpartition("/")[2] for form in forms) if len(name) >= _LONG_NAME}
    escaped = {text for form in forms for text in (ascii(form)[1:-1], json.dumps(form)[1:-1], _quoted(form))}
    return frozenset(forms | escaped | {_quoted(form, safe="") for form in forms}) - {""}


def _quoted(text: str, safe: str = "/") -> str:
    return quote(text, safe, errors="surrogatepass")


def _end_of_part(line: bytes) -> int:
    """Return where the part of a long line ends that is logged at once: between two words, if that is possible."""
    if len(line) <= _LONGEST_LINE:
        return len(line)
    last = max(map(line[:_LONGEST_LINE].rfind, _SEPARATORS))
    return last + 1 if last >= _LONGEST_LINE // 2 else _LONGEST_LINE


def shown_line(line: str, environment: Mapping[str, str]) -> str:
    """Return `line` as an error may repeat it: escaped, cut, and without values from the child's `environment`."""
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        line = line.replace(secret, "…")
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[: _LONGEST_SHOWN + 1].replace('"', "'"))
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the texts in `environment` that may be secrets: values, the lines of values, and passwords in URLs."""
    texts: set[str] = set()
    for name, value in environment.items():
        if name in _PLAIN_VARIABLES or name.startswith("LC_"):
            continue
        texts |= {value, *(line.strip() for line in value.splitlines())}
        try:
            texts.add(urlsplit(value).password or "")
        except ValueError:  # not a URL
            continue
    return {text for text in texts if len(text) >= _SHORTEST_SECRET}
