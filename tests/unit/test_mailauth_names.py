"""Names of domains and selectors: checked, in lower case, as A-labels (RFC 6376 3.5, RFC 8616 4)."""

from __future__ import annotations

import pytest

from gateway.mailauth import DomainNameError, domain_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Example.ORG", "example.org"),
        ("org", "org"),
        ("a_b.example", "a_b.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        (".".join(["x" * 49] * 5), ".".join(["x" * 49] * 5)),
        ("", None),
        (".", None),
        ("example.org.", None),
        (".example.org", None),
        ("a..b", None),
        ("-a.example", None),
        ("a-.example", None),
        ("a b.example", None),
        ("a@b.example", None),
        ("x" * 64, None),
        (".".join(["x" * 49] * 6), None),
        ("ü" * 200, None),
        ("☃.example", None),
        ("b。example", None),
        ("a\x00.example", None),
    ],
)
def test_names(value: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(DomainNameError):
            domain_name(value.encode())
    else:
        assert domain_name(value.encode()) == name


def test_octets_that_are_no_text() -> None:
    with pytest.raises(DomainNameError):
        domain_name(b"\xff.example")
