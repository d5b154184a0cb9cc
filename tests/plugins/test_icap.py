"""The plugin `icap`: what a server is asked, what its answers come to, and answers that are none. Real ones: tests/integration."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Defer, Discard, Fact, Label, Message, PluginError, Quarantine, Reject, Verdict
from gateway.plugins.icap import Icap, Options
from gateway.plugins.icap.protocol import (
    AnswerError,
    Head,
    chunk_size,
    found,
    http_status,
    parse_abilities,
    parse_encapsulated,
    parse_head,
    request,
)
from gateway.testing import FakeScanner, Result, a_message, a_session, a_transaction, run_plugin

NO_CONTENT = b'ICAP/1.0 204 No Content\r\nISTag: "tag-1"\r\n\r\n'
THREAT = "X-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Test;\r\n"
PAGE = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n"


def abilities(*lines: str, head: str = "ICAP/1.0 200 OK") -> bytes:
    usual = ("Methods: RESPMOD, REQMOD", 'ISTag: "tag-1"', "Allow: 204", "Options-TTL: 3600")
    return "\r\n".join([head, *(lines or usual), "Encapsulated: null-body=0", "", ""]).encode()


def changed(*, fields: str = "", inside: str = "HTTP/1.1 200 OK\r\n\r\n", body: bytes | None = b"") -> bytes:
    what = "res-body" if body is not None else "null-body"
    head = f'ICAP/1.0 200 OK\r\nISTag: "tag-1"\r\n{fields}Encapsulated: res-hdr=0, {what}={len(inside)}\r\n\r\n{inside}'.encode()
    return head if body is None else head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def asking(*servers: FakeScanner, **options: Any) -> Icap:
    return Icap(Options(server=tuple(one.address for one in servers), **{"ping": 0.0, **options}), name="icap")


async def asked(*answers: bytes, message: Message | None = None, **options: Any) -> tuple[Result, list[bytes]]:
    async with FakeScanner("http") as server:
        server.answers(*answers)
        return await run_plugin(asking(server, **options), message=message), server.requests


def findings(result: Result) -> dict[str, object]:
    return {
        one.name: one.evidence if isinstance(one, Label) else one.value
        for one in result.findings
        if isinstance(one, Label | Fact)
    }


async def test_nothing_found() -> None:
    result, requests = await asked(abilities(), NO_CONTENT)
    assert str(findings(result)["icap.clean"]).endswith(" tag-1")
    assert result.verdict is None
    assert requests[0].startswith(b"OPTIONS icap://127.0.0.1:")
    assert requests[1].startswith(b"RESPMOD icap://127.0.0.1:")
    for line in (
        b"/avscan ICAP/1.0\r\n",
        b"\r\nAllow: 204\r\n",
        b"\r\nX-Client-IP: 192.0.2.1\r\n",
        b"\r\nEncapsulated: req-hdr=0, res-hdr=",
    ):
        assert line in requests[1]
    assert b"Preview" not in requests[1]


@pytest.mark.parametrize(
    ("fields", "threats"),
    [
        (THREAT, ["Eicar-Test"]),
        ("X-Virus-ID: Eicar\x1b[31m\r\n", ["Eicar?[31m"]),
        ("X-Violations-Found: 2\r\n\ta.zip\r\n\tEicar\r\n\t11\r\n\t0\r\n\tb\r\n\tOther\r\n\t12\r\n\t0\r\n", ["Eicar", "Other"]),
        ("X-Infection-Found: odd\r\n", ["odd"]),
        ("X-Violations-Found: odd\r\n", ["odd"]),
        ("X-Infection-Found: Type=0; Threat=A;\r\nX-Virus-ID: A\r\n", ["A"]),
    ],
)
async def test_what_was_found(fields: str, threats: list[str]) -> None:
    result, _ = await asked(abilities(), changed(fields=fields, inside=PAGE))
    assert [one.value for one in result.findings if isinstance(one, Fact) and one.name == "icap.threat"] == threats
    assert isinstance(result.verdict, Reject)
    assert result.verdict.reason == "icap-found"
    assert result.verdict.evidence.startswith(", ".join(threats) + " by 127.0.0.1:")


async def test_a_page_that_refuses() -> None:
    result, _ = await asked(abilities(), changed(inside=PAGE, body=b"no"))
    assert str(findings(result)["icap.found"]).startswith("HTTP 403 by ")
    assert isinstance(result.verdict, Reject)


async def test_another_body_is_told_and_not_taken() -> None:
    message = a_message()
    octets = bytes(message.octets)
    for body in (octets[:-1], octets + b"x", b"other", None):
        result, _ = await asked(abilities(), changed(body=body), message=message, modified="quarantine")
        assert "icap.modified" in findings(result)
        assert isinstance(result.verdict, Quarantine)
    result, _ = await asked(abilities(), changed(body=octets), message=message)
    assert "icap.clean" in findings(result)


@pytest.mark.parametrize(
    ("then", "expected"), [("reject", Reject), ("quarantine", Quarantine), ("discard", Discard), ("defer", Defer), ("pass", None)]
)
async def test_what_follows(then: str, expected: type[Verdict] | None) -> None:
    result, _ = await asked(abilities(), changed(fields=THREAT), then=then)
    assert (None if result.verdict is None else type(result.verdict)) is expected


@pytest.mark.parametrize("value", ["", "none", "CLEAN", "0"])
async def test_a_field_that_says_nothing_is_nothing(value: str) -> None:
    message = a_message()
    answer = changed(fields=f"X-Virus-ID: {value}\r\n", body=bytes(message.octets))
    result, _ = await asked(abilities(), answer, message=message)
    assert result.verdict is None


async def test_a_preview_is_no_more_than_the_server_wants() -> None:
    wants = abilities("Methods: RESPMOD", "Preview: 1024", "Allow: 204")
    message = a_message(body="x" * 5_000)
    for option, sent in ((None, 1024), (10, 10), (0, 0), (9_999, 1024)):
        _, requests = await asked(wants, NO_CONTENT, message=message, preview=option)
        assert f"\r\nPreview: {sent}\r\n".encode() in requests[1]
    small = a_message(body="x")
    _, requests = await asked(wants, NO_CONTENT, message=small)
    assert f"\r\nPreview: {small.size}\r\n".encode() in requests[1]
    _, requests = await asked(abilities(), NO_CONTENT, message=message, preview=10)
    assert b"Preview" not in requests[1]


async def test_the_rest_is_sent_where_the_server_wants_it() -> None:
    wants = abilities("Methods: RESPMOD", "Preview: 4", "Allow: 204")
    result, _ = await asked(
        wants, b"ICAP/1.0 100 Continue\r\n\r\n", changed(fields=THREAT), message=a_message(body="x" * 100_000)
    )
    assert isinstance(result.verdict, Reject)


async def test_an_upload() -> None:
    _, requests = await asked(abilities(), NO_CONTENT, method="REQMOD", service="req?x=1", tell_client=False)
    assert b"REQMOD icap://" in requests[1]
    assert b"/req?x=1 ICAP/1.0\r\n" in requests[1]
    assert b"Encapsulated: req-hdr=0, req-body=" in requests[1]
    assert b"X-Client-IP" not in requests[1]
    assert requests[2].startswith(b"POST http://mailgateway.invalid/message.eml HTTP/1.1\r\n")


async def test_what_a_server_can_is_asked_once_and_again_after_its_time() -> None:
    async with FakeScanner("http") as server:
        plugin = asking(server)
        server.answers(abilities("Methods: RESPMOD", "Max-Connections: 1", "Options-TTL: 60"), NO_CONTENT)
        await run_plugin(plugin, start=False)
        await run_plugin(plugin, start=False)
        assert sum(one.startswith(b"OPTIONS") for one in server.requests) == 1
        [known] = plugin._known.values()
        assert known.seats is not None
        known.until = 0.0
        server.answers(abilities("Methods: RESPMOD", "Max-Connections: 1"), NO_CONTENT)
        await run_plugin(plugin, start=False)
        assert sum(one.startswith(b"OPTIONS") for one in server.requests) == 2
        assert next(iter(plugin._known.values())).seats is known.seats
        service = plugin.services[0]
        server.answers(abilities())
        assert await service.ping(plugin.ping, 1.0)
        server.answers(abilities(head="ICAP/1.0 404 Not found"))
        assert not await service.ping(plugin.ping, 1.0)
        await plugin.shutdown()


async def test_more_than_its_max_connections_wait_and_are_no_failure() -> None:
    async with FakeScanner("http") as server:
        plugin = asking(server, connect_timeout=0.05, failures=1)
        server.answers(abilities("Methods: RESPMOD", "Max-Connections: 1"), NO_CONTENT)
        await run_plugin(plugin, start=False)
        [known] = plugin._known.values()
        assert known.seats is not None
        await known.seats.acquire()
        with pytest.raises(PluginError, match="its Max-Connections of 1 are in use"):
            await run_plugin(plugin, start=False)
        assert not plugin.services[0].is_resting
        known.seats.release()
        assert "icap.clean" in findings(await run_plugin(plugin))


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (abilities(head="ICAP/1.0 404 Service not found"), "no such service: 404 Service not found"),
        (abilities("Methods: REQMOD"), "does REQMOD, not RESPMOD"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no answer of ICAP"),
    ],
)
async def test_a_service_that_cannot_is_a_fault(octets: bytes, what: str) -> None:
    with pytest.raises(PluginError, match=f"to OPTIONS: .*{what}"):
        await asked(octets)


RUBBISH = [
    b"",
    b"\xff\x00 nonsense\r\n\r\n",
    b"ICAP/1.0 200 OK",
    b"ICAP/1.0 500 Server error\x1b[31m\r\n\r\n",
    b"ICAP/1.0 100 Continue\r\n\r\n",
    b"ICAP/1.0 200 OK\r\nno field\r\n\r\n",
    b"ICAP/1.0 200 OK\r\n" + b"X: y\r\n" * 20_000,
    b"ICAP/1.0 200 OK\r\nX: " + b"y" * 200_000,
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=999999\r\n\r\n",
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=10, res-body=5\r\n\r\n",
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=100\r\n\r\nshort",
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\nzz\r\n",
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\n" + b"1" * 2_000 + b"\r\n",
    b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\n1",
]


@pytest.mark.parametrize("octets", RUBBISH, ids=range(len(RUBBISH)))
async def test_what_is_no_answer_is_a_fault(octets: bytes) -> None:
    async with FakeScanner("http") as server:
        plugin = asking(server)
        server.answers(abilities(), NO_CONTENT)
        await run_plugin(plugin, start=False)
        server.drops(after=octets)
        with pytest.raises(PluginError) as caught:
            await run_plugin(plugin)
    assert str(caught.value).partition("\n")[0].isprintable()


async def test_a_server_that_hangs_costs_its_share_of_the_time_and_the_next_answers() -> None:
    async with FakeScanner("http") as first, FakeScanner("http") as second:
        first.hangs()
        second.answers(abilities(), NO_CONTENT)
        plugin = asking(first, second, failures=1, rest=60)
        assert "icap.clean" in findings(await run_plugin(plugin, timeout=0.5, start=False))
        assert "icap.clean" in findings(await run_plugin(plugin, timeout=0.5, start=False))
        assert len(first.requests) == 1  # it rests


async def test_messages_too_large_are_not_scanned() -> None:
    result = await run_plugin(Icap(Options(max_size=10, ping=0.0), name="icap"), message=a_message())
    assert list(findings(result)) == ["icap.too_large"]


async def test_a_client_without_an_address_is_not_told_of() -> None:
    async with FakeScanner("http") as server:
        server.answers(abilities(), NO_CONTENT)
        await run_plugin(asking(server), transaction=a_transaction(session=a_session(client_address="")))
        assert b"X-Client-IP" not in server.requests[1]


def test_offsets_of_a_request_are_those_of_its_headers() -> None:
    for method, body in (("RESPMOD", "res-body"), ("REQMOD", "req-body")):
        octets = request(method, "icap://h/s", "h", size=5, preview=None, allows_204=False)  # type: ignore[arg-type] # of a tuple
        head, _, headers = octets.partition(b"\r\n\r\n")
        assert parse_encapsulated(
            parse_head(b"ICAP/1.0 200 OK\r\n" + head.partition(b"\r\n")[2] + b"\r\n\r\n")
        ).header_size == len(headers)
        assert f"{body}={len(headers)}".encode() in head
        assert headers.endswith(b"\r\nContent-Length: 5\r\n\r\n")


@given(st.binary(max_size=300))
def test_any_octets_are_an_answer_or_a_fault(octets: bytes) -> None:
    for some in (octets, b"ICAP/1.0 200 OK\r\n" + octets):
        try:
            head = parse_head(some)
            parse_abilities(head, "RESPMOD")
            parse_encapsulated(head)
        except AnswerError:
            continue
    http_status(octets)
    with_chunks = octets.partition(b"\n")[0]
    with contextlib.suppress(AnswerError):
        assert chunk_size(with_chunks) >= 0


@given(st.sampled_from(["x-infection-found", "x-violations-found", "x-virus-id"]), st.text(alphabet=" \n;=-0aT", max_size=60))
def test_any_field_says_something_bounded(name: str, value: str) -> None:
    assert len(found(Head(status=200, reason="", fields=((name, value),) * 50), [name])) <= 20
