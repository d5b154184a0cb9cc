"""Servers as written in the configuration, and which route a domain takes."""

import pytest

from gateway.config.models import RouteConfig
from gateway.relay.routes import RouteTable, Server, parse_server


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("127.0.0.1:2526", Server("127.0.0.1", 2526), "127.0.0.1:2526"),
        ("mail.example.org", Server("mail.example.org", 25), "mail.example.org:25"),
        ("my_host.:65535", Server("my_host.", 65535), "my_host.:65535"),
        (" [::1]:25 ", Server("::1", 25), "[::1]:25"),
        ("[2001:db8::1]", Server("2001:db8::1", 25), "[2001:db8::1]:25"),
        ("unix:/run/x.sock", Server(path="/run/x.sock"), "unix:/run/x.sock"),
        ("inbox:", Server(is_inbox=True), "inbox:"),
        ("lmtp://127.0.0.1:24", Server("127.0.0.1", 24, is_lmtp=True), "lmtp://127.0.0.1:24"),
        ("lmtp://[::1]:24", Server("::1", 24, is_lmtp=True), "lmtp://[::1]:24"),
        ("lmtp+unix:/run/lmtp", Server(path="/run/lmtp", is_lmtp=True), "lmtp+unix:/run/lmtp"),
        ("smtps://mail.example.org", Server("mail.example.org", 465, implicit_tls=True), "smtps://mail.example.org:465"),
        ("smtps://[::1]:4650", Server("::1", 4650, implicit_tls=True), "smtps://[::1]:4650"),
    ],
)
def test_servers(text: str, server: Server, shown: str) -> None:
    assert parse_server(text) == server
    assert str(parse_server(text)) == shown
    assert parse_server(shown) == server


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":25",
            "a:",
            "a:0",
            "a:65536",
            "a:99999999999",
            "a:x",
            "a:²",
            "::1:25",
            "a b:25",
            "-a:25",
            "a..b:25",
            "a" * 255,
            "a@b",
        ),
        *("[::1", "[::1]25", "[x]:25", "[127.0.0.1]:25", "unix:x", "unix:", "unix:/" + "x" * 107, "unix:/\0"),
        *("http://a", "inbox:x", "lmtp:a:24", "lmtp://a", "lmtp://a:25", "lmtp://[::1]", "lmtp://unix:/x", "lmtp+a:24"),
        *("lmtp+unix:x", "lmtp+lmtp://a:24", "lmtp://lmtp://a:24", "lmtp://inbox:", "lmtp+inbox:"),
        *("smtps://", "smtps://a:x", "smtps://unix:/x", "lmtp://smtps://a:24", "smtps://lmtp://a"),
    ],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"unix:"):
        parse_server(text)


def a_route(name: str, *domains: str) -> RouteConfig:
    return RouteConfig(name=name, domains=domains, servers=("127.0.0.1:2526",))


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("example.org", "exact"),
        ("EXAMPLE.ORG.", "exact"),
        ("a.example.org", "below"),
        ("a.b.example.org", "below"),
        ("deep.example.org", "deep"),
        ("x.deep.example.org", "deeper"),
        ("notexample.org", "rest"),
        ("org", "rest"),
        ("", "rest"),
        ("[127.0.0.1]", "rest"),
    ],
)
def test_routes(domain: str, name: str) -> None:
    routes = [
        a_route("rest", "*"),
        a_route("below", "*.Example.org."),
        a_route("deeper", "*.deep.example.org"),
        a_route("exact", "Example.ORG"),
        a_route("deep", "deep.example.org"),
        a_route("late", "*", "example.org", "*.example.org"),
    ]
    found = RouteTable(routes).route_for(domain)
    assert found is not None
    assert found.name == name


def test_no_route() -> None:
    table = RouteTable([a_route("one", "example.org"), a_route("two", "*.example.net")])
    assert table.route_for("example.com") is None
    assert table.route_for("a.example.org") is None
    assert table.route_for("example.net") is None
    assert RouteTable([]).route_for("example.org") is None


def test_a_domain_in_letters_of_its_own_takes_the_route_of_its_a_labels() -> None:
    route = RouteConfig(name="x", servers=("127.0.0.1:2526",), domains=("bücher.example", "*.straße.example"))
    table = RouteTable([route])
    for domain in (
        "bücher.example",
        "BÜCHER.example.",
        "xn--bcher-kva.example",
        "mail.straße.example",
        "mail.xn--strae-oqa.example",
    ):
        assert table.route_for(domain) is route
    assert table.route_for("mail.strasse.example") is None


@pytest.mark.parametrize(
    "domain", ["bücher．example", "bü\u00adcher.example", "ｂücher.example", "exam\u00adple.test", "example。test"]
)
def test_what_only_looks_like_a_domain_of_ours_has_no_route(domain: str) -> None:
    """It goes on as it came, and the server behind may take it for another's."""
    route = RouteConfig(name="x", servers=("127.0.0.1:2526",), domains=("bücher.example", "example.test"))
    assert RouteTable([route]).route_for(domain) is None
