"""Random policies, requests, processes and measures, small enough that their rules meet."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from random import Random

from harness.policy import document

from sealgate.policy.decision import OPERATIONS, READS, WRITES, Measures, Request
from sealgate.policy.rules import Process

PATTERNS = [
    *("a", "a/**", "**", "*/b", "a*/b", "?b/**", "**/b", "ab/?"),
    *("${identity.namespace}/**", "x-${identity.namespace}/*", "${identity.namespace}", "${identity.workflow}/a"),
    *("a/${identity.namespace}/**", "**/${identity.namespace}/b"),
]
LIMITS = {
    "maxBytes": [0, 1, 5],
    "minBytes": [1, 4],
    "maxTotalBytes": [3, 9],
    "maxFiles": [1, 2],
    "maxDepth": [1, 2],
    "maxKeyBytes": [2, 6],
    "maxListing": [1],
    "extensions": [["b"], [".b"], ["/b"]],
}
REQUIREMENTS = {"overwrite": "deny", "plaintextRead": "deny", "minAge": "5s", "attestedIdentity": True}
WORDS = ["a", "b", "ab", "bb", "x-a", "x-b", "", "c", "aa"]
SEGMENTS = ["a", "b", "ab", "bb", "x-a", "x-b", "c", "aa", "cb", "a.b", "x-c"]


@dataclass(frozen=True)
class Input:
    """What an engine decides on."""

    request: Request
    process: Process
    measures: Measures


def random_match(random: Random) -> dict:
    match, identity = {}, {}
    if random.random() < 0.6:
        names = ["read", "write", "delete", "list", "stat", "Load", "Save", "OpenStream", "*"]
        match["operations"] = random.sample(names, random.randint(1, 2))
    if random.random() < 0.9:
        match["keys"] = random.sample(PATTERNS, random.randint(1, 2))
    for field, chance, patterns in (
        ("exceptKeys", 0.3, PATTERNS),
        ("artifactNames", 0.15, ["a", "a*", "?b", "${identity.namespace}"]),
        ("plugins", 0.1, ["a", "a*"]),
        ("localPaths", 0.1, ["/a/**", "**/b", "/ab"]),
    ):
        if random.random() < chance:
            match[field] = [random.choice(patterns)]
    for field, chance, patterns in (
        ("namespaces", 0.3, ["a", "b", "a*", "?", "ab", "x-?", "${identity.workflow}"]),
        ("workflows", 0.15, ["a", "a*", "?b"]),
        ("components", 0.1, ["gc"]),
    ):
        if random.random() < chance:
            identity[field] = [random.choice(patterns)]
    return {**match, **({"identity": identity} if identity else {})}


def random_rule(random: Random) -> dict:
    effect = random.choice(["allow", "allow", "deny", "require"])
    rule = {"effect": effect, "match": random_match(random)}
    if effect != "deny":
        rule["limits"] = {name: random.choice(values) for name, values in LIMITS.items() if random.random() < 0.12}
    if effect == "require":
        rule["require"] = {name: value for name, value in REQUIREMENTS.items() if random.random() < 0.3}
        if not rule["limits"] and not rule["require"]:
            rule["limits"] = {"maxBytes": 3}
    if random.random() < 0.1:
        rule["enforcement"] = "warn"
    return rule


def random_policy(random: Random) -> dict:
    fields = (
        ("defaultDecision", 0.3, "allow"),
        ("onError", 0.2, "allow"),
        ("enforcement", 0.05, "warn"),
    )
    spec = {field: value for field, chance, value in fields if random.random() < chance}
    if random.random() < 0.3:
        keys = ["k", "j", "t-${identity.namespace}"]
        spec["encryption"] = [{"match": random_match(random), "key": random.choice(keys)} for _ in range(2)]
    return document([random_rule(random) for _ in range(random.randint(1, 4))], **spec)


def changed(random: Random, policy: dict) -> dict:
    """Return `policy` with one rule replaced, removed or added, or with another default."""
    policy = copy.deepcopy(policy)
    rules = policy["spec"]["rules"]
    change, rule = random.random(), {"name": "new", **random_rule(random)}
    if change < 0.5:
        rules[random.randrange(len(rules))] = rule
    elif change < 0.7 and len(rules) > 1:
        rules.pop(random.randrange(len(rules)))
    elif change < 0.9:
        rules.append(rule)
    else:
        policy["spec"]["defaultDecision"] = random.choice(["allow", "deny"])
    return policy


def random_input(random: Random) -> Input:
    operation = random.choice(sorted(OPERATIONS))
    key = "/".join(random.choice(SEGMENTS) for _ in range(random.randint(1, 3)))
    path = random.choice(["", "/a/b", "/ab", "/c"]) if operation in {"Load", "Save"} else ""
    request = Request(operation, key, random.choice(["", "a", "ab", "c"]), random.choice(WORDS), path)
    identity = {
        "namespace": random.choice(WORDS),
        "workflow": random.choice(WORDS),
        "component": random.choice(["", "gc", "init"]),
    }
    return Input(request, Process(identity, random.random() < 0.5), random_measures(random, operation))


def random_measures(random: Random, operation: str) -> Measures:
    size, files = random.randint(0, 7), random.randint(1, 4)
    total = size if files == 1 else size + random.randint(0, 7)
    if operation in READS:
        return Measures(size, total, files, sealed=random.random() < 0.5, complete=True)
    if operation in WRITES:
        return Measures(size, total, files, exists=random.random() < 0.5, complete=True)
    if operation == "Delete":
        return Measures(files=files, age=random.choice([None, 0, 4, 5, 9]))
    return Measures(listing=random.randint(0, 3)) if operation == "ListObjects" else Measures()
