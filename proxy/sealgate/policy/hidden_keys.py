"""Which artifact keys the policies hide (`audit.hmacKey`): no log line and no record contains them.

A key is hidden by its pattern alone, before any decision. Neither the other fields of the rule count, nor whether the
rule decides. So a key stays hidden whichever rule refuses the call, and in a process that the rule does not concern.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealgate.policy import canonical_keys, globs, templates
from sealgate.policy.load import PolicySet
from sealgate.policy.schema import Rule


class HiddenKeys:
    """The keys that `policies` hide."""

    def __init__(self, policies: PolicySet) -> None:
        self._rules = [
            _HidingRule.of(rule, document.spec.params)
            for document in policies.documents
            for rule in document.spec.rules
            if rule.audit.hmac_key
        ]

    def hides(self, key: str) -> bool:
        """Return whether a rule hides `key`, or an object that `key` is beneath.

        A key that is not canonical may be another spelling of a hidden one. So it is hidden if any rule hides keys.
        """
        if not self._rules:
            return False
        if canonical_keys.fault_of(key):
            return True
        plain = canonical_keys.normal_form(key)
        return any(rule.hides(plain) for rule in self._rules)


@dataclass(frozen=True, slots=True)
class _HidingRule:
    """The patterns of one rule, in which a variable of the identity is any text: all processes hide the same keys."""

    keys: tuple[globs.Matcher, ...]
    """Empty for every key."""
    except_keys: tuple[globs.Matcher, ...]

    @classmethod
    def of(cls, rule: Rule, params: dict[str, str]) -> _HidingRule:
        keys = [templates.filled(templates.any_identity(text), {}, params) for text in rule.match.keys]
        shown = [
            templates.filled(text, {}, params) for text in rule.match.except_keys if not templates.uses_identity(text)
        ]
        return cls(tuple(map(globs.compiled, keys)), tuple(map(globs.compiled, shown)))

    def hides(self, key: str) -> bool:
        """Return whether `key`, in normal form, is hidden. The nearest object above it that a pattern names decides."""
        while key:
            if not self.keys or any(matches(key) for matches in self.keys):
                return not any(matches(key) for matches in self.except_keys)
            key = key.rpartition("/")[0]
        return False
