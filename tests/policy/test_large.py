"""A million generated policies, keys and patterns cause no errors but named ones. `make test-large` runs it."""

from __future__ import annotations

import json
from random import Random

import pytest
from harness.library import LIBRARY

from sealgate.documents.reader import Unreadable, read
from sealgate.policy import canonical_keys, globs
from sealgate.policy.decision import OPERATIONS, Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, Invalid, loaded
from sealgate.policy.rules import Process

INPUTS = 1_000_000
OF_TEXTS, OF_POLICIES = 150_000, 150_000
LETTERS = "ab/.*?%2fF5cC\\;${}identity.namespace\u2024\uff0e\u202e\x00é \ud800\n\"':[]-&!"
SEEDS = [path.read_text() for path in sorted(LIBRARY.glob("*.yaml"))]


def mutated(random: Random, text: str) -> str:
    for _ in range(random.randint(1, 4)):
        at, gone = random.randrange(len(text)), random.choice([0, 0, 1, 2, 9])
        text = text[:at] + "".join(random.choices(LETTERS, k=random.randint(0, 4))) + text[at + gone :]
    return text


def decided(text: str, key: str) -> None:
    try:
        documents = loaded([DocumentSource("p", read(text))])
    except (Unreadable, Invalid):
        return
    policy = ProcessPolicy(documents, Process({"namespace": "a"}))
    for operation in OPERATIONS:
        policy.decide(Request(operation, key))


def shuffled(random: Random, value):
    """Return the value with some parts removed or replaced at random."""
    if isinstance(value, dict):
        return {name: shuffled(random, inner) for name, inner in value.items() if random.random() > 0.03}
    if isinstance(value, list):
        return [shuffled(random, inner) for inner in value]
    if random.random() < 0.1:
        return random.choice([None, True, 0, -1, 1.5, "", "x", "**", "5GiB", "30d", "allow", [], {}, "${identity.pod}"])
    return value


@pytest.mark.large
@pytest.mark.timeout(3600)
def test_a_million_inputs_give_decisions_or_named_errors():
    random = Random(20261124)
    for _ in range(INPUTS - OF_TEXTS - OF_POLICIES):
        pattern = "".join(random.choices(LETTERS, k=random.randint(0, 12)))
        key = "".join(random.choices(LETTERS, k=random.randint(0, 16)))
        canonical_keys.fault_of(key)
        if not globs.fault_of(pattern):
            globs.compiled(pattern)(key)
    for _ in range(OF_TEXTS):
        decided(mutated(random, random.choice(SEEDS)), "a/b")
    values = [read(text).value for text in SEEDS]
    for _ in range(OF_POLICIES):
        decided(json.dumps(shuffled(random, random.choice(values))), "a/b")
