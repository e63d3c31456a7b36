"""What a policy document may say: the types that it is validated against, and its JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

API_VERSION = "sealgate/v1alpha1"
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)", re.ASCII)
_AGE = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_FACTORS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LARGEST = 1 << 62


class Size(int):
    """Bytes, written as `5GiB` or as a plain number."""

    __slots__ = ()


class Age(int):
    """Seconds, written as `30d`, `12h`, `5m`, `10s`."""

    __slots__ = ()


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
_Texts = tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...]
Label = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label."""


class DocumentPart(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """What every part of a document has in common."""


class DocumentMetadata(DocumentPart, frozen=True):
    """What a document is called."""

    name: Annotated[Label, Meta(description="A DNS label, unique among all documents.")]
    annotations: Annotated[
        dict[str, str], Meta(description="Free; a refusal without a message tells the author to ask the owner.")
    ] = {}


class IdentityMatch(DocumentPart, frozen=True):
    """Whose process it is. Patterns of one segment: * and ? stand for characters."""

    namespaces: Annotated[_Texts, Meta(description="Patterns of the namespace of the pod.")] = ()
    service_accounts: Annotated[_Texts, Meta(description="Patterns of the name of its service account.")] = ()
    workflows: Annotated[_Texts, Meta(description="Patterns of the name of the workflow.")] = ()
    components: Annotated[
        tuple[Component, ...], Meta(description="In which of Argo's containers: init, sidecar, gc or server.")
    ] = ()


class Match(DocumentPart, frozen=True):
    """Which calls are meant: all given fields must match, in a list one item; absent or empty matches any."""

    operations: Annotated[
        tuple[Operation, ...],
        Meta(description="read, write, delete, list, stat, *, or the names of RPCs. read is Load and OpenStream."),
    ] = ()
    keys: Annotated[
        _Texts,
        Meta(description="Patterns of artifact keys, segment by segment: * and ? stay inside one, ** is any number."),
    ] = ()
    except_keys: Annotated[_Texts, Meta(description="Keys that are not meant although they match.")] = ()
    local_paths: Annotated[_Texts, Meta(description="Patterns of local paths; only Load and Save have one.")] = ()
    artifact_names: Annotated[_Texts, Meta(description="Patterns of the artifact's name in the workflow.")] = ()
    plugins: Annotated[_Texts, Meta(description="Patterns of the name that Argo knows the plugin by.")] = ()
    identity: Annotated[IdentityMatch, Meta(description="Whose process it is.")] = IdentityMatch()


class Limits(DocumentPart, frozen=True):
    """What must hold for a grant or a requirement to hold. Sizes are of plaintext."""

    min_bytes: Annotated[Size | None, Meta(description="The least of one object; writes only.")] = None
    max_bytes: Annotated[Size | None, Meta(description="The most of one object.")] = None
    max_total_bytes: Annotated[Size | None, Meta(description="The most of a whole request.")] = None
    max_files: Annotated[_Count | None, Meta(description="The most objects in a request.")] = None
    max_depth: Annotated[_Count | None, Meta(description="The most segments of a key.")] = None
    max_key_bytes: Annotated[_Count | None, Meta(description="The longest key, in bytes of UTF-8.")] = None
    extensions: Annotated[_Texts, Meta(description="Endings of the last segment; writes only.")] = ()
    max_listing: Annotated[_Count | None, Meta(description="The most names that one ListObjects may give.")] = None


class Requirements(DocumentPart, frozen=True):
    """What must be so; for rules with `effect: require` alone."""

    plaintext_read: Annotated[Outcome | None, Meta(description="deny: what is read must have been sealed.")] = None
    overwrite: Annotated[Outcome | None, Meta(description="deny: a write may not replace an object.")] = None
    min_age: Annotated[Age | None, Meta(description="How long ago an object was sealed before it may go.")] = None
    attested_identity: Annotated[
        bool, Meta(description="Namespace and service account are proven by the login to the key service.")
    ] = False


class AuditNote(DocumentPart, frozen=True):
    """What the audit record of a decision by this rule says besides."""

    annotations: Annotated[dict[str, str], Meta(description="Words that the record holds as they are.")] = {}
    hmac_key: Annotated[bool, Meta(description="The record holds an HMAC of the artifact key instead of it.")] = False


class Rule(DocumentPart, frozen=True):
    """One rule about access. Their order has no meaning: deny, then require, then allow, then the default."""

    name: Annotated[Label, Meta(description="Unique in the document.")]
    effect: Annotated[Literal["allow", "deny", "require"], Meta(description="require never grants and must hold.")]
    description: Annotated[str, Meta(description="Free; for those who read the policy.")] = ""
    enforcement: Annotated[Mode | None, Meta(description="Instead of the document's.")] = None
    match: Match = Match()
    when: Annotated[str, Meta(description="A CEL expression; needs the extra sealgate[cel].", max_length=4096)] = ""
    limits: Limits = Limits()
    require: Requirements = Requirements()
    on_delete: Annotated[Literal["deny", "skip"], Meta(description="skip: a Delete succeeds and removes nothing.")] = (
        "deny"
    )
    message: Annotated[str, Meta(description="One line for the author; may use ${...}.", max_length=240)] = ""
    audit: AuditNote = AuditNote()


class EncryptionRule(DocumentPart, frozen=True):
    """Which key seals which artifact. The first that matches wins."""

    name: Annotated[Label, Meta(description="Unique in the document.")]
    match: Match = Match()
    write: Annotated[
        Literal["required", "passthrough"],
        Meta(description="passthrough stores plaintext, and needs allowPassthrough in the configuration."),
    ] = "required"
    key: Annotated[str, Meta(description="transit/keys/NAME, or NAME; may use ${...}. Default: keys.*.key.")] = ""
    author_keys: Annotated[
        _Texts, Meta(description="Keys that a workflow's author may choose instead, by configuration.sealgate.key.")
    ] = ()
    read_keys: Annotated[
        _Texts, Meta(description="Keys that what is read may be sealed under besides; needs key. For a change of keys.")
    ] = ()
    read_plaintext: Annotated[
        Outcome, Meta(description="allow: what was never sealed is read as it is. For migrations; each use is logged.")
    ] = "deny"
    context: Annotated[
        dict[str, str],
        Meta(description="Goes into the authenticated header, and must be there on reading.", max_length=8),
    ] = {}


class Spec(DocumentPart, frozen=True):
    """What a document says."""

    enforcement: Annotated[Mode, Meta(description="Of its rules; warn and shadow make this document a trial.")] = (
        "enforce"
    )
    default_decision: Annotated[Outcome, Meta(description="Where no rule decides.")] = "deny"
    on_error: Annotated[Outcome, Meta(description="What a deny or require rule that cannot be evaluated does.")] = (
        "deny"
    )
    listing: Annotated[
        Literal["filter", "deny"], Meta(description="What becomes of a listing with objects that may not be read.")
    ] = "filter"
    symlinks: Annotated[
        Literal["reject", "skip"], Meta(description="What becomes of symbolic links in a directory that is saved.")
    ] = "reject"
    params: Annotated[dict[str, str], Meta(description="Words for ${params.NAME}, in this document.")] = {}
    rules: Annotated[
        tuple[Rule, ...], Meta(max_length=1000, description="About access. Their order has no meaning.")
    ] = ()
    encryption: Annotated[
        tuple[EncryptionRule, ...],
        Meta(max_length=1000, description="Which key seals what: the first that matches. No list: the configured key."),
    ] = ()


class ArtifactPolicy(DocumentPart, frozen=True):
    """A policy document (docs/policies.md)."""

    api_version: Annotated[Literal["sealgate/v1alpha1"], Meta(description="The version of this format.")]
    kind: Annotated[Literal["ArtifactPolicy"], Meta(description="A document of rules; test documents have another.")]
    metadata: DocumentMetadata
    spec: Spec = Spec()


def decode(kind: type, value: Any) -> Any:
    """Sizes and ages, for `msgspec.convert`."""
    pattern, factors, form = (
        (_SIZE, _FACTORS, "a size such as `5GiB`, `512KiB` or a number of bytes")
        if kind is Size
        else (_AGE, _SECONDS, "an age such as `30d`, `12h` or `10s`")
    )
    if kind is Size and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return Size(value)
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    number = int(found[1]) * factors[found[2]] if found else _LARGEST + 1
    if number > _LARGEST:
        raise ValueError(f"expected {form}")
    return kind(number)


def json_schema(kind: type[Struct] = ArtifactPolicy) -> dict[str, Any]:
    """JSON Schema 2020-12 of a document, for editors."""
    (schema,), definitions = msgspec.json.schema_components((kind,), schema_hook=_shape, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Sealgate {kind.__name__}",
        **schema,
        "$defs": definitions,
    }


def _shape(kind: type) -> dict[str, Any]:
    if kind is Size:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}
    return {"type": "string", "pattern": f"^{_AGE.pattern}$"}
