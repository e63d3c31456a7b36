"""A downstream that ends instead of serving: every call says at once how it ended, and what it printed last."""

from __future__ import annotations

import sys
import time

import pytest
from harness.chain import VENDOR, eventually
from harness.outcome import assert_own_line, outcome

from sealgate.rpc.child_output import shown_line

pytestmark = pytest.mark.process

SECRET = "hunter2-of-the-environment"


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def error_of_a_call(proxy) -> str:
    """Return the error of a call, which must come long before the start timeout of 30 s."""
    began = time.monotonic()
    found = outcome(lambda: proxy.argo().list_objects("a/b"))
    assert time.monotonic() - began < 10
    assert_own_line(found, "UNAVAILABLE", "ListObjects", "a/b")
    return found.text


LAST_LINES = {
    "an exit code": ("print('no bucket named x'); sys.exit(3)", "code 3 after ", "no bucket named x"),
    "a signal": ("print('about to crash', flush=True); os.abort()", "code 134 (SIGABRT) after ", "about to crash"),
    "standard error": (
        "print('first'); sys.exit('the licence has run out')",
        "code 1 after ",
        "the licence has run out",
    ),
    "no end of line": ("sys.stdout.write('without an end'); sys.exit(0)", "code 0 after ", "without an end"),
    "blank lines after it": ("print('the last one\\n\\n  \\n'); sys.exit(1)", "code 1 after ", "the last one"),
    "control characters": (
        "print('a\\x1b[31mred\\x07\\x00\\u202eb\\u2028c'); sys.exit(1)",
        "code 1 after ",
        "a\\x1b[31mred\\x07",
    ),
    "not UTF-8": ("sys.stdout.buffer.write(b'caf\\xe9\\n'); sys.exit(1)", "code 1 after ", "caf\ufffd"),
}


@pytest.mark.parametrize("case", LAST_LINES)
def test_a_call_says_how_the_downstream_ended_and_what_it_printed_last(start, case):
    text, how, last_line = LAST_LINES[case]
    proxy = start(downstream=script(f"import os, sys; {text}"))
    error = error_of_a_call(proxy)
    assert f"the downstream ended with {how}" in error
    assert f'its last line: "{last_line}' in error
    assert "startTimeout" not in error
    assert error.isprintable()
    assert eventually(lambda: f'its last line: "{last_line}' in proxy.output())


def test_a_call_says_how_often_the_downstream_ended(start):
    proxy = start(downstream=["false"])
    assert eventually(lambda: "next_start_seconds=0.8" in proxy.output())
    assert "(4 times in a row)" in error_of_a_call(proxy)


def test_calls_do_not_wait_for_the_next_start(start):
    proxy = start(downstream=["false"])
    assert eventually(lambda: "next_start_seconds=3.2" in proxy.output())
    began = time.monotonic()
    for _ in range(10):
        error_of_a_call(proxy)
    assert time.monotonic() - began < 2


def test_a_call_that_waits_while_the_downstream_starts_ends_with_it(start):
    proxy = start(downstream=script("import sys, time; time.sleep(2); sys.exit('no storage')"))
    assert "after 2" in error_of_a_call(proxy)


def test_a_long_last_line_is_cut(start):
    proxy = start(downstream=script("import sys; sys.exit('x' * 100_000)"))
    error = error_of_a_call(proxy)
    assert "x" * 200 + "…" in error
    assert "x" * 201 not in error


def test_the_last_line_contains_no_secret_of_the_environment(start):
    variables = {"STORE_SECRET_KEY": SECRET, "STORE_URL": "https://user:hunter3-of-a-url@store", "AWS_REGION": "eu"}
    words = "print('refused:', os.environ['STORE_SECRET_KEY'], 'hunter3-of-a-url', os.environ['AWS_REGION'])"
    proxy = start(downstream=script(f"import os, sys; {words}; sys.exit(1)"), environment=variables)
    assert 'its last line: "refused: … … eu"' in error_of_a_call(proxy)


def test_the_last_line_of_a_downstream_that_had_requests_is_not_shown(start):
    """It could repeat what another workflow's author wrote."""
    crash = f"""
import os, runpy, sys, threading, time
def watch():
    while not os.path.exists(os.path.join(os.environ["VENDOR_ROOT"], "crash")):
        time.sleep(0.01)
    print("{SECRET}", flush=True)
    os._exit(3)
threading.Thread(target=watch).start()
sys.argv = ["vendor", sys.argv[1]]
runpy.run_path({VENDOR[-1]!r}, run_name="__main__")
"""
    proxy = start(downstream=script(crash))
    assert proxy.argo().list_objects("a/b") == []
    (proxy.storage / "crash").touch()
    assert eventually(lambda: "the downstream ended with code 3" in proxy.output())
    errors = [line for line in proxy.output().splitlines() if "the downstream ended with code" in line]
    assert SECRET not in errors[0]


def test_a_downstream_that_served_before_it_crashed_is_waited_for(start):
    proxy = start()
    argo = proxy.argo()
    assert argo.list_objects("a/b") == []
    assert outcome(lambda: proxy.argo("fault: die\n").list_objects("a/b")).code == "UNAVAILABLE"
    assert eventually(lambda: "next_start_seconds=0.1" in proxy.output())
    assert proxy.argo().list_objects("a/b") == []


@pytest.mark.parametrize("value", ["hunter22", "line one\nhunter22\nline three", "scheme://user:hunter22@host/path"])
def test_secrets_are_found_in_lines_and_in_urls(value):
    assert shown_line("it is hunter22!", {"A_VALUE": value}) == "it is …!"


def test_values_that_are_no_secrets_are_shown():
    environment = {
        "HOME": "/home/user",
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "MODE": "fast",
        "BROKEN": "http://[",
    }
    assert shown_line('no "x" in /home/user, fast', environment) == "no 'x' in /home/user, fast"
