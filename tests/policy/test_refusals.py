"""docs/refusals.md shows the texts that authors read."""

from harness.refusals import PAGE, page, refusals

from sealgate.call import Call, Operation
from sealgate.errors import Denied
from sealgate.policy.decision import Verdict


def test_the_page_shows_each_refusal_as_it_is():
    assert PAGE.read_text() == page(), "run `make refusals`"


def test_each_refusal_is_a_line_that_an_author_can_act_on():
    for title, text in refusals():
        assert len(text.encode()) <= 400, title
        assert text.isprintable(), title
        assert text.endswith("[d=53e1c0de53e1c0de]"), title


def test_as_much_of_the_advice_is_shown_as_fits():
    refusal = Denied("a rule denies it", says="policy p, rule r, DENIED", remedy="\U0001f512" * 240)
    line = refusal.line(Call(Operation.LOAD), "team-a/x")
    assert 395 <= len(line.encode()) <= 400
    assert '"team-a/x"' in line
    assert "\U0001f512…. [d=" in line


def test_the_longest_refusal_still_names_its_source_and_code():
    verdict = Verdict("deny", "LIMIT_LISTING", "p" * 63, "encryption/" + "r" * 63, fact="\U0001f512" * 400)
    refusal = Denied(verdict.fact, says=verdict.says, remedy="\U0001f512" * 240)
    line = refusal.line(Call(Operation.LIST_OBJECTS), "\U0001f511" * 250)
    assert len(line.encode()) <= 400
    assert f"({verdict.says})" in line
