"""The layer that decides, where a rule expires: the clock of the process ends a grant, and never gives one again."""

from __future__ import annotations

from harness.layer_bench import NOW, denied
from harness.policy import document

GLASS = document([{"effect": "allow", "expires": "2033-05-18T03:33:20Z"}])  # at NOW


def test_a_rule_stops_granting_when_it_expires(make):
    bench = make(GLASS)
    bench.now = NOW - 0.5
    bench.save("x", bench.file())
    bench.now = NOW
    denied(lambda: bench.load("x"), "EXPIRED")
    assert bench.call.decision.code == "EXPIRED"


def test_a_clock_that_is_set_back_lets_no_expired_rule_grant_again(make):
    bench = make(GLASS)
    denied(lambda: bench.load("x"), "EXPIRED")
    bench.now = NOW - 3600
    denied(lambda: bench.load("x"), "EXPIRED")


def test_a_clock_that_was_never_set_lets_no_rule_that_expires_grant(make):
    bench = make(GLASS)
    bench.now = 3600
    assert "the time is not known" in denied(lambda: bench.load("x"), "EXPIRED").fact


def test_a_call_that_began_in_time_may_end_later(make):
    bench = make(GLASS)
    bench.now = NOW - 1

    def chunks():
        yield b"some"
        bench.now = NOW + 1
        yield b" more"

    bench.save_stream("x", chunks())
    assert "x" in bench.below.objects
