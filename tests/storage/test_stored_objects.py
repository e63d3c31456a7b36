"""What the answer of whoever stores tells about an object that could not be read."""

import pytest

from sealgate.errors import DownstreamStatus, Refused
from sealgate.plugin import Artifact
from sealgate.storage.stored_objects import IsDirectory, says_absent

PLAIN = Artifact("rec/p")


@pytest.mark.parametrize(
    "answer",
    [
        Refused("object not found"),
        Refused("<Code>NoSuchKey</Code> rec/p"),
        DownstreamStatus("NOT_FOUND", ""),
        DownstreamStatus("UNKNOWN", "The specified key does not exist"),
        IsDirectory("the artifact is a directory"),
    ],
)
def test_that_there_is_none_is_read_from_the_status_or_the_text(answer):
    assert says_absent(answer, PLAIN)


@pytest.mark.parametrize(
    ("artifact", "text"),
    [
        (Artifact("lost/found/x"), "object not found"),
        (Artifact("why/not/x"), "object not found"),
        (Artifact("data/file.txt"), "no such file"),
        (Artifact("rec/p", configuration="key: abc\n"), "NoSuchKey"),
        (Artifact("rec/p", configuration="overwrite: not-set\n"), "it does not exist"),
        (Artifact("team-a/t"), "is a directory"),
    ],
)
def test_an_everyday_word_of_the_author_takes_nothing_from_the_text(artifact, text):
    assert says_absent(Refused(text), artifact)


def test_that_something_is_a_directory_is_known_here_and_no_word_of_the_author_matters():
    assert says_absent(IsDirectory("the artifact is a directory"), Artifact("is/a/directory"))


CODES = ["UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"]


@pytest.mark.parametrize("code", CODES)
def test_a_status_that_says_something_else_outweighs_the_text(code):
    assert not says_absent(DownstreamStatus(code, "lookup of the store: host not found"), PLAIN)


@pytest.mark.parametrize(
    ("artifact", "text"),
    [
        (Artifact("rec/notfound"), "AccessDenied: may not read rec/notfound"),
        (Artifact("rec/NotFound"), "AccessDenied: rec%2FNotFound"),
        (Artifact("rec/not found/x"), "AccessDenied: not found/x"),
        (Artifact("rec/p", name="nosuchkey"), "AccessDenied: nosuchkey"),
        (Artifact("rec/p", configuration="bucket: not found\n"), "AccessDenied: bucket not found"),
        (Artifact("rec/p", from_expression="no such key"), "access denied for no such key"),
        (Artifact("rec/found", configuration="bucket: not\n"), "may not read not found"),
        (Artifact("notéfound"), "access denied: not?found"),
        (Artifact("notéfound"), "access denied: notfound"),
        (Artifact("rec/p", configuration="prefix: no%74found\n"), "access denied: notfound"),
        (Artifact("rec/p", configuration="prefix: !!binary bm90Zm91bmQ=\n"), "access denied: notfound"),
        (Artifact("rec/p", configuration="bucket: between\n"), "not between found"),
        (Artifact("rec/p", configuration='bucket: "n\\x6ftfound"\n'), "AccessDenied: bucket notfound"),
        (Artifact("rec/p", configuration='bucket: "not\\\n  found"\n'), "AccessDenied: bucket notfound"),
    ],
)
def test_a_word_that_the_author_could_have_put_there_tells_nothing(artifact, text):
    assert not says_absent(Refused(text), artifact)
    assert not says_absent(DownstreamStatus("UNKNOWN", text), artifact)
    assert says_absent(DownstreamStatus("NOT_FOUND", text), artifact)
