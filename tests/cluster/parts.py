"""The programs of a cluster: built from Go modules once for each user, and what Debian's packages provide.

Everything is kept beside the other programs of the tests, outside the checkout. Building needs the Go module proxy and
about 20 minutes of one processor. A second run finds each part by a digest of what it is built from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.golang import installed, judge
from harness.s3 import VERSITYGW
from harness.tools import TOOLS

CACHE = TOOLS / "cluster"
SOURCES = Path(__file__).parent / "go"
CONTAINERD, KUBERNETES, ARGO, PROMETHEUS = "v2.4.2", "v1.36.3", "v4.0.5", "v3.16.0"
_ARGO_MODULE = "github.com/argoproj/argo-workflows/v4"
_VERSION = "k8s.io/component-base/version"

PACKAGES = {
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}
"""The programs that come from Debian, each with its package."""
NETWORK_PLUGINS = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Module:
    """A Go module from which programs are built: a folder of `go/`, the packages, and options of the build."""

    name: str
    packages: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        files = sorted(path for path in (SOURCES / self.name).iterdir() if path.is_file())
        text = b"".join(path.read_bytes() for path in files) + repr((self.packages, self.options)).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    @property
    def place(self) -> Path:
        """The directory of the programs."""
        return CACHE / f"{self.name}-{self.digest}"


_COMMANDS = "github.com/containerd/containerd/v2/cmd"
MODULES = (
    Module("etcd", (".",)),
    Module(
        "containerd",
        (f"{_COMMANDS}/containerd", f"{_COMMANDS}/containerd-shim-runc-v2", f"{_COMMANDS}/ctr"),
        (
            "-tags=no_btrfs no_devmapper no_zfs no_aufs",
            f"-ldflags=-s -w -X github.com/containerd/containerd/v2/version.Version={CONTAINERD}",
        ),
    ),
    Module(
        "kubernetes",
        tuple(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
        ),
        (f"-ldflags=-s -w -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",),
    ),
    Module(
        "argo",
        ("./cmd/argoexec", "./cmd/workflow-controller", "./cmd/argo"),
        (f"-ldflags=-s -w -X {_ARGO_MODULE}.version={ARGO} -X {_ARGO_MODULE}.gitTag={ARGO}",),
    ),
    Module(
        "prometheus",
        ("github.com/prometheus/prometheus/cmd/prometheus",),
        ("-tags=remove_all_sd", f"-ldflags=-s -w -X github.com/prometheus/common/version.Version={PROMETHEUS[1:]}"),
    ),
)


def missing() -> list[str]:
    """Return a sentence for each reason why this machine cannot run the cluster."""
    reasons = []
    if sys.platform != "linux" or os.geteuid() != 0:
        return ["the cluster needs Linux and root: it makes namespaces, mounts and control groups"]
    reasons += [
        f"{program} is not installed: apt-get install {package}"
        for program, package in PACKAGES.items()
        if not shutil.which(program)
    ]
    if not (NETWORK_PLUGINS / "bridge").exists():
        reasons.append("the network plugins are not installed: apt-get install containernetworking-plugins")
    if not shutil.which("go"):
        reasons.append("Go is not installed: install 1.26 or later")
    if Path(sys.base_prefix) == Path("/usr"):
        reasons.append("Python is Debian's own: the image needs one that is laid out like the published image")
    filesystems = Path("/proc/filesystems").read_text().split()
    reasons += [f"the kernel has no {name}" for name in ("overlay", "cgroup") if name not in filesystems]
    return reasons


def cached() -> bool:
    """Return whether every program is built, and nothing keeps this machine from running the cluster."""
    return all(module.place.exists() for module in MODULES) and not missing()


def install_packages() -> None:
    """Install the packages of Debian that are missing, where apt-get can do that."""
    wanted = {package for program, package in PACKAGES.items() if not shutil.which(program)}
    if not (NETWORK_PLUGINS / "bridge").exists():
        wanted.add("containernetworking-plugins")
    if wanted and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update"], check=False, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *sorted(wanted)]
        subprocess.run(install, check=False, stdout=subprocess.DEVNULL)


def build() -> dict[str, float]:
    """Build every program that is not in the cache; return the seconds that each module took."""
    seconds = {}
    for module in MODULES:
        with locked(module.name):
            if not module.place.exists():
                began = time.monotonic()
                _say(f"building {module.name} from its Go module")
                _build(module)
                seconds[module.name] = time.monotonic() - began
    installed(*VERSITYGW)
    judge("helm")
    return seconds


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of one part, so that two runs do not build it at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def program(name: str) -> Path:
    """Return the path of a program that was built."""
    for module in MODULES:
        if (module.place / name).exists():
            return module.place / name
    raise FileNotFoundError(name)


def manifests() -> Path:
    """Return Argo's own manifests, which its Go module contains."""
    return _module_folder(_ARGO_MODULE, ARGO) / "manifests"


def _build(module: Module) -> None:
    building = module.place.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    folder = SOURCES / module.name
    mode = ["-mod=readonly"]
    if module.name == "argo":
        folder, mode = _argo_sources(building.with_suffix(".sources")), []
    # Other work on the machine goes first, and one compiler at a time needs less memory.
    command = ["nice", "-n", "5", "go", "build", "-p=2", "-trimpath", "-buildvcs=false", *mode, *module.options]
    _run([*command, "-o", f"{building}/", *module.packages], folder)
    if module.name == "argo":
        shutil.rmtree(folder)
    building.rename(module.place)


def _argo_sources(folder: Path) -> Path:
    """Copy Argo's module, and add two files that the module lacks: the user interface, and Linux's signals."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_module_folder(_ARGO_MODULE, ARGO), folder)
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    page = folder / "ui/dist/app/index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<!DOCTYPE html><title>Argo without its user interface</title>\n")
    shutil.copy(SOURCES / "argo/signal_linux.go", folder / "workflow/executor/osspecific/signal_linux.go")
    return folder


def _module_folder(module: str, version: str) -> Path:
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return Path(json.loads(done.stdout)["Dir"])


def _run(command: Sequence[str], folder: Path) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}:\n{done.stderr[-4000:]}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command tells its progress
