"""The images of a cluster, built before it starts and kept as archives in the cache.

A registry does not exist here. `debootstrap` stands in for the published base image, and a copy of the interpreter that
runs this program for the published image of Python. Sealgate's images are built by the real Dockerfile.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipapp
from collections.abc import Mapping
from pathlib import Path

from cluster.parts import ARGO, CACHE, locked, program

ROOT = Path(__file__).parents[2]
NAMES = "registry.example.com"
"""The registry in the name of each image. It does not exist: the images are imported."""
STEP, PAUSE = f"{NAMES}/busybox:1.37", f"{NAMES}/pause:1"
SEALGATE = f"{NAMES}/sealgate:0.1.0"
SEALGATE_AGAIN = f"{NAMES}/sealgate:0.1.1"
"""The same image with another tag: what a release brings."""
WITH_VENDOR, IN_VENDOR = f"{NAMES}/sealgate-with-vendor:0.1.0", f"{NAMES}/sealgate-in-vendor:0.1.0"
VENDOR, VENDOR_FILE = f"{NAMES}/vendor:1.4.0", f"{NAMES}/vendor-file:1.4.0"
ARGO_IMAGES = {
    "argoexec": f"{NAMES}/argoexec:{ARGO}",
    "workflow-controller": f"{NAMES}/workflow-controller:{ARGO}",
    "argo": f"{NAMES}/argocli:{ARGO}",
}
_SHIPPED = (
    "Dockerfile",
    "requirements.lock",
    "requirements-build.lock",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "proxy",
    "policies",
    "image",
    "tests/harness/second_vendor.py",
    "tests/harness/vendor.py",
    "tests/harness/flat_bucket.py",
    "tests/cluster/vendor.py",
)
"""What the images are built from."""
_USER = "root:x:0:0:root:/:/\nargo:x:8737:8737:argo:/home/argo:/\n"


def build() -> dict[str, float]:
    """Build every image that is not in the cache; return the seconds that each took."""
    seconds = {}
    with locked("images"):
        for name, make in _MAKERS.items():
            if not archive(name).exists():
                print(f"building the images {name}", flush=True)  # noqa: T201 - the command tells its progress
                began = time.monotonic()
                make(archive(name))
                seconds[f"images {name}"] = time.monotonic() - began
    return seconds


def archive(name: str) -> Path:
    """Return the path of an archive; its name contains a digest of what it is built from."""
    return CACHE / "images" / f"{name}-{_digest(name)}.tar"


def archives() -> list[Path]:
    """Return the path of every archive."""
    return [archive(name) for name in _MAKERS]


def _digest(name: str) -> str:
    summed = hashlib.sha256(Path(__file__).read_bytes())
    if name == "argo":
        summed.update(str(program("argoexec")).encode())
    if name == "sealgate":
        for path in _files():
            summed.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return summed.hexdigest()[:16]


def _files() -> list[Path]:
    found = []
    for name in _SHIPPED:
        path = ROOT / name
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sorted(path for path in found if "__pycache__" not in path.parts)


class _Builder:
    """buildah, with storage and settings of its own."""

    def __init__(self) -> None:
        self.place = CACHE / "buildah"
        self.place.mkdir(parents=True, exist_ok=True)
        (self.place / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.place / "registries.conf").write_text("unqualified-search-registries = []\n")
        (self.place / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')

    def _run(self, *arguments: str | Path) -> str:
        options = ["--root", self.place / "root", "--runroot", self.place / "run", "--storage-driver", "overlay"]
        settings = {
            "BUILDAH_ISOLATION": "chroot",
            "REGISTRY_AUTH_FILE": "/dev/null",
            "CONTAINERS_REGISTRIES_CONF": str(self.place / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.place / "storage.conf"),
            "TMPDIR": str(self.place),
        }
        # A mount namespace of its own, so that no mount stays when the build is interrupted.
        command = ["unshare", "--mount", "nice", "-n", "5", "buildah", *options, *arguments]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
        if done.returncode:
            words = " ".join(map(str, arguments[:3]))
            raise RuntimeError(f"buildah {words}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def has(self, name: str) -> bool:
        """Return whether an image of this name exists."""
        return name.replace(":", "  ") in re.sub(r" +", "  ", self._run("images", "--format", "{{.Name}}  {{.Tag}}"))

    def built(self, name: str, context: Path, *options: str) -> None:
        policy = f"--signature-policy={self.place / 'policy.json'}"
        self._run("bud", policy, "--layers", "--pull-never", "--tag", name, *options, context)

    def made(self, name: str, content: Mapping[str, Path | str], *lines: str) -> None:
        """Build an image from nothing: files by their path in it, and further lines of its Dockerfile."""
        context = self.place / "context"
        shutil.rmtree(context, ignore_errors=True)
        root = context / "root"
        (root / "tmp").mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        for path, source in content.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, str):
                target.write_text(source)
            else:
                shutil.copy(source, target)
        (context / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY root /", *lines]) + "\n")
        self.built(name, context)
        shutil.rmtree(context)

    def imported(self, name: str, root: Path, environment: Mapping[str, str]) -> None:
        """Make an image of a whole root directory."""
        context = self.place / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        tar = context / "root.tar"
        subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True)
        lines = [f"ENV {key}={value}" for key, value in environment.items()]
        (context / "Dockerfile").write_text("\n".join(["FROM scratch", "ADD root.tar /", *lines]) + "\n")
        self.built(name, context)
        shutil.rmtree(context)

    def saved(self, archive_path: Path, *names: str) -> None:
        """Write images into one archive, which takes the place of every older one of its kind."""
        archive_path.parent.mkdir(parents=True, exist_ok=True)
        for old in archive_path.parent.glob(f"{archive_path.name.rpartition('-')[0]}-*"):
            old.unlink()
        writing = archive_path.with_suffix(".writing")
        folder = archive_path.with_suffix(".parts")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        policy = f"--signature-policy={self.place / 'policy.json'}"
        for number, name in enumerate(names):
            target = f"oci-archive:{folder}/{number}.tar:{name}"
            self._run("push", policy, "--disable-compression", name, target)
        subprocess.run(["tar", "-C", folder, "-cf", writing, "."], check=True)
        shutil.rmtree(folder)
        writing.rename(archive_path)


def _small(archive_path: Path) -> None:
    builder = _Builder()
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    files: dict[str, Path | str] = {"bin/busybox": busybox, "etc/passwd": _USER}
    shell = 'RUN ["/bin/busybox", "--install", "-s", "/bin"]'
    environment = "ENV PATH=/bin"
    builder.made(STEP, files, shell, environment)
    builder.made(PAUSE, files, environment, 'ENTRYPOINT ["/bin/busybox", "sleep", "2147483647"]')
    builder.saved(archive_path, STEP, PAUSE)


def _argo(archive_path: Path) -> None:
    builder = _Builder()
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    for name, image in ARGO_IMAGES.items():
        files = {f"bin/{name}": program(name), "etc/ssl/certs/ca-certificates.crt": authorities, "etc/passwd": _USER}
        user = [] if name == "argoexec" else ["USER 8737"]
        builder.made(image, files, "ENV PATH=/bin", *user, f'ENTRYPOINT ["{name}"]')
    builder.saved(archive_path, *ARGO_IMAGES.values())


def _sealgate(archive_path: Path) -> None:
    builder = _Builder()
    python, base = _bases(builder)
    bases = [f"--build-arg=PYTHON={python}", f"--build-arg=BASE={base}"]
    builder.built(SEALGATE, ROOT, *bases, "--build-arg=VERSION=0.1.0")
    # The second vendor is one file. Its shebang names the interpreter of Sealgate's image.
    builder.made(VENDOR_FILE, {"plugin": _vendor_file(builder.place)}, "LABEL vendor=second")
    vendor = [f"--build-arg=VENDOR={VENDOR_FILE}", "--build-arg=VENDOR_PLUGIN=/plugin"]
    builder.built(WITH_VENDOR, ROOT, *bases, "--target=with-vendor", *vendor)
    context = builder.place / "vendor"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(
        f"FROM {base}\nCOPY --from={SEALGATE} /opt/sealgate /opt/sealgate\n"
        f"COPY --from={VENDOR_FILE} --chmod=0555 /plugin /plugin\n"
        'USER 8737\nENTRYPOINT ["/plugin"]\n'
    )
    builder.built(VENDOR, context)
    builder.built(IN_VENDOR, ROOT, *bases, "--target=in-vendor", f"--build-arg=VENDOR={VENDOR}")
    builder.built(SEALGATE_AGAIN, ROOT, *bases, "--build-arg=VERSION=0.1.1")
    builder.saved(archive_path, SEALGATE, SEALGATE_AGAIN, WITH_VENDOR, IN_VENDOR, VENDOR, VENDOR_FILE)


def _vendor_file(place: Path) -> Path:
    """Pack the second vendor of the tests into one file."""
    folder, packed = place / "packed", place / "plugin"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "harness").mkdir(parents=True)
    (folder / "cluster").mkdir()
    for name in ("second_vendor", "flat_bucket", "vendor"):
        shutil.copy(ROOT / f"tests/harness/{name}.py", folder / "harness")
    shutil.copy(ROOT / "tests/cluster/vendor.py", folder / "cluster")
    zipapp.create_archive(folder, packed, interpreter="/opt/sealgate/bin/python3 -I", main="cluster.vendor:main")
    packed.chmod(0o555)
    return packed


def _bases(builder: _Builder) -> tuple[str, str]:
    """Make the two base images of the Dockerfile, unless an earlier run made them, and return their names."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert release, "the machine does not name its release of Debian"
    packages = _libraries()
    version = "-".join(platform.python_version_tuple())
    digest = hashlib.sha256(",".join((release[1], version, *packages)).encode()).hexdigest()[:8]
    python, base = f"{NAMES}/python:{version}-{digest}", f"{NAMES}/debian:{release[1]}-{digest}"
    if builder.has(python) and builder.has(base):
        return python, base
    root = builder.place / "debian"
    shutil.rmtree(root, ignore_errors=True)
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", release[1], root]
    done = subprocess.run(bootstrap, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"debootstrap:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    builder.imported(base, root, {})
    _install_python(root)
    # What this machine needs to reach its package index: its authorities, and pip's settings.
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and "FIND" not in name}
    builder.imported(python, root, settings | {"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"})
    shutil.rmtree(root)
    return python, base


def _install_python(root: Path) -> None:
    """Copy this interpreter to `/usr/local` beneath `root`, where the published image has its own."""
    prefix = root / "usr/local"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    skipped = shutil.ignore_patterns("__pycache__", "test", "site-packages")
    for part in (f"lib/{version}", f"include/{version}"):
        shutil.copytree(Path(sys.base_prefix, part), prefix / part, ignore=skipped, symlinks=True)
    (prefix / "lib" / version / "site-packages").mkdir()
    shutil.copy(Path(sys.base_prefix, "bin", version), prefix / "bin" / version)
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(version)
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy(library, prefix / "lib", follow_symlinks=False)
    subprocess.run(["chroot", root, "/sbin/ldconfig"], check=True)


def _libraries() -> list[str]:
    """Return the packages of Debian with the libraries that this interpreter loads."""
    modules = Path(sys.base_prefix, "lib").glob("python*/lib-dynload/*.so")
    python = Path(sys.executable).resolve()
    listed = [subprocess.run(["ldd", file], capture_output=True, text=True, check=False) for file in (python, *modules)]
    paths = {found for done in listed for found in re.findall(r"=> (/\S+) \(0x", done.stdout)}
    packages = {"ca-certificates"}
    for path in paths:
        for name in (path, str(Path(path).resolve()), path.removeprefix("/usr")):
            owner = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False).stdout
            if owner:
                packages.add(owner.partition(":")[0])
                break
    return sorted(packages)


_MAKERS = {"small": _small, "argo": _argo, "sealgate": _sealgate}
