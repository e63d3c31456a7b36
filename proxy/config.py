"""The settings: one YAML or JSON document, validated once, immutable after (docs/configuration.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Struct
from yaml.constructor import SafeConstructor

from proxy.plugin import NotConfigured, one_line

API_VERSION = "sealgate/v1alpha1"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LARGEST = 1 << 20
_DEEPEST = 64
_LONGEST_AUDIT_WAIT = 60
_NOT_PLAIN = (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError)
"""What the library raises, on purpose or not, for a scalar that does not fit its tag (`!!int ""`)."""


class Duration(float):
    """Seconds, written as `30s`, `10m`, `1h`, `250ms`."""

    __slots__ = ()


class DownstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which plugin is wrapped: a `command` to run, or the `socket` of one that somebody else runs."""

    command: tuple[str, ...] = ()
    socket: Path | None = None
    plugin_name: str | None = None
    start_timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        """Require exactly one of the two."""
        if bool(self.command) == bool(self.socket):
            raise ValueError("exactly one of `command` and `socket` must be given")


class LocalKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A keyring file, and the key in it that new data keys are wrapped under."""

    keyring: Path
    key: str = "default"


_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class _Auth(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="method"):
    """How Vault knows this process. Secrets are in files or in the environment, never here."""


class KubernetesAuth(_Auth, frozen=True, tag="kubernetes"):
    """The pod's service account, which Vault asks the cluster about."""

    role: str
    mount: str = "kubernetes"
    jwt_path: Path = _SERVICE_ACCOUNT_TOKEN


class JwtAuth(_Auth, frozen=True, tag="jwt"):
    """A signed token, which Vault verifies by itself."""

    role: str
    mount: str = "jwt"
    jwt_path: Path = _SERVICE_ACCOUNT_TOKEN


class AppRoleAuth(_Auth, frozen=True, tag="approle"):
    """A role id and a secret id."""

    role_id: str
    secret_id_file: Path
    mount: str = "approle"


class TokenAuth(_Auth, frozen=True, tag="token"):
    """The token in `VAULT_TOKEN`."""


class TokenFileAuth(_Auth, frozen=True, tag="tokenFile"):
    """A token in a file that somebody else keeps good, such as Vault Agent."""

    path: Path


class VaultKeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A key of Vault's Transit engine, and how to get at it."""

    auth: KubernetesAuth | JwtAuth | AppRoleAuth | TokenAuth | TokenFileAuth
    address: str = ""
    """Empty: `VAULT_ADDR`."""
    namespace: str = ""
    """Empty: `VAULT_NAMESPACE`."""
    mount: str = "transit"
    key: str = "artifacts"
    context: str = ""
    """For derived keys; `${identity.namespace}` stands for the pod's namespace."""
    timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        """Require what a request can be made of."""
        if self.address and not self.address.startswith(("https://", "http://")):
            raise ValueError("`address` must begin with https:// or http://")
        if "${" in self.context.replace("${identity.namespace}", ""):
            raise ValueError("`context` may hold ${identity.namespace}, and nothing else of that kind")
        if self.timeout <= 0:
            raise ValueError("`timeout` must be longer than nothing")


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How long and how many opened data keys are remembered; 0 of either is none."""

    ttl: Duration = Duration(600)
    entries: Annotated[int, msgspec.Meta(ge=0)] = 1024


class KeySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which key provider is used."""

    provider: Literal["vault", "local"]
    vault: VaultKeySettings | None = None
    local: LocalKeySettings | None = None
    cache: CacheSettings = CacheSettings()

    def __post_init__(self) -> None:
        """Require the section of the provider that was named."""
        if getattr(self, self.provider) is None:
            raise ValueError(f"provider `{self.provider}` needs the section `{self.provider}`")


class PathSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Beneath which directories a request's local paths may lie."""

    roots: tuple[Path, ...] = (Path("/argo/inputs/artifacts"), Path("/tmp/argo/outputs"), Path("/mainctrfs"))  # noqa: S108 - Argo's own paths

    def __post_init__(self) -> None:
        """Require absolute paths."""
        for root in self.roots:
            if not root.is_absolute():
                raise ValueError(f"the root `{root}` is not absolute")


class SpoolSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where ciphertext waits, and whether it may."""

    directory: Path | None = None
    transfer: Literal["auto", "file", "stream"] = "auto"


class _Sink(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    """Where the audit trail goes."""


class StdoutSink(_Sink, frozen=True, tag="stdout"):
    """Standard output: in a pod, the container's log."""


class FileSink(_Sink, frozen=True, tag="file"):
    """A file that is appended to."""

    path: Path


class OtlpSink(_Sink, frozen=True, tag="otlp"):
    """A collector, where `OTEL_EXPORTER_OTLP_ENDPOINT` says: a second copy, which may lose records."""


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How accesses are recorded (docs/audit.md)."""

    sinks: tuple[StdoutSink | FileSink | OtlpSink, ...] = (StdoutSink(),)
    require: Literal["any", "all"] = "any"
    mode: Literal["fail-closed", "fail-open"] = "fail-closed"
    phases: Literal["both", "outcome"] = "both"
    wait: Duration = Duration(2)
    digest: Literal["none", "sha256"] = "none"
    """Of the ciphertext of a single file: costs reading it once more."""
    hmac_key_file: Path | None = None
    """A secret of at least 32 bytes, under which artifact keys are hidden that a policy wants hidden."""
    signing_key: str = ""
    """The key of Vault's Transit that certifies trails. A local keyring certifies with the key that wraps."""

    def __post_init__(self) -> None:
        """Require that there is somewhere to record."""
        if all(isinstance(sink, OtlpSink) for sink in self.sinks):
            raise ValueError("`sinks` must name stdout or a file: a collector may lose records")
        if not 0 < self.wait <= _LONGEST_AUDIT_WAIT:
            raise ValueError("`wait` must be longer than nothing, and at most `60s`")


class PrometheusSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where the page for Prometheus is."""

    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 9464


class TelemetrySettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is told of calls. Traces and where everything goes are the `OTEL_*` variables' affair."""

    metrics: Literal["none", "otlp", "prometheus"] = "none"
    prometheus: PrometheusSettings = PrometheusSettings()


class Settings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A whole configuration."""

    api_version: Literal["sealgate/v1alpha1"]
    kind: Literal["Sealgate"]
    downstream: DownstreamSettings | None = None
    keys: KeySettings | None = None
    paths: PathSettings = PathSettings()
    spool: SpoolSettings = SpoolSettings()
    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    def required_downstream(self) -> DownstreamSettings:
        """The section `downstream`, without which nothing can be served."""
        if self.downstream is None:
            raise _missing("downstream")
        return self.downstream

    def required_keys(self) -> KeySettings:
        """The section `keys`, without which nothing can be sealed."""
        if self.keys is None:
            raise _missing("keys")
        return self.keys


def load(environment: Mapping[str, str] = os.environ, plugin: str | None = None) -> Settings:
    """The settings that the environment names, with those of one plugin name laid over them.

    Raises:
        NotConfigured: there are none, or they are not valid; the text has file, line and column.
    """
    text, source = _document(environment)
    return parse(text, source, plugin)


def parse(text: str, source: str, plugin: str | None = None) -> Settings:
    """The settings in `text`; see `load`."""
    root = _compose(text, source)
    if root is None:
        raise NotConfigured(f"{source}: the document is empty", says="configuration", remedy=_HOW)
    try:
        document = _value(root, source, SafeConstructor())
    except RecursionError:
        raise _fault(source, root.start_mark, "the document is nested too deeply") from None
    written = document.pop("plugins", {}) if isinstance(document, dict) else {}
    settings = _convert(document, [root], source)
    if not isinstance(written, dict):
        raise _fault(source, _locate(root, ["plugins"])[1], "expected a mapping from plugin names to settings")
    for name, overlay in written.items():
        # Every overlay is validated, so that a mistake shows at the first start and not in one placement.
        laid_over = _convert(_laid_over(document, overlay), [_node(root, "plugins", name), root], source)
        settings = laid_over if name == plugin else settings
    return settings


def _node(node: yaml.Node, *names: str) -> yaml.Node:
    for name in names:
        node = next(value for key, value in node.value if key.value == name)
    return node


_HOW = "Set SEALGATE_CONFIG to the path of a configuration, or SEALGATE_CONFIG_YAML to its text"


def _missing(section: str) -> NotConfigured:
    return NotConfigured(
        f"the configuration has no section {section}", says="configuration", remedy=f"Add {section} to it"
    )


def _document(environment: Mapping[str, str]) -> tuple[str, str]:
    inline, path = environment.get("SEALGATE_CONFIG_YAML"), environment.get("SEALGATE_CONFIG")
    if inline and path:
        raise NotConfigured("both SEALGATE_CONFIG and SEALGATE_CONFIG_YAML are set", remedy="Unset one of them")
    if inline:
        return inline, "SEALGATE_CONFIG_YAML"
    if not path:
        raise NotConfigured("there is no configuration", says="environment", remedy=_HOW)
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
    except UnicodeDecodeError:
        raise NotConfigured(f"the configuration {path} is not UTF-8", remedy="Write it as YAML or JSON") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise NotConfigured(f"the configuration {path} cannot be read: {reason}", remedy=_HOW) from None
    if len(text) > _LARGEST:
        raise NotConfigured(f"the configuration {path} has more than {_LARGEST} characters")
    return text, path


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        _require_shallow(text)
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise NotConfigured(f"{where}: {error.problem or 'not YAML'}", says="configuration") from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise NotConfigured(f"{source}: the document is neither YAML nor JSON", says="configuration") from None


def _require_shallow(text: str) -> None:
    """Refuse what `compose` would overrun the C stack with: it calls itself for each level."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            mark: Any = event.start_mark  # the stubs know two classes of marks
            raise yaml.MarkedYAMLError(problem="the document is nested too deeply", problem_mark=mark)


def _value(node: yaml.Node, source: str, constructor: SafeConstructor) -> Any:
    """The plain value of a node. A field given twice is a mistake and not a choice."""
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, source, constructor) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault(source, key.start_mark, "the name of a field must be text")
            if key.value in mapping:
                raise _fault(source, key.start_mark, f"the field `{key.value}` is given twice")
            mapping[key.value] = _value(value, source, constructor)
        return mapping
    try:
        return constructor.construct_object(node)
    except _NOT_PLAIN:
        raise _fault(source, node.start_mark, "the value is not plain") from None


def _laid_over(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{name: _laid_over(base.get(name), value) for name, value in over.items()}}


def _convert(value: Any, nodes: Sequence[yaml.Node], source: str) -> Settings:
    """Validate `value`; `nodes` are where it was written, an overlay before what it is laid over."""
    try:
        return msgspec.convert(value, Settings, dec_hook=_decode)
    except msgspec.ValidationError as error:
        # "what is wrong - at `$.keys.local`": the path leads back to the line.
        fact, _, path = str(error).partition(" - at `$")
        names = [name for name in path.rstrip("`").replace("[", ".").replace("]", "").split(".") if name]
        if "unknown field `" in fact:
            names.append(fact.partition("unknown field `")[2].rstrip("`"))
        _, mark = max((_locate(node, names) for node in nodes), key=lambda found: found[0])
        raise _fault(source, mark, one_line(fact)) from None


def _locate(node: yaml.Node, names: Sequence[str]) -> tuple[int, yaml.Mark]:
    """How far the path `names` leads, and the place of the last name that was found."""
    mark = node.start_mark
    for depth, name in enumerate(names):
        if isinstance(node, yaml.MappingNode):
            found = [(key.start_mark, value) for key, value in node.value if key.value == name]
        elif isinstance(node, yaml.SequenceNode) and name.isdigit():
            found = [(item.start_mark, item) for item in node.value[int(name) : int(name) + 1]]
        else:
            found = []
        if not found:
            return depth, mark
        mark, node = found[0]
    return len(names), mark


def _fault(source: str, mark: yaml.Mark, fact: str) -> NotConfigured:
    return NotConfigured(f"{source}:{mark.line + 1}:{mark.column + 1}: {fact}", says="configuration")


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is Duration and isinstance(value, str):
        number = value.rstrip("mhs")
        unit = _UNITS.get(value[len(number) :])
        if unit is not None and number.isascii() and number.replace(".", "", 1).isdigit():
            return Duration(float(number) * unit)
    expected = "a path" if kind is Path else "a duration such as `30s` or `10m`"
    raise ValueError(f"expected {expected}")
