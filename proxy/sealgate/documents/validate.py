"""Convert plain values to typed structures, and report all faults of a document at once, each with its path."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")
_MOST = 50
"""The most faults that are reported for one document."""
_UNKNOWN, _MISSING, _ENUM = "unknown field `", "missing required field `", "Invalid enum value "
_TEXT, _SOME_TEXT = "Expected `str`", "x"
_EMPTY_LIST = "Expected `array` of length >= 1"


@dataclass(frozen=True, slots=True)
class DocumentFault:
    """A fault, and the path of field names and list indexes that leads to it."""

    path: tuple[str, ...]
    fact: str


def converted(
    value: Any,
    kind: type[T],
    decode: Callable[[type, Any], Any],
    further: Callable[[Any], Iterable[DocumentFault]] = lambda _: (),
) -> tuple[T | None, list[DocumentFault]]:
    """Convert `value` to `kind`.

    The library stops at the first fault. Therefore the fault is repaired in a copy, which is then converted again.

    Args:
        value: the plain value of a document.
        kind: the type to convert to.
        decode: converts types that the library does not know (`dec_hook` of `msgspec.convert`).
        further: yields the faults of a converted value that types cannot express.

    Returns:
        The converted value and an empty list, or None and all faults.
    """
    result, error = _attempt(value, kind, decode)
    if result is not None:
        faults = list(further(result))
        return (None if faults else result), faults
    faults = []
    copy = _RepairedCopy(value)
    for _ in range(_MOST):
        if error is None or copy.is_exhausted:
            break
        path, fact = _path_and_fact(error)
        if fault := copy.repair(kind, path, fact):
            faults.append(DocumentFault(fault.path, fault.fact + _suggestion(kind, path, fact)))
        result, error = _attempt(copy.value, kind, decode)
    if result is not None:
        faults += [fault for found in further(result) if (fault := copy.with_original_path(found))]
    return None, faults


def _attempt(
    value: Any, kind: type[T], decode: Callable[[type, Any], Any]
) -> tuple[T | None, msgspec.ValidationError | None]:
    try:
        return msgspec.convert(value, kind, dec_hook=decode), None
    except msgspec.ValidationError as error:
        return None, error


def printable(text: str) -> str:
    """Replace every line break and control character of `text` by a space."""
    return "".join(c if c.isprintable() else " " for c in text)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `; did you mean …?` if one of the `known` words is similar to `word`; empty otherwise."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


class _RepairedCopy:
    """A copy of a value in which one fault after the other is repaired."""

    def __init__(self, value: Any) -> None:
        self._origins: dict[int, list[int]] = {}
        """For each list, by its id: the original index of each item."""
        self.value = self._copy(value)
        self._reported: set[tuple[str, ...]] = set()
        self._touched: set[tuple[str, ...]] = set()
        """The original paths of mappings and lists that were repaired."""
        self.is_exhausted = False
        """The rest cannot be checked, because a fault cannot be repaired."""

    def _copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._copy(inner) for name, inner in value.items()}
        if isinstance(value, list):
            copy = [self._copy(inner) for inner in value]
            self._origins[id(copy)] = list(range(len(copy)))
            return copy
        return value

    def repair(self, kind: Any, path: tuple[str, ...], fact: str) -> DocumentFault | None:
        """Repair the fault at `path`, and return it with its original path; None if it was reported before."""
        missing = fact.partition(_MISSING)[2].rstrip("`")
        field = missing or fact.partition(_UNKNOWN)[2].rstrip("`")
        original = self._original_path((*path, field) if field else path)
        if fact == _EMPTY_LIST and original in self._touched:
            self._reported.add(original)  # it is empty because its items were removed
        self._touched.add(original[:-1])
        if missing:
            self._fill(path, missing, kind)
        elif fact.startswith(_TEXT):
            self._replace(path)
        else:
            self._remove((*path, field) if field else path)
        if original in self._reported:
            return None
        self._reported.add(original)
        return DocumentFault(original[: len(path)] if missing else original, _reworded(fact))

    def with_original_path(self, fault: DocumentFault) -> DocumentFault | None:
        """Return `fault` with its original path.

        None if a repair may have caused it: one in the mapping that the fault is about, or one level below.
        """
        path = self._original_path(fault.path)
        about = path[:-1]
        is_consequence = any(
            holder[: len(about)] == about and len(holder) <= len(about) + 1 for holder in self._touched
        )
        return None if is_consequence else DocumentFault(path, fault.fact)

    def _original_path(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return the original path of `path`, which is a path in the copy."""
        value, names = self.value, []
        for name in path:
            if isinstance(value, list) and name.isdigit() and int(name) < len(value):
                names.append(str(self._origins[id(value)][int(name)]))
                value = value[int(name)]
            else:
                names.append(name)
                value = value.get(name) if isinstance(value, dict) else None
        return tuple(names)

    def _remove(self, path: tuple[str, ...]) -> None:
        holder, name = self._holder(path)
        if isinstance(holder, list):
            del holder[int(name)]
            del self._origins[id(holder)][int(name)]
        elif isinstance(holder, dict):
            holder.pop(name, None)

    def _replace(self, path: tuple[str, ...]) -> None:
        """Put a text where one is missing, so that references to the field stay valid."""
        holder, name = self._holder(path)
        if isinstance(holder, list):
            holder[int(name)] = _SOME_TEXT
        elif isinstance(holder, dict) and isinstance(found := holder.get(name), dict):
            # For a mapping to texts, the library does not report which value is wrong.
            holder[name] = {key: value if isinstance(value, str) else _SOME_TEXT for key, value in found.items()}
        elif isinstance(holder, dict):
            holder[name] = _SOME_TEXT

    def _fill(self, path: tuple[str, ...], field: str, kind: Any) -> None:
        """Add a sample value for a missing field, so that the rest can be checked."""
        holder, _ = self._holder((*path, field))
        samples = [sample for found in _at(kind, (*path, field)) for sample in _samples(found)]
        if samples and isinstance(holder, dict):
            holder[field] = samples[0]
        else:
            self.is_exhausted = True

    def _holder(self, path: tuple[str, ...]) -> tuple[Any, str]:
        """Return the mapping or list that contains the last element of `path`, and that element."""
        value, holder, last = self.value, None, ""
        for name in path:
            holder, last = value, name
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                break
        self.is_exhausted = holder is None
        return holder, last


def _path_and_fact(error: msgspec.ValidationError) -> tuple[tuple[str, ...], str]:
    """Split the text of `error`, such as ``fact - at `$.spec.rules[0].effect```, into path and fact."""
    fact, found, path = str(error).rpartition(" - at `$")
    if not found:
        return (), str(error)
    names = path.rstrip("`").replace("[...]", "").replace("[", ".").replace("]", "").split(".")
    return tuple(name for name in names if name), fact


def _suggestion(kind: Any, path: tuple[str, ...], fact: str) -> str:
    if field := fact.partition(_UNKNOWN)[2]:
        known = [name for struct in _structs(_at(kind, path)) for name in struct.__struct_encode_fields__]
        return did_you_mean(field.rstrip("`"), known)
    if fact.startswith(_ENUM):
        choices = [str(choice) for found in _at(kind, path) for choice in get_args(found) if _is_literal(found)]
        word = fact.removeprefix(_ENUM).strip("'\"")
        return did_you_mean(word, choices) or (f"; expected {' or '.join(choices)}" if choices else "")
    return ""


def _at(kind: Any, path: Sequence[str]) -> list[Any]:
    """Return the types that a value at `path` can have, from the type `kind` of the document."""
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


def _reworded(fact: str) -> str:
    if fact.startswith("Expected `str` matching regex"):
        return "Expected a name of at most 63 lower-case letters, digits and dashes"
    if fact == _EMPTY_LIST:
        return "An empty list names nothing, and one that is absent matches everything: add an item, or remove it"
    return printable(fact)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal
