"""Rules made ready for one process: its identity is filled in, patterns are compiled, what can never match is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sealgate.policy import cel, globs, templates
from sealgate.policy.facts import ALIASES, OPERATIONS, READS, WRITES, Measures, Request
from sealgate.policy.schema import IdentityMatch, Limits, Match, Requirements

Answer = bool | str
"""Whether something matches, or why that cannot be told."""


@dataclass(frozen=True, slots=True)
class Process:
    """Whose process this is."""

    identity: Mapping[str, str]
    """By the names of `templates.IDENTITY`; what is not known is missing or empty."""
    attested: bool = False


@dataclass(frozen=True, slots=True)
class Patterns:
    """A list of patterns, of which one must match."""

    texts: tuple[str, ...]
    """With variables filled in, except where that failed."""
    matchers: tuple[globs.Matcher, ...]
    unknown: str = ""
    """Why one of them could not be filled in."""

    @classmethod
    def filled(cls, patterns: Sequence[str], identity: Mapping[str, str], params: Mapping[str, str]) -> Patterns:
        """The patterns for one process."""
        texts, matchers, unknown = [], [], ""
        for pattern in patterns:
            try:
                text = templates.filled(pattern, identity, params)
            except templates.NotKnown as fault:
                texts.append(pattern)
                unknown = unknown or str(fault)
            else:
                texts.append(text)
                matchers.append(globs.compiled(text))
        return cls(tuple(texts), tuple(matchers), unknown)

    def match(self, text: str) -> Answer:
        """Whether one of them matches `text`. What a request does not have matches none."""
        if not text:
            return False
        for matches in self.matchers:
            if matches(text):
                return True
        return self.unknown or False


@dataclass(frozen=True, slots=True)
class Matching:
    """Which requests a rule means."""

    operations: frozenset[str]
    keys: Patterns | None
    except_keys: Patterns | None
    others: tuple[tuple[str, Callable[[Request], str], Patterns], ...]
    """Name, what is looked at, patterns."""
    identity: Answer
    """The same for every request of this process."""
    identity_field: str
    condition: Callable[[Request], Answer] | None

    @classmethod
    def of(cls, match: Match, when: str, process: Process, params: Mapping[str, str]) -> Matching:
        """The rule's `match` and `when`, for one process."""

        def patterns(texts: Sequence[str]) -> Patterns | None:
            return Patterns.filled(texts, process.identity, params) if texts else None

        fields: tuple[tuple[str, Callable[[Request], str], Patterns | None], ...] = (
            ("localPaths", lambda request: request.path.removeprefix("/"), patterns(match.local_paths)),
            ("artifactNames", lambda request: request.artifact, patterns(match.artifact_names)),
            ("plugins", lambda request: request.plugin, patterns(match.plugins)),
        )
        identity, field = _identity(match.identity, process.identity, params)
        return cls(
            operations=frozenset().union(*(_expanded(name) for name in match.operations)) or OPERATIONS,
            keys=patterns(match.keys),
            except_keys=patterns(match.except_keys),
            others=tuple((name, look, found) for name, look, found in fields if found),
            identity=identity,
            identity_field=field,
            condition=_condition(when, process, params) if when else None,
        )

    def match(self, request: Request) -> Answer:
        """Whether `request`, of one of `operations`, is meant. A sure no outweighs what cannot be told."""
        if self.identity is False:
            return False
        unsure = self.identity if isinstance(self.identity, str) else ""
        if self.keys:
            answer = self.keys.match(request.key)
            if answer is False:
                return False
            unsure = unsure or (answer if isinstance(answer, str) else "")
        for _, look, patterns in self.others:
            answer = patterns.match(look(request))
            if answer is False:
                return False
            unsure = unsure or (answer if isinstance(answer, str) else "")
        if self.except_keys:
            answer = self.except_keys.match(request.key)
            if answer is True:
                return False
            unsure = unsure or (answer if isinstance(answer, str) else "")
        if unsure or self.condition is None:
            return unsure or True
        return self.condition(request)

    def first_segments(self) -> frozenset[str]:
        """What the first segment of a key must be one of; empty: it may be any."""
        if not self.keys or self.keys.unknown:
            return frozenset()
        firsts = frozenset(text.partition("/")[0] for text in self.keys.texts)
        return frozenset() if any("*" in first or "?" in first for first in firsts) else firsts

    def matches_but_for_keys(self, request: Request) -> bool:
        """Whether the request would surely be meant if its key were another. A condition may speak of the key."""
        sure = self.identity is True and self.condition is None
        return sure and all(patterns.match(look(request)) is True for _, look, patterns in self.others)

    def why_not(self, request: Request) -> str:
        """Why `request` is not meant, in one line."""
        if request.operation not in self.operations:
            return f"operations: {request.operation} is not among them"
        if self.identity is not True:
            return f"identity: {self.identity or f'{self.identity_field} does not match'}"
        if self.keys and (answer := self.keys.match(request.key)) is not True:
            return f"keys: {answer or _mismatch(self.keys.texts, request.key)}"
        for name, look, patterns in self.others:
            if (answer := patterns.match(look(request))) is not True:
                return f"{name}: {answer or f'{look(request)!r} does not match'}"
        if self.except_keys and (answer := self.except_keys.match(request.key)) is not False:
            return f"exceptKeys: {'the key is excepted' if answer is True else answer}"
        answer = self.condition(request) if self.condition else True
        return "" if answer is True else f"when: {answer or 'it is false'}"


def _mismatch(patterns: Sequence[str], key: str) -> str:
    first = patterns[0]
    for number, (ours, theirs) in enumerate(zip(first.split("/"), key.split("/"), strict=False), start=1):
        if ours == "**":
            break
        if not globs.compiled(ours)(theirs):
            return f'"{first}" does not match segment {number} "{theirs}"'
    return f'"{first}" does not match' + (f", nor do {len(patterns) - 1} more" if len(patterns) > 1 else "")


def _expanded(name: str) -> frozenset[str]:
    return OPERATIONS if name == "*" else ALIASES.get(name, frozenset({name}))


def _identity(match: IdentityMatch, identity: Mapping[str, str], params: Mapping[str, str]) -> tuple[Answer, str]:
    """Whether this process is meant, and which field decided."""
    unsure, field = "", ""
    for name, patterns in (
        ("namespace", match.namespaces),
        ("serviceAccount", match.service_accounts),
        ("workflow", match.workflows),
        ("component", match.components),
    ):
        if not patterns:
            continue
        value = identity.get(name, "")
        answer = Patterns.filled(patterns, identity, params).match(value) if value else f"identity.{name} is not known"
        if answer is False:
            return False, name
        if isinstance(answer, str) and not unsure:
            unsure, field = answer, name
    return unsure or True, field


def _condition(when: str, process: Process, params: Mapping[str, str]) -> Callable[[Request], Answer]:
    condition = cel.compiled(when)
    identity = {name: value for name, value in process.identity.items() if value}

    def holds(request: Request) -> Answer:
        try:
            return condition(
                {
                    "op": request.operation,
                    "key": request.key,
                    "segments": request.key.split("/"),
                    "identity": identity,
                    "attested": process.attested,
                    "plugin": request.plugin,
                    "artifact": request.artifact,
                    "path": request.path,
                    "params": dict(params),
                }
            )
        except cel.NoAnswer:
            return "`when` came to an error"

    return holds


# --- limits and requirements ------------------------------------------------------------------------------

_NONE = Limits()
Broken = tuple[str, str]
"""Code and fact of what does not hold."""


def broken_limit(limits: Limits, request: Request, measures: Measures) -> Broken | None:
    """The first limit that does not hold, as far as is known."""
    return None if limits == _NONE else next(_broken_limits(limits, request, measures), None)


def _broken_limits(limits: Limits, request: Request, measures: Measures) -> Iterator[Broken]:
    for code, name, measured, limit, unit in (
        ("LIMIT_BYTES", "maxBytes", measures.bytes, limits.max_bytes, "bytes"),
        ("LIMIT_TOTAL", "maxTotalBytes", measures.total, limits.max_total_bytes, "bytes in all"),
        ("LIMIT_FILES", "maxFiles", measures.files, limits.max_files, "objects"),
        ("LIMIT_LISTING", "maxListing", measures.listing, limits.max_listing, "names"),
    ):
        if limit is not None and measured is not None and measured > limit:
            yield code, f"{measured} {unit} exceeds {name} {int(limit)}"
    if limits.max_depth is not None and (depth := request.key.count("/") + 1) > limits.max_depth:
        yield "LIMIT_DEPTH", f"the key has {depth} segments, maxDepth is {limits.max_depth}"
    if limits.max_key_bytes is not None and (size := len(request.key.encode())) > limits.max_key_bytes:
        yield "LIMIT_KEY", f"the key has {size} bytes, maxKeyBytes is {limits.max_key_bytes}"
    if request.operation not in WRITES or "object" in measures.pending:
        return
    if limits.extensions and not request.key.rpartition("/")[2].endswith(limits.extensions):
        yield "EXTENSION", f"the key ends in none of {', '.join(limits.extensions[:8])}"
    least, size = limits.min_bytes or 0, measures.bytes or 0
    if measures.complete and size < least:
        yield "LIMIT_BYTES", f"{size} bytes is less than minBytes {int(least)}"


def broken_requirement(require: Requirements, request: Request, measures: Measures, *, attested: bool) -> Broken | None:
    """The first requirement that does not hold, as far as is known."""
    return next(_broken_requirements(require, request, measures, attested=attested), None)


def _broken_requirements(
    require: Requirements, request: Request, measures: Measures, *, attested: bool
) -> Iterator[Broken]:
    operation = request.operation
    if require.attested_identity and not attested:
        yield "IDENTITY", "namespace and service account are not proven by a login to the key service"
    if require.plaintext_read == "deny" and operation in READS and measures.sealed is False:
        yield "PLAINTEXT", "the stored object was never sealed, and plaintext is not read here"
    if require.overwrite == "deny" and operation in WRITES and "exists" not in measures.pending:
        if measures.exists is None:
            yield "OVERWRITE", "nothing tells whether an object is stored under this key already"
        elif measures.exists:
            yield "OVERWRITE", "an object is stored under this key, and may not be replaced"
    if require.min_age is not None and operation == "Delete" and "age" not in measures.pending:
        least = int(require.min_age)
        if measures.age is None:
            yield "RETENTION", f"nothing tells when the object was sealed, and it stays for {least} s"
        elif measures.age < least:
            yield "RETENTION", f"the object was sealed {measures.age} s ago, and stays for {least} s"


def awaited(require: Requirements, request: Request, pending: frozenset[str]) -> frozenset[str]:
    """Which of the pending facts these requirements look at."""
    looks = set()
    if require.overwrite == "deny" and request.operation in WRITES:
        looks.add("exists")
    if require.min_age is not None and request.operation == "Delete":
        looks.add("age")
    return pending & looks
