"""What rules match, prepared for one process: variables are filled in, patterns are compiled.

It also evaluates limits and requirements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sealgate.policy import cel, globs, readable, templates
from sealgate.policy.canonical_keys import normal_form
from sealgate.policy.decision import ALIASES, OPERATIONS, READS, WRITES, Measures, Request
from sealgate.policy.schema import NEVER, IdentityMatch, Limits, Match, Requirements, Rule, Size

Answer = bool | str
"""Whether something matches, or a text that says why that is unknown."""


@dataclass(frozen=True, slots=True)
class Process:
    """The identity of the process that decides."""

    identity: Mapping[str, str]
    """Values by the names in `templates.IDENTITY`. An unknown value is missing or empty."""
    attested: bool = False
    """Whether a login proved namespace and service account."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """A list of patterns. It matches if one of them does."""

    texts: tuple[str, ...]
    """The patterns with variables filled in. A pattern where that failed is kept as it was written."""
    matchers: tuple[globs.Matcher, ...]
    unknown: str = ""
    """Why the first such pattern could not be filled in; empty if all could."""

    @property
    def filled_in(self) -> tuple[str, ...]:
        """The patterns whose variables could be filled in."""
        return tuple(text for text in self.texts if "${" not in text)

    @classmethod
    def filled(cls, patterns: Sequence[str], identity: Mapping[str, str], params: Mapping[str, str]) -> Patterns:
        """Fill in and compile `patterns` for one process."""
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
        """Return whether one of the patterns matches `text` in its normal form. An empty `text` matches no pattern."""
        if not text:
            return False
        text = normal_form(text)
        for matches in self.matchers:
            if matches(text):
                return True
        return self.unknown or False


@dataclass(frozen=True, slots=True)
class Matching:
    """Which requests a rule matches."""

    operations: frozenset[str]
    keys: Patterns | None
    except_keys: Patterns | None
    others: tuple[tuple[str, Callable[[Request], str], Patterns], ...]
    """The remaining fields: name, a function that reads the value from a request, and patterns."""
    identity: Answer
    """Whether the rule matches this process. It is the same for every request."""
    identity_field: str
    """The field that decided `identity`, if it is not True."""
    condition: Callable[[Request], Answer] | None
    keys_alone: tuple[globs.Matcher, ...] | None
    """The patterns for keys, if they alone decide whether a request matches; None for any other rule."""

    @classmethod
    def of(cls, match: Match, when: str, process: Process, params: Mapping[str, str]) -> Matching:
        """Prepare the `match` and `when` of a rule for one process."""

        def patterns(texts: Sequence[str]) -> Patterns | None:
            return Patterns.filled(texts, process.identity, params) if texts else None

        fields: tuple[tuple[str, Callable[[Request], str], Patterns | None], ...] = (
            ("localPaths", lambda request: request.path.removeprefix("/"), patterns(match.local_paths)),
            ("artifactNames", lambda request: request.artifact, patterns(match.artifact_names)),
            ("plugins", lambda request: request.plugin, patterns(match.plugins)),
        )
        identity, field = _identity(match.identity, process.identity, params)
        keys, others = patterns(match.keys), tuple((name, value_of, found) for name, value_of, found in fields if found)
        decide_alone = keys and not keys.unknown and identity is True and not (match.except_keys or others or when)
        return cls(
            operations=frozenset().union(*(operations_named(name) for name in match.operations)) or OPERATIONS,
            keys=keys,
            except_keys=patterns(match.except_keys),
            others=others,
            identity=identity,
            identity_field=field,
            condition=_condition(when, process, params) if when else None,
            keys_alone=keys.matchers if keys and decide_alone else None,
        )

    def match(self, request: Request) -> Answer:
        """Return whether the rule matches `request`, whose operation is one of `operations`.

        A field that certainly does not match outweighs one whose answer is unknown.
        """
        if self.identity is False:
            return False
        unknown = self.identity if isinstance(self.identity, str) else ""
        if self.keys:
            answer = self.keys.match(request.key)
            if answer is False:
                return False
            unknown = unknown or (answer if isinstance(answer, str) else "")
        for _, value_of, patterns in self.others:
            answer = patterns.match(value_of(request))
            if answer is False:
                return False
            unknown = unknown or (answer if isinstance(answer, str) else "")
        if self.except_keys:
            answer = self.except_keys.match(request.key)
            if answer is True:
                return False
            unknown = unknown or (answer if isinstance(answer, str) else "")
        if unknown or self.condition is None:
            return unknown or True
        return self.condition(request)

    @property
    def looks_beyond_keys(self) -> bool:
        """Whether the rule can match one of two objects of an artifact and not the other for more than their keys."""
        return self.condition is not None or any(name == "localPaths" for name, _, _ in self.others)

    def first_segments(self) -> frozenset[str]:
        """Return the first segments that a matching key can have in its normal form; empty if it can have any."""
        if not self.keys or self.keys.unknown:
            return frozenset()
        firsts = frozenset(map(globs.first_segment, self.keys.texts))
        return frozenset() if "" in firsts else firsts

    def matches_but_for_keys(self, request: Request) -> bool:
        """Return whether the rule certainly matches `request` apart from its key.

        False for a rule with a condition, because the condition may depend on the key.
        """
        certain = self.identity is True and self.condition is None
        return certain and all(patterns.match(value_of(request)) is True for _, value_of, patterns in self.others)

    def excluding(self, key: str) -> str:
        """Return the first pattern of `exceptKeys` that matches `key`; empty if none does.

        A pattern whose variables could not be filled in is left out.
        """
        texts = self.except_keys.filled_in if self.except_keys else ()
        return next((text for text in texts if globs.compiled(text)(normal_form(key))), "")

    def why_not(self, request: Request) -> str:
        """Say in one line why the rule does not match `request`; empty if it does."""
        if request.operation not in self.operations:
            return "operations: this one is not among them"
        if self.identity is not True:
            return f"identity: {self.identity or f'{self.identity_field} does not match'}"
        if self.keys and (answer := self.keys.match(request.key)) is not True:
            return f"keys: {answer or _mismatch(self.keys.texts, request.key)}"
        for name, value_of, patterns in self.others:
            if (answer := patterns.match(value_of(request))) is not True:
                return f"{name}: {answer or f'{value_of(request)!r} does not match'}"
        if self.except_keys and (answer := self.except_keys.match(request.key)) is not False:
            return f"exceptKeys: {'they match the key' if answer is True else answer}"
        answer = self.condition(request) if self.condition else True
        return "" if answer is True else f"when: {answer or 'it is false'}"


def _mismatch(patterns: Sequence[str], key: str) -> str:
    first = patterns[0]
    for number, (pattern, segment) in enumerate(zip(first.split("/"), key.split("/"), strict=False), start=1):
        if pattern == "**":
            break
        if not globs.compiled(pattern)(normal_form(segment)):
            return f'"{first}" does not match segment {number} "{segment}"'
    others = len(patterns) - 1
    more = f", nor do {others} other patterns" if others > 1 else ", nor does the other pattern" if others else ""
    return f'"{first}" does not match{more}'


def operations_named(name: str) -> frozenset[str]:
    """Return the RPCs that `name` names in a policy: a short name, `*`, or an RPC."""
    return OPERATIONS if name == "*" else ALIASES.get(name, frozenset({name}))


def _identity(match: IdentityMatch, identity: Mapping[str, str], params: Mapping[str, str]) -> tuple[Answer, str]:
    """Return whether the rule matches this process, and the field that decided."""
    unknown, field = "", ""
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
        if isinstance(answer, str) and not unknown:
            unknown, field = answer, name
    return unknown or True, field


def _condition(when: str, process: Process, params: Mapping[str, str]) -> Callable[[Request], Answer]:
    condition = cel.compiled(when)
    identity = {name: normal_form(value) for name, value in process.identity.items() if value}
    params = {name: normal_form(value) for name, value in params.items()}

    def holds(request: Request) -> Answer:
        key = normal_form(request.key)
        try:
            return condition(
                {
                    "op": request.operation,
                    "key": key,
                    "segments": key.split("/"),
                    "identity": identity,
                    "attested": process.attested,
                    "plugin": normal_form(request.plugin),
                    "artifact": normal_form(request.artifact),
                    "path": normal_form(request.path),
                    "params": params,
                }
            )
        except cel.EvaluationFailed:
            return "the condition in `when` failed"

    return holds


# --- limits and requirements ------------------------------------------------------------------------------

_NO_LIMITS, _NO_REQUIREMENTS = Limits(), Requirements()
Violation = tuple[str, str]
"""The code and the fact of a limit or a requirement that is violated."""


def withheld_grant(rule: Rule, request: Request, measures: Measures) -> Violation | None:
    """Return why an allow rule that matches does not grant: it has expired, or a limit is violated. None if it grants.

    Expiry is a limit like any other. Time therefore only takes grants away, also where the default decision is allow.
    """
    return expiry(rule, request) or violated_limit(rule.limits, request, measures)


def expiry(rule: Rule, request: Request) -> Violation | None:
    """Return the violation if `rule` has expired, or may have because the time of `request` is unknown; else None."""
    if rule.expires == NEVER or (request.time is not None and request.time < rule.expires):
        return None
    if request.time is None:
        return "EXPIRED", f"the rule grants until {readable.time(rule.expires)}, and the time is not known"
    return "EXPIRED", f"the rule expired at {readable.time(rule.expires)}"


def violated_limit(limits: Limits, request: Request, measures: Measures) -> Violation | None:
    """Return the first limit that `request` violates, given `measures`; None if it violates none."""
    return None if limits == _NO_LIMITS else next(_violated_limits(limits, request, measures), None)


def _violated_limits(limits: Limits, request: Request, measures: Measures) -> Iterator[Violation]:
    for code, name, measured, limit, unit in (
        ("LIMIT_BYTES", "maxBytes", measures.bytes, limits.max_bytes, "bytes"),
        ("LIMIT_TOTAL", "maxTotalBytes", measures.total, limits.max_total_bytes, "bytes in total"),
        ("LIMIT_FILES", "maxFiles", measures.files, limits.max_files, "objects"),
        ("LIMIT_LISTING", "maxListing", measures.listing, limits.max_listing, "names"),
    ):
        if limit is not None and measured is not None and measured > limit:
            found, most = (readable.size_beside(n) if isinstance(limit, Size) else "" for n in (measured, limit))
            yield code, f"{measured} {unit}{found} exceeds {name} {int(limit)}{most}"
    if limits.max_depth is not None and (depth := request.key.count("/") + 1) > limits.max_depth:
        yield "LIMIT_DEPTH", f"the key has {depth} segments, maxDepth is {limits.max_depth}"
    if limits.max_key_bytes is not None and (size := len(request.key.encode())) > limits.max_key_bytes:
        yield "LIMIT_KEY", f"the key has {size} bytes, maxKeyBytes is {limits.max_key_bytes}"
    if request.operation not in WRITES or "object" in measures.pending:
        return
    endings = tuple(map(normal_form, limits.extensions))
    if endings and not normal_form(request.key).rpartition("/")[2].endswith(endings):
        yield "EXTENSION", f"the key must end in one of {', '.join(limits.extensions[:8])}"
    least, size = limits.min_bytes or 0, measures.bytes or 0
    if measures.complete and size < least:
        found, needed = readable.size_beside(size), readable.size_beside(least)
        yield "LIMIT_BYTES", f"{size} bytes{found} is less than minBytes {int(least)}{needed}"


def violated_requirement(
    require: Requirements, request: Request, measures: Measures, *, attested: bool
) -> Violation | None:
    """Return the first requirement that `request` violates, given `measures`; None if it violates none."""
    if require == _NO_REQUIREMENTS:
        return None
    return next(_violated_requirements(require, request, measures, attested=attested), None)


def _violated_requirements(
    require: Requirements, request: Request, measures: Measures, *, attested: bool
) -> Iterator[Violation]:
    operation = request.operation
    if require.attested_identity and not attested:
        yield "IDENTITY", "namespace and service account are not attested by a login to the key service"
    if require.plaintext_read == "deny" and operation in READS and measures.sealed is False:
        yield "PLAINTEXT", "the stored object was never sealed, and reading plaintext is not allowed"
    if require.overwrite == "deny" and operation in WRITES and "exists" not in measures.pending:
        if measures.exists is None:
            yield "OVERWRITE", "it is unknown whether an object is already stored under this key"
        elif measures.exists:
            yield "OVERWRITE", "an object is already stored under this key and must not be replaced"
    if require.min_age is not None and operation == "Delete" and "age" not in measures.pending:
        least = f"{int(require.min_age)} s{readable.age_beside(require.min_age)}"
        if measures.age is None:
            yield "RETENTION", f"it is unknown when the object was sealed, and it must be kept for {least}"
        elif measures.age < require.min_age:
            age = f"{measures.age} s{readable.age_beside(measures.age)}"
            yield "RETENTION", f"the object was sealed {age} ago and must be kept for {least}"


def pending_measures(require: Requirements, request: Request, pending: frozenset[str]) -> frozenset[str]:
    """Return those of the `pending` measures that `require` needs to decide on `request`."""
    needed = set()
    if require.overwrite == "deny" and request.operation in WRITES:
        needed.add("exists")
    if require.min_age is not None and request.operation == "Delete":
        needed.add("age")
    return pending & needed
