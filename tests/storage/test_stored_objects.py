"""Which answers of a downstream mean that nothing is stored."""

import pytest

from sealgate.errors import DownstreamStatus, Refused
from sealgate.plugin import Artifact
from sealgate.storage.absence import Absence, IsDirectory

PLAIN = Artifact("rec/p")
says_absent = Absence().of_object


@pytest.mark.parametrize(
    "answer",
    [
        Refused("object not found"),
        Refused("<Code>NoSuchKey</Code> rec/p"),
        DownstreamStatus("NOT_FOUND", ""),
        DownstreamStatus("UNKNOWN", "The specified key does not exist"),
        DownstreamStatus("INTERNAL", "The specified key does not exist."),
        DownstreamStatus("INTERNAL", "rpc: [Errno 2] No such file or directory: '/data/bucket/rec/p'"),
        Refused("no key found of name rec/p"),
        Refused("storage: object doesn't exist"),
        Refused("storage: object doesn\u2019t exist"),
        Refused("404 GET https://store.example.com/b/some-bucket/o/rec/p?alt=media: No such object: bucket/rec/p"),
        Refused("operation error S3: GetObject, StatusCode: 404, RequestID: 1, HostID: 2, NoSuchKey: "),
        Refused("An error occurred (404) when calling the HeadObject operation: Not Found"),
        Refused("The specified blob does not exist. ErrorCode:BlobNotFound Container: things"),
        Refused("<Error><Code>NoSuchKey</Code><BucketName>b</BucketName><Key>rec/p</Key></Error>"),
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


@pytest.mark.parametrize(
    "text",
    [
        'failed to resolve access key: failed to get secret s3: secrets "s3" not found',
        "secret key accesskey not found in secret s3",
        "NoSuchBucket: The specified bucket does not exist",
        "ErrorCode:ContainerNotFound: The specified container does not exist.",
        "The AWS Access Key Id you provided does not exist in our records.",
        "open /var/run/secrets/tokens/aws: no such file or directory",
        "dial tcp: lookup store.example.com: no such host; server not found",
        "404 page not found",
        'exec: "aws": executable file not found in $PATH',
        'serviceaccounts "artifacts" not found',
        "user not found",
    ],
)
@pytest.mark.parametrize("key", ["rec/p", "secret", "s", "bucket", "page", "user", "a/secret"])
def test_something_else_that_is_absent_is_not_the_object(text, key):
    for answer in (Refused(text), DownstreamStatus("INTERNAL", text), DownstreamStatus("UNKNOWN", text)):
        assert not Absence().of_object(answer, Artifact(key))
        assert not Absence().of_all(answer, Artifact(key))


@pytest.mark.parametrize("key", ["a", "rec/p", "a b"])
def test_repeating_the_key_hides_no_other_subject(key):
    for text in (
        f"{key}.{key} secrets not found",
        f"{key} {key} bucket not found",
        f"host/{key} x{key} not found: role",
    ):
        assert not Absence().of_all(Refused(text), Artifact(key)), text


@pytest.mark.parametrize("key", ["ns/secret/bucket", "host/user", "accounts/2026/token"])
def test_a_key_may_have_the_words_of_other_subjects(key):
    for text in (f"not found: {key}", f"object not found: s3://things/{key}", f"no key found of name {key}"):
        assert Absence().of_all(Refused(text), Artifact(key)), text


@pytest.mark.parametrize(
    "text", ["Is a directory: 'rec/p'", "Directory Stream capability currently unimplemented for S3"]
)
def test_that_a_key_is_a_directory_answers_a_read_and_nothing_else(text):
    answer = DownstreamStatus("INTERNAL", text)
    assert Absence().of_object(answer, PLAIN)
    assert not Absence().of_all(answer, PLAIN), "a Delete that says so has deleted nothing"


TAUGHT = Absence(["drawer is VACANT", "見つかりません"])


@pytest.mark.parametrize("text", ["the Drawer is vacant.", "rec/p: 見つかりません"])
@pytest.mark.parametrize("code", ["", "UNKNOWN", "INTERNAL", "INVALID_ARGUMENT", "FAILED_PRECONDITION"])
def test_a_text_that_was_taught_counts_unless_the_author_wrote_its_words(text, code):
    answer = DownstreamStatus(code, text) if code else Refused(text)
    assert TAUGHT.of_all(answer, PLAIN)
    assert TAUGHT.of_object(answer, PLAIN)
    assert not Absence().of_object(answer, PLAIN)
    for key in ("a/drawer/is/vacant", "a/Drawer is Vacant", "drawerisvacant", "見つかりません", "x/見つかりません/y"):
        own = "見" in key
        assert TAUGHT.of_all(answer, Artifact(key)) is (own is not ("見" in text))


def test_a_text_that_was_taught_may_have_punctuation():
    taught = Absence(['E-17: "vacant" (drawer)!'])
    assert taught.of_all(Refused('rpc error: e-17: "Vacant"  (drawer)! rec/p'), PLAIN)
    assert not taught.of_all(Refused("E-18: vacant (drawer)"), PLAIN)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "PERMISSION_DENIED", "DEADLINE_EXCEEDED", "UNAUTHENTICATED"])
def test_a_text_that_was_taught_does_not_count_with_every_status(code):
    assert not TAUGHT.of_all(DownstreamStatus(code, "the drawer is vacant"), PLAIN)


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
    assert says_absent(DownstreamStatus("NOT_FOUND", text.replace("bucket not found", "not found")), artifact)


@pytest.mark.parametrize(
    ("artifact", "text"),
    [
        (Artifact("not-found/report"), "failed to read object not-found/report: AccessDenied"),
        (Artifact("not-found/report"), "cannot delete object s3://things/not-found/report: Access Denied by retention"),
        (Artifact("not found/r"), "cannot delete object not found/r: locked"),
        (Artifact("not%2Dfound/r"), "cannot delete object not-found/r: locked"),
        (Artifact("a/not-found"), "cannot delete object not-found: locked"),
        (Artifact("not-found/r"), "cannot list the directory of object not-found: locked"),
        (Artifact("not-found/r"), "cannot delete object not%2Dfound%2Fr: locked"),
        (Artifact("ns/no-such"), "ns/no-such object is locked"),
        (Artifact("x/no"), "failed to read b/x/no object: timeout"),
        (Artifact("does-not-exist/a"), "object does-not-exist/a: AccessDenied"),
        (Artifact("x/not"), "reading x/not found 3 retries: timeout"),
        (Artifact("rec/p", name="not-found"), "the object not-found is locked"),
        (Artifact("rec/p", configuration="tenant: not-found\n"), "the object not-found is locked"),
        (Artifact("rec/p", configuration="bucket: object\n"), "the bucket object not found"),
        (Artifact("rec/p", configuration="object: x\n"), "line 1: field object not found in type main.Options"),
        (Artifact("rec/p", configuration="object not: x\n"), "no setting object not found"),
    ],
)
def test_words_beside_those_that_the_author_wrote_do_not_complete_a_text(artifact, text):
    for error in (Refused(text), DownstreamStatus("INTERNAL", text)):
        assert not Absence().of_object(error, artifact)
        assert not Absence().of_all(error, artifact)


def test_words_beside_those_that_the_author_wrote_do_not_complete_a_text_that_was_taught():
    assert not Absence(["no such key"]).of_all(
        Refused("denied: s3://nosuch/key"), Artifact("key", configuration="bucket: nosuch\n")
    )
    assert not TAUGHT.of_all(Refused("the drawer is-vacant/p: locked"), Artifact("is-vacant/p"))


CREDENTIALS = '{"bucket": "b", "key": "-----BEGIN\\nabc", "path": "C:\\\\data"}'


@pytest.mark.parametrize("configuration", [CREDENTIALS, "sas: sig=a%2Fb%3D\n", 'sa: |\n  {"key": "a\\nb"}\n'])
def test_escapes_of_a_configuration_that_can_be_read_do_not_invalidate_a_text(configuration):
    artifact = Artifact("ns/f", configuration=configuration)
    assert Absence().of_all(Refused("no key found of name ns/f"), artifact)
    assert TAUGHT.of_all(Refused("the drawer is vacant"), artifact)


@pytest.mark.parametrize(
    "configuration",
    [
        '{"bucket": "n\\u006ftfound"}',
        'inner: "{\\"bucket\\": \\"n\\\\u006ftfound\\"}"\n',
        "a: no%2574found\n",
        '"n\\x6ftfound": 1\n',
        "a: [\\ notreadable",
        "a: !!binary '*'\n",
    ],
)
def test_words_that_an_escape_spells_do_not_count(configuration):
    artifact = Artifact("ns/f", configuration=configuration)
    assert not Absence().of_all(Refused("AccessDenied: notfound"), artifact)


@pytest.mark.parametrize(
    "text",
    [
        'secrets "s3" not found',
        'serviceaccounts "artifacts" not found',
        "NoSuchBucket: The specified bucket does not exist",
        "no such bucket",
        "project does not exist",
    ],
)
def test_a_status_that_names_another_subject_is_not_about_the_object(text):
    assert not says_absent(DownstreamStatus("NOT_FOUND", text), PLAIN)


@pytest.mark.parametrize(
    "text", ["", "rec/p", "key rec/p not found in bucket things", "bucket things: no such object", "nothing is there"]
)
def test_a_status_about_the_object_counts_whatever_else_it_names(text):
    assert says_absent(DownstreamStatus("NOT_FOUND", text), PLAIN)


def test_the_absence_of_another_file_is_not_that_of_the_object():
    for path in ("/etc/ssl/ca.pem", "/tmp/plugin-1/part", "/data/other/p"):
        for text in (f"open {path}: no such file or directory", f"[Errno 2] No such file or directory: '{path}'"):
            assert not says_absent(Refused(text), PLAIN), text
    for text in ("open /data/rec/p: no such file or directory", "stat /data/rec/p: not a directory", "no such file"):
        assert says_absent(Refused(text), PLAIN), text
