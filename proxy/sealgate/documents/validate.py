"""From a plain value to typed structures: every fault of a document at once, each with its place and a suggestion."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")
_MOST = 50
"""Faults of one document: who has more of them starts anew."""
_UNKNOWN, _MISSING, _ENUM = "unknown field `", "missing required field `", "Invalid enum value "
_TEXT, _SOME_TEXT = "Expected `str`", "x"


@dataclass(frozen=True, slots=True)
class DocumentFault:
    """What is wrong, and the names and indexes that lead to it."""

    path: tuple[str, ...]
    fact: str


def converted(
    value: Any,
    kind: type[T],
    decode: Callable[[type, Any], Any],
    further: Callable[[Any], Iterable[DocumentFault]] = lambda _: (),
) -> tuple[T | None, list[DocumentFault]]:
    """The value as a `kind`, or every fault of it; `further` says what is wrong that types do not tell.

    The library stops at the first fault. So what is faulty is put right in a copy, and the rest is looked at again.
    """
    result, error = _attempt(value, kind, decode)
    if result is not None:
        faults = list(further(result))
        return (None if faults else result), faults
    faults = []
    trial = _Trial(value)
    for _ in range(_MOST):
        if error is None or trial.spent:
            break
        path, fact = _parsed(error)
        if fault := trial.without(kind, path, fact):
            faults.append(DocumentFault(fault.path, fault.fact + _suggestion(kind, path, fact)))
        result, error = _attempt(trial.value, kind, decode)
    if result is not None:
        faults += [fault for found in further(result) if (fault := trial.as_written(found))]
    return None, faults


def _attempt(
    value: Any, kind: type[T], decode: Callable[[type, Any], Any]
) -> tuple[T | None, msgspec.ValidationError | None]:
    try:
        return msgspec.convert(value, kind, dec_hook=decode), None
    except msgspec.ValidationError as error:
        return None, error


def printable(text: str) -> str:
    """Text with every line break and control character made a space."""
    return "".join(c if c.isprintable() else " " for c in text)


def meant(word: str, known: Sequence[str]) -> str:
    """`; did you mean …?`, if one of the known words is like `word`."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


class _Trial:
    """A copy of a value, from which one fault after the other is taken out."""

    def __init__(self, value: Any) -> None:
        self._origins: dict[int, list[int]] = {}
        """For each list: which places its items had at first."""
        self.value = self._copy(value)
        self._taken: set[tuple[str, ...]] = set()
        self._touched: set[tuple[str, ...]] = set()
        """What holds something that was taken out or made up, in the value as it was written."""
        self.spent = False
        """Nothing is left to be looked at."""

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._copy(inner) for name, inner in value.items()}
        if isinstance(value, list):
            copy = [self._copy(inner) for inner in value]
            self._origins[id(copy)] = list(range(len(copy)))
            return copy
        return value

    def without(self, kind: Any, path: tuple[str, ...], fact: str) -> DocumentFault | None:
        """Put right what is faulty, and tell where it was; None if it follows from what was taken before."""
        missing = fact.partition(_MISSING)[2].rstrip("`")
        field = missing or fact.partition(_UNKNOWN)[2].rstrip("`")
        written = self._written((*path, field) if field else path)
        self._touched.add(written[:-1])
        if missing:
            self._fill(path, missing, kind)
        elif fact.startswith(_TEXT):
            self._replace(path)
        else:
            self._take((*path, field) if field else path)
        if written in self._taken:
            return None
        self._taken.add(written)
        return DocumentFault(written[: len(path)] if missing else written, _worded(fact))

    def as_written(self, fault: DocumentFault) -> DocumentFault | None:
        """The same fault, with its place in the value as it was written.

        None if it may follow from what was put right in the mapping that it is about, or in what that holds.
        """
        path = self._written(fault.path)
        about = path[:-1]
        made_up = any(holder[: len(about)] == about and len(holder) <= len(about) + 1 for holder in self._touched)
        return None if made_up else DocumentFault(path, fault.fact)

    def _written(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The same path in the value as it was written."""
        value, names = self.value, []
        for name in path:
            if isinstance(value, list) and name.isdigit() and int(name) < len(value):
                names.append(str(self._origins[id(value)][int(name)]))
                value = value[int(name)]
            else:
                names.append(name)
                value = value.get(name) if isinstance(value, dict) else None
        return tuple(names)

    def _take(self, path: tuple[str, ...]) -> None:
        holder, name = self._holder(path)
        if isinstance(holder, list):
            del holder[int(name)]
            del self._origins[id(holder)][int(name)]
        elif isinstance(holder, dict):
            holder.pop(name, None)

    def _replace(self, path: tuple[str, ...]) -> None:
        """Some text where one should be, so that whoever means it by its name goes on finding it."""
        holder, name = self._holder(path)
        if isinstance(holder, list):
            holder[int(name)] = _SOME_TEXT
        elif isinstance(holder, dict) and isinstance(found := holder.get(name), dict):
            # Of a mapping to texts the library does not say which.
            holder[name] = {key: value if isinstance(value, str) else _SOME_TEXT for key, value in found.items()}
        elif isinstance(holder, dict):
            holder[name] = _SOME_TEXT

    def _fill(self, path: tuple[str, ...], field: str, kind: Any) -> None:
        """Something for a field that is missing, so that the rest can be looked at."""
        holder, _ = self._holder((*path, field))
        samples = [sample for found in _at(kind, (*path, field)) for sample in _samples(found)]
        if samples and isinstance(holder, dict):
            holder[field] = samples[0]
        else:
            self.spent = True

    def _holder(self, path: tuple[str, ...]) -> tuple[Any, str]:
        """What holds the last name of `path`, and how it is called in there."""
        value, holder, last = self.value, None, ""
        for name in path:
            holder, last = value, name
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                break
        self.spent = holder is None
        return holder, last


def _parsed(error: msgspec.ValidationError) -> tuple[tuple[str, ...], str]:
    """Path and text of `what is wrong - at `$.spec.rules[0].effect``."""
    fact, found, path = str(error).rpartition(" - at `$")
    if not found:
        return (), str(error)
    names = path.rstrip("`").replace("[...]", "").replace("[", ".").replace("]", "").split(".")
    return tuple(name for name in names if name), fact


def _suggestion(kind: Any, path: tuple[str, ...], fact: str) -> str:
    if field := fact.partition(_UNKNOWN)[2]:
        known = [name for struct in _structs(_at(kind, path)) for name in struct.__struct_encode_fields__]
        return meant(field.rstrip("`"), known)
    if fact.startswith(_ENUM):
        choices = [str(choice) for found in _at(kind, path) for choice in get_args(found) if _is_literal(found)]
        word = fact.removeprefix(_ENUM).strip("'\"")
        return meant(word, choices) or (f"; expected {' or '.join(choices)}" if choices else "")
    return ""


def _at(kind: Any, path: Sequence[str]) -> list[Any]:
    """The types that a value at `path` may have."""
    found = list(_alternatives(kind))
    for name in path:
        found = [inner for outer in found for inner in _inside(outer, name)]
    return found


def _alternatives(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in {Union, types.UnionType}:
        for inner in get_args(kind):
            yield from _alternatives(inner)
    else:
        yield kind


def _inside(kind: Any, name: str) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
        if name in fields:
            yield from _alternatives(get_type_hints(kind, include_extras=True)[fields[name]])
    elif name.isdigit() and get_args(kind):
        yield from _alternatives(get_args(kind)[0])


def _structs(kinds: Sequence[Any]) -> Iterator[type[msgspec.Struct]]:
    return (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct))


def _samples(kind: Any) -> Iterator[Any]:
    if _is_literal(kind):
        yield get_args(kind)[0]
    elif kind is str:
        yield _SOME_TEXT
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield {}


def _worded(fact: str) -> str:
    if fact.startswith("Expected `str` matching regex"):
        return "Expected a name of lower-case letters, digits and dashes, 63 at most"
    return printable(fact)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal
