"""Loads the policies that a configuration names, and resolves the identity of this process for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sealgate import identity
from sealgate.call import Call
from sealgate.compose.keys import LOCAL_MOUNT, provider_kind
from sealgate.config import Settings
from sealgate.errors import PolicyInvalid
from sealgate.identity import Identity
from sealgate.keys import KeyProvider
from sealgate.policy import load
from sealgate.policy.load import DocumentSource, Installation, Invalid, PolicySet
from sealgate.policy.rules import Process

_NAMESPACE, _ACCOUNT = "service_account_namespace", "service_account_name"
"""Vault's names for them after a login by Kubernetes. A role of the method jwt maps its claims to the same names."""


def load_policies(settings: Settings) -> PolicySet:
    """Load every policy document that the settings name.

    Raises:
        PolicyInvalid: a document is not valid, or `requirePolicy` is set and there is no document.
    """
    try:
        policies = load.loaded(document_sources(settings), installation(settings))
    except Invalid as invalid:
        more = f" (and {len(invalid.faults) - 1} more)" if len(invalid.faults) > 1 else ""
        remedy = "Fix it; `sealgate policy check` shows every fault"
        raise PolicyInvalid(invalid.faults[0] + more, says="policy", remedy=remedy) from None
    if settings.require_policy and not policies.documents:
        fact = "a policy is required, and the configuration names none"
        raise PolicyInvalid(fact, says="configuration", remedy="Set policies, or remove requirePolicy")
    return policies


def document_sources(settings: Settings) -> list[DocumentSource]:
    """Read the policy documents that the settings name or contain.

    Raises:
        Invalid: a document cannot be read.
    """
    sources: list[DocumentSource] = []
    for policy in settings.policies:
        if isinstance(policy, Path):
            sources += load.sources_at(policy)
        else:
            sources.append(DocumentSource("configuration", policy))
    return sources


def installation(settings: Settings) -> Installation:
    """Return the facts of this installation that policies are validated against."""
    mount = provider_kind(settings).mount(settings) if settings.keys else LOCAL_MOUNT
    return Installation(mount, settings.allow_passthrough)


def process_resolver(keys: KeyProvider) -> Callable[[Call], Process]:
    """Build a function that returns this process as policies see it, with the identity of `identity_resolver`."""
    resolve_identity = identity_resolver(keys)

    def resolve(call: Call) -> Process:
        known = resolve_identity(call)
        return Process(policy_identity(known), attested=known.attested)

    return resolve


def identity_resolver(keys: KeyProvider) -> Callable[[Call], Identity]:
    """Build a function that returns the identity of this process, as far as it is known at the call.

    Its environment asserts the identity. Once the login to the key provider has proven a namespace and a service
    account, these replace the asserted ones, and the identity is attested.
    """
    asserted = identity.asserted()
    return lambda call: _attested(asserted, keys.attested(call))


def known_identity(keys: KeyProvider) -> Callable[[], Identity]:
    """Build a function that returns the same identity as far as it is known without a request to the key provider."""
    asserted = identity.asserted()
    return lambda: _attested(asserted, keys.attested_already())


def _attested(asserted: Identity, proven: Mapping[str, str]) -> Identity:
    namespace, account = proven.get(_NAMESPACE, ""), proven.get(_ACCOUNT, "")
    if not (namespace and account):
        return asserted
    return replace(asserted, namespace=namespace, service_account=account, attested=True)


def policy_identity(known: Identity) -> Mapping[str, str]:
    """Return the fields of `known` by the names that policies use (`${identity.NAME}`)."""
    return {
        "namespace": known.namespace,
        "serviceAccount": known.service_account,
        "workflow": known.workflow,
        "workflowUid": known.workflow_uid,
        "pod": known.pod,
        "podUid": known.pod_uid,
        "node": known.node,
        "component": known.component,
    }
