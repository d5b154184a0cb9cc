"""Mail exchangers: every case of DNS as a table, with the section that says what is owed."""

from typing import Any

import pytest

from gateway.errors import DomainError, DomainFault, LinkError
from gateway.relay.mx import MAX_ADDRESSES, MAX_EXCHANGES, Exchange, find_exchanges, has_null_mx, literal_address
from gateway.relay.ourselves import Ourselves, is_local
from gateway.testing.dns import TEMPFAIL, FakeResolver

ONE, TWO, THREE, SIX = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::6"
HOSTS: dict[str, Any] = {
    "one.test": {"A": [ONE]},
    "two.test": {"A": [TWO], "AAAA": [SIX]},
    "three.test": {"A": [THREE]},
    "gw.test": {"A": ["192.0.2.99"]},
    "gone.test": {"TXT": ["no address"]},
    "ill.test": TEMPFAIL,
    "half-ill.test": {"A": [ONE], "AAAA": TEMPFAIL},
    "alias.test": {"CNAME": ["one.test"]},
    "gw-alias.test": {"CNAME": ["gw.test"]},
    "also-us.test": {"A": ["192.0.2.99"]},
}
NULL, NO_DOMAIN, UNUSABLE, LOOP = (
    DomainFault.NULL_MX, DomainFault.NO_SUCH_DOMAIN, DomainFault.NO_USABLE_EXCHANGE, DomainFault.LOOP
)  # fmt: skip
LATER = "4.4.3"


def mx(*records: tuple[int, str]) -> dict[str, Any]:
    return {"MX": [list(record) for record in records]}


CASES: list[tuple[str, str, Any, list[tuple[int, str]] | DomainFault | str]] = [
    # section, what, records of example.org, the addresses with their preference or the fault
    ("5321 5.1", "one exchanger", mx((10, "one.test")), [(10, ONE)]),
    ("5321 5.1", "by preference, not in the order of the answer", mx((20, "one.test"), (5, "three.test")), [(5, THREE), (20, ONE)]),
    ("5321 5.1", "equal preferences are all there", mx((5, "one.test"), (5, "three.test")), [(5, ONE), (5, THREE)]),
    ("5321 5.1", "preference 0 and 65535", mx((65535, "one.test"), (0, "three.test")), [(0, THREE), (65535, ONE)]),
    ("5321 5.1", "no MX: the implicit one", {"A": [ONE]}, [(0, ONE)]),
    ("5321 5.1", "no MX, IPv6 only", {"AAAA": [SIX]}, [(0, SIX)]),
    ("3974 3", "both families", mx((10, "two.test")), [(10, SIX), (10, TWO)]),
    ("5321 5.1", "MX and A: the A record is none of our business", {**mx((10, "one.test")), "A": [THREE]}, [(10, ONE)]),
    ("5321 5.1", "MX whose host does not exist: no falling back to A", {**mx((10, "nowhere.test")), "A": [THREE]}, UNUSABLE),
    ("5321 5.1", "MX whose host has no address", mx((10, "gone.test")), UNUSABLE),
    ("5321 5.1", "one of two hosts has no address", mx((10, "gone.test"), (20, "one.test")), [(20, ONE)]),
    ("5321 5.1", "the domain is an alias", {"CNAME": ["real.test"]}, [(7, ONE)]),
    ("5321 5.1", "the domain is an alias of a host without MX", {"CNAME": ["three.test"]}, [(0, THREE)]),
    ("2181 10.3", "the exchanger is an alias, which is forbidden and occurs", mx((10, "alias.test")), [(10, ONE)]),
    ("1035 3.3.9", "an address in the place of a name leads nowhere", mx((10, "192.0.2.7")), UNUSABLE),
    ("1035 3.3.9", "beside a name it is passed over", mx((10, "192.0.2.7"), (20, "one.test")), [(20, ONE)]),
    ("7505 3", "null MX", mx((0, ".")), NULL),
    ("7505 3", "null MX with another preference", mx((10, ".")), NULL),
    ("7505 3", "null MX and an A record", {**mx((0, ".")), "A": [ONE]}, NULL),
    ("7505 3", "a null MX beside a real one is no null MX", mx((0, "."), (10, "one.test")), [(10, ONE)]),
    ("5321 5.1", "no such domain", None, NO_DOMAIN),
    ("5321 5.1", "a domain with neither MX nor address", {"TXT": ["x"]}, NO_DOMAIN),
    ("5321 5.1", "the MX look-up fails: not the absence of MX", {"MX": TEMPFAIL, "A": [ONE]}, LATER),
    ("5321 5.1", "the address look-ups of the only host fail", mx((10, "ill.test")), LATER),
    ("5321 5.1", "of one of two hosts: the other will do", mx((10, "ill.test"), (20, "one.test")), [(20, ONE)]),
    ("5321 5.1", "one of two families fails", mx((10, "half-ill.test")), [(10, ONE)]),
    ("5321 5.1", "one host fails, the other has no address", mx((10, "gone.test"), (20, "ill.test")), LATER),
    ("5321 5.1", "no MX, and the address look-up fails", {"A": TEMPFAIL}, LATER),
    ("5321 5.1", "our name stops the search", mx((10, "one.test"), (20, "gw.test"), (30, "three.test")), [(10, ONE)]),
    ("5321 5.1", "equals of ours as well", mx((10, "one.test"), (20, "gw.test"), (20, "three.test")), [(10, ONE)]),
    ("5321 5.1", "we are the best: a loop", mx((10, "gw.test"), (20, "one.test")), LOOP),
    ("5321 5.1", "we are one of the best", mx((10, "gw.test"), (10, "one.test")), LOOP),
    ("5321 5.1", "our name in another case, with a dot", mx((10, "GW.Test.")), LOOP),
    ("5321 5.1", "another name of ours: the address tells", mx((10, "one.test"), (20, "also-us.test"), (30, "three.test")), [(10, ONE)]),
    ("5321 5.1", "an alias of ours", mx((10, "gw-alias.test"), (20, "one.test")), LOOP),
    ("5321 5.1", "the implicit MX is ourselves", {"A": ["192.0.2.99"]}, LOOP),
    ("5321 5.1", "nobody better than us has an address", mx((10, "gone.test"), (20, "gw.test")), UNUSABLE),
    ("5321 5.1", "what is better than us cannot be looked up", mx((10, "ill.test"), (20, "gw.test")), LATER),
]  # fmt: skip


@pytest.mark.parametrize(("section", "what", "records", "expected"), CASES, ids=[case[1] for case in CASES])
async def test_cases(section: str, what: str, records: Any, expected: Any) -> None:
    assert section.split(maxsplit=1)[0].isdigit(), what
    zones = {**HOSTS, "real.test": mx((7, "one.test"))}
    if records is not None:
        zones["example.org"] = records
    asked = find_exchanges(
        "example.org", FakeResolver(zones), own_names=["gw.test"], is_own=lambda address: address == "192.0.2.99"
    )
    match expected:
        case DomainFault():
            with pytest.raises(DomainError) as fault:
                await asked
            assert fault.value.fault is expected
        case str():
            with pytest.raises(LinkError) as error:
                await asked
            assert not isinstance(error.value, DomainError)
            assert error.value.enhanced == expected
        case _:
            assert [(one.preference, one.address) for one in await asked] == expected


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("[192.0.2.1]", ONE),
        ("[IPv6:2001:db8::6]", SIX),
        ("[ipv6:2001:DB8:0::6]", SIX),
        ("[IPv6:192.0.2.1]", ""),
        ("[2001:db8::6]", ""),
        ("[x400:c=de]", ""),
        ("[192.0.2]", ""),
        ("[192.0.2.1", ""),
        ("[]", ""),
        ("example.org", None),
    ],
)
async def test_address_literals(domain: str, address: str | None) -> None:
    """RFC 5321 4.1.3: nothing is looked up."""
    assert literal_address(domain) == address
    resolver = FakeResolver({})
    if address:
        assert await find_exchanges(domain, resolver) == [Exchange(domain, address)]
        with pytest.raises(DomainError) as fault:
            await find_exchanges(domain, resolver, is_own=lambda one: one == address)
        assert fault.value.fault is LOOP
    else:
        with pytest.raises(DomainError) as fault:
            await find_exchanges(domain, resolver)
        assert fault.value.fault is NO_DOMAIN
    assert not [name for name, _ in resolver.queries if name.startswith("[")]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (mx((0, ".")), True),
        (mx((10, "."), (20, ".")), True),
        (mx((0, "."), (10, "one.test")), False),
        (mx((10, "one.test")), False),
        ({"A": [ONE]}, False),
        (None, False),
        ({"MX": TEMPFAIL}, False),
    ],
)
async def test_null_mx_of_a_sender(records: Any, expected: bool) -> None:
    """RFC 7505 4.2; what cannot be found out is no reason to refuse."""
    zones = {} if records is None else {"example.org": records}
    assert await has_null_mx("example.org", FakeResolver(zones)) is expected


async def test_bounds() -> None:
    hosts = {f"h{n:03}.test": {"A": [f"198.51.100.{i}" for i in range(MAX_ADDRESSES + 5)]} for n in range(MAX_EXCHANGES + 5)}
    resolver = FakeResolver({**hosts, "example.org": mx(*((n, f"h{n:03}.test") for n in range(len(hosts))))})
    found = await find_exchanges("example.org", resolver)
    assert len(found) == MAX_EXCHANGES * MAX_ADDRESSES
    assert {one.preference for one in found} == set(range(MAX_EXCHANGES)), "the best ones"
    assert len(resolver.queries) == 1 + 2 * MAX_EXCHANGES


async def test_hosts_share_alike_whatever_number_of_addresses_they_have() -> None:
    found = await find_exchanges("example.org", FakeResolver({**HOSTS, "example.org": mx((5, "one.test"), (5, "two.test"))}))
    assert {one.address: one.weight for one in found} == {ONE: 1.0, TWO: 0.5, SIX: 0.5}


def test_ourselves() -> None:
    fixed = Ourselves("gw.test", [("192.0.2.1", 25), ("::1", 2525), ("localhost", 26)])
    assert fixed.is_at("192.0.2.1", 25)
    assert fixed.is_at("0:0::1", 2525)
    assert fixed.is_at("127.0.0.9", 26)
    assert not fixed.is_at("192.0.2.1", 2525)
    assert not fixed.is_at("127.0.0.1", 25)
    anywhere = Ourselves("gw.test", [("0.0.0.0", 25)])
    assert anywhere.is_at("127.0.0.1", 25)
    assert not anywhere.is_at("192.0.2.1", 25), "an address of documentation is nobody's"
    assert is_local("127.0.0.5")
    assert not is_local("2001:db8::1")
