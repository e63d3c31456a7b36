"""A real Prometheus, which receives what the pods push, and evaluates the alerts of the chart."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cluster.kubernetes import NotYet, until
from cluster.parts import program

Document = dict[str, Any]
OPTIONS = ("--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative")
"""What a Prometheus needs to receive the metrics that Sealgate pushes (docs/telemetry.md)."""


def pushing_to(listen: str) -> list[Document]:
    """Return the variables by which Sealgate pushes its metrics to a Prometheus, as a pod has them."""
    return [
        {"name": "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "value": f"http://{listen}/api/v1/otlp/v1/metrics"},
        {"name": "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "value": "http/protobuf"},
    ]


class Prometheus:
    """The HTTP interface of a running Prometheus at an address such as `http://10.0.0.1:9090`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[Document]:
        """Return the series that answer a query now.

        Raises:
            AssertionError: the query is wrong, or Prometheus warns of it.
        """
        answer = self._get("/api/v1/query", {"query": expression})
        assert answer["status"] == "success", f"{expression}: {answer}"
        assert not answer.get("warnings"), f"{expression}: {answer['warnings']}"
        return list(answer["data"]["result"])

    def rules(self) -> dict[str, Document]:
        """Return the state of each alert by its name."""
        groups = self._get("/api/v1/rules", {"type": "alert"})["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def _get(self, path: str, parameters: Mapping[str, str]) -> Document:
        url = f"{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:  # the answer says what is wrong with the query
            return dict(json.load(error))
        except OSError as error:
            raise NotYet(f"{url}: {error}") from None


@contextmanager
def prometheus(place: Path, rules: Mapping[str, Any], listen: str) -> Iterator[Prometheus]:
    """Run Prometheus with rules, and without anything to scrape.

    Args:
        place: the directory of the cluster.
        rules: the content of its file of rules.
        listen: its address and port.
    """
    home = place / "prometheus"
    home.mkdir()
    (home / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
    settings = {"global": {"evaluation_interval": "2s"}, "rule_files": ["rules.yaml"]}
    (home / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    command = [
        program("prometheus"),
        f"--config.file={home}/prometheus.yaml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address={listen}",
        *OPTIONS,
    ]
    with (place / "logs" / "prometheus").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        running = Prometheus(f"http://{listen}")
        until("Prometheus answers", lambda: running.query("vector(1)"))
        yield running
    finally:
        process.terminate()
        process.wait()
