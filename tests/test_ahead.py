from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from mercore.ahead import Room


class Work:
    """Threads that make results of 6 bytes, and which of them they began."""

    def __init__(self, room: Room, count: int) -> None:
        self.room = room
        self.begun: list[int] = []
        self.pool = ThreadPoolExecutor(2)
        self.results: list[Future[int]] = [
            self.pool.submit(self.make, number) for number in range(count)
        ]

    def make(self, number: int) -> int:
        self.room.enter(number)
        self.begun.append(number)
        self.room.fill(6)
        return 6


def test_threads_wait_for_room_and_end_in_order() -> None:
    work = Work(Room(10), 20)
    time.sleep(0.1)
    assert 2 <= len(work.begun) <= 3  # both may have found room at once
    for result in work.results:
        work.room.take(result.result(timeout=5))
    work.pool.shutdown()
    assert sorted(work.begun) == list(range(20))


def test_the_result_that_is_waited_for_needs_no_room() -> None:
    room, later = Room(10), Event()
    room.take(0)  # the first is taken, the second is waited for
    room.fill(50)

    def third() -> None:
        room.enter(2)
        later.set()

    with ThreadPoolExecutor(1) as pool:
        room.enter(1)
        pool.submit(third)
        assert not later.wait(0.1)
        room.take(0)
        assert later.wait(5)


def test_threads_go_on_where_nothing_is_taken_any_more() -> None:
    work = Work(Room(10), 4)
    time.sleep(0.05)
    assert len(work.begun) < 4
    work.room.open()
    work.pool.shutdown()
    assert sorted(work.begun) == [0, 1, 2, 3]
