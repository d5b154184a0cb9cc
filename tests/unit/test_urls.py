"""URLs in text, hosts as browsers read them, what redirectors wrap, names that look like others."""

import pytest

from gateway import Message, find_urls, host_of, is_mixed_script, looks_like, skeleton, u_labels, unwrap
from gateway.content import Content
from gateway.redirectors import _IN_PATH, _IN_QUERY
from gateway.urls import same_site, shown_host

TEXT = [
    ("see https://a.test/x, (http://b.test/y_(z)) or <http://c.test>.", ["https://a.test/x", "http://b.test/y_(z)", "http://c.test"]),
    ("WWW.A.test! 'ftp://f.test/'", ["WWW.A.test", "ftp://f.test/"]),
    ("http:\\\\a.test\\x http:/b.test", ["http:\\\\a.test\\x", "http:/b.test"]),
    ("hxxps://a.test/", ["hxxps://a.test/"]),
    ("bit.ly/abc paypal.com paypal.co.uk x.com.au/y bücher.de/x a.xn--p1ai", ["bit.ly/abc", "paypal.com", "paypal.co.uk", "x.com.au/y", "bücher.de/x", "a.xn--p1ai"]),
    ("bob@example.org x@sub.example.com", []),
    ("e.g. i.e. index.js readme.md a.py U.S.A. v1.2.3 file.tar.gz end.Next 10.000", []),
    ("<URL:http://a.test/one\r\n two>", ["http://a.test/one", "http://a.test/onetwo"]),
    ("http://", []),
    ("", []),
    ("http://a.test/" + "x" * 5_000, ["http://a.test/" + "x" * 2_041]),
    ("http://a.test))]}", ["http://a.test"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "urls"), TEXT)
def test_urls_in_text(text: str, urls: list[str]) -> None:
    assert list(find_urls(text)) == urls


def test_urls_are_found_wherever_a_large_text_is_cut() -> None:
    for size in (32_750, 32_768, 32_780):
        assert list(find_urls("x " * (size // 2) + "http://a.test/b " + "y " * 40_000)) == ["http://a.test/b"]


HOSTS = [
    ("https://user:x@good.test@evil.test:8080/x@y", "evil.test"),
    ("HTTPS:\\\\EVIL.test.\\x", "evil.test"),
    ("http:/evil.test?x", "evil.test"),
    ("http:evil.test", "evil.test"),
    ("//evil.test#x", "evil.test"),
    ("evil.test:80/x", "evil.test"),
    ("evil.test", "evil.test"),
    ("http://ev\til.te\r\nst/", "evil.test"),
    ("http://%65vil.test/", "evil.test"),
    ("http://ｅvil。test/", "evil.test"),
    ("http://Bücher.test", "xn--bcher-kva.test"),
    ("http://3232235521/", "192.168.0.1"),
    ("http://0x7f.1/", "127.0.0.1"),
    ("http://0300.0250.1/", "192.168.0.1"),
    ("http://09.1.1.1/", "09.1.1.1"),
    ("http://256.1.1.1/", "256.1.1.1"),
    ("http://[2001:DB8::1]:80/", "[2001:db8::1]"),
    ("mailto:a@B.test?subject=x@y", "b.test"),
    ("file://Server/share", "server"),
    ("javascript://evil.test/%0a", ""),
    ("data:text/html,x", ""),
    ("tel:1", ""),
    ("cid:a@b", ""),
    ("x-custom:y", ""),
    ("http:", ""),
    ("", ""),
]


@pytest.mark.parametrize(("url", "host"), HOSTS)
def test_hosts(url: str, host: str) -> None:
    assert host_of(url) == host


WRAPPED = [
    ("https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fa.test%2Fx%3Fy&data=05", "https://a.test/x?y"),
    ("https://urldefense.com/v3/__https://www.a.test/path*a__;Kw!!ABC!xyz$", "https://www.a.test/path+a"),
    ("https://urldefense.com/v3/__https://a.test/**Ax__;8J-YgQ!!A", "https://a.test/😁*x"),
    ("https://urldefense.com/v3/__https:/a.test/?q=1__;!!A", "https://a.test/?q=1"),
    ("https://urldefense.proofpoint.com/v2/url?u=https-3A__www.a.test_a-2Db&d=x", "https://www.a.test/a-b"),
    ("https://urldefense.com/v1/url?u=http://a.test/&k=x", "http://a.test/"),
    ("https://secure-web.cisco.com/1abc/https%3A%2F%2Fa.test%2Fx", "https://a.test/x"),
    ("https://eu.protection.sophos.com/?d=a.test&u=aHR0cHM6Ly9hLnRlc3QveA==&p=m", "https://a.test/x"),
    ("https://www.bing.com/ck/a?!&&p=1&u=a1aHR0cHM6Ly9hLnRlc3QveA&ntb=1", "https://a.test/x"),
    ("https://www.google.com/amp/s/a.test/x?y", "https://a.test/x?y"),
    ("https://www.google.com/url?sa=t&url=https://a.test&q=", "https://a.test"),
    ("https://url.avanan.click/v2/___https://a.test/x___.YXAz", "https://a.test/x"),
    ("https://protect.checkpoint.com/v2/r01/___https:/a.test/x___.Y", "https://a.test/x"),
    ("https://href.li/?https://a.test", "https://a.test"),
    ("https://x.r.us-east-1.awstrack.me/L0/https:%2F%2Fa.test%2Fx/1/0", "https://a.test/x/1/0"),
    ("https://l.facebook.com/l.php?u=https%3A%2F%2Fwww.google.com%2Furl%3Fq%3Dhttps%253A%252F%252Fa.test", "https://a.test"),
    ("https://google.com.evil.test/url?q=https://a.test", ""),
    ("https://www.google.com/search?q=https://a.test", ""),
    ("https://www.google.com/url?q=nothing", ""),
    ("https://www.google.com/url?" + "q=https://a.test&" * 60, ""),
    ("https://urldefense.com/v3/nothing", ""),
    ("https://url.avanan.click/v2/___x", ""),
    ("https://www.bing.com/ck/a?u=a1%FF", ""),
    ("https://[www.google.com/url?q=https://a.test", ""),
    ("", ""),
]


@pytest.mark.parametrize(("url", "target"), WRAPPED)
def test_redirectors(url: str, target: str) -> None:
    assert unwrap(url) == target


def test_redirectors_in_one_another_are_bounded() -> None:
    url = "https://href.li/?" * 50 + "https://a.test"
    assert unwrap(url) == "https://href.li/?" * 45 + "https://a.test"


@pytest.mark.parametrize("entry", [*_IN_QUERY, *_IN_PATH], ids=lambda entry: f"{entry[0]}{entry[1]}")
def test_each_redirector_leaves_rubbish_alone(entry: tuple[str, str, object]) -> None:
    for rest in ("", "?", "?u=%FF%00", "x/___", "?u=a1*&url=&q=", "v3/__x__;*!!", "\ud800"):
        assert unwrap(f"https://{entry[0]}{entry[1]}{rest}") == ""


SHOWN = [
    ("www.bank.test", "www.bank.test"),
    (" https://bank.test/x ", "bank.test"),
    ("bank.com", "bank.com"),
    ("bank.co.uk", "bank.co.uk"),
    ("click here", ""),
    ("https://bank.com and more", ""),
    ("a@bank.com", ""),
    ("invoice.pdf", ""),
    ("", ""),
]


@pytest.mark.parametrize(("text", "host"), SHOWN)
def test_hosts_that_a_text_shows(text: str, host: str) -> None:
    assert shown_host(text) == host


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("www.bank.test", "login.bank.test", True),
        ("bank.co.uk", "evil.co.uk", False),
        ("a.bank.co.uk", "bank.co.uk", True),
        ("bank.test", "evil.test", False),
        ("10.0.0.1", "10.1.0.1", False),
        ("localhost", "localhost", True),
    ],
)
def test_hosts_of_one_site(one: str, other: str, same: bool) -> None:
    assert same_site(one, other) is same


LOOKS = [
    ("xn--pypal-4ve.com", "paypal.com"),
    ("PAYPA1.com", "paypal.com"),
    ("xn--80ak6aa92e.com", "apple.com"),
    ("rnicrosoft.com", "microsoft.com"),
    ("gооgle.com", "google.com"),
    ("müller.test", "muller.test"),
    ("ｐaypal.com", "paypal.com"),
    ("pay\u200bpal.com", "paypal.com"),
]


@pytest.mark.parametrize(("name", "like"), LOOKS)
def test_look_alikes(name: str, like: str) -> None:
    assert skeleton(name) == skeleton(like)
    assert looks_like(f"www.{name}", ["other.test", like.upper()]) == like.upper()
    assert looks_like(like, [like]) == looks_like(f"www.{like}", [like]) == ""


def test_what_looks_like_nothing_else() -> None:
    assert looks_like("bank.test", ["blank.test", "", "."]) == ""


@pytest.mark.parametrize(
    ("name", "is_mixed"),
    [
        ("p\u0430ypal.com", True),
        ("xn--pypal-4ve.com", True),
        ("рф.example", False),
        ("東京tokyo.example", False),
        ("ひらカタ漢字ー.example", False),
        ("한글-x1.example", False),
        ("αb.example", True),
        ("müller.example", False),
        ("xn--" + "9" * 59, False),
        ("xn--" + "a" * 90, False),
        ("", False),
    ],
)
def test_mixed_scripts(name: str, is_mixed: bool) -> None:
    assert is_mixed_script(name) is is_mixed


def test_labels_that_cannot_be_decoded_stay() -> None:
    assert u_labels("xn--99999999.xn--bcher-kva.test") == "xn--99999999.bücher.test"
    assert u_labels("XN--BCHER-KVA.test") == "bücher.test"
    assert u_labels("xn--\ud800.test") == "xn--\ud800.test"


def test_links_of_a_message() -> None:
    html = (
        '<a href="https://evil.test/">www.bank.test</a> <a href="https://www.bank.test/x">bank.test</a> '
        '<a href="https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fwww.bank.test%2F">https://www.bank.test/</a> '
        "<a href='https://p\u0430ypal.com/'>here</a> <img src=http://i.test/p.png> and bit.ly/x"
    )
    message = Message(Content(b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()))
    found = {link.url[:20]: link for link in message.links}
    assert [link.is_deceptive for link in message.links] == [True, False, False, False, False, False]
    wrapped = found["https://eur01.safeli"]
    assert (wrapped.is_wrapped, wrapped.target, wrapped.target_host) == (True, "https://www.bank.test/", "www.bank.test")
    assert "https://www.bank.test/" in message.urls
    alike = found["https://p\u0430ypal.com/"]
    assert (alike.host, alike.display_host, alike.skeleton) == ("xn--pypal-4ve.com", "p\u0430ypal.com", "paypal.com")
    assert alike.is_mixed_script
    assert (found["http://i.test/p.png"].is_html, found["bit.ly/x"].is_html) == (True, False)
    assert Message(Content(b"\r\nx")).links == ()


def test_what_hides_in_a_message() -> None:
    message = Message(Content(b"Content-Type: text/html\r\n\r\n<p hidden>secret</p>seen"))
    assert (message.hidden_text, message.text) == ("secret", "\nsecret\nseen")


def test_the_same_url_again_and_again_is_bounded() -> None:
    message = Message(Content(b"\r\n" + b" ".join(b"%d,bit.ly/x" % n for n in range(20_000))))
    assert (message.urls, message.limits_hit) == (("bit.ly/x",), ("urls",))
