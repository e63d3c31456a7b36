"""What the kernel says of the memory of a container, in the files of both versions of control groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.rpc import memory


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Return a file that stands for the kernel's."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cgroup") / "events"
        patch.setattr(memory, "_EVENTS", (str(path.parent / "absent"), str(path)))
        yield path


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
        ("", 0),
    ],
    ids=["version 2", "version 1", "version 1 of an old kernel", "empty"],
)
def test_the_processes_that_the_kernel_ended_are_counted(events, text, kills):
    events.write_text(text)
    assert memory.kills() == kills


@given(st.binary(max_size=100))
def test_a_file_of_another_form_counts_none_and_raises_nothing(events, content):
    events.write_bytes(content)
    assert memory.kills() == 0


def test_without_such_a_file_none_is_counted(events):
    events.unlink(missing_ok=True)
    assert memory.kills() == 0
