"""gateway.reputation.likeness: domains and names that could be taken for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import a_labels
from gateway.reputation import KnownDomains, Suffixes, addresses_within, bears_name, person, plain_domain, suffix_library
from gateway.reputation.likeness import distance

OURS = ("contoso.example", "acme-bank.co.uk", "ibm.example", "intercontinental.example")
KNOWN = KnownDomains(OURS, Suffixes(suffix_library()).registrable)


def compared(text: str) -> str:
    domain = plain_domain(text)
    assert domain, text
    found = KNOWN.compare(domain)
    return "" if found is None else found[0]


@pytest.mark.parametrize(
    "domain",
    [
        "cont0so.example",
        "contosо.example",
        "сontoso.example",
        "contośo.example",
        "c0ntos0.example",
        "contosso.example",
        "contoos.example",
        "conntoso.example",
        "contos.example",
        "mail.cont0so.example",
        "contoso.example.evil.test",
        "a.contoso.example.login.evil.test",
        "contoso-example.evil.test",
        "login-contoso-example.test",
        "acmebank.co.uk",
        "acme-bamk.co.uk",
        "acrne-bank.co.uk",
        "lntercontinenta1.example",
        "intercontinetal.example",
        "intercontlnentaI.example",
        "intreconitnental.example",
        "ιbm.example",
    ],
)
def test_lookalikes(domain: str) -> None:
    assert compared(domain) == "lookalike"


@pytest.mark.parametrize(
    "domain",
    [
        "contoso.test",
        "contoso.co.uk",
        "cont0so.test",
        "contoso-invoices.example",
        "my-contoso.test",
        "acme-bank.test",
        "intercontinentall.test",
    ],
)
def test_domains_that_are_similar(domain: str) -> None:
    assert compared(domain) == "similar"


@pytest.mark.parametrize(
    "domain",
    [
        *OURS,
        "mail.contoso.example",
        "a.b.acme-bank.co.uk",
        "example.org",
        "contoso.crm.test",
        "consort.example",
        "ibn.example",
        "contosso.test",
        "ibm.test",
        "hibm.example",
        "contorted.example",
        "co.uk",
        "bank.co.uk",
        "continental.example",
    ],
)
def test_domains_that_are_not(domain: str) -> None:
    assert compared(domain) == ""


def test_why() -> None:
    found = KNOWN.compare(a_labels("сontoso.example") or "")
    assert found == ("lookalike", "xn--ontoso-hrf.example (\\u0441ontoso.example) looks like contoso.example")
    found = KNOWN.compare("contoso.example.evil.test")
    assert found == ("lookalike", "contoso.example.evil.test bears within it the name contoso.example")


def test_a_subdomain_that_is_known_does_not_make_its_siblings_lookalikes() -> None:
    known = KnownDomains(["mail.contoso.example"], Suffixes(suffix_library()).registrable)
    assert known.compare("www.contoso.example") is None
    assert known.compare("www.cont0so.example") is not None


@pytest.mark.parametrize(
    ("one", "other", "limit", "apart"),
    [
        ("abc", "abc", 2, 0), ("abc", "abd", 2, 1), ("abc", "acb", 2, 1), ("abc", "ab", 2, 1), ("abc", "abcd", 2, 1),
        ("abcdef", "badcfe", 3, 3), ("abc", "xyz", 2, 3), ("a", "abcdef", 2, 3), ("", "", 0, 0), ("", "a", 1, 1), ("ab", "ba", 1, 1),
    ],
)  # fmt: skip
def test_distance(one: str, other: str, limit: int, apart: int) -> None:
    assert distance(one, other, limit) == distance(other, one, limit) == apart


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_distance_is_bounded_and_symmetric(one: str, other: str) -> None:
    exact = distance(one, other, 20)
    assert exact == distance(other, one, 20)
    assert (exact == 0) == (one == other)
    assert abs(len(one) - len(other)) <= exact <= max(len(one), len(other))
    assert distance(one, other, 1) == min(exact, 2)


PEOPLE = [person("Ada King Lovelace"), person("Dr. Jörg Müller"), person("Cher")]


@pytest.mark.parametrize(
    ("display", "whose"),
    [
        ("Ada King Lovelace", "Ada King Lovelace"),
        ("LOVELACE, Ada King", "Ada King Lovelace"),
        ("Prof. Ada  King-Lovelace (CEO)", "Ada King Lovelace"),
        ("Аda Кing Lоvelace", "Ada King Lovelace"),
        ("Ada King Lovelace | Contoso Ltd", "Ada King Lovelace"),
        ("AdaKingLovelace", "Ada King Lovelace"),
        ("A d a K i n g L o v e l a c e", "Ada King Lovelace"),
        ("Ada King Love1ace", "Ada King Lovelace"),
        ("A\u200bda King Lovelace", "Ada King Lovelace"),
        ("Jorg Muller", "Dr. Jörg Müller"),
        ("Müller, Jörg", "Dr. Jörg Müller"),
        ("Cher", "Cher"),
        ("Mrs. Cher", "Cher"),
        ("Cher Ami", ""),
        ("Ada Lovelace", ""),
        ("King", ""),
        ("Jörg Müllermann", ""),
        ("", ""),
        ("Dr.", ""),
        ("12345", ""),
    ],
)
def test_names(display: str, whose: str) -> None:
    assert bears_name(display, PEOPLE) == whose


@pytest.mark.parametrize("name", ["", "  ", "123", "Dr."])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="a name with letters"):
        person(name)


def test_addresses_within_names() -> None:
    assert addresses_within("Ada <ada@contoso.example>") == ["ada@contoso.example"]
    assert addresses_within('"ada@contoso.example" via x@y.test') == ["ada@contoso.example", "x@y.test"]
    assert addresses_within("Ada @ home, 5@7") == []
    assert len(addresses_within("a@b.cd " * 50)) == 5


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_input_raises(text: str, domain: str) -> None:
    bears_name(text, PEOPLE)
    addresses_within(text)
    KNOWN.compare(plain_domain(domain))
