"""Why accesses were denied: the codes of decisions in plain words (docs/policy-reference.md, "Refusals")."""

from __future__ import annotations

REASONS = {
    "BAD_KEY": "the key of the artifact is malformed, or could be read as another key",
    "CONTEXT": "the object was sealed for another context",
    "DENIED": "a rule denies it",
    "ENCRYPTION": "the workflow asked for a key that no encryption rule lets it choose",
    "ERROR": "a rule could not be evaluated, so it denies",
    "EXPIRED": "the rule that allowed it has expired",
    "EXTENSION": "the name has an extension that the rule does not allow",
    "IDENTITY": "the rule needs an identity that the key service proved",
    "LIMIT_BYTES": "the object is larger or smaller than the rule allows",
    "LIMIT_DEPTH": "the key has more segments than the rule allows",
    "LIMIT_FILES": "there are more objects than the rule allows",
    "LIMIT_KEY": "the key is longer than the rule allows",
    "LIMIT_LISTING": "the listing has more names than the rule allows",
    "LIMIT_TOTAL": "all objects together are larger than the rule allows",
    "NO_KEY": "no encryption rule covers the key of the artifact",
    "NO_RULE": "no rule allows it",
    "OTHER_KEY": "the object was sealed under another key than the rule names",
    "OVERWRITE": "an object is stored there, or may be, and must not be replaced",
    "PLAINTEXT": "plaintext would be stored or read, and the rule does not allow that",
    "POLICY_INVALID": "the policies could not be loaded, so everything was denied",
    "RETENTION": "the object must still be kept",
}


def reason_of(code: str) -> str:
    """Return what a code of a decision means; an empty text for a code that is not known here."""
    return REASONS.get(code, "")
