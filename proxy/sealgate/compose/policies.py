"""The policies that a configuration names, and the process that they are for."""

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
"""What Vault calls them after a login by Kubernetes; a role of the method jwt maps its claims to the same names."""


def load_policies(settings: Settings) -> PolicySet:
    """Every document that the settings name.

    Raises:
        PolicyInvalid: one is not valid, or there is none and one is required.
    """
    try:
        found = load.loaded(sources(settings), installation(settings))
    except Invalid as invalid:
        more = f" (and {len(invalid.faults) - 1} more)" if len(invalid.faults) > 1 else ""
        remedy = "Mend it; `sealgate policy check` shows every fault"
        raise PolicyInvalid(invalid.faults[0] + more, says="policy", remedy=remedy) from None
    if settings.require_policy and not found.documents:
        fact = "a policy is required, and the configuration names none"
        raise PolicyInvalid(fact, says="configuration", remedy="Set policies, or remove requirePolicy")
    return found


def sources(settings: Settings) -> list[DocumentSource]:
    """The documents that the settings name, those in place too.

    Raises:
        Invalid: one cannot be read.
    """
    found: list[DocumentSource] = []
    for policy in settings.policies:
        if isinstance(policy, Path):
            found += load.sources_at(policy)
        else:
            found.append(DocumentSource("configuration", policy))
    return found


def installation(settings: Settings) -> Installation:
    """What policies must fit to."""
    mount = provider_kind(settings).mount(settings) if settings.keys else LOCAL_MOUNT
    return Installation(mount, settings.allow_passthrough)


def identified(keys: KeyProvider) -> Callable[[Call], Process]:
    """The same as `known_by`, as policies see it."""
    known = known_by(keys)

    def identify(call: Call) -> Process:
        found = known(call)
        return Process(words(found), attested=found.attested)

    return identify


def known_by(keys: KeyProvider) -> Callable[[Call], Identity]:
    """Tells whose process this is: as its environment asserts, or, where the login proved it, as that attests."""
    asserted = identity.asserted()

    def identify(call: Call) -> Identity:
        proven = keys.attested(call)
        namespace, account = proven.get(_NAMESPACE, ""), proven.get(_ACCOUNT, "")
        if not (namespace and account):
            return asserted
        return replace(asserted, namespace=namespace, service_account=account, attested=True)

    return identify


def words(known: Identity) -> Mapping[str, str]:
    """An identity by the names that policies use."""
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
