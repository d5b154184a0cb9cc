"""gateway.reputation: names that look generic, and signs with their costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Score
from gateway.reputation import (
    Sign,
    Signs,
    Thresholds,
    decide_signs,
    findings_of_signs,
    generic_name,
    parse_address,
)

ADDRESS = parse_address("192.0.2.17")
ADDRESS6 = parse_address("2001:db8::1:2")


@pytest.mark.parametrize(
    "name",
    [
        "192-0-2-17.isp.example",
        "17.2.0.192.isp.example",
        "host17-2-0-192.isp.example",
        "h-0-2-17.net.isp.example",
        "c0000211.isp.example",
        "ip192000002017.isp.example",
        "pool-8.isp.example",
        "dyn8.City.isp.example",
        "cpe-00fe.adsl.isp.example",
        "a23.dialup.isp.example",
    ],
)
def test_names_of_providers(name: str) -> None:
    assert ADDRESS is not None
    assert generic_name(name, ADDRESS)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "example",
        "mx.example",
        "mail.example.org",
        "mx17.example.org",
        "server2.0.example.org",
        "mail-192-0-2-17.example.org",
        "static-17-2-0-192.isp.example",
        "home.example.org",
        "users.example.org",
        "poolside7.example.org",
        "dyn-8.example",
        "a17-2-1-192.example.org",
    ],
)
def test_names_that_somebody_chose(name: str) -> None:
    assert ADDRESS is not None
    assert generic_name(name, ADDRESS) == ""


def test_names_of_ipv6_addresses() -> None:
    assert ADDRESS6 is not None
    assert generic_name("2001-db8--1-2.v6.isp.example", ADDRESS6)
    assert generic_name("x20010db8000000000000000000010002.v6.isp.example", ADDRESS6)
    assert generic_name("one.v6.isp.example", ADDRESS6) == ""


@given(st.text(max_size=300), st.ip_addresses())
def test_any_name_is_generic_or_not(name: str, address: object) -> None:
    found = parse_address(str(address))
    assert found is None or isinstance(generic_name(name, found), str)


def signs(*costs: float | str) -> list[Sign]:
    return [Sign(f"S{number}", cost, f"text {number}", f"evidence {number}\r\n") for number, cost in enumerate(costs)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("costs", "step", "text"),
    [
        ((1.0, 2.0), "", "text 1"),
        ((2.0, 2.5), "quarantine", "text 1"),
        ((1.0, "defer"), "defer", "text 1"),
        (("reject", 9.0, "defer"), "reject", "text 0"),
        ((9.0, "defer"), "quarantine", "text 1"),
        ((-1.0, 5.0), "quarantine", "text 1"),
        ((-1.0, 5.0, -1.0), "", "text 1"),
    ],
)
def test_the_strictest_counts(costs: tuple[float | str, ...], step: str, text: str) -> None:
    found = findings_of_signs(signs(*costs))
    whole = found[-1]
    assert isinstance(whole, Signs)
    assert decide_signs(whole, Thresholds(quarantine_at=4)) == step
    assert whole.text == text
    assert [one.symbol for one in found if isinstance(one, Score)] == [f"S{number}" for number in range(len(costs))]
    assert all(one.evidence.isprintable() for one in found if isinstance(one, Score))


def test_without_signs_nothing_is_found() -> None:
    assert findings_of_signs([]) == []
    [whole] = findings_of_signs([], is_unsure=True)
    assert isinstance(whole, Signs)
    assert (whole.total, whole.step, whole.text, whole.is_unsure) == (0, "", "", True)
