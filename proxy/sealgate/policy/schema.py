"""The types that policy documents are validated against, and their JSON Schema.

Docstrings and descriptions are part of the JSON Schema, which editors show.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

API_VERSION = "sealgate/v1alpha1"
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)", re.ASCII)
_AGE = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_FACTORS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LARGEST = 1 << 62
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""


class Size(int):
    """A number of bytes, written as `5GiB` or as a plain number."""

    __slots__ = ()


class Age(int):
    """A number of seconds, written as `30d`, `12h`, `5m` or `10s`."""

    __slots__ = ()


class Instant(int):
    """Unix seconds, written as `2026-12-01T18:00:00Z`."""

    __slots__ = ()


NEVER = Instant(_LAST_SECOND)
"""The `expires` of a rule that has none. So `expires:` without a time is a fault, and not a rule that never expires."""
Mode = Literal["enforce", "warn", "shadow"]
Outcome = Literal["allow", "deny"]
Component = Literal["init", "sidecar", "gc", "server"]
Operation = Literal[
    "read",
    "write",
    "delete",
    "list",
    "stat",
    "*",
    "Load",
    "OpenStream",
    "Save",
    "SaveStream",
    "Delete",
    "ListObjects",
    "IsDirectory",
]
_Count = Annotated[int, Meta(ge=0, le=_LARGEST)]
# A list that is absent matches everything, so an empty one, which reads like "nothing", is refused.
_Texts = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(min_length=1)]
Label = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label."""


class DocumentPart(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """The base of all parts of a document: names in camel case, and no unknown fields."""


class DocumentMetadata(DocumentPart, frozen=True):
    """The name of a document, and annotations."""

    name: Annotated[Label, Meta(description="A DNS label, unique among all documents.")]
    annotations: Annotated[dict[str, str], Meta(description="Free text. Refusals name `owner` and `runbook`.")] = {}


class IdentityMatch(DocumentPart, frozen=True):
    """The identity of the process. Each pattern is one segment: * matches any characters, ? matches one."""

    namespaces: Annotated[_Texts, Meta(description="Patterns for the namespace of the pod.")] = ()
    service_accounts: Annotated[_Texts, Meta(description="Patterns for the name of its service account.")] = ()
    workflows: Annotated[_Texts, Meta(description="Patterns for the name of the workflow.")] = ()
    components: Annotated[
        tuple[Component, ...],
        Meta(min_length=1, description="Argo's container that the process runs in: init, sidecar, gc or server."),
    ] = ()


class Match(DocumentPart, frozen=True):
    """The requests that a rule matches: all given fields match. A list matches if one item does, or if it is empty."""

    operations: Annotated[
        tuple[Operation, ...],
        Meta(
            min_length=1,
            description="read (Load, OpenStream), write (Save, SaveStream), delete, list, stat, * or names of RPCs.",
        ),
    ] = ()
    keys: Annotated[
        _Texts,
        Meta(
            description="Patterns for artifact keys: * and ? match inside a segment, ** matches any number of segments."
        ),
    ] = ()
    except_keys: Annotated[_Texts, Meta(description="Patterns for keys that the rule does not match.")] = ()
    local_paths: Annotated[_Texts, Meta(description="Patterns for local paths. Only Load and Save have one.")] = ()
    artifact_names: Annotated[_Texts, Meta(description="Patterns for the name of the artifact in the workflow.")] = ()
    plugins: Annotated[_Texts, Meta(description="Patterns for the name of the plugin in Argo.")] = ()
    identity: Annotated[IdentityMatch, Meta(description="The identity of the process.")] = IdentityMatch()


class Limits(DocumentPart, frozen=True):
    """Limits that an allow or require rule holds within. Sizes are plaintext."""

    min_bytes: Annotated[Size | None, Meta(description="The least bytes of one object. Writes only.")] = None
    max_bytes: Annotated[Size | None, Meta(description="The most bytes of one object.")] = None
    max_total_bytes: Annotated[Size | None, Meta(description="The most bytes of a whole request.")] = None
    max_files: Annotated[_Count | None, Meta(description="The most objects of a request.")] = None
    max_depth: Annotated[_Count | None, Meta(description="The most segments of a key.")] = None
    max_key_bytes: Annotated[_Count | None, Meta(description="The longest key, in bytes of UTF-8.")] = None
    extensions: Annotated[_Texts, Meta(description="Allowed endings of the key. Writes only.")] = ()
    max_listing: Annotated[_Count | None, Meta(description="The most names that one ListObjects returns.")] = None


class Requirements(DocumentPart, frozen=True):
    """Requirements of a rule with `effect: require`. Other rules cannot have them."""

    plaintext_read: Annotated[
        Outcome | None, Meta(description="deny: a stored object that was never sealed is not read.")
    ] = None
    overwrite: Annotated[Outcome | None, Meta(description="deny: a write must not replace an object.")] = None
    min_age: Annotated[
        Age | None, Meta(description="The age, since it was sealed, that an object must have to be deleted.")
    ] = None
    attested_identity: Annotated[
        bool, Meta(description="Namespace and service account must be attested by a login to the key service.")
    ] = False


class AuditNote(DocumentPart, frozen=True):
    """Additions to the audit record of a decision by this rule."""

    annotations: Annotated[dict[str, str], Meta(description="Texts that are copied to the record.")] = {}
    hmac_key: Annotated[bool, Meta(description="Hides the keys that the rule matches from records and the log.")] = (
        False
    )


class Rule(DocumentPart, frozen=True):
    """An access rule. The order of rules has no effect: deny, then require, then allow, then the default decision."""

    name: Annotated[Label, Meta(description="Unique in the document.")]
    effect: Annotated[
        Literal["allow", "deny", "require"],
        Meta(description="A require rule never grants, and denies if it does not hold."),
    ]
    description: Annotated[str, Meta(description="Free text for readers of the policy.")] = ""
    enforcement: Annotated[Mode | None, Meta(description="Overrides the mode of the document.")] = None
    match: Match = Match()
    when: Annotated[str, Meta(description="A condition in CEL. Needs the extra sealgate[cel].", max_length=4096)] = ""
    limits: Limits = Limits()
    require: Requirements = Requirements()
    on_delete: Annotated[
        Literal["deny", "skip"], Meta(description="skip: a denied Delete succeeds and removes nothing.")
    ] = "deny"
    message: Annotated[str, Meta(description="One line for the author. May use ${...}.", max_length=240)] = ""
    audit: AuditNote = AuditNote()
    expires: Annotated[
        Instant, Meta(description="The time from which an allow rule grants nothing. Other rules cannot have it.")
    ] = msgspec.field(default_factory=lambda: NEVER)  # the JSON Schema shows no default that a factory makes


class EncryptionRule(DocumentPart, frozen=True):
    """The key that seals the artifacts that match. The first rule that matches applies."""

    name: Annotated[Label, Meta(description="Unique in the document.")]
    match: Match = Match()
    write: Annotated[
        Literal["required", "passthrough"],
        Meta(description="passthrough stores plaintext. Needs allowPassthrough in the configuration."),
    ] = "required"
    key: Annotated[
        str, Meta(description="MOUNT/keys/NAME or NAME. May use ${...}. Default: the key of the configuration.")
    ] = ""
    author_keys: Annotated[
        _Texts,
        Meta(description="Keys that the author of a workflow may choose instead, as `key` in the `sealgate:` mapping."),
    ] = ()
    read_keys: Annotated[
        _Texts,
        Meta(description="Further keys that a stored object may be sealed under. Needs key. Used to change keys."),
    ] = ()
    read_plaintext: Annotated[
        Outcome,
        Meta(description="allow: objects that were never sealed are read. For migrations. Each read is logged."),
    ] = "deny"
    context: Annotated[
        dict[str, str],
        Meta(description="Written to the authenticated header, and required there on reading.", max_length=8),
    ] = {}


class Spec(DocumentPart, frozen=True):
    """The content of a policy document."""

    enforcement: Annotated[
        Mode, Meta(description="The mode of its rules. warn and shadow put the document on trial.")
    ] = "enforce"
    default_decision: Annotated[Outcome, Meta(description="The decision where no rule decides.")] = "deny"
    on_error: Annotated[Outcome, Meta(description="The effect of a deny or require rule that cannot be evaluated.")] = (
        "deny"
    )
    listing: Annotated[
        Literal["filter", "deny"],
        Meta(description="filter: a listing leaves out objects that must not be read. deny: it is denied."),
    ] = "filter"
    symlinks: Annotated[
        Literal["reject", "skip"],
        Meta(description="reject: a directory with symbolic links is not saved. skip: links are left out."),
    ] = "reject"
    params: Annotated[dict[str, str], Meta(description="Values for ${params.NAME} in this document.")] = {}
    rules: Annotated[
        tuple[Rule, ...], Meta(max_length=1000, description="Access rules. Their order has no effect.")
    ] = ()
    encryption: Annotated[
        tuple[EncryptionRule, ...],
        Meta(
            max_length=1000,
            description="Encryption rules. The first that matches applies. No list: the configured key.",
        ),
    ] = ()


class ArtifactPolicy(DocumentPart, frozen=True):
    """A policy document (docs/policy-reference.md)."""

    api_version: Annotated[Literal["sealgate/v1alpha1"], Meta(description="The version of the format.")]
    kind: Annotated[Literal["ArtifactPolicy"], Meta(description="The kind of policy documents.")]
    metadata: DocumentMetadata
    spec: Spec = Spec()


def decode(kind: type, value: Any) -> Any:
    """Parse `value` as a `Size`, an `Age` or an `Instant`. `msgspec.convert` calls it.

    Raises:
        ValueError: `value` has another form, or is too large.
    """
    if kind is Instant:
        return _instant(value)
    pattern, factors, form = (
        (_SIZE, _FACTORS, "a size such as `5GiB`, `512KiB` or a number of bytes")
        if kind is Size
        else (_AGE, _SECONDS, "an age such as `30d`, `12h` or `10s`")
    )
    if kind is Size and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return Size(value)
    parts = pattern.fullmatch(value) if isinstance(value, str) else None
    number = int(parts[1]) * factors[parts[2]] if parts else _LARGEST + 1
    if number > _LARGEST:
        raise ValueError(f"expected {form}")
    return kind(number)


def _instant(value: Any) -> Instant:
    seconds = -1
    with suppress(msgspec.ValidationError):
        seconds = int(msgspec.convert(value, Annotated[datetime, Meta(tz=True)]).timestamp())
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError("expected a time with its zone, in quotes, such as `2026-12-01T18:00:00Z`")
    return Instant(seconds)


def json_schema(kind: type[Struct] = ArtifactPolicy) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind of document, for editors."""
    (schema,), definitions = msgspec.json.schema_components(
        (kind,), schema_hook=_schema_of, ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Sealgate {kind.__name__}",
        **schema,
        "$defs": definitions,
    }


def _schema_of(kind: type) -> dict[str, Any]:
    if kind is Size:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}
    if kind is Instant:
        return {"type": "string", "format": "date-time"}
    return {"type": "string", "pattern": f"^{_AGE.pattern}$"}
