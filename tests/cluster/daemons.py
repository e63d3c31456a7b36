"""The daemons of a cluster of one node: etcd, Kubernetes and containerd, in the network of the calling process."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster import settings
from cluster.images import archives
from cluster.kubernetes import Kubernetes, NotYet, until
from cluster.parts import NETWORK_PLUGINS, program
from cluster.settings import ADDRESS, SERVICES
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import pki


class Daemons:
    """The processes of one cluster; `place` is their directory, and its name that of their control groups."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.authority = pki.authority("the cluster's authority")
        self.tokens = {name: secrets.token_hex(16) for name in settings.USERS}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (place / "logs").mkdir()

    def start(self) -> Kubernetes:
        """Start everything, and return a client of the API once the node is ready."""
        _network()
        self._write_files()
        self._start_control()
        client = Kubernetes(self.place / "admin.json")
        until("the API server answers", lambda: client.run("get", "--raw=/readyz"))
        self._start_node()
        until("the node is ready", lambda: _ready(client))
        return client

    def stop(self) -> None:
        """End the daemons. What they leave behind ends with the namespaces."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in reversed(self._processes.values()):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def memory(self) -> int:
        """Return the resident memory of the daemons, in bytes."""
        pages = sum(int(Path(f"/proc/{each.pid}/statm").read_text().split()[1]) for each in self._processes.values())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def run(self, name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Start a program of the cache; its output goes to a file in `logs`."""
        with (self.place / "logs" / name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program(name), *arguments],
                env={"PATH": f"{program('containerd').parent}:{os.environ['PATH']}", "HOME": str(self.place)}
                | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.place,
            )

    def _write_files(self) -> None:
        files: dict[str, str] = {"authority.pem": self.authority.pem}
        names = (ADDRESS, "127.0.0.1", f"{SERVICES}.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        pki.server(self.authority, names=names).write(self.place, "api")
        accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        files["accounts.key"] = pki.Certificate(self.authority.made, accounts).key_pem
        files["tokens.csv"] = settings.token_file(self.tokens)
        for name, token in self.tokens.items():
            files[f"{name}.json"] = json.dumps(settings.kubeconfig(self.authority.pem, token))
        files["kubelet.yaml"] = json.dumps(settings.kubelet(self.place))
        files["proxy.yaml"] = json.dumps(settings.proxy(self.place))
        files["containerd.toml"] = settings.containerd(self.place, NETWORK_PLUGINS)
        files["resolv.conf"] = ""
        (self.place / "network").mkdir()
        files["network/10-bridge.conflist"] = json.dumps(settings.NETWORK)
        for name, text in files.items():
            (self.place / name).write_text(text)
            (self.place / name).chmod(0o600)

    def _start_control(self) -> None:
        self.run("etcd", *settings.etcd(self.place))
        self.run("kube-apiserver", *settings.api_server(self.place))
        self.run("kube-controller-manager", *settings.controller_manager(self.place))
        self.run("kube-scheduler", f"--kubeconfig={self.place}/scheduler.json", "--leader-elect=false")

    def _start_node(self) -> None:
        self.run("containerd", "--config", self.place / "containerd.toml")
        until("containerd answers", lambda: self._ctr("version"))
        self._import_images()
        self.run("kube-proxy", f"--config={self.place}/proxy.yaml", "--hostname-override=node")
        self.run(
            "kubelet",
            f"--config={self.place}/kubelet.yaml",
            f"--kubeconfig={self.place}/node.json",
            "--hostname-override=node",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self.place}/kubelet",
            f"--cert-dir={self.place}/kubelet-pki",
        )

    def _import_images(self) -> None:
        for archive in archives():
            with tempfile.TemporaryDirectory(dir=self.place) as folder:
                subprocess.run(["tar", "-C", folder, "-xf", archive], check=True)
                for image in sorted(Path(folder).glob("*.tar")):
                    self._ctr("--namespace", "k8s.io", "images", "import", "--local", str(image))

    def _ctr(self, *arguments: str) -> str:
        command = [program("ctr"), "--address", self.place / "containerd.sock", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotYet(done.stderr[-2000:])
        return done.stdout


def _network() -> None:
    """Give the node its address, and let it forward the packets of pods."""
    for command in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{ADDRESS}/32", "dev", "lo"),
        ("route", "add", f"{SERVICES}.0/16", "dev", "lo"),
    ):
        subprocess.run(["ip", *command], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")


def _ready(client: Kubernetes) -> None:
    nodes = client.list("nodes")
    conditions = {c["type"]: c["status"] for node in nodes for c in node["status"].get("conditions", [])}
    if conditions.get("Ready") != "True":
        raise NotYet(f"{conditions}")
