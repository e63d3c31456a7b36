"""The meter judges an object only where its bounds do not tell, and decides as if it judged each object every time."""

from __future__ import annotations

from random import Random

import pytest
from harness.counting import calls_of
from harness.layer_bench import ALLOW, WAYS
from harness.policy import document, policy
from harness.random_policies import random_policy

from sealgate.call import Call, Operation
from sealgate.errors import PluginError, Refused
from sealgate.layers.meter import PolicyMeter
from sealgate.layers.ruling import Ruling
from sealgate.layers.storage_probe import StorageProbe
from sealgate.plugin import Artifact
from sealgate.policy.decision import Measures, Request
from sealgate.policy.engine import Matched

FILES = 300
PART = frozenset({"object", "exists"})
NAMES = ["a", "b", "ab", "a.b", "c", "é", "e\u0301", "a%3Ab", "a\\b"]


FURTHER = [
    *({**ALLOW, "limits": {name: most}} for name, most in (("maxBytes", 3), ("maxTotalBytes", 6), ("maxFiles", 2))),
    *({**ALLOW, "limits": limits} for limits in ({"maxDepth": 1}, {"extensions": ["b"]}, {"minBytes": 1}, {})),
    {"effect": "require", "require": {"overwrite": "deny"}},
    {"effect": "require", "require": {"overwrite": "deny"}, "enforcement": "warn"},
]
"""Rules that many policies get: several grants for the same object, so that one of them outlasts the others."""


class PlainMeter:
    """The definition of the meter: it judges the object and its directory at each report, by all rules."""

    def __init__(self, ruling: Ruling, probe: StorageProbe) -> None:
        self.ruling, self.probe = ruling, probe
        self.size = self.total = self.files = 0
        self.whole: Matched | None = None

    def next_object(self, key: str, size: int | None, *, sealed: bool) -> None:
        self.key, self.sealed, self.size = key, sealed, size or 0
        self.files += 1
        self.total += size or 0
        self.object = self.ruling.rules_for_part(key)
        own = self.ruling.artifact_key
        self.whole = None if key == own else self.whole or self.ruling.rules_for(own)
        self.exists, self.pending = self.probe.exists(key, self.ruling.rules_for(key))
        self.judge(complete=size is not None)

    def add_bytes(self, size: int) -> None:
        self.size += size
        self.total += size
        self.judge(complete=False)

    def finish(self) -> None:
        self.judge(complete=True)

    def judge(self, *, complete: bool) -> None:
        measures = Measures(
            self.size, self.total, self.files, None, self.sealed, self.exists, None, complete, self.pending
        )
        self.probe.require(self.object.judge(measures), self.key, is_own=self.ruling.writes)
        self.object = self.object.surviving(measures)
        if self.whole:
            measures = Measures(total=self.total, files=self.files, pending=PART)
            self.ruling.require(self.whole.judge(measures))
            self.whole = self.whole.surviving(measures)


class Stored:
    """Stored objects: those at the given keys. It refuses to tell of keys that contain a `c`."""

    def __init__(self, keys: set[str]) -> None:
        self.keys_stored = keys

    def header(self, _call, artifact):
        if "c" in artifact.key:
            raise Refused("access denied")
        return object() if artifact.key in self.keys_stored else None

    def has_keys_beneath(self, _call, artifact):
        return any(key.startswith(f"{artifact.key}/") for key in self.keys_stored)


def a_policy(random: Random) -> dict:
    """Return a random policy: some of its grants expire, and some rules have conditions or other limits."""
    written = random_policy(random)
    rules = written["spec"]["rules"]
    for rule in rules:
        if random.random() < 0.1:
            rule["when"] = random.choice(["key.endsWith('b')", "size(segments) > 2"])
        if rule["effect"] == "allow" and random.random() < 0.2:
            rule["expires"] = f"2026-01-0{random.randint(1, 9)}T00:00:00Z"
    if random.random() < 0.7:
        rules[:] = [rule for rule in rules if rule["effect"] != "deny"]
        rules += [{"name": f"more-{n}", **rule} for n, rule in enumerate(FURTHER) if random.random() < 0.3]
        random.shuffle(rules)
    return written


def reports(random: Random, key: str) -> list[tuple]:
    """Return what flows in one call: a file, or a directory of some."""
    made: list[tuple] = []
    files = [key] if random.random() < 0.2 else [f"{key}/{name}" for name in beneath(random)]
    for file in files:
        is_sealed = random.random() < 0.8
        if random.random() < 0.6:
            made.append(("next_object", file, random.randint(0, 5), is_sealed))
            continue
        made.append(("next_object", file, None, is_sealed))
        made += [("add_bytes", random.randint(1, 3)) for _ in range(random.randint(0, 3))]
        made.append(("finish",))
    return made


def beneath(random: Random) -> list[str]:
    count = random.randint(1, 4)
    return ["/".join(random.choice(NAMES) for _ in range(random.randint(1, 2))) for _ in range(count)]


def carried_out(kind, written: dict, seed: int) -> tuple:
    """Return what becomes of a random call with the policy `written`, metered by a meter of the class `kind`."""
    random = Random(seed)
    operation = random.choice([Operation.SAVE, Operation.SAVE_STREAM, Operation.LOAD, Operation.OPEN_STREAM])
    key = "/".join(random.choice(["a", "b", "ab"]) for _ in range(random.randint(1, 2)))
    flow = reports(random, key)
    made = policy(written, namespace=random.choice(["", "a", "b"]), workflow=random.choice(["a", "b"]))
    call, artifact = Call(operation), Artifact(key, random.choice(["", "a"]), "c")
    path = random.choice(["/a/b", "/ab"]) if operation in {Operation.SAVE, Operation.LOAD} else ""
    time = random.choice([None, 1_767_500_000])
    ruling = Ruling(call, artifact, made, Request(str(operation), key, artifact.plugin, artifact.name, path, time))
    probe = StorageProbe(call, ruling, Stored({file for file in (key, f"{key}/a") if random.random() < 0.3}), lambda: 0)
    step, error = -1, None
    try:
        ruling.require(ruling.decide(key, Measures(pending=PART)))
        ruling.nothing_stored = random.random() < 0.5
        meter = kind(ruling, probe)
        for step, (report, *arguments) in enumerate(flow):  # noqa: B007 - the step that raises is compared
            sealed = {"sealed": arguments.pop()} if report == "next_object" else {}
            getattr(meter, report)(*arguments, **sealed)
    except PluginError as raised:
        error = raised
    return step, type(error), error and (error.fact, error.says, error.remedy), call.decision


@pytest.mark.parametrize("block", range(4))
def test_a_call_is_decided_as_if_each_object_were_judged_by_all_rules(block):
    outcomes = set()
    for seed in range(block * 100, block * 100 + 100):
        written = a_policy(Random(seed))
        for flow in range(6):
            expected = carried_out(PlainMeter, written, 6 * seed + flow)
            assert carried_out(PolicyMeter, written, 6 * seed + flow) == expected, (seed, flow, written)
            outcomes.add((expected[3].effective, expected[3].proposed, expected[3].code))
    assert {"OK", "LIMIT_BYTES", "LIMIT_TOTAL", "LIMIT_FILES", "NO_RULE", "OVERWRITE"} <= {
        code for _, _, code in outcomes
    }
    assert ("allow", "deny") in {outcome[:2] for outcome in outcomes}


# --- how often -------------------------------------------------------------------------------------------

TWENTY = [
    rule
    for n in range(10)
    for rule in (
        {**ALLOW, "match": {"keys": [f"team-{n}/**", f"shared-{n}/*/data/*.parquet"]}, "limits": {"maxBytes": "1MiB"}},
        {"effect": "deny", "match": {"keys": [f"**/*.kind-{n}", f"**/.place-{n}/**"]}},
    )
]
POLICIES = {
    "no policy": [],
    "twenty rules": [document(TWENTY)],
    "an expired grant": [document([{**ALLOW, "expires": "2026-01-01T00:00:00Z"}, *TWENTY])],
    "two encryption rules": [document(TWENTY, encryption=[{"match": {"keys": ["**/x/**"]}, "key": "one"}, {}])],
    "nothing is replaced": [document([*TWENTY, {"effect": "require", "require": {"overwrite": "deny"}}])],
    "limits on keys": [document([*TWENTY, {"effect": "require", "limits": {"maxDepth": 5, "maxKeyBytes": 80}}])],
    "a rule on trial": [document([*TWENTY, {"effect": "deny", "match": {"keys": ["z/**"]}, "enforcement": "warn"}])],
}


@WAYS
@pytest.mark.parametrize("name", POLICIES)
def test_the_number_of_judgements_does_not_depend_on_the_number_of_files(make, transfer, name):
    judged = {}
    for files in (10, FILES):
        bench = make(*POLICIES[name], transfer=transfer)
        for number in range(files):
            bench.file(name=f"tree/d{number % 5}/{number}")
        saved = calls_of(Matched.judge, lambda b=bench: b.save("team-3/t", b.work / "tree"))
        loaded = calls_of(Matched.judge, lambda b=bench: b.load("team-3/t"))
        judged[files] = (saved, loaded)
    assert judged[10] == judged[FILES]
    assert max(judged[FILES]) <= 30


@WAYS
def test_the_number_of_judgements_does_not_depend_on_the_size_of_a_file(make, transfer):
    saved, streamed = set(), set()
    for chunks in (1, 3000):
        bench = make(
            document([{**ALLOW, "limits": {"maxBytes": most}} for most in ("4MiB", "5MiB")]), transfer=transfer
        )
        path, parts = bench.file(bytes(1000 * chunks)), [bytes(1000)] * chunks
        saved.add(calls_of(Matched.judge, lambda b=bench, p=path: b.save("t", p)))
        streamed.add(calls_of(Matched.judge, lambda b=bench, p=parts: b.save_stream("s", p)))
    assert len(saved) == len(streamed) == 1
    assert max(saved | streamed) <= 20


@pytest.mark.parametrize("name", POLICIES)
def test_a_listing_is_judged_by_kinds_and_shows_what_each_judgement_shows(make, name):
    bench = make(*POLICIES[name])
    for number in range(FILES):
        bench.below.objects[f"team-3/t/{number % 7}/{number}.kind-{number % 13}"] = b""
    bench.below.objects["team-3/t/a\\b"] = b""
    listed: list[str] = []
    judged = calls_of(Matched.judge, lambda: listed.extend(bench.list("team-3/t")))
    if not POLICIES[name]:
        assert len(listed) == FILES + 1
        return
    made = policy(*POLICIES[name], namespace="")
    times = {key: made.decide(Request("Load", key, time=int(bench.now))) for key in bench.below.objects}
    assert listed == sorted(key for key, decision in times.items() if decision.effective.allows)
    assert 0 < len(listed) < FILES
    assert judged < 60
