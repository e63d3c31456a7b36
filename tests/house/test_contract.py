"""The facts of docs/argo-contract.md and the tests that cite them by number belong together."""

import re
from collections import defaultdict
from pathlib import Path

from sealgate.argo import RETRIED_TEXTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "argo-contract.md").read_text()
FACT = re.compile(r"^(\d+)\. (.*?)(?=^\d+\. |^## |\Z)", re.MULTILINE | re.DOTALL)
CITING = re.compile(r"^def test_((?:\d+_)+)", re.MULTILINE)
FACTS = [(int(number), text) for number, text in FACT.findall(PAGE)]


def files_after(word: str, text: str) -> set[str]:
    """Return the paths of the links behind `word:` in a fact."""
    return set(re.findall(r"\]\(\.\./([^)]+)\)", text.partition(f"{word}: ")[2]))


def citations() -> dict[int, set[str]]:
    """Return the files of the tests that cite each number."""
    found = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for numbers in CITING.findall(path.read_text()):
            for number in numbers.rstrip("_").split("_"):
                found[int(number)].add(str(path.relative_to(ROOT)))
    return found


def test_facts_are_numbered_without_a_gap():
    assert [number for number, _ in FACTS] == list(range(1, len(FACTS) + 1))


def test_each_number_that_a_test_cites_is_a_fact():
    assert set(citations()) <= {number for number, _ in FACTS}


def test_each_fact_is_cited_by_the_tests_that_it_names_or_held_elsewhere():
    cited = citations()
    for number, text in FACTS:
        assert ("Test: " in text) != ("Held elsewhere: " in text), number
        assert files_after("Test", text) == cited.get(number, set()), number
        elsewhere = files_after("Held elsewhere", text)
        assert elsewhere or number in cited, number
        assert all((ROOT / path).is_file() for path in elsewhere), number


def test_the_page_lists_the_texts_that_argo_retries():
    (text,) = [text for number, text in FACTS if number == 65]
    named = {" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)}
    assert named - {"retryPolicy: OnTransientError"} == set(RETRIED_TEXTS)
