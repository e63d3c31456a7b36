"""The vectors that must be refused because of their body or their artifact key: one fault each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from tests.vectors.bases import (
    BARE,
    BASE,
    BODY,
    BODY_AT,
    DIRECTORY,
    FILE,
    FOUR_SEGMENTS,
    HEADER,
    ONE_FULL_SEGMENT,
    flip,
    refused,
)
from tests.vectors.writer import (
    FIRST_PLAINTEXT,
    KEY,
    NONE,
    PLAINTEXT,
    SEGMENT,
    STREAM_HEADER,
    TAG,
    TEXT,
    Piece,
    Recipe,
    Vector,
    associated_data,
    fixed,
    hkdf,
    nonce_suffix,
    segments,
    stored,
    u32,
)

WHOLE = FOUR_SEGMENTS.file()
WHOLE_BODY_AT = len(WHOLE) - len(FOUR_SEGMENTS.body())
_BOUNDS = (WHOLE_BODY_AT + STREAM_HEADER, *(WHOLE_BODY_AT + number * SEGMENT for number in (1, 2, 3)), len(WHOLE))
HEAD = Piece("four-segments", 0, _BOUNDS[0])
PARTS = [Piece("four-segments", begin, end - begin) for begin, end in pairwise(_BOUNDS)]
"""The four segments of `four-segments`; `HEAD` is what comes before them."""


def vectors() -> Iterator[Vector]:
    yield from _cuts()
    yield from _changed_body()
    yield from _other_place()
    yield from _wrong_writers()
    yield from _changed_segments()
    yield from _arranged_segments()
    yield from _cut_and_added_segments()
    yield from _last_segment()


def _cuts() -> Iterator[Vector]:
    inside_header = range(13, BODY_AT, 20)
    inside_stream_header = (0, 1, 2, 33, 34, 39, 40)
    inside_segment = (41, 48, 55)
    for size in (
        *range(13),
        *inside_header,
        BODY_AT - 1,
        *(BODY_AT + at for at in inside_stream_header + inside_segment),
    ):
        yield refused("Truncated", f"cut-at-{size}", f"the first {size} of {len(FILE)} bytes", FILE[:size])
    for size in (*range(BODY_AT + 56, len(FILE) - 1, 6), len(FILE) - 1):
        yield refused("Tampered", f"cut-at-{size}", f"the first {size} of {len(FILE)} bytes", FILE[:size])


def _changed_body() -> Iterator[Vector]:
    for byte in (0x00, 0x27, 0x29, 0xA8, 0xFF):
        data = FILE[:BODY_AT] + bytes([byte]) + FILE[BODY_AT + 1 :]
        what = f"the stream header begins with {byte:#04x} instead of 0x28"
        yield refused("Tampered", f"stream-header-{byte:02x}", what, data)
    for part, start, places in (
        ("salt", 1, (0, 1, 15, 16, 31)),
        ("nonce-prefix", 33, range(7)),
        ("ciphertext", STREAM_HEADER, (0, 1, len(TEXT) // 2, len(TEXT) - 1)),
        ("tag", STREAM_HEADER + len(TEXT), (0, 7, 8, 14, 15)),
    ):
        for at in places:
            data = flip(FILE, BODY_AT + start + at, 1 << at % 8)
            yield refused("Tampered", f"{part}-byte-{at}", f"a bit of byte {at} of the {part} is flipped", data)
    body = BODY[STREAM_HEADER:]
    for name, what, data in (
        ("zeroed", "the ciphertext is all zero bytes", BODY[:STREAM_HEADER] + bytes(len(body))),
        ("tag-zeroed", "the tag is all zero bytes", BODY[:-TAG] + bytes(TAG)),
        ("salt-zeroed", "the salt is all zero bytes", BODY[:1] + bytes(32) + BODY[33:]),
        ("stream-header-twice", "the stream header is there twice", BODY[:STREAM_HEADER] + BODY),
        ("stream-header-gone", "the stream header is gone", body + bytes(STREAM_HEADER)),
        ("byte-gone", "a byte in the middle is gone", BODY[:60] + BODY[61:]),
        ("byte-added", "a byte in the middle is added", BODY[:60] + b"\0" + BODY[60:]),
        ("two-bytes-exchanged", "two bytes are exchanged", BODY[:60] + BODY[61:62] + BODY[60:61] + BODY[62:]),
        ("line-feed-after", "a line feed after the file", BODY + b"\n"),
        ("zero-after", "a zero byte after the file", BODY + b"\0"),
        ("padded", "zero bytes after the file, to a full block", BODY + bytes(512 - len(BODY))),
        ("tag-after", "16 bytes after the file, as of an empty segment", BODY + fixed("tag", TAG)),
        ("body-twice", "the body is there twice", BODY + BODY),
        ("file-twice", "two files, one after the other", BODY + FILE),
    ):
        yield refused("Tampered", f"body-{name}", what, stored(HEADER, data))


def _other_place() -> Iterator[Vector]:
    for name, what, key in (
        ("other", "another artifact", "team-b/report.csv"),
        ("empty", "an empty key", ""),
        ("upper-case", "the key in upper case", KEY.upper()),
        ("slash-before", "the key with a slash before it", f"/{KEY}"),
        ("slash-after", "the key with a slash after it", f"{KEY}/"),
        ("beneath", "a file beneath the key", f"{KEY}/part-0"),
        ("parent", "the directory that holds the key", "team-a"),
        ("nul-after", "the key with a NUL after it", f"{KEY}\0"),
    ):
        yield refused("Tampered", f"place-{name}", f"moved to {what}", FILE, artifact_key=key)
    accented = replace(BARE, label="accent", artifact_key="équipe/a.csv")
    decomposed = unicodedata.normalize("NFD", accented.artifact_key)
    what = "read by its key in Unicode's decomposed form"
    yield refused("Tampered", "place-decomposed", what, accented, artifact_key=decomposed)
    for name, key in (
        ("sibling", "models/7/bias.bin"),
        ("other-directory", "models/8/weights.bin"),
        ("itself", "models/7"),
    ):
        yield refused(
            "Tampered", f"place-directory-{name}", f"a file of a directory, moved to {key}", DIRECTORY, artifact_key=key
        )


def _wrong_writers() -> Iterator[Vector]:
    """Yield mistakes of a new implementation of the format that it cannot find by reading its own output."""
    data_key, salt, prefix = BASE.data_key, BASE.salt, BASE.prefix
    authenticated, info, context = BASE.authenticated(), BASE.associated_data(), KEY.encode()
    little = len(authenticated).to_bytes(4, "little"), len(context).to_bytes(4, "little")
    for name, what, key in (
        ("info-empty", "the body key has no associated data", hkdf(data_key, salt, b"")),
        ("info-without-label", "the associated data has no label", hkdf(data_key, salt, info[18:])),
        ("info-label-2", "the associated data has another label", hkdf(data_key, salt, info.replace(b"v1", b"v2", 1))),
        ("info-without-lengths", "no lengths", hkdf(data_key, salt, b"sealed artifact v1" + authenticated + context)),
        (
            "info-little-endian",
            "lengths in little-endian order",
            hkdf(data_key, salt, b"sealed artifact v1" + little[0] + authenticated + little[1] + context),
        ),
        (
            "info-whole-header",
            "the key envelope is authenticated too",
            hkdf(data_key, salt, associated_data(HEADER, context)),
        ),
        (
            "info-without-key",
            "bound, without the artifact key",
            hkdf(data_key, salt, associated_data(authenticated, b"")),
        ),
        (
            "info-utf-16",
            "the artifact key in UTF-16",
            hkdf(data_key, salt, associated_data(authenticated, KEY.encode("utf-16-be"))),
        ),
        ("salt-unused", "the body key has no salt", hkdf(data_key, None, info)),
        ("salt-with-prefix", "the nonce prefix is taken for a part of the salt", hkdf(data_key, salt + prefix, info)),
        ("key-underived", "the data key is the body key", data_key),
        ("key-16-bytes", "AES-128", hkdf(data_key, salt, info)[:16]),
    ):
        body = BASE.stream_header() + segments(key, prefix, TEXT)
        yield refused("Tampered", f"writer-{name}", f"the writer's mistake: {what}", stored(HEADER, body))
    key = hkdf(data_key, salt, info)
    for name, what, suffix in (
        ("number-from-1", "segments are numbered from 1", lambda index, last: nonce_suffix(index + 1, last)),
        ("flag-2", "the last segment's flag is 2", lambda index, _: u32(index) + b"\x02"),
        ("flag-first", "the flag before the number", lambda index, last: bytes([last]) + u32(index)),
    ):
        body = BASE.stream_header() + segments(key, prefix, TEXT, suffix)
        yield refused("Tampered", f"writer-{name}", f"the writer's mistake: {what}", stored(HEADER, body))
    for name, plaintext in (("", TEXT), ("-empty", b"")):
        body = BASE.stream_header() + segments(key, prefix, plaintext, lambda index, _: nonce_suffix(index, False))
        what = "the only segment is not marked as the last: the writer stopped there"
        yield refused("Truncated", f"no-last-segment{name}", what, stored(HEADER, body))
    unbound = replace(BASE, label="unbound", binding=NONE)
    wrong = replace(unbound, binding=2).associated_data()
    body = unbound.stream_header() + segments(hkdf(unbound.data_key, unbound.salt, wrong), unbound.prefix, TEXT)
    what = "the writer's mistake: the artifact key is authenticated although the binding is NONE"
    yield refused(
        "Tampered", "writer-unbound-with-key", what, stored(unbound.header(), body), data_key=unbound.data_key
    )


def _several(error: str, name: str, what: str, *pieces: Piece | bytes, after: int) -> Vector:
    """Return a vector with a fault of `four-segments`, behind its first `after` segments."""
    released = ("four-segments", FIRST_PLAINTEXT + (after - 1) * PLAINTEXT if after else 0)
    recipe = FOUR_SEGMENTS
    return Vector(f"segments-{name}", what, pieces, recipe.data_key, recipe.artifact_key, error, released)


def _changed_segments() -> Iterator[Vector]:
    for number, part in enumerate(PARTS):
        middle = (part.size - TAG) // 2
        places = (("first", 0), ("middle", middle), ("tag-first", part.size - TAG), ("tag-last", part.size - 1))
        for place, offset in places:
            if place == "middle" and not middle:
                continue
            at = part.at + offset
            what = f"segment {number}: a bit is flipped ({place})"
            pieces = _overwritten(at, bytes([WHOLE[at] ^ 0x10]))
            yield _several("Tampered", f"{number}-{place}-flipped", what, *pieces, after=number)
    pieces = _overwritten(PARTS[1].at + 4096, bytes(512))
    yield _several("Tampered", "1-block-zeroed", "a block of segment 1 reads as zero bytes", *pieces, after=1)
    full = ONE_FULL_SEGMENT
    at = len(full.file()) - len(full.body()) + STREAM_HEADER
    other = Piece("one-full-segment", at, SEGMENT - STREAM_HEADER)
    yield _several("Tampered", "0-of-another-file", "segment 0 of another file", HEAD, other, *PARTS[1:], after=0)


def _overwritten(at: int, new: bytes) -> tuple[Piece | bytes, ...]:
    behind = at + len(new)
    return Piece("four-segments", 0, at), new, Piece("four-segments", behind, len(WHOLE) - behind)


def _arranged_segments() -> Iterator[Vector]:
    for word, error, arrangements in (
        ("exchanged", "Tampered", (("0213", 1), ("1023", 0), ("0132", 2), ("3210", 0), ("0312", 1))),
        ("dropped", "Tampered", (("123", 0), ("023", 1), ("013", 2), ("3", 0), ("03", 1))),
        ("dropped at the end", "Truncated", (("012", 2), ("01", 1), ("0", 0))),
        ("repeated", "Tampered", (("00123", 1), ("01123", 2), ("01223", 3), ("01233", 3), ("01230123", 3))),
    ):
        for order, after in arrangements:
            pieces = [PARTS[int(number)] for number in order]
            what = f"segments {word}: {', '.join(order)}"
            yield _several(error, f"order-{order}", what, HEAD, *pieces, after=after)


def _cut_and_added_segments() -> Iterator[Vector]:
    for number, offset, error, after in (
        (1, -1, "Tampered", 0),
        (1, 1, "Truncated", 1),
        (1, TAG, "Truncated", 1),
        (1, TAG + 1, "Tampered", 1),
        (2, -1, "Tampered", 1),
        (2, 1, "Truncated", 2),
        (2, TAG, "Truncated", 2),
        (2, TAG + 1, "Tampered", 2),
        (3, -1, "Tampered", 2),
        (3, 1, "Truncated", 3),
        (3, TAG, "Truncated", 3),
    ):
        what = f"cut {abs(offset)} bytes {'before' if offset < 0 else 'behind'} the beginning of segment {number}"
        piece = Piece("four-segments", 0, PARTS[number].at + offset)
        yield _several(error, f"cut-{number}{offset:+}", what, piece, after=after)
    whole = Piece("four-segments", 0, len(WHOLE))
    for size in (1, TAG, 4096):
        what = f"{size} bytes after the file"
        yield _several("Tampered", f"added-{size}", what, whole, fixed("added", size), after=3)
    yield _several("Tampered", "file-twice", "two files, one after the other", whole, whole, after=3)
    what = "segment 1 is an empty last segment: no writer makes one, and no body has this size"
    empty = _empty_second_segment(FOUR_SEGMENTS)
    yield _several("Truncated", "1-empty-last", what, HEAD, PARTS[0], empty, after=1)
    key = FOUR_SEGMENTS.data_key
    yield Vector("segments-data-key", "the data key of another file", (whole,), BASE.data_key, KEY, "WrongDataKey")
    yield Vector("segments-place", "moved to another key", (whole,), key, "elsewhere", "Tampered")


def _empty_second_segment(recipe: Recipe) -> bytes:
    key = hkdf(recipe.data_key, recipe.salt, recipe.associated_data())
    return segments(key, recipe.prefix, b"", lambda _, last: nonce_suffix(1, last))


def _last_segment() -> Iterator[Vector]:
    """Yield faults behind `one-full-segment`, where another segment could be."""
    recipe, name = ONE_FULL_SEGMENT, "one-full-segment"
    whole = len(recipe.file())

    def fault(error: str | tuple[str, ...], called: str, what: str, *pieces: Piece | bytes) -> Vector:
        return Vector(f"full-{called}", what, pieces, recipe.data_key, recipe.artifact_key, error)

    file = Piece(name, 0, whole)
    for called, what, added in (
        ("line-feed-after", "a line feed after the file", b"\n"),
        ("15-bytes-after", "15 bytes after the file", fixed("added", 15)),
        ("empty-segment-after", "an empty last segment after the last segment", _empty_second_segment(recipe)),
    ):
        # No body has this size. A reader that knows the size refuses it for that. Another reader finds that the
        # segment before was the last one.
        yield fault(("Truncated", "Tampered"), called, what, file, added)
    for called, what, added in (
        ("17-bytes-after", "17 bytes after the file", fixed("added", 17)),
        ("4096-bytes-after", "4,096 bytes after the file", fixed("added", 4096)),
    ):
        yield fault("Tampered", called, what, file, added)
    yield fault("Tampered", "file-twice", "two files, one after the other", file, file)
    yield fault("Tampered", "cut-1", "the last byte is cut off", Piece(name, 0, whole - 1))
    yield fault("Tampered", "cut-16", "the last tag is cut off", Piece(name, 0, whole - TAG))
