"""Callers that need the same at the same time share one piece of work, and none fails because of another one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.chain import eventually

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled, DeadlineExceeded, NotConfigured, TimedOut, Unavailable
from sealgate.keys.single_flight import SingleFlight


class Work:
    """Work that lasts until `go` is set."""

    def __init__(self, fault=None):
        self.done = 0
        self.begun = threading.Event()
        self.go = threading.Event()
        self._fault = fault

    def __call__(self):
        self.done += 1
        self.begun.set()
        self.go.wait(30)
        if self._fault:
            raise self._fault
        return f"result {self.done}"


class Waiting(Call):
    """A call that records when it waits: only a waiting call registers for its cancellation."""

    def __init__(self, **options):
        super().__init__(Operation.LOAD, **options)
        self.waits = threading.Event()

    def on_cancel(self, callback):
        super().on_cancel(callback)
        self.waits.set()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def together(pool, flight, work, followers=3):
    """Start one caller that works and others that wait for it, and let all continue at once."""
    leader = pool.submit(flight.run, Call(Operation.LOAD), "key", work)
    work.begun.wait(30)
    calls = [Waiting() for _ in range(followers)]
    waiting = [pool.submit(flight.run, call, "key", work) for call in calls]
    assert all(call.waits.wait(30) for call in calls)
    work.go.set()
    return leader, waiting


def test_one_caller_works_and_all_get_the_result(pool):
    work = Work()
    leader, waiting = together(pool, SingleFlight(), work)
    assert {future.result() for future in (leader, *waiting)} == {"result 1"}
    assert work.done == 1


def test_different_keys_do_not_wait_for_each_other(pool):
    flight, work = SingleFlight(), Work()
    held = pool.submit(flight.run, Call(Operation.LOAD), "key", work)
    work.begun.wait(30)
    assert flight.run(Call(Operation.LOAD), "other", lambda: "at once") == "at once"
    work.go.set()
    held.result()


def test_neither_a_result_nor_a_failure_is_kept():
    flight = SingleFlight()
    results = iter([1, Unavailable("down"), 2])

    def work():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    call = Call(Operation.LOAD)
    assert flight.run(call, "key", work) == 1
    with pytest.raises(Unavailable):
        flight.run(call, "key", work)
    assert flight.run(call, "key", work) == 2


def test_a_failure_is_raised_to_all_callers_each_time_as_a_new_exception(pool):
    fault = NotConfigured("fact", says="vault", remedy="remedy")
    leader, waiting = together(pool, SingleFlight(), Work(fault))
    seen = [future.exception() for future in (leader, *waiting)]
    assert {(type(error), error.fact, error.says, error.remedy) for error in seen} == {
        (NotConfigured, "fact", "vault", "remedy")
    }
    assert len(set(map(id, seen))) == len(seen)


@pytest.mark.parametrize("end", [Cancelled("the caller went away"), DeadlineExceeded("too late")], ids=repr)
def test_a_leader_that_gives_up_is_followed_by_another(pool, end):
    flight, given_up, work = SingleFlight(), Work(end), Work()
    work.go.set()
    leader = pool.submit(flight.run, Call(Operation.LOAD), "key", given_up)
    given_up.begun.wait(30)
    call = Waiting()
    follower = pool.submit(flight.run, call, "key", work)
    assert call.waits.wait(30)
    given_up.go.set()
    assert isinstance(leader.exception(), type(end))
    assert follower.result() == "result 1"


@pytest.mark.parametrize("fault", [Unavailable("down"), TimedOut("slow")], ids=repr)
@pytest.mark.parametrize("patience", [None, 600], ids=str)
def test_a_caller_with_more_time_than_the_leader_had_asks_again_and_the_others_do_not(pool, fault, patience):
    flight, in_vain, work = SingleFlight(), Work(fault), Work()
    work.go.set()
    leader = pool.submit(flight.run, within(60), "key", in_vain)
    in_vain.begun.wait(30)
    patient = [Waiting(deadline=within(patience).deadline) for _ in range(2)]
    hasty = [Waiting(deadline=within(40).deadline) for _ in range(2)]
    again = [pool.submit(flight.run, call, "key", work) for call in patient]
    failing = [pool.submit(flight.run, call, "key", work) for call in hasty]
    assert all(call.waits.wait(30) for call in (*patient, *hasty))
    in_vain.go.set()
    assert isinstance(leader.exception(), type(fault))
    assert all(future.result().startswith("result") for future in again)
    assert [type(future.exception()) for future in failing] == [type(fault)] * 2


def test_a_lasting_fault_is_raised_to_patient_callers_too(pool):
    flight, work = SingleFlight(), Work(NotConfigured("no such key"))
    leader = pool.submit(flight.run, within(60), "key", work)
    work.begun.wait(30)
    patient = Waiting()
    follower = pool.submit(flight.run, patient, "key", work)
    assert patient.waits.wait(30)
    work.go.set()
    assert {type(future.exception()) for future in (leader, follower)} == {NotConfigured}
    assert work.done == 1


def within(seconds):
    return Call(Operation.LOAD, deadline=None if seconds is None else time.monotonic() + seconds)


def test_a_follower_waits_no_longer_than_its_own_call(pool):
    flight, work = SingleFlight(), Work()
    leader = pool.submit(flight.run, Call(Operation.LOAD), "key", work)
    work.begun.wait(30)
    with pytest.raises(DeadlineExceeded):
        flight.run(Call(Operation.LOAD, deadline=time.monotonic() + 0.05), "key", work)
    gone = Waiting()
    waiting = pool.submit(flight.run, gone, "key", work)
    assert gone.waits.wait(30)
    gone.cancel()
    with pytest.raises(Cancelled):
        waiting.result()
    work.go.set()
    assert leader.result() == "result 1"
    assert eventually(lambda: work.done == 1)
