"""Places, idle links and the queue of one server: no link is opened here."""

from dataclasses import dataclass

from gateway.config.models import RelayConfig
from gateway.relay.slots import Slots


@dataclass(eq=False)
class Fake:
    opened: float = 0.0
    idle_since: float = 0.0
    transactions: int = 0
    refusals: int = 0
    max_transactions: int = 0


SETTINGS = RelayConfig(max_links=2, idle_limit=30, max_age=300, max_messages=100, max_refusals=5)


def taken(*links: Fake) -> Slots[Fake, str]:
    slots: Slots[Fake, str] = Slots(SETTINGS)
    for link in links:
        assert slots.reserve()
        slots.give_back(link)
    return slots


def test_last_in_first_out() -> None:
    one, two = Fake(), Fake()
    slots = taken(one, two)
    assert slots.reuse(1) == (two, [])
    assert slots.reuse(1) == (one, [])
    assert slots.reuse(1) == (None, [])


def test_idle_limit_and_age() -> None:
    old, fresh = Fake(opened=0, idle_since=290), Fake(opened=100, idle_since=270)
    slots = taken(old, fresh)
    assert slots.reuse(300) == (fresh, [])
    slots.give_back(fresh)
    assert slots.reuse(301) == (None, [fresh, old])


def test_sweep_takes_what_is_over() -> None:
    one, two = Fake(idle_since=0), Fake(idle_since=1)
    slots = taken(one, two)
    assert slots.expired(30) == [one]
    assert slots.idle == [two]


def test_places() -> None:
    slots: Slots[Fake, str] = Slots(SETTINGS)
    assert [slots.reserve() for _ in range(3)] == [True, True, False]
    rooms = [slots.has_room]
    assert slots.vacate() is None
    rooms.append(slots.has_room)
    assert rooms == [False, True]
    assert slots.reserve()


def test_who_waits_is_served_in_order() -> None:
    link = Fake()
    slots = taken(Fake(), Fake())
    slots.reuse(0)
    slots.reuse(0)
    slots.wait("first")
    slots.wait("second")
    slots.wait("third")
    slots.unwait("second")
    slots.unwait("second")
    assert slots.give_back(link) == "first"
    assert slots.vacate() == "third"
    assert slots.taken == 2, "the place went to the waiter"
    assert slots.vacate() is None
    assert slots.taken == 1


def test_a_fresh_one_takes_the_place_of_the_oldest() -> None:
    one, two = Fake(), Fake()
    slots = taken(one, two)
    assert not slots.has_free_slot
    assert slots.oldest_idle() == [one]
    assert slots.oldest_idle() == [two]
    assert slots.oldest_idle() == []


def test_a_lost_link_is_idle_no_more() -> None:
    one = Fake()
    slots = taken(one)
    slots.lost(one)
    slots.lost(Fake())
    assert slots.idle == []


def test_when_a_link_has_served() -> None:
    slots = taken()
    assert not slots.has_served(Fake(transactions=99, refusals=4), 300)
    assert slots.has_served(Fake(transactions=100), 0)
    assert slots.has_served(Fake(refusals=5), 0)
    assert slots.has_served(Fake(transactions=3, max_transactions=3), 0)
    assert not slots.has_served(Fake(transactions=2, max_transactions=3), 0)
    assert slots.has_served(Fake(), 301)
