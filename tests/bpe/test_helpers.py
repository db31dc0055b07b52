"""Other processes that share the work: whatever becomes of them, every item is answered, in order."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpe.helpers import AHEAD, ROOM, Helpers

PID = "lambda items: [__import__('time').sleep(seconds) or __import__('os').getpid() for seconds in items]"
REST = "lambda items: [item[1:] for item in items]"
rests_of = eval(REST)


def pids(helpers, number=1, items=20):
    """The processes that do the work, with so many helpers."""
    return helpers.share([0.01] * items, number, eval(PID), list)


def strings(items):
    return [*map(str, items)]


def others(helpers, number=1):
    return {*pids(helpers, number)} - {os.getpid()}


@pytest.fixture(scope="module")
def rests():
    """Helpers that say what follows the first item of each sequence."""
    return Helpers(eval, REST)


@settings(deadline=None, max_examples=30)
@given(items=st.lists(st.binary(max_size=10), max_size=40), number=st.integers(-1, 3), together=st.integers(1, 9))
def test_every_item_has_its_answer_whoever_gives_it(rests, items, number, together):
    assert rests.share(items, number, rests_of, list, together=together) == [item[1:] for item in items]


def test_items_are_given_together_and_one_by_one_towards_the_end(rests):
    runs = []

    def here(items):
        runs.append(items)
        return strings(items)

    rests.share([*range(40)], 0, here, list, together=6)
    assert [len(run) for run in runs] == [6, 6, 6, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1]
    assert [item for run in runs for item in run] == [*range(40)]


class SlowHelper:
    """A helper whose first answer comes late, when one is waited for or `is_late()`."""

    def __init__(self, is_late):
        self.is_late, self.waiting = is_late, []

    def ask(self, question):
        self.waiting.append(question)
        return True

    def has_answered(self, *, wait):
        return wait or (self.is_late() and len(self.waiting) == AHEAD)

    def answer(self):
        return strings(self.waiting.pop(0))


def test_a_helper_is_asked_no_more_when_fewer_items_are_left_than_wait_for_it():
    helpers, left, asked = Helpers(eval, "list"), [*range(60)], []
    helper = SlowHelper(lambda: len(left) <= 10)
    helpers._idle.append(helper)

    def question(items):
        asked.append((sum(map(len, helper.waiting)), len(left)))
        del left[-len(items) :]
        return items

    def here(items):
        del left[: len(items)]
        return strings(items)

    assert helpers.share([*range(60)], 1, here, question, together=6) == strings(range(60))
    assert len(asked) == AHEAD
    assert all(waiting < remaining for waiting, remaining in asked)


@pytest.mark.parametrize("size", [ROOM - 100, ROOM + 100])
def test_questions_and_answers_may_be_as_long_as_they_like(rests, size):
    items = [bytes([number]) * size for number in range(6)]
    assert rests.share(items, 1, rests_of, list) == [item[1:] for item in items]
    longer = Helpers(eval, f"lambda sizes: [bytes(sizes[0] + {size})]")
    assert [*map(len, longer.share([1, 2, 3, 4, 5], 2, lambda sizes: [b""], list))][-1] == size + 5


def test_long_and_short_answers_by_turns_are_each_the_right_one():
    sizes = [ROOM + 1, 5, 6, ROOM + 2, 7] * 2
    helpers = Helpers(eval, "lambda sizes: [*map(bytes, sizes)]")
    for _ in range(2):
        assert [*map(len, helpers.share(sizes, 1, lambda sizes: [*map(bytes, sizes)], list))] == sizes


def test_of_questions_that_are_too_long_one_is_made_ready_in_vain(rests):
    items, ready = [*range(20)], []

    def question(some):
        ready.append(some)
        return bytes(ROOM + 1)

    assert rests.share(items, 2, strings, question) == [*map(str, items)]
    assert ready == [[19]]


def test_the_work_is_done_here_and_by_as_many_others_as_asked_for_which_stay():
    helpers = Helpers(eval, PID)
    assert {*pids(helpers, 0)} == {os.getpid()}
    first = pids(helpers, 1, 100)  # a second: it takes a part of one until a helper is there
    assert first[0] == os.getpid() != first[-1]
    assert len({*first}) == 2
    assert others(helpers) == {first[-1]}
    assert len(others(helpers, 2)) == 2


def test_a_lost_helper_leaves_nothing_undone():
    helpers = Helpers(eval, "lambda items: __import__('os').kill(__import__('os').getpid(), 9)")
    assert helpers.share([*range(20)], 2, strings, list, together=3) == [*map(str, range(20))]
    assert not helpers._idle


def test_a_helper_that_was_killed_while_it_was_idle_leaves_nothing_undone_and_is_replaced():
    helpers = Helpers(eval, PID)
    [pid] = others(helpers)
    os.kill(pid, signal.SIGTERM)
    helpers._idle[0]._process.wait()
    assert len(pids(helpers)) == 20
    assert others(helpers) not in (set(), {pid})


def test_what_the_function_raises_elsewhere_comes_of_the_work_here():
    inverse = "lambda numbers: [1 // number for number in numbers]"
    with pytest.raises(ZeroDivisionError):
        Helpers(eval, inverse).share([1, 1, 1, 0], 1, eval(inverse), list)


@pytest.mark.parametrize(("name", "value"), [("executable", "no such program"), ("frozen", True)])
def test_without_a_python_to_start_all_is_done_here(name, value, monkeypatch):
    monkeypatch.setattr(sys, name, value, raising=False)
    assert {*pids(Helpers(eval, PID))} == {os.getpid()}


@pytest.mark.parametrize("where", ["here", "question"])
def test_work_that_is_broken_off_is_broken_off_in_all_processes(where, rests):
    taken = []

    def broken(items):
        taken.append(items)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return items

    with pytest.raises(KeyboardInterrupt):
        rests.share(["abc"] * 1000, 2, *((broken, list) if where == "here" else (list, broken)))
    assert len(taken) == 3
    assert rests.share(["xy", "ab", "cd", "ef"], 2, rests_of, list) == ["y", "b", "d", "f"]


def test_a_helper_has_so_many_questions_ahead_and_no_more():
    waiting = 0

    def question(items):
        nonlocal waiting
        waiting += 1
        return [0.5]

    def here(items):
        assert waiting == AHEAD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Helpers(eval, PID).share([*range(20)], 1, here, question)


def test_a_helper_ends_when_who_started_it_is_dropped():
    helpers = Helpers(eval, PID)
    [pid] = others(helpers)
    os.kill(pid, 0)
    del helpers
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_fork_has_helpers_of_its_own_and_ends_without_those_of_others():
    forked = (
        "import os\nfrom bpe.helpers import Helpers\n"
        f"helpers, pid = Helpers(eval, {PID!r}), os.getpid()\n"
        "def last():\n    return helpers.share([0.01] * 100, 1, lambda _: [os.getpid()], list)[-1]\n"
        "first = last()\nassert first != pid\nchild = os.fork()\n"
        "if not child:\n    raise SystemExit(last() == first)\n"
        "assert os.waitpid(child, 0)[1] == 0\nassert last() == first\n"
    )
    subprocess.run([sys.executable, "-c", forked], check=True, timeout=20)
