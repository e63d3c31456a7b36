"""For any bytes, each parser of bytes from outside returns a value or raises a named error."""

from __future__ import annotations

import random

import pytest
from fuzz.parsers import PARSERS
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", PARSERS)
def test_each_valid_input_is_accepted_and_each_kept_one_gets_an_answer(name):
    parser = PARSERS[name]
    for data in parser.valid:
        parser.parse(data)
    for data in parser.corpus(name):
        parser.run(data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=300))
def test_any_bytes_get_an_answer_from_a_parser(name, data):
    PARSERS[name].run(data)


@pytest.mark.parametrize("name", PARSERS)
@given(st.randoms(use_true_random=False))
def test_a_changed_valid_input_gets_an_answer_from_a_parser(name, chance):
    PARSERS[name].run(changed(chance.choice(PARSERS[name].valid), chance))


def changed(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with some bytes changed, removed, repeated or added."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0 if at < len(found):
                found[at] = chance.randrange(256)
            case 1:
                del found[at : at + chance.randrange(1, 9)]
            case 2:
                found[at:at] = found[at : at + chance.randrange(1, 40)]
            case _:
                found[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(found)
