"""The vectors that must open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.vectors.bases import BARE, BASE, BODY, DIRECTORY, FOUR_SEGMENTS, IN_VAULT, ONE_FULL_SEGMENT, opened
from tests.vectors.writer import NONE, Piece, Vector, commitment, field, fixed, long_varint, stored

LONGEST_HEADER = 65_536


def vectors() -> Iterator[Vector]:
    yield opened("base", "every optional field of the authenticated header is there; most faults are made of it", BASE)
    yield opened("bare", "no context and no audit: the shortest header there is", BARE)
    yield opened("in-vault", "the data key is wrapped by Vault", IN_VAULT)
    yield from _sizes()
    yield from _keys()
    yield from _bindings()
    yield from _facts()
    yield from _serialisations()


def _sizes() -> Iterator[Vector]:
    for size in (0, 1, 15, 16, 17, 255, 4096):
        recipe = replace(BARE, label=f"size {size}", plaintext=fixed(f"size {size}", size))
        what = f"{size} bytes of plaintext" if size else "no plaintext: one empty last segment"
        yield opened(f"size-{size}", what, recipe)
    yield opened("one-full-segment", "the first segment is full, and the last", ONE_FULL_SEGMENT)
    yield opened("four-segments", "three full segments and one of a single byte", FOUR_SEGMENTS)


def _keys() -> Iterator[Vector]:
    rewrapped = replace(BASE, key_version=3)
    yield opened("rewrapped", "`base` under version 3 of its key: the body is the same to the byte", rewrapped)
    recipe = replace(IN_VAULT, label="derived", derivation_context=b"tenant-a\x00\xff", mount="teams/a/transit")
    yield opened("derived-key", "a Transit key that is derived, of a mount with slashes", recipe)
    recipe = replace(BARE, label="named key", key_name="Schlüssel/ключ")
    yield opened("key-name-unicode", "the key-encryption key has a name that is not ASCII", recipe)
    recipe = replace(IN_VAULT, label="version", key_version=2**32 - 1, wrapped_key="vault:v4294967295:AAAA")
    yield opened("key-version-largest", "the largest key version", recipe)
    recipe = replace(IN_VAULT, label="long wrap", wrapped_key="vault:v3:" + "A" * 4096)
    yield opened("wrapped-key-long", "a wrapped key of 4,105 characters", recipe)


def _bindings() -> Iterator[Vector]:
    unbound = replace(BASE, label="unbound", binding=NONE)
    yield opened("unbound", "binding none", unbound)
    same = (Piece("unbound", 0, len(unbound.file())),)
    what = "the same bytes under another artifact key"
    yield Vector("unbound-elsewhere", what, same, unbound.data_key, "elsewhere", recipe=unbound)
    yield opened("unbound-bare", "binding none, and no context", replace(BARE, label="unbound bare", binding=NONE))
    yield opened("directory-file", "a file of the directory artifact models/7", DIRECTORY)
    recipe = replace(DIRECTORY, artifact_key="models/7/layers/0/bias.bin", plaintext=b"")
    yield opened("directory-deeper", "an empty file of the same directory: the same header and data key", recipe)
    for name, key in (
        ("unicode", "équipe/отчёт/報告.csv"),
        ("emoji", "\U0001f512/\U0001f511"),
        ("spaces", "a b/c d.txt"),
        ("long", "/".join(["0123456789abcde"] * 64)),
        ("short", "x"),
    ):
        recipe = replace(BARE, label=f"key {name}", artifact_key=key)
        yield opened(f"artifact-key-{name}", f"an artifact key of {len(key.encode())} bytes", recipe)


def _facts() -> Iterator[Vector]:
    yield opened("sealed-at-0", "sealed at 1970-01-01: the field is left out", replace(BARE, label="0", sealed_at=0))
    latest = replace(BARE, label="latest", sealed_at=2**63 - 1)
    yield opened("sealed-at-largest", "the latest time there is", latest)
    recipe = replace(BASE, label="sequence", audit_sequence=2**64 - 1)
    yield opened("audit-sequence-largest", "the largest sequence number", recipe)
    yield opened("audit-sequence-0", "the first Save of a chain", replace(BASE, label="first", audit_sequence=0))
    for name, context in (
        ("one", (("tenant", "a"),)),
        ("empty-value", (("tenant", ""),)),
        ("code-points", (("Z", "1"), ("a", "2"), ("ä", "3"), ("\uffee", "4"), ("\U0001f511", "5"))),
        ("prefixes", (("t", "1"), ("te", "2"), ("ten", "3"))),
        ("many", tuple((f"name-{number:03}", f"value-{number}") for number in range(200))),
    ):
        yield opened(
            f"context-{name}", "context, sorted by the bytes of the names", replace(BARE, label=name, context=context)
        )
    rest = LONGEST_HEADER - len(replace(BARE, label="longest", context=(("n", "v" * 60_000),)).header())
    longest = replace(BARE, label="longest", context=(("n", "v" * (60_000 + rest)),))
    yield opened("header-longest", f"a header of {len(longest.header())} bytes", longest)


def _serialisations() -> Iterator[Vector]:
    """Yield serialisations that a reader must treat alike, and those whose stored bytes it must keep."""
    swapped = stored(field(2, BASE.envelope()) + field(1, BASE.authenticated()), BODY)
    yield opened("header-fields-swapped", "the key envelope before the authenticated header", BASE, swapped)
    authenticated = BASE.authenticated()
    longer = b"\x0a" + long_varint(len(authenticated)) + authenticated + field(2, BASE.envelope())
    what = "a length in the header is written in a byte more than it needs"
    yield opened("header-long-length", what, BASE, stored(longer, BODY))
    parts = (field(5, BASE.key_version), field(4, BASE.wrapped), field(3, BASE.key_name), field(1, BASE.provider))
    recipe = replace(BASE, raw_envelope=b"".join(parts))
    yield opened("envelope-reversed", "the fields of the key envelope in reverse", recipe)
    recipe = replace(BASE, raw_envelope=BASE.envelope() + field(2, "") + field(6, b""))
    yield opened("envelope-defaults-written", "empty fields of the key envelope are written out", recipe)
    recipe = replace(BARE, label="reversed")
    committed = field(3, commitment(recipe.data_key))
    recipe = replace(recipe, raw_authenticated=field(4, recipe.sealed_at) + committed + field(2, 2) + field(1, 1))
    yield opened("authenticated-reversed", "sealed over fields in reverse: the stored bytes are what counts", recipe)
    recipe = replace(BARE, label="defaults")
    recipe = replace(recipe, raw_authenticated=recipe.authenticated() + field(6, "") + field(7, 0))
    yield opened("authenticated-defaults-written", "sealed over fields that hold their default", recipe)
    recipe = replace(BARE, label="long varints")
    long = b"\x08" + long_varint(1) + b"\x10" + long_varint(2)
    rest = field(3, commitment(recipe.data_key)) + field(4, recipe.sealed_at)
    recipe = replace(recipe, raw_authenticated=long + rest)
    yield opened("authenticated-long-varints", "sealed over numbers in a byte more than they need", recipe)
