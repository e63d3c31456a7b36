"""Output that cannot be written ends a command with one line and an exit code, never with a traceback."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

import pytest
from harness.chain import SEALGATE, eventually

COMMANDS = [["policy", "schema"], ["policy", "library"], ["--help"], ["inspect", "SEALED"]]


@pytest.fixture
def sealed(tmp_path):
    """A sealed file, and the environment that opens it."""
    from harness.chain import write_keyring  # noqa: PLC0415 - only here

    keyring = write_keyring(tmp_path / "keyring.json")
    configuration = (
        f"{{apiVersion: sealgate/v1alpha1, kind: Sealgate, keys: {{provider: local, local: {{keyring: {keyring}}}}}}}"
    )
    environment = {**os.environ, "SEALGATE_CONFIG_YAML": configuration}
    (tmp_path / "plain").write_bytes(b"x" * 100)
    command = [*SEALGATE, "seal", str(tmp_path / "plain"), str(tmp_path / "sealed"), "--artifact-key", "ns/a"]
    subprocess.run(command, env=environment, check=True)
    return tmp_path / "sealed", environment


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line_and_no_traceback(command, sealed):
    path, environment = sealed
    words = [str(path) if word == "SEALED" else word for word in command]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*SEALGATE, *words], env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    assert "no space left" in ran.stderr


@pytest.mark.parametrize("command", [*COMMANDS, ["open", "SEALED", "-", "--artifact-key", "ns/a"]], ids=" ".join)
def test_a_closed_output_is_no_traceback(command, sealed):
    path, environment = sealed
    words = [str(path) if word == "SEALED" else word for word in command]
    script = " ".join([*SEALGATE, *words, ">&-"])
    ran = subprocess.run(["sh", "-c", script], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_a_locale_without_utf_8_does_not_end_the_output(sealed):
    path, environment = sealed
    ascii_only = environment | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(
        [*SEALGATE, "inspect", str(path.with_name("sealed-ä"))], env=ascii_only, capture_output=True, check=False
    )
    assert b"Traceback" not in ran.stderr
    assert ran.returncode != 0


def test_an_abbreviated_option_is_refused():
    ran = subprocess.run([*SEALGATE, "policy", "check", "--conf", "x"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "unrecognized arguments" in ran.stderr


def unread(pipe: int) -> int:
    """Return how many bytes in a pipe are not read yet."""
    count = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def test_ctrl_c_is_130(sealed):
    _, environment = sealed
    # A shell has its background jobs ignore SIGINT, and their children with them.
    command = ["env", "--default-signal=INT", *SEALGATE, "seal", "-", "-", "--artifact-key", "ns/a"]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.write(process.stdin.fileno(), b"x")
    assert eventually(lambda: unread(process.stdin.fileno()) == 0), "the command does not read its input"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in {130, -signal.SIGINT}
    assert b"Traceback" not in process.stderr.read()
