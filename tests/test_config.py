"""The settings: a document is valid as a whole or refused, and every fault has its file, line and column."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.call import Call, Operation
from sealgate.config import Duration, Settings, load, parse
from sealgate.errors import NotConfigured

HEAD = "apiVersion: sealgate/v1alpha1\nkind: Sealgate\n"
WHOLE = """\
apiVersion: sealgate/v1alpha1
kind: Sealgate
downstream:
  command: ["/vendor/plugin", --flag]      # run as a child
  pluginName: vendor-s3
  startTimeout: 45s
keys:
  provider: local
  local: {keyring: /var/lib/sealgate/keyring.json, key: artifacts}
paths:
  roots: [/argo/inputs/artifacts, /data]
spool: {directory: /var/spool/sealgate, transfer: stream}
plugins:
  crypt-pci:
    downstream: {pluginName: vendor-pci}
    keys: {local: {key: pci}}
  crypt-logs:
    spool: {transfer: file}
    paths: {roots: [/logs]}
"""


def fault(text: str) -> str:
    with pytest.raises(NotConfigured) as raised:
        parse(text, "config.yaml")
    assert "\n" not in raised.value.line(Call(Operation.LOAD), "")
    return raised.value.fact


# --- valid documents -------------------------------------------------------------------------------------


def test_every_section_is_read():
    settings = parse(WHOLE, "config.yaml")
    downstream, keys = settings.required_downstream(), settings.required_keys()
    assert downstream.command == ("/vendor/plugin", "--flag")
    assert (downstream.socket, downstream.plugin_name, downstream.start_timeout) == (None, "vendor-s3", 45.0)
    assert keys.local
    assert (keys.provider, keys.local.keyring) == ("local", Path("/var/lib/sealgate/keyring.json"))
    assert keys.local.key == "artifacts"
    assert settings.paths.roots == (Path("/argo/inputs/artifacts"), Path("/data"))
    assert (settings.spool.directory, settings.spool.transfer) == (Path("/var/spool/sealgate"), "stream")


def test_an_omitted_setting_has_its_documented_default():
    settings = parse(HEAD + "downstream: {socket: /run/vendor/socket}", "config.yaml")
    downstream = settings.required_downstream()
    assert (downstream.command, downstream.socket) == ((), Path("/run/vendor/socket"))
    assert (downstream.plugin_name, downstream.start_timeout) == (None, 30.0)
    assert settings.paths.roots == tuple(map(Path, ("/argo/inputs/artifacts", "/tmp/argo/outputs", "/mainctrfs")))
    assert (settings.spool.directory, settings.spool.transfer) == (None, "auto")
    assert (settings.require_policy, settings.allow_passthrough, settings.allow_unbound) == (False, False, False)


def test_the_page_on_the_configuration_shows_a_valid_one_with_every_section():
    page = (Path(__file__).parents[1] / "docs/configuration.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:1]
    for name in (None, "crypt-pci"):
        assert parse(text, "config.yaml", name).required_downstream()
    for field in msgspec.structs.fields(Settings):
        assert re.search(rf"^{field.encode_name}:", text, re.MULTILINE), field.encode_name


@pytest.mark.parametrize("section", ["downstream", "keys"])
def test_a_missing_section_is_an_error_only_when_it_is_used(section):
    settings = parse(HEAD, "config.yaml")
    with pytest.raises(NotConfigured, match=f"has no section {section}") as raised:
        getattr(settings, f"required_{section}")()
    assert raised.value.remedy == f"Add {section} to it"


def test_json_is_read():
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": ["/vendor/plugin", "é\t\\/"], "startTimeout": "1m"},
        "plugins": {"crypt": {"spool": {"transfer": "file"}}},
    }
    for text in (json.dumps(document), json.dumps(document, indent=2), json.dumps(document, ensure_ascii=False)):
        settings = parse(text, "config.json", "crypt")
        assert settings.required_downstream().command == ("/vendor/plugin", "é\t\\/")
        assert settings.spool.transfer == "file"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0s", 0),
        ("0.5s", 0.5),
        ("168h", 604_800),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    settings = parse(f"{HEAD}downstream: {{socket: /s, startTimeout: {text}}}", "config.yaml")
    assert settings.required_downstream().start_timeout == Duration(seconds)


def test_settings_are_immutable():
    with pytest.raises(AttributeError):
        parse(HEAD, "config.yaml").spool = None  # type: ignore[misc, assignment]


# --- plugin names ----------------------------------------------------------------------------------------


def test_the_settings_of_a_plugin_name_overlay_the_common_ones():
    settings = parse(WHOLE, "config.yaml", "crypt-pci")
    downstream, keys = settings.required_downstream(), settings.required_keys()
    assert (downstream.command, downstream.plugin_name) == (("/vendor/plugin", "--flag"), "vendor-pci")
    assert keys.local
    assert (keys.local.key, keys.local.keyring) == ("pci", Path("/var/lib/sealgate/keyring.json"))
    assert settings.spool.transfer == "stream"


def test_unbound_objects_can_be_allowed_for_one_plugin_name():
    text = f"{HEAD}plugins: {{crypt: {{allowUnbound: true}}}}"
    assert parse(text, "config.yaml", "crypt").allow_unbound
    assert not parse(text, "config.yaml").allow_unbound


def test_a_list_is_replaced_and_not_extended():
    settings = parse(WHOLE, "config.yaml", "crypt-logs")
    assert settings.paths.roots == (Path("/logs"),)
    assert settings.spool.transfer == "file"
    assert settings.spool.directory == Path("/var/spool/sealgate")


@pytest.mark.parametrize("name", [None, "another", "", "plugins"])
def test_a_plugin_name_without_settings_gets_the_common_ones(name):
    assert parse(WHOLE, "config.yaml", name) == parse(WHOLE.partition("plugins:")[0], "config.yaml")


def test_settings_may_be_complete_only_with_an_overlay():
    text = f"{HEAD}plugins: {{crypt: {{keys: {{provider: local, local: {{keyring: /k}}}}}}}}"
    assert parse(text, "config.yaml").keys is None
    assert parse(text, "config.yaml", "crypt").required_keys().provider == "local"


# --- invalid documents -----------------------------------------------------------------------------------

FAULTS = {
    "unknown field": (HEAD + "polices: []", "3:1: Object contains unknown field `polices`"),
    "unknown field, deep": (
        HEAD + "keys:\n  provider: local\n  lokal: {}",
        "5:3: Object contains unknown field `lokal`",
    ),
    "unknown field in one line": (HEAD + "spool: {dir: /s}", "3:9: Object contains unknown field `dir`"),
    "unknown field after text that is not ASCII": (
        HEAD + 'spool: {"directory": "/é報\U0001f511", dir: /s}',
        "3:30: Object contains unknown field `dir`",
    ),
    "snake case": ("api_version: x\nkind: Sealgate", "1:1: Object contains unknown field `api_version`"),
    "merge key": (HEAD + "<<: {spool: {}}", "3:1: YAML merge keys are not supported"),
    "field of a later version": (HEAD + "kind2: 1\nspool: {}", "3:1: Object contains unknown field `kind2`"),
    "number for text": (HEAD + "downstream:\n  socket: /s\n  pluginName: 5", "5:3: Expected `str | null`, got `int`"),
    "text for a boolean": (HEAD + "allowUnbound: always", "3:1: Expected `bool`, got `str`"),
    "text for a mapping": (HEAD + "spool: auto", "3:1: Expected `object`, got `str`"),
    "list for a mapping": (HEAD + "keys: [local]", "3:1: Expected `object | null`, got `array`"),
    "text for a list": (HEAD + "paths: {roots: /data}", "3:9: Expected `array`, got `str`"),
    "number in a list": (HEAD + "downstream: {command: [a, 1]}", "3:27: Expected `str`, got `int`"),
    "date for text": (
        HEAD + "downstream: {socket: /s, pluginName: 2026-11-22}",
        "3:38: YAML readers disagree about `2026-11-22`: write it in quotes",
    ),
    "unknown choice": (HEAD + "spool:\n  transfer: fast", "4:3: Invalid enum value 'fast'"),
    "unknown version": ("kind: Sealgate\napiVersion: sealgate/v9", "2:1: Invalid enum value 'sealgate/v9'"),
    "unknown provider": (HEAD + "keys: {provider: gpg}", "3:8: Invalid enum value 'gpg'"),
    "no version": ("kind: Sealgate", "1:1: Object missing required field `apiVersion`"),
    "no keyring": (HEAD + "keys: {provider: local, local: {}}", "3:25: Object missing required field `keyring`"),
    "no section of the provider": (HEAD + "keys: {provider: local}", "3:1: provider `local` needs the section `local`"),
    "relative root": (HEAD + "paths: {roots: [/a, b]}", "3:1: the root `b` is not absolute"),
    "empty path": (HEAD + "paths: {roots: [/a, '']}", "3:21: expected a path"),
    "number for a path": (HEAD + "spool: {directory: 5}", "3:9: expected a path"),
    "command and socket": (
        HEAD + "downstream: {command: [a], socket: /s}",
        "3:1: exactly one of `builtin`, `command` and `socket` must be given",
    ),
    "one file twice": (
        HEAD + "audit: {sinks: [{type: file, path: /a}, {type: file, path: /b}, {type: file, path: /a}]}",
        "3:1: `sinks` must name each place once",
    ),
    "very many sinks": (
        HEAD + f"audit: {{sinks: [{', '.join(f'{{type: file, path: /{n}}}' for n in range(9))}]}}",
        "3:1: `sinks` must name at most 8 places",
    ),
    "command with a NUL": (
        HEAD + 'downstream: {command: ["a\\0b"]}',
        "3:1: `command` contains a NUL character, which no argument can",
    ),
    "absent text that is a part of every text": (
        HEAD + "downstream: {socket: /s, absentTexts: [no key, ' no. ']}",
        "3:1: each of `absentTexts` must have at least 4 letters or digits, and at most 200 characters",
    ),
    "empty absent text": (HEAD + "downstream: {socket: /s, absentTexts: ['']}", "3:1: each of `absentTexts` must have"),
    "long absent text": (
        HEAD + f"downstream: {{socket: /s, absentTexts: [{'a' * 201}]}}",
        "3:1: each of `absentTexts` must have",
    ),
    "very many absent texts": (
        HEAD + f"downstream: {{socket: /s, absentTexts: [{', '.join(['nothing'] * 17)}]}}",
        "3:1: `absentTexts` must contain at most 16 texts",
    ),
    "absent text that is no list": (HEAD + "downstream: {socket: /s, absentTexts: no key}", "3:26: "),
    "neither command nor socket": (
        HEAD + "downstream: {}",
        "3:1: exactly one of `builtin`, `command` and `socket` must be given",
    ),
    "builtin and socket": (
        HEAD + "downstream: {builtin: {}, socket: /s}",
        "3:1: exactly one of `builtin`, `command` and `socket` must be given",
    ),
    "builtin by file": (
        HEAD + "downstream: {builtin: {}}\nspool: {transfer: file}",
        "1:1: `spool.transfer` must not be",
    ),
    "field twice": (HEAD + "spool: {}\npaths: {}\nspool: {}", "5:1: the field `spool` appears twice"),
    "field twice, deep": (
        HEAD + "spool: {transfer: file, transfer: auto}",
        "3:25: the field `transfer` appears twice",
    ),
    "field twice in an overlay": (HEAD + "plugins:\n  a: {}\n  a: {}", "5:3: the field `a` appears twice"),
    "field that is no text": (HEAD + "? [a]\n: b", "3:3: the name of a field must be text"),
    "list": ("- a\n- b", "1:1: Expected `object`, got `array`"),
    "text": ("no settings", "1:1: Expected `object`, got `str`"),
    "nothing": ("---\n", "2:1: Expected `object`, got `null`"),
    "tab": (HEAD + "\tspool: {}", "3:1: found a tab character"),
    "open quote": (HEAD + 'spool: "auto\n', "4:1: found unexpected end of stream"),
    "open bracket": (HEAD + "spool: {transfer: auto\n", "4:1: did not find expected ',' or '}'"),
    "indentation": (HEAD + "spool:\n  transfer: auto\n directory: /s", "5:2: did not find expected key"),
    "two documents": (HEAD + "---\n" + HEAD, "3:1: only one document is supported"),
    "unknown anchor": (HEAD + "spool: *there", "3:8: YAML aliases are not supported"),
    "unknown tag": (HEAD + "spool: !!python/name:os.system x", "3:8: YAML tags are not supported"),
    "value that does not fit its tag": (
        HEAD + "spool: !!bool perhaps",
        "3:8: YAML tags are not supported",
    ),
    "value that contains itself": (HEAD + "spool: &a [*a]", "3:8: YAML anchors are not supported"),
    "deep": (HEAD + "spool: " + "[" * 65, "3:71: the document is nested too deeply"),
    "very deep": ("[" * 500_000, "1:65: the document is nested too deeply"),
    "fault in an overlay": (
        HEAD + "spool: {transfer: file}\nplugins:\n  crypt:\n    spool: {transfer: fast}",
        "6:13: Invalid enum value 'fast'",
    ),
    "unknown field in an overlay": (
        HEAD + "plugins:\n  a: {}\n  b:\n    kys: {}",
        "6:5: Object contains unknown field `kys`",
    ),
    "overlays in an overlay": (HEAD + "plugins: {a: {plugins: {}}}", "3:15: Object contains unknown field `plugins`"),
    "overlay that is text": (HEAD + "plugins:\n  a: b", "4:6: Expected `object`, got `str`"),
    "overlay that is nothing": (HEAD + "plugins:\n  a:\n", "4:5: Expected `object`, got `null`"),
    "overlays that are a list": (HEAD + "plugins: [a]", "3:1: expected a mapping from plugin names to settings"),
    "overlays that are nothing": (HEAD + "plugins:", "3:1: expected a mapping from plugin names to settings"),
    "command laid over a socket": (
        HEAD + "downstream: {socket: /s}\nplugins:\n  a:\n    downstream: {command: [b]}",
        "6:5: exactly one of `builtin`, `command` and `socket` must be given",
    ),
}
for text in ("30", "30 s", "s", "", "-1s", "1d", "1e3s", "0x10s", "٣s", "1..5s", "1s30s", "inf", ".s", "1:30"):
    FAULTS[f"duration {text!r}"] = (
        f"{HEAD}downstream: {{socket: /s, startTimeout: '{text}'}}",
        "3:26: expected a duration such as `30s` or `10m`",
    )
for text in ("9999999999h", "168.1h", "604801s", "9" * 400 + "ms"):
    FAULTS[f"duration {text[:12]!r} of more than a week"] = (
        f"{HEAD}keys:\n  provider: vault\n  vault: {{auth: {{method: token}}, timeout: {text}}}",
        "5:34: a duration may be at most `168h`",
    )


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_has_file_line_and_column(text, expected):
    assert fault(text).startswith(f"config.yaml:{expected}")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n"])
def test_an_empty_document_has_a_remedy(text):
    with pytest.raises(NotConfigured, match="the document is empty") as raised:
        parse(text, "config.yaml")
    assert "SEALGATE_CONFIG" in raised.value.remedy


@pytest.mark.parametrize("text", ["\0", "a: \x07", "\udc80", HEAD + "spool: \ud800"])
def test_a_document_that_is_not_text_is_refused(text):
    assert fault(text) == "config.yaml: the document is neither YAML nor JSON"


# --- sources ---------------------------------------------------------------------------------------------


def test_the_file_that_the_environment_names_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(WHOLE)
    assert load({"SEALGATE_CONFIG": str(path)}, "crypt-pci") == parse(WHOLE, "x", "crypt-pci")


def test_the_text_in_the_environment_is_read():
    assert load({"SEALGATE_CONFIG_YAML": WHOLE}) == parse(WHOLE, "x")
    with pytest.raises(NotConfigured, match="SEALGATE_CONFIG_YAML:1:1: "):
        load({"SEALGATE_CONFIG_YAML": "no settings"})


@pytest.mark.parametrize("environment", [{}, {"SEALGATE_CONFIG": ""}, {"SEALGATE_CONFIG_YAML": "", "HOME": "/"}])
def test_a_missing_configuration_has_a_remedy(environment):
    with pytest.raises(NotConfigured, match="there is no configuration") as raised:
        load(environment)
    assert {"--config", "SEALGATE_CONFIG", "SEALGATE_CONFIG_YAML"} <= set(raised.value.remedy.split())


def test_two_configurations_are_refused():
    with pytest.raises(NotConfigured, match="both SEALGATE_CONFIG and SEALGATE_CONFIG_YAML are set"):
        load({"SEALGATE_CONFIG": "/etc/sealgate.yaml", "SEALGATE_CONFIG_YAML": WHOLE})


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "cannot be read: no such file or directory"),
        (WHOLE.encode("utf-16"), "is not UTF-8"),
        (b"kind: \xff", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, fact):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotConfigured, match=f"the configuration {path} {fact}"):
        load({"SEALGATE_CONFIG": str(path)})


def test_a_file_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * (1 << 20) + b"\n" + HEAD.encode())
    with pytest.raises(NotConfigured, match=f"{path}: the document has more than 1048576 characters"):
        load({"SEALGATE_CONFIG": str(path)})


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(NotConfigured, match="cannot be read: is a directory"):
        load({"SEALGATE_CONFIG": str(tmp_path)})


# --- arbitrary documents ---------------------------------------------------------------------------------

AWKWARD = st.sampled_from(
    [
        *"[]{}:#%@`'\"\n\t|>=~1é\0\x85\ufeff\udc80",
        *(f"!!{tag} " for tag in ("int", "float", "bool", "timestamp", "binary", "set", "map", "null", "x")),
        *("- ", "? ", "&a ", "*a", "<<: ", "\n  ", "---\n", "...", "0x", "0o8", "1:2", ".inf", "2026-13-45"),
    ]
)


def only_named_errors(text: str) -> None:
    with suppress(NotConfigured):
        assert isinstance(parse(text, "config.yaml", "crypt-pci"), Settings)


@given(st.data())
def test_a_mutated_document_is_valid_or_a_named_error(data):
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 10))
        text = text[:at] + data.draw(AWKWARD) + text[at + gone :]
    only_named_errors(text)


@given(st.one_of(st.text(max_size=60), st.lists(AWKWARD, max_size=12).map("".join)))
@example('a: !!int ""')
@example("a: !!timestamp x")
@example("a: !!binary é")
@example("? !!set {a}\n: b")
@example("a: =")
def test_any_text_is_valid_or_a_named_error(text):
    only_named_errors(text)
    only_named_errors(f"{HEAD}spool: {text}")
    only_named_errors(f"{HEAD}plugins: {text}")


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["command", "socket", "local", "roots", "key", "transfer"]), inner, max_size=3
            ),
        ),
        max_leaves=8,
    ),
    st.sampled_from(["downstream", "keys", "paths", "spool", "plugins", "kind"]),
)
def test_any_value_in_any_section_is_valid_or_a_named_error(value, section):
    only_named_errors(json.dumps({"apiVersion": "sealgate/v1alpha1", "kind": "Sealgate", section: value}))
