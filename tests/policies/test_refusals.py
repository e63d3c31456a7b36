"""The page of refusals says what authors read."""

from harness.refusals import PAGE, page, refusals


def test_the_page_holds_each_refusal_as_it_is():
    assert PAGE.read_text() == page(), "run `make refusals`"


def test_each_refusal_is_a_line_that_an_author_can_act_on():
    for title, text in refusals():
        assert len(text.encode()) <= 400, title
        assert text.isprintable(), title
        assert text.endswith("[d=53e1c0de53e1c0de]"), title
