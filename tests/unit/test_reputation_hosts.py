"""gateway.reputation.hosts: what browsers and mail clients reach by a URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reputation import mailto_addresses, url_host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Www.Example.org/a?b#c", "www.example.org"),
        ("HTTP://example.org:8080", "example.org"),
        ("http:example.org/x", "example.org"),
        ("http:/\\\\example.org\\x", "example.org"),
        ("https:////example.org/", "example.org"),
        ("//example.org/x", "example.org"),
        ("www.example.org/x", "www.example.org"),
        ("https://good.example@bad.example/", "bad.example"),
        ("https://a@b:c@bad.example:443/@good.example", "bad.example"),
        ("https://bad.example#@good.example/", "bad.example"),
        ("https://bad.example?@good.example/", "bad.example"),
        ("https://bad.example\\@good.example/", "bad.example"),
        ("ht\ntps://bad\t.example/", "bad.example"),
        ("https://b%61d.example./", "bad.example"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://ｂad。example/", "bad.example"),
        ("http://192.0.2.1/x", "192.0.2.1"),
        ("http://3221225985/", "192.0.2.1"),
        ("http://0xC0.0.0x2.01/", "192.0.2.1"),
        ("http://0300.0.513/", "192.0.2.1"),
        ("http://[2001:DB8::1]:80/", "2001:db8::1"),
        ("http://[::ffff:192.0.2.1]/", "192.0.2.1"),
        ("ftp://files.example/", "files.example"),
    ],
)
def test_hosts(url: str, host: str) -> None:
    assert str(url_host(url)) == host


@pytest.mark.parametrize(
    "url",
    [
        "", "/path", "#top", "?q", "./x", "mailto:a@b.example", "cid:1@b.example", "javascript:alert(1)", "data:text/html,http://a.example",
        "http://", "http://localhost/", "http://[::1", "http://256.1.1.1/", "http://1.2.3.4.5/", "http://0x1ffffffff/", "http://08.1.1.1/",
        "http://a b.example/", "http://-.example/", "http://" + "a" * 64 + ".example/", "page.html", "http://.../", "https://@/",
    ],
)  # fmt: skip
def test_what_has_no_host_that_lists_know(url: str) -> None:
    assert url_host(url) == ""


def test_mailto() -> None:
    assert mailto_addresses("MAILTO:a%40b.example,c@d.example?subject=x@y") == ["a@b.example", "c@d.example"]
    assert mailto_addresses("mailto:nobody") == mailto_addresses("https://a@b.example") == []
    assert len(mailto_addresses("mailto:" + "a@b.example," * 50)) == 10


@given(st.text(max_size=200) | st.text(alphabet="htps:/\\@[].%0x1a#?-", max_size=60).map(lambda text: "http://" + text))
def test_no_input_raises(url: str) -> None:
    host = url_host(url)
    assert not isinstance(host, str) or (host.isascii() and len(host) <= 253)
    mailto_addresses(url)
    mailto_addresses("mailto:" + url)
