"""The demo does what a newcomer is told that it does."""

import subprocess

from harness.chain import SEALGATE


def run(*arguments):
    return subprocess.run([*SEALGATE, "demo", *arguments], capture_output=True, text=True, check=False)


def test_every_step_succeeds_and_says_what_it_shows():
    shown = run()
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for word in ("Save an artifact", "in storage", "byte for byte", "DATA_LOSS", "INVALID_ARGUMENT", "Every step"):
        assert word in shown.stdout


def test_a_file_of_ones_own_goes_through(tmp_path):
    (tmp_path / "mine.bin").write_bytes(b"mine" * 500_000)
    shown = run("--file", str(tmp_path / "mine.bin"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "2,000,000 bytes saved" in shown.stdout


def test_an_empty_file_goes_through_too(tmp_path):
    (tmp_path / "empty").touch()
    assert run("--file", str(tmp_path / "empty")).returncode == 0


def test_a_missing_file_is_bad_usage():
    assert run("--file", "no-such-file").returncode == 2
