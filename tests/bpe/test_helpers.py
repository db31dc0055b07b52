"""Other processes that work as a function does."""

import operator
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bpe.helpers import HelperLostError, Helpers

PID = "lambda seconds: __import__('time').sleep(seconds) or __import__('os').getpid()"


def test_an_answer_is_what_the_function_says():
    helpers = Helpers(operator.itemgetter, slice(1, None))
    assert helpers.ask("abc") == "bc"
    assert helpers.ask([1, 2]) == [2]


def test_questions_and_answers_may_be_larger_than_a_pipe():
    many = os.urandom(5_000_000)
    assert Helpers(operator.itemgetter, slice(1, None)).ask(many) == many[1:]


def test_a_helper_is_another_process_and_stays_for_the_next_question():
    helpers = Helpers(eval, PID)
    assert os.getpid() != helpers.ask(0) == helpers.ask(0)


def test_helpers_that_are_asked_at_the_same_time_are_several():
    helpers = Helpers(eval, PID)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(helpers.ask, [0.5, 0.5])
    assert first != second


def test_a_lost_helper_is_an_error_and_the_next_question_goes_to_another():
    helpers = Helpers(eval, PID)
    os.kill(helpers.ask(0), signal.SIGTERM)
    with pytest.raises(HelperLostError):
        helpers.ask(0)
    assert helpers.ask(0)


def test_a_function_that_raises_is_a_lost_helper():
    helpers = Helpers(eval, "lambda number: 1 // number")
    assert helpers.ask(1) == 1
    with pytest.raises(HelperLostError):
        helpers.ask(0)


def test_without_a_python_to_start_a_helper_is_lost(monkeypatch):
    monkeypatch.setattr(sys, "executable", "no such program")
    with pytest.raises(HelperLostError):
        Helpers(eval, PID).ask(0)


def test_a_helper_ends_when_who_started_it_is_dropped():
    helpers = Helpers(eval, PID)
    pid = helpers.ask(0)
    os.kill(pid, 0)
    del helpers
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_fork_has_helpers_of_its_own_and_ends_without_those_of_others():
    forked = (
        "import os\nfrom bpe.helpers import Helpers\n"
        f"helpers = Helpers(eval, {PID!r})\nfirst = helpers.ask(0)\nchild = os.fork()\n"
        "if not child:\n    raise SystemExit(helpers.ask(0) == first)\n"
        "assert os.waitpid(child, 0)[1] == 0\nassert helpers.ask(0) == first\n"
    )
    subprocess.run([sys.executable, "-c", forked], check=True, timeout=20)
