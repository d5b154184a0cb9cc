"""A-labels (RFC 5891, UTS 46): where IDNA 2008 and 2003 differ, what has no A-label, and that nothing takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import a_labels
from gateway.config.addresses import domain_key
from gateway.dns.names import canonical
from gateway.idn import MAX_TEXT
from gateway.mailauth import DomainNameError, domain_name
from gateway.plugins.dmarc.authors import a_label
from gateway.plugins.spf.domains import multi_label

SAME = [
    ("Example.ORG", "example.org"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.Example", "xn--bcher-kva.example"),
    ("straße.example", "xn--strae-oqa.example"),  # IDNA 2003: strasse
    ("βόλος.example", "xn--nxasmm1c.example"),  # final sigma; IDNA 2003: xn--nxasmq6b
    ("\u0dc1\u0dca\u200d\u0dbb\u0dd3.example", "xn--10cl1a0b660p.example"),  # ZWJ within a word; IDNA 2003 drops it
    ("नी\u200cx.example", None),  # ZWNJ where no script wants one
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
]
MAPPED = [
    ("bücher。example", "xn--bcher-kva.example"),
    ("ｂücher.example", "xn--bcher-kva.example"),
    ("☃.example", "xn--n3h.example"),
]
HOSTILE = ["ä" * 100_000, "ä" * MAX_TEXT, "ä" * 64 + ".example", "\ud800.example", "ä" + "\u0301" * 1_000, "\u2488.example"]


@pytest.mark.parametrize(("domain", "name"), SAME)
def test_strict_or_not(domain: str, name: str | None) -> None:
    assert a_labels(domain, strict=True) == name
    if name is not None:
        assert a_labels(domain) == name


@pytest.mark.parametrize(("domain", "name"), MAPPED)
def test_signatures_map_nothing(domain: str, name: str) -> None:
    assert a_labels(domain) == name
    assert a_labels(domain, strict=True) is None


@pytest.mark.parametrize(("domain", "name"), [*((domain, name) for domain, name in SAME if name), *MAPPED])
def test_all_who_ask_for_a_name_get_the_same(domain: str, name: str) -> None:
    assert {canonical(domain), domain_key(domain), a_label(domain), (multi_label(domain) or "").lower()} == {name}


@pytest.mark.parametrize("domain", HOSTILE)
def test_what_has_no_a_label(domain: str) -> None:
    assert a_labels(domain) is None
    assert canonical(domain) is None
    with pytest.raises(DomainNameError):
        domain_name(domain.encode("utf-8", "surrogatepass"))


@given(st.text(max_size=80), st.booleans())
def test_any_text(text: str, strict: bool) -> None:
    name = a_labels(text, strict=strict)
    assert name is None or (name.isascii() and name == name.lower())
    assert name is None or a_labels(name) == name
