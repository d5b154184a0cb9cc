"""Slots in shared memory: gateway.server.slots."""

from __future__ import annotations

import os

import pytest

from gateway.server.slots import Slots, WorkerState


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_writes_and_the_first_one_reads() -> None:
    slots = Slots(2, ["default", "other"])
    child = os.fork()
    if child == 0:
        slot = slots[1]
        slot.take()
        slot.state = WorkerState.READY
        slot.note_sessions(7)
        slot.note_health("other", True)
        slot.note_blocking("tickets")
        os._exit(0)
    os.waitpid(child, 0)
    slot = slots[1]
    assert (slot.pid, slot.state, slot.sessions, slot.blocking) == (child, WorkerState.READY, 7, "tickets")
    age = slot.answered("other")
    assert age is not None
    assert age < 5
    assert slot.answered("default") is None
    assert slots[0].pid == 0
    assert slots[0].state is WorkerState.EMPTY


def test_slots_do_not_overlap() -> None:
    slots = Slots(3, ["a", "b"])
    for slot in slots:
        slot.take(pid=1000 + slot.index)
        slot.note_sessions(slot.index)
        slot.note_blocking(f"plugin-{slot.index}" + "x" * 100)
        slot.note_health("b", slot.index == 1)
    assert [slot.pid for slot in slots] == [1000, 1001, 1002]
    assert [slot.sessions for slot in slots] == [0, 1, 2]
    assert [slot.blocking[:8] for slot in slots] == ["plugin-0", "plugin-1", "plugin-2"]
    assert all(len(slot.blocking) == 64 for slot in slots)
    assert [slot.answered("b") is not None for slot in slots] == [False, True, False]
    assert all(slot.answered("a") is None for slot in slots)
    assert not slots.draining


def test_beats_and_ages_go_by_the_clock() -> None:
    clock = Clock()
    slots = Slots(1, ["r"], clock=clock)
    slots[0].take(pid=1)
    slots[0].state = WorkerState.READY
    slots[0].note_health("r", True)
    clock.now += 3
    assert slots[0].silence == 3
    assert slots[0].answered("r") == 3
    assert slots.beating(2.9) == []
    assert slots.beating(3) == [slots[0]]
    slots[0].beat()
    assert slots[0].silence == 0
    slots[0].note_health("r", False)
    assert slots[0].answered("r") is None


def test_a_new_worker_begins_with_nothing() -> None:
    slots = Slots(1, ["r"])
    slot = slots[0]
    slot.take(pid=1)
    slot.note_health("r", True, 3)
    assert slot.resting("r") == 3
    slot.note_blocking("bad")
    slot.note_sessions(3)
    slot.take(pid=2)
    assert (slot.pid, slot.state, slot.sessions, slot.blocking) == (2, WorkerState.STARTING, 0, "")
    assert slot.answered("r") is None
    assert slot.resting("r") == 0
    slot.empty()
    assert (slot.pid, slot.state) == (0, WorkerState.EMPTY)


def test_workers_that_start_do_not_count_as_beating_and_unknown_routes_are_passed_over() -> None:
    slots = Slots(2)
    slots[0].take(pid=1)
    slots[0].note_health("nobody", True)
    slots[1].take(pid=2)
    slots[1].state = WorkerState.DRAINING
    assert slots.beating(5) == [slots[1]]
    slots.drain()
    assert slots.draining
    assert len(slots) == 2
