"""Files with the names that real data has are stored under their own names, and policies see one normal form."""

from __future__ import annotations

import unicodedata

import pytest
from harness.layer_bench import ALLOW, WAYS, denied
from harness.policy import document

from sealgate.errors import BadRequest, DownstreamStatus
from sealgate.plugin import Artifact
from sealgate.storage.absence import Absence

NAMES = [
    "day=2026-11-22 10%3A00",
    unicodedata.normalize("NFD", "é ガ"),
    "Screenshot 10.00.00\u202fAM.png",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "100%25",
]


@WAYS
def test_a_directory_with_the_names_of_real_data_is_stored_and_loaded_byte_for_byte(make, transfer):
    bench = make(document([ALLOW]), transfer=transfer)
    for name in NAMES:
        bench.file(name.encode(), name=f"tree/{name}/{name}")
    bench.save("t", bench.work / "tree")
    assert {f"t/{name}/{name}" for name in NAMES} <= set(bench.below.objects)
    tree = bench.load("t")
    assert {path.name: path.read_bytes().decode() for path in tree.rglob("*") if path.is_file()} == {
        name: name for name in NAMES
    }
    assert bench.load(f"t/{NAMES[0]}/{NAMES[0]}", "one").read_bytes().decode() == NAMES[0]


@WAYS
@pytest.mark.parametrize("name", ["geh%65im", "gehe\u200dim", "geheim"])
def test_a_rule_applies_to_a_file_in_every_spelling_of_its_name(make, transfer, name):
    bench = make(document([ALLOW, {"effect": "deny", "match": {"keys": ["**/geheim"]}}]), transfer=transfer)
    bench.file(name=f"tree/{name}")
    denied(lambda: bench.save("t", bench.work / "tree"), "DENIED")
    assert bench.below.objects == {}


@WAYS
@pytest.mark.parametrize("name", ["a%2fb", "\u202ex", "x" * 200 + "%00"])
def test_a_directory_with_an_unusable_name_says_which_file_and_what_to_do(make, transfer, name):
    bench = make(transfer=transfer)
    bench.file(name="tree/fine")
    bench.file(name=f"tree/sub/{name}")
    error = denied(lambda: bench.save("t", bench.work / "tree"), "BAD_KEY", BadRequest)
    assert error.fact.startswith(f'file "sub/{name[:100]}'.replace("\u202e", "\\x202e"))
    assert error.remedy == "Rename the file, or save an archive of the directory"
    assert bench.below.objects == {}


def test_words_that_an_author_encodes_in_a_key_do_not_count_as_an_answer():
    answer = DownstreamStatus("UNKNOWN", "cannot read rec/not found")
    says_absent = Absence().of_object
    assert says_absent(answer, Artifact("rec/x"))
    for key in ("rec/not%20found", "rec/n%6ft fo%2575nd", "rec/not fo\u200dund"):
        assert not says_absent(answer, Artifact(key))
