"""The README of the chart explains every value."""

import json
import os
import re

from harness.chart_readme import described, readme, resolved
from harness.rendering import CHART


def test_the_readme_equals_what_the_schema_says():
    path = CHART / "README.md"
    if os.environ.get("SEALGATE_UPDATE_SNAPSHOTS"):
        path.write_text(readme())
    assert path.read_text() == readme(), "run `make snapshots` and review the difference"


def test_every_property_of_the_schema_has_a_description():
    def properties(part, path=()):
        for name, found in part.get("properties", {}).items():
            yield (*path, name), found if "description" in found else resolved(schema, found)
            yield from properties(found, (*path, name))
            yield from properties(found.get("items", {}), (*path, name))

    schema = json.loads((CHART / "values.schema.json").read_text())
    definitions = {"properties": schema["definitions"]}
    found = [*properties(schema), *(one for one in properties(definitions) if len(one[0]) > 1)]
    assert len(found) > 150
    assert [path for path, part in found if not part.get("description", "").endswith(".")] == []


def test_the_readme_has_a_row_for_every_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    paths = [path for path, _ in described(schema)]
    assert len(paths) == len(set(paths))
    assert {"imagePullSecrets[].name", "configuration.keys.vault.caBundle", "argo.server.resources"} <= set(paths)
    assert re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE) == paths
