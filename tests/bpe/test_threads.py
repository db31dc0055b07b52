"""Work in threads."""

import threading
import time

import pytest

from bpe.threads import HELD, in_threads


@pytest.mark.parametrize("number", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(number):
    def work(item):
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(in_threads(work, range(40), number)) == [item * item for item in range(40)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_as_many_items_are_worked_on_at_once(number):
    meeting = threading.Barrier(number, timeout=10)
    list(in_threads(lambda item: meeting.wait(), range(6), number))  # each waits for all others


@pytest.mark.parametrize("number", [1, 3])
def test_few_items_are_taken_before_results_are(number):
    taken = []
    first_done = threading.Event()

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item):
        if item == 0 and number > 1:  # all others wait for the first
            threading.Timer(0.2, first_done.set).start()
            assert first_done.wait(10)

    next(in_threads(work, items(), number))
    assert len(taken) <= HELD * number + 1


def test_the_caller_works_too_and_leaves_nothing_that_it_could_do():
    threads = {}
    begun, ended = threading.Event(), threading.Event()

    def items():
        yield "long"
        assert begun.wait(10)
        yield from ["waiting", "own"]

    def work(item):
        threads[item] = threading.current_thread()
        if item == "long":
            begun.set()
            assert ended.wait(10)
        if item == "waiting":  # for the other thread, which is busy until this is done
            ended.set()

    list(in_threads(work, items(), 2))
    assert threads["long"] is not threading.main_thread()
    assert threads["waiting"] is threads["own"] is threading.main_thread()


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_worker_raises_reaches_the_caller(number):
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 // item, [1, 0, 1], number))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_results_before_an_error_come_first(number):
    results = in_threads(lambda item: 6 // item, [1, 2, 3, 0, 1], number)
    assert [next(results), next(results), next(results)] == [6, 3, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("number", [1, 2])
def test_what_the_items_raise_reaches_the_caller(number):
    def items():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(in_threads(str, items(), number))
