"""What an author wrote in an artifact's configuration is removed from the lines of a child, also from long ones."""

from __future__ import annotations

import logging
import os
import tracemalloc

import pytest

from sealgate.rpc.child_output import ChildOutput, ConcealedTexts

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"
CONFIGURATION = f"endpoint: s3.example.com\nsecretAccessKey: {SECRET}\nregion: eu\n"


def logged(caplog, written: bytes, *configurations: str) -> list[str]:
    """Return the lines of the log for what a child writes after it got requests with these configurations."""
    concealed = ConcealedTexts()
    for configuration in configurations:
        concealed.add(configuration)
    reading, writing = os.pipe()
    caplog.set_level(logging.INFO, "sealgate.downstream")
    output = ChildOutput(os.fdopen(reading, "rb", buffering=0), concealed)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        pipe.write(written)
    output.end()
    return [record.msg.fields["output"] for record in caplog.records]


@pytest.mark.parametrize(
    "line", [CONFIGURATION, repr(CONFIGURATION), f'{{"secretKey":"{SECRET}"}}', f"key={SECRET}&x=1"]
)
def test_the_words_of_a_configuration_are_removed(caplog, line):
    lines = logged(caplog, f"{line}\nall is well in eu\n".encode(), "other: configuration\n", CONFIGURATION)
    assert SECRET not in str(lines)
    assert lines[-1] == "all is well in eu"


@pytest.mark.parametrize("before", range(8150, 8200, 7))
def test_a_word_is_removed_that_ends_beyond_the_longest_line(caplog, before):
    text = f"{'x ' * (before // 2)}{SECRET} {'y ' * 9000}"
    lines = logged(caplog, text.encode(), CONFIGURATION)
    assert len(lines) > 2
    assert all(len(line) <= 8192 for line in lines)
    joined = "".join(lines)
    assert not any(SECRET[start : start + 8] in joined for start in range(len(SECRET) - 8))


def test_letters_that_the_child_escapes_leave_the_rest_concealed(caplog):
    (line,) = logged(caplog, b"p\\303\\244ss-wJalrXUtnFEMI\n", "password: päss-wJalrXUtnFEMI\n")
    assert "wJalrXUtnFEMI" not in line


def test_no_line_is_logged_after_a_configuration_of_too_many_words(caplog):
    (line,) = logged(caplog, f"{SECRET}\n".encode(), " ".join(f"word-{number:06}" for number in range(5000)))
    assert line.startswith("(a line of output is not shown")


def test_the_oldest_configurations_are_forgotten():
    concealed = ConcealedTexts()
    for number in range(5000):
        concealed.add(f"secret-{number:06}")
    assert concealed.removed_from("secret-000001 secret-004999") == "secret-000001 …"


def test_a_text_that_is_used_again_is_remembered_longer():
    concealed = ConcealedTexts()
    for number in range(4000):
        concealed.add(f"secret-{number:06}")
    concealed.add("secret-000000")
    concealed.add("secret-004000")
    assert concealed.removed_from("secret-000000 secret-000001") == "… secret-000001"


def test_configurations_without_a_word_to_remove_need_no_memory():
    concealed = ConcealedTexts()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            concealed.add(f"a: {number}")
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


def test_a_line_that_is_a_json_object_becomes_an_object_with_its_own_level(caplog):
    written = f'{{"level":"WARNING","a":["{SECRET}"],"b":{{"c":1}}}}\n{{"cut":\n[1]\n{"{" * 5000}\n'
    lines = logged(caplog, written.encode(), CONFIGURATION)
    assert lines[0] == {"level": "WARNING", "a": ["…"], "b": {"c": 1}}
    assert lines[1:3] == ['{"cut":', "[1]"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO", "INFO"]


@pytest.mark.parametrize("line", [b'{"loss": NaN}', b'{"loss": [-Infinity]}', b'{"loss": 1e999}'])
def test_a_number_that_json_does_not_have_leaves_the_line_a_text(caplog, line):
    assert logged(caplog, line + b"\n") == [line.decode()]


def test_a_hidden_key_is_removed_in_every_spelling():
    concealed = ConcealedTexts()
    concealed.add_key("pci/jüne statement.csv")
    for text in ("pci/jüne statement.csv", "pci/j\\xfcne statement.csv", "pci%2Fj%C3%BCne%20statement.csv"):
        assert concealed.removed_from(f"PUT /bucket/{text}?x") == "PUT /bucket/…?x"
    assert concealed.removed_from("jüne statement.csv pci") == "… pci"
