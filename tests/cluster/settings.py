"""Settings of the daemons, and the addresses of a cluster."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.images import PAUSE

ADDRESS = "10.90.0.1"
"""The node's address, on its loopback device: everything that is not a pod listens there."""
PODS, SERVICES = "10.244.0.0/24", "10.96.0"
API = f"https://{ADDRESS}:6443"
USERS = {
    "admin": "system:masters",
    "node": "system:nodes",
    "controllers": "system:masters",
    "scheduler": "",
    "proxy": "",
}
"""The users of the daemons, each with its group."""
_NAMES = {
    "node": "system:node:node",
    "controllers": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "proxy": "system:kube-proxy",
}
NETWORK: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}


def token_file(tokens: Mapping[str, str]) -> str:
    """Return the users of the API server, one a line."""
    return "".join(f'{token},{_NAMES.get(name, name)},{name},"{USERS[name]}"\n' for name, token in tokens.items())


def kubeconfig(authority: str, token: str) -> dict[str, Any]:
    """Return the settings of a client of the API."""
    data = base64.b64encode(authority.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": API, "certificate-authority-data": data}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }


def etcd(place: Path) -> list[str]:
    """Return the arguments of etcd, which does not wait for the disk."""
    return [
        f"--data-dir={place}/etcd",
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
    ]


def api_server(place: Path) -> list[str]:
    """Return the arguments of the API server."""
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={ADDRESS}",
        f"--bind-address={ADDRESS}",
        "--secure-port=6443",
        f"--tls-cert-file={place}/api.pem",
        f"--tls-private-key-file={place}/api.key",
        f"--token-auth-file={place}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICES}.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={place}/accounts.key",
        f"--service-account-signing-key-file={place}/accounts.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    ]


def controller_manager(place: Path) -> list[str]:
    """Return the arguments of the controller manager."""
    return [
        f"--kubeconfig={place}/controllers.json",
        f"--root-ca-file={place}/authority.pem",
        f"--service-account-private-key-file={place}/accounts.key",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        "--bind-address=127.0.0.1",
    ]


def kubelet(place: Path) -> dict[str, Any]:
    """Return the configuration of the kubelet, whose pods are in the control groups named after the cluster."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        # The network is the cluster's own, and nobody else is in it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{place}/containerd.sock",
        "resolvConf": f"{place}/resolv.conf",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "podLogsDir": f"{place}/pod-logs",
        "volumePluginDir": f"{place}/volume-plugins",
        "registerNode": True,
        "maxPods": 110,
    }


def proxy(place: Path) -> dict[str, Any]:
    """Return the configuration of kube-proxy."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{place}/proxy.json"},
        "mode": "nftables",
        "clusterCIDR": PODS,
        # The bridge does not give packets between two pods to the packet filter, so each one must pass the node.
        "nftables": {"masqueradeAll": True},
        "oomScoreAdj": 0,
        "bindAddress": ADDRESS,
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def containerd(place: Path, network_plugins: Path) -> str:
    """Return the configuration of containerd."""
    return f"""\
version = 3
root = "{place}/containerd"
state = "{place}/run"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{place}/containerd.sock"

[ttrpc]
address = "{place}/containerd.ttrpc.sock"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
enable_cdi = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{network_plugins}"]
conf_dir = "{place}/network"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
"""
