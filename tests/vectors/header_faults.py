"""The vectors that must be refused because of their header: one fault each."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.vectors.bases import BARE, BASE, BODY, FILE, HEADER, IN_VAULT, flip, refused
from tests.vectors.writer import (
    MAGIC,
    NONE,
    TEXT,
    Recipe,
    Vector,
    commitment,
    field,
    fixed,
    hkdf,
    long_varint,
    message,
    stored,
    u32,
    varint,
)


def with_authenticated(authenticated: bytes, label: str = "raw") -> Recipe:
    """Return a file that is sealed over these bytes, as if a writer had intended them."""
    return replace(BARE, label=label, raw_authenticated=authenticated)


def vectors() -> Iterator[Vector]:
    yield from _not_sealed()
    yield from _header_length()
    yield from _damaged_protobuf()
    yield from _unknown()
    yield from _missing_or_wrong()
    yield from _wrong_data_key()
    yield from _changed_authenticated()


def _not_sealed() -> Iterator[Vector]:
    for at in range(len(MAGIC)):
        for word, data in (("flipped", flip(FILE, at, 0x20)), ("zero", FILE[:at] + b"\0" + FILE[at + 1 :])):
            yield refused("NotSealed", f"magic-{at}-{word}", f"byte {at} of the magic is {word}", data)
    for name, what, data in (
        ("plaintext", "a plaintext file", TEXT),
        ("plaintext-one-byte", "a plaintext file of one byte", b"x"),
        ("gzip", "it begins as gzip does", bytes.fromhex("1f8b08000000000000ff") + FILE),
        ("base64", "a sealed file, in base64", base64.encodebytes(FILE)),
        ("hex", "a sealed file, in hexadecimal", FILE.hex().encode()),
        ("body-alone", "the body without its header: a bare Tink ciphertext", BODY),
        ("without-magic", "the magic is missing", FILE[8:]),
        ("line-feed-first", "a line feed before the file", b"\n" + FILE),
        ("byte-order-mark-first", "a byte order mark before the file", b"\xef\xbb\xbf" + FILE),
        ("latin-1-to-utf-8", "taken for Latin-1 and written as UTF-8", FILE.decode("latin-1").encode()),
        ("utf-8-replaced", "taken for UTF-8, with invalid bytes replaced", FILE.decode(errors="replace").encode()),
        ("seven-bits", "the highest bit of each byte is lost", bytes(byte & 0x7F for byte in FILE)),
        ("crlf-to-lf", "CR LF became LF", FILE.replace(b"\r\n", b"\n")),
        ("lf-to-crlf", "LF became CR LF", FILE.replace(b"\n", b"\r\n")),
        ("cr-to-lf", "CR became LF", FILE.replace(b"\r", b"\n")),
    ):
        yield refused("NotSealed", name, what, data)


def _header_length() -> Iterator[Vector]:
    for name, size, error in (
        ("0", 0, "HeaderInvalid"),
        ("65537", 65_537, "HeaderInvalid"),
        ("2-to-24", 1 << 24, "HeaderInvalid"),
        ("2-to-31", 1 << 31, "HeaderInvalid"),
        ("4-gib", (1 << 32) - 1, "HeaderInvalid"),
        ("little-endian", int.from_bytes(len(HEADER).to_bytes(4, "little"), "big"), "HeaderInvalid"),
        ("one-less", len(HEADER) - 1, "HeaderInvalid"),
        ("one-more", len(HEADER) + 1, "HeaderInvalid"),
        ("half", len(HEADER) // 2, "HeaderInvalid"),
        ("1", 1, "HeaderInvalid"),
        ("65536", 65_536, "Truncated"),
        ("of-the-whole-file-and-one", len(FILE) - 12 + 1, "Truncated"),
    ):
        data = MAGIC + u32(size) + HEADER + BODY
        yield refused(error, f"header-length-{name}", f"the header claims {size} bytes, it has {len(HEADER)}", data)


def _damaged_protobuf() -> Iterator[Vector]:
    authenticated, envelope = BASE.authenticated(), BASE.envelope()
    for name, what, header in (
        ("zeros", "the header is all zero bytes", bytes(64)),
        ("random", "the header is random bytes", fixed("no header", 64)),
        ("endless-varint", "a number without an end", b"\x08" + b"\xff" * 16),
        ("field-0", "a field with the number 0", HEADER + b"\x00\x01"),
        ("wire-type-6", "a field of wire type 6, which does not exist", HEADER + b"\x1e\x01"),
        ("wire-type-7", "a field of wire type 7, which does not exist", HEADER + b"\x1f\x01"),
        ("group-not-closed", "a group that does not end", HEADER + b"\x1b"),
        ("group-not-opened", "a group that only ends", HEADER + b"\x1c"),
        ("length-past-end", "a field that is longer than the header", HEADER + b"\x12\x05abc"),
        ("authenticated-cut", "the authenticated header lacks its last byte", message(authenticated[:-1], envelope)),
        ("authenticated-random", "the authenticated header is random bytes", message(fixed("none", 48), envelope)),
        ("authenticated-text", "the authenticated header is JSON", message(b'{"suite": 1}', envelope)),
        ("envelope-cut", "the key envelope lacks its last byte", message(authenticated, envelope[:-1])),
        ("envelope-text", "the key envelope is the wrapped key alone", message(authenticated, BASE.wrapped)),
        ("key-name-not-utf-8", "the key's name is not UTF-8", message(authenticated, envelope + field(3, b"\xff"))),
        ("mount-not-utf-8", "the mount is not UTF-8", message(authenticated, envelope + field(2, b"\xc3("))),
        ("wrapped-key-not-utf-8", "the wrapped key is not UTF-8", message(authenticated, envelope + field(4, b"\x80"))),
    ):
        yield refused("HeaderInvalid", f"header-{name}", what, stored(header, BODY))
    for name, what, entry in (
        ("name-not-utf-8", "a name in the context is not UTF-8", message(b"\xff", "a")),
        ("value-not-utf-8", "a value in the context is not UTF-8", message("tenant", b"\xed\xa0\x80")),
        ("entry-cut", "an entry of the context lacks its last byte", message("tenant", "a")[:-1]),
    ):
        recipe = with_authenticated(replace(BARE, label="raw").authenticated() + field(5, entry))
        yield refused("HeaderInvalid", f"context-{name}", what, recipe)
    recipe = with_authenticated(replace(BARE, label="raw").authenticated() + field(6, b"\xff"))
    yield refused("HeaderInvalid", "audit-chain-not-utf-8", "the audit chain is not UTF-8", recipe)


def _unknown() -> Iterator[Vector]:
    """Yield additions of a later version, each sealed as that version would: they are refused, never skipped."""
    authenticated = replace(BARE, label="raw").authenticated()
    additions: tuple[tuple[str, Callable[[int], bytes]], ...] = (
        ("number", lambda number: varint(number << 3) + b"\x01"),
        ("text", lambda number: field(number, "new")),
        ("empty", lambda number: field(number, b"")),
        ("fixed-64", lambda number: varint(number << 3 | 1) + bytes(8)),
        ("fixed-32", lambda number: varint(number << 3 | 5) + bytes(4)),
        ("group", lambda number: varint(number << 3 | 3) + varint(number << 3 | 4)),
    )
    for kind, add in additions:
        for place, recipe in (
            ("header", None),
            ("envelope", replace(BASE, raw_envelope=BASE.envelope() + add(7))),
            ("authenticated", with_authenticated(authenticated + add(8))),
            ("context", with_authenticated(authenticated + field(5, message("tenant", "a") + add(3)))),
        ):
            what = f"a field that version 1 does not have, in the {place}: {kind}"
            content = recipe or stored(HEADER + add(3), BODY)
            yield refused("UnsupportedFormat", f"unknown-field-{place}-{kind}", what, content)
    far = stored(HEADER + field((1 << 29) - 1, 1), BODY)
    yield refused("UnsupportedFormat", "unknown-field-largest", "an unknown field of the largest number", far)
    first = stored(field(3, 1) + HEADER, BODY)
    yield refused("UnsupportedFormat", "unknown-field-first", "an unknown field before those that are known", first)
    second = with_authenticated(authenticated + field(5, message("a", "b")) + field(5, message("c", "d") + field(9, 1)))
    yield refused("UnsupportedFormat", "unknown-field-second-entry", "an unknown field in the second entry", second)
    for name, what, recipe in (
        (
            "suite-number-as-text",
            "the suite has another wire type",
            with_authenticated(field(1, "1") + authenticated[2:]),
        ),
        (
            "commitment-as-number",
            "the key commitment has another wire type",
            with_authenticated(authenticated + field(3, 5)),
        ),
        (
            "version-as-text",
            "the key version has another wire type",
            replace(BASE, raw_envelope=BASE.envelope() + field(5, "1")),
        ),
        ("context-as-number", "the context has another wire type", with_authenticated(authenticated + field(5, 1))),
    ):
        # A protobuf parser keeps a known number of another wire type among the unknown fields.
        yield refused("UnsupportedFormat", f"wire-type-{name}", what, recipe)
    for number in (2, 3, 255, -1, 2**31 - 1):
        for what, recipe in (
            ("suite", replace(BARE, label="raw", suite=number)),
            ("provider", replace(BASE, provider=number if number != 2 else 4)),
            ("binding", replace(BARE, label="raw", binding=number if number != 2 else 4)),
        ):
            value = getattr(recipe, what)
            yield refused(
                "UnsupportedFormat", f"{what}-{value}", f"{what} {value}, which version 1 does not have", recipe
            )


def _missing_or_wrong() -> Iterator[Vector]:
    committed = commitment(BASE.data_key)
    for name, what, recipe in (
        ("suite-missing", "no suite", replace(BASE, suite=0)),
        ("binding-missing", "no binding", replace(BASE, binding=0)),
        ("provider-missing", "no key provider", replace(BASE, provider=0)),
        ("commitment-missing", "no key commitment", replace(BASE, key_commitment=b"")),
        ("commitment-1-byte", "a key commitment of one byte", replace(BASE, key_commitment=committed[:1])),
        ("commitment-16-bytes", "half a key commitment", replace(BASE, key_commitment=committed[:16])),
        (
            "commitment-31-bytes",
            "a key commitment that lacks its last byte",
            replace(BASE, key_commitment=committed[:31]),
        ),
        (
            "commitment-33-bytes",
            "a key commitment with a byte too many",
            replace(BASE, key_commitment=committed + b"\0"),
        ),
        ("commitment-hex", "a key commitment in hexadecimal", replace(BASE, key_commitment=committed.hex().encode())),
        ("sealed-at-minus-1", "sealed a second before 1970", replace(BASE, sealed_at=-1)),
        ("sealed-at-smallest", "the earliest time there is", replace(BASE, sealed_at=-(2**63))),
        ("context-unsorted", "the context is not sorted", replace(BASE, context=(("b", ""), ("a", "")))),
        (
            "context-end-unsorted",
            "the last entry is out of order",
            replace(BASE, context=(("a", ""), ("c", ""), ("b", ""))),
        ),
        ("context-name-twice", "one name with two values", replace(BASE, context=(("a", "1"), ("a", "2")))),
        ("context-entry-twice", "one entry twice", replace(BASE, context=(("a", "1"), ("a", "1")))),
        ("context-name-empty", "a name is empty", replace(BASE, context=(("", "1"),))),
        ("context-entry-empty", "an entry is empty", replace(BASE, context=(("", ""), ("a", "1")))),
        ("context-by-locale", "sorted as a person would: a before B", replace(BASE, context=(("a", ""), ("B", "")))),
        ("key-name-missing", "no name of a key", replace(BASE, wrapped_key=BASE.wrapped, key_name="")),
        ("wrapped-key-missing", "no wrapped data key", replace(BASE, wrapped_key="")),
        ("key-version-missing", "no key version", replace(BASE, wrapped_key=BASE.wrapped, key_version=0)),
        ("envelope-missing", "no key envelope", replace(BASE, raw_envelope=b"")),
        ("authenticated-missing", "no authenticated header", replace(BASE, raw_authenticated=b"")),
    ):
        yield refused("HeaderInvalid", name, what, recipe)


def _wrong_data_key() -> Iterator[Vector]:
    for name, what, key in (
        ("another", "the data key of another file", IN_VAULT.data_key),
        ("first-bit", "the first bit of the data key is wrong", flip(BASE.data_key, 0, 0x80)),
        ("last-bit", "the last bit of the data key is wrong", flip(BASE.data_key, 31)),
        ("zeros", "the data key is all zero bytes", bytes(32)),
        ("reversed", "the data key backwards", BASE.data_key[::-1]),
    ):
        yield refused("WrongDataKey", f"data-key-{name}", what, FILE, data_key=key)
    exchanged = stored(message(BASE.authenticated(), IN_VAULT.envelope()), BODY)
    what = "the key envelope of another file, and so its data key"
    yield refused("WrongDataKey", "envelope-exchanged", what, exchanged, data_key=IN_VAULT.data_key)
    exchanged = stored(message(IN_VAULT.authenticated(), BASE.envelope()), BODY)
    yield refused("WrongDataKey", "authenticated-exchanged", "the authenticated header of another file", exchanged)
    exchanged = stored(HEADER, IN_VAULT.body())
    yield refused("Tampered", "body-exchanged", "the body of another file", exchanged)
    exchanged = stored(IN_VAULT.header(), BODY)
    yield refused("WrongDataKey", "header-exchanged", "the header of another file", exchanged)
    committed = commitment(BASE.data_key)
    for at in (0, 15, 31):
        recipe = replace(BASE, key_commitment=flip(committed, at))
        yield refused("WrongDataKey", f"commitment-byte-{at}", f"byte {at} of the key commitment is wrong", recipe)
    for name, what, wrong in (
        ("zeros", "all zero bytes", bytes(32)),
        ("other-label", "made with another label", hkdf(BASE.data_key, None, b"sealed artifact v2 key commitment")),
        ("salted", "made with a salt", hkdf(BASE.data_key, BASE.salt, b"sealed artifact v1 key commitment")),
        ("data-key", "the data key itself", BASE.data_key),
    ):
        yield refused(
            "WrongDataKey", f"commitment-{name}", f"the key commitment is {what}", replace(BASE, key_commitment=wrong)
        )


def _changed_authenticated() -> Iterator[Vector]:
    """Yield files whose authenticated header is valid, but is not the one with which the body was sealed."""
    for name, what, recipe in (
        ("sealed-at-later", "a later time of sealing", replace(BASE, sealed_at=BASE.sealed_at + 1)),
        ("sealed-at-removed", "no time of sealing", replace(BASE, sealed_at=0)),
        (
            "context-value",
            "another value in the context",
            replace(BASE, context=(("team", "finance"), ("tenant", "b"))),
        ),
        ("context-name", "another name in the context", replace(BASE, context=(("team", "finance"), ("tenanu", "a")))),
        ("context-removed", "no context", replace(BASE, context=())),
        ("context-shortened", "one entry of the context less", replace(BASE, context=BASE.context[:1])),
        ("context-added", "one entry of the context more", replace(BASE, context=(*BASE.context, ("z", "")))),
        ("audit-chain", "another audit chain", replace(BASE, audit_chain="chain-2")),
        ("audit-chain-removed", "no audit chain", replace(BASE, audit_chain="")),
        ("audit-sequence", "another audit sequence number", replace(BASE, audit_sequence=8)),
        ("binding-none", "binding none", replace(BASE, binding=NONE)),
    ):
        yield refused("Tampered", f"changed-{name}", f"changed after sealing: {what}", stored(recipe.header(), BODY))
    unbound = replace(BASE, label="unbound", binding=NONE)
    bound = stored(replace(unbound, binding=2).header(), unbound.body())
    what = "changed after sealing: binding artifact key"
    yield refused("Tampered", "changed-binding-artifact-key", what, bound, data_key=unbound.data_key)
    authenticated = BASE.authenticated()
    for name, what, same in (
        ("reordered", "its first two fields exchanged", authenticated[2:4] + authenticated[:2] + authenticated[4:]),
        ("default-written", "an empty field written out", field(6, "") + authenticated),
        ("long-varint", "a number in a byte more than it needs", b"\x08" + long_varint(1) + authenticated[2:]),
        ("field-twice", "a field twice, with the same value", authenticated + field(7, 7)),
    ):
        anew = f"the authenticated header was serialised anew, to the same meaning: {what}"
        yield refused("Tampered", f"serialised-{name}", anew, stored(message(same, BASE.envelope()), BODY))
