"""Which answers of a downstream to a read mean that the object does not exist."""

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
def test_an_absent_object_is_recognized_by_the_status_or_the_text(answer):
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
def test_common_words_of_the_author_do_not_invalidate_the_text(artifact, text):
    assert says_absent(Refused(text), artifact)


def test_a_directory_is_absent_as_an_object_whatever_the_author_wrote():
    assert says_absent(IsDirectory("the artifact is a directory"), Artifact("is/a/directory"))


CODES = ["UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED", "INTERNAL", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"]


@pytest.mark.parametrize("code", CODES)
def test_a_status_with_another_meaning_overrides_the_text(code):
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
def test_words_that_the_author_could_have_put_there_do_not_count(artifact, text):
    assert not says_absent(Refused(text), artifact)
    assert not says_absent(DownstreamStatus("UNKNOWN", text), artifact)
    assert says_absent(DownstreamStatus("NOT_FOUND", text), artifact)
