"""Writes the README of the chart. Each row of its table comes from the schema of the values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

import yaml
from harness.rendering import CHART

HEAD = """\
# The chart sealgate

The chart renders the controller's ConfigMap, the tenants' service accounts, a script for Vault, and what Argo's server
needs. If you enable them, it renders network policies, admission policies, a dashboard and alerts. [With
Helm](../../docs/install-helm.md) says how to install, upgrade and remove it, and in which order.

```sh
helm lint charts/sealgate --strict --values first/values.yaml --values sealgate-values.yaml
```

## Values

The table comes from `values.schema.json` and [values.yaml](values.yaml); `make snapshots` writes it. The fields of
`configuration` have [their own page](../../docs/configuration.md).

| value | type | default | |
| --- | --- | --- | --- |
"""


def readme() -> str:
    """Return the text of the README."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = (
        f"| `{path}` | {_type(part)} | {_default(values, path)} | {_cell(part['description'])} |"
        for path, part in described(schema)
    )
    return HEAD + "\n".join(rows) + "\n"


def described(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path of each value, with dots, and its part of the schema."""
    yield from _below(schema, schema, "")


def _below(schema: dict[str, Any], part: dict[str, Any], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in part.get("properties", {}).items():
        path = f"{above}{name}"
        whole = resolved(schema, found)
        yield path, whole | found
        yield from _below(schema, whole, f"{path}.")
        if "items" in whole:
            yield from _below(schema, resolved(schema, whole["items"]), f"{path}[].")


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the schema that `part` refers to, or `part` itself."""
    if "allOf" in part:
        return resolved(schema, part["allOf"][0])
    if "$ref" in part:
        return resolved(schema, reduce(getitem, part["$ref"].removeprefix("#/").split("/"), schema))
    return part


def _type(part: dict[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{one}`" for one in part["enum"])
    named = part.get("type", "string")  # a choice of texts has no type of its own
    return named if named != "array" else f"list of {_items(part['items'])}"


def _items(part: dict[str, Any]) -> str:
    if "enum" in part:
        return _type(part)
    named = part.get("type", "string")
    return " or ".join(named) if isinstance(named, list) else named


def _default(values: Any, path: str) -> str:
    """Return the default at `path`; nothing for a value that is not set, or whose fields have rows of their own."""
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return ""
        values = values[name]
    if isinstance(values, dict) and values and not path.endswith(("labels", "securityContext", "resources", "dns")):
        return ""
    return f"`{_cell(json.dumps(values, ensure_ascii=False))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
