"""gateway.reputation: patterns of return codes, keys, totals and thresholds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import Fact, Score
from gateway.reputation import (
    Answer,
    ListOptions,
    Thresholds,
    address_key,
    decide,
    findings_of,
    parse_address,
    plain_domain,
    weigh,
)
from gateway.reputation.codes import Codes, parse_code, parse_pattern
from gateway.reputation.keys import LISTED, NOT_LISTED


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.3", "127.0.1.2"]),
        ("127.0.0.4-11", ["127.0.0.4", "127.0.0.11"], ["127.0.0.3", "127.0.0.12"]),
        ("127.0.*.2-3", ["127.0.15.2", "127.0.0.3"], ["127.1.15.2", "127.0.15.1"]),
        ("127.0.0.&8", ["127.0.0.8", "127.0.0.10", "127.0.0.255"], ["127.0.0.7", "127.0.0.16"]),
        ("127.0.0.&12", ["127.0.0.4", "127.0.0.8", "127.0.0.12"], ["127.0.0.3"]),
        ("127.255.255.*", ["127.255.255.0", "127.255.255.254"], ["127.255.254.1"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    read = parse_pattern(pattern)
    assert all(read.matches(parse_code(one) or ()) for one in matching)
    assert not any(read.matches(parse_code(one) or ()) for one in others)


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0", "127.0.0.2.3", "127.0.0.256", "127.0.0.9-4", "128.0.0.2", "127.0.0.&0", "127.0.0.x", "*.0.0.2", "127.0.0.-2"],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: 127\.0\.0\.2, 127\.0\.0\.4-11"):
        parse_pattern(text)
    with pytest.raises(ValidationError):
        ListOptions(zone="list.example", weights={text: 1})
    with pytest.raises(ValidationError):
        ListOptions(zone="list.example", faults=(text,))


@pytest.mark.parametrize("zone", ["", "example", "a..example", "192.0.2.1", "a b.example", "x" * 64 + ".example"])
def test_what_is_no_zone(zone: str) -> None:
    with pytest.raises(ValidationError, match="allowed: a domain name"):
        ListOptions(zone=zone)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1_001, "deny"])
def test_what_is_no_weight(weight: object) -> None:
    with pytest.raises(ValidationError):
        ListOptions.model_validate({"zone": "list.example", "weight": weight})


def test_each_pattern_counts_once() -> None:
    codes = Codes(1.0, {"127.0.0.2-3": 2.0, "127.0.0.4": 0.5, "127.0.0.9": 0.0}, ())
    assert codes.read(["127.0.0.2", "127.0.0.3"]).weight == 2.0
    both = codes.read(["127.0.0.4", "127.0.0.2", "127.0.0.9", "127.0.0.77"])
    assert (both.weight, both.counted, both.fault) == (2.5, ("127.0.0.2", "127.0.0.4"), "")
    assert codes.read(["127.0.0.77"]).counted == ()
    assert codes.read([]).counted == ()
    assert (codes.most, codes.may_allow) == (2.5, False)


def test_bits_of_one_code_add_up() -> None:
    codes = Codes(1.0, {"127.0.0.&8": 3.0, "127.0.0.&16": 2.0, "127.0.0.&64": 1.0}, ())
    assert codes.read(["127.0.0.24"]).weight == 5.0


def test_without_patterns_every_code_is_a_listing() -> None:
    assert Codes(1.5, {}, ()).read(["127.0.0.77", "127.9.9.9"]).weight == 1.5
    assert Codes("allow", {}, ()).read(["127.0.0.77"]).is_allowed


@pytest.mark.parametrize("record", ["127.255.255.254", "203.0.113.5", "0.0.0.0", "::1", "", "127.0.0.300", "x" * 500])
def test_one_record_that_is_no_code_spoils_the_answer(record: str) -> None:
    reading = Codes(1.0, {}, ("127.255.255.*",)).read(["127.0.0.2", record])
    assert reading.fault
    assert len(reading.fault) < 100
    assert (reading.weight, reading.counted) == (0.0, ())


def test_keys() -> None:
    """RFC 5782 2.1, 2.4, 5."""
    assert NOT_LISTED["ipv4"] == "1.0.0.127"
    assert LISTED["ipv4"] == "2.0.0.127"
    assert LISTED["ipv6"] == "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"
    address = parse_address("2001:db8:1:2:3:4:567:89ab")
    assert address is not None
    assert address_key(address).labels == "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
    mapped = parse_address("::ffff:192.0.2.99%eth0")
    assert mapped is not None
    assert address_key(mapped).labels == "99.2.0.192"


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Mail.Example.ORG.", "mail.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("localhost", ""),
        ("[192.0.2.1]", ""),
        ("192.0.2.1", ""),
        ("a..example", ""),
        ("-a.example", ""),
        ("a b.example", ""),
        ("x" * 64 + ".example", ""),
        ("", ""),
        ("1.2.3.4.5", ""),
    ],
)
def test_plain_domains(text: str, domain: str) -> None:
    assert plain_domain(text) == domain


@given(st.text(max_size=300))
def test_any_text_is_a_domain_or_none(text: str) -> None:
    domain = plain_domain(text)
    assert domain == "" or (domain.isascii() and domain == plain_domain(domain))
    parse_address(text)


def answer(weight: float = 0.0, **facts: object) -> Answer:
    codes = ("127.0.0.2",) if weight or facts.get("is_allowed") else ()
    return Answer(**{"zone": "a.example", "symbol": "A", "value": "192.0.2.1", "weight": weight, "codes": codes, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("total", "step"),
    [(0.9, ""), (1.0, "defer"), (2.9, "defer"), (3.0, "quarantine"), (4.9, "quarantine"), (5.0, "reject"), (99.0, "reject")],
)
def test_the_highest_threshold_that_is_reached_decides(total: float, step: str) -> None:
    options = Thresholds(reject_at=5, quarantine_at=3, defer_at=1)
    assert options.step(total) == step
    assert Thresholds().step(total) == ""
    assert Thresholds(reject_at=total, defer_at=total, quarantine_at=total).step(total) == "reject"


def test_an_allowing_list_wins() -> None:
    answers = [answer(9.0), answer(is_allowed=True, zone="allow.example", symbol="ALLOW"), answer(-1.0, zone="b.example")]
    found = findings_of(answers, "dnsbl")
    assert [one.weight for one in found if isinstance(one, Score)] == [0.0, 0.0, 0.0]
    assert "not counted, allow.example allows" in next(one.evidence for one in found if isinstance(one, Score))
    assert [one.value for one in found if isinstance(one, Fact)] == ["allow.example"]
    assert decide(weigh(answers), Thresholds(reject_at=1)).step == ""


def test_what_did_not_answer_is_told_and_may_matter() -> None:
    silent = answer(fault="no answer", possible=3.0, zone="dead.example")
    options = Thresholds(reject_at=5)
    assert decide(weigh([answer(2.0), silent]), options).fault == "dead.example: no answer"
    assert decide(weigh([answer(1.0), silent]), options).fault == ""
    assert decide(weigh([answer(6.0), silent]), options) == decide(weigh([answer(6.0)]), options)


def test_a_fault_never_costs_a_refusal_for_good() -> None:
    silent = answer(fault="no answer", may_allow=True)
    decided = decide(weigh([answer(6.0), silent]), Thresholds(reject_at=5))
    assert (decided.step, bool(decided.fault)) == ("defer", True)
    held = decide(weigh([answer(6.0), silent]), Thresholds(quarantine_at=5))
    assert (held.step, bool(held.fault)) == ("quarantine", True)


def test_what_a_reply_says_is_bounded_and_printable() -> None:
    whole = weigh([answer(1.0, value=f"b\r\nü{number}.example") for number in range(50)])
    assert len(whole.what) == 300
    assert whole.what.isascii()
    assert whole.what.isprintable()
