"""`FakeScanner`, `EndToEnd`, signed messages and what a failing test shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import ConfigError, Label, Message, Plugin, PluginError, Verdict, defer, hook, quarantine, reject
from gateway.testing import (
    EndToEnd,
    FakeContext,
    FakeScanner,
    a_message,
    a_session,
    a_signed_message,
    a_transaction,
    assert_finding,
    assert_verdict,
    run_plugin,
    signing_zone,
    trace_text,
)

pytest_plugins = "pytester"


class Judge(Plugin):
    @hook(cheap=True)
    def check(self) -> Label:
        return Label(name="seen")

    @hook(cheap=True)
    def judge(self, message: Message) -> Verdict | None:
        if message.subject == "fault":
            raise LookupError("no table")
        return reject("No", reason="no-way", evidence="because so") if message.subject == "no" else None


async def test_what_an_assertion_shows() -> None:
    result = await run_plugin(Judge(), message=a_message(subject="no"), transaction=a_transaction(recipients=["a@x.example"]))
    assert_verdict(result, reject("No", reason="no-way", evidence="because so"), mailbox="a@x.example")
    for fails, told in (
        (lambda: assert_verdict(result, None), "expected no verdict"),
        (lambda: assert_verdict(result, None, mailbox="b@x.example"), "no recipient b@x.example; there are: a@x.example"),
        (lambda: assert_finding(result, Label, name="unseen"), "no finding Label(name='unseen'); there are:\n  Label("),
    ):
        with pytest.raises(AssertionError) as error:
            fails()
        assert told in str(error.value)
        assert "└── judge  verdict reject reason=no-way " in str(error.value)
        assert "└── because so" in str(error.value)
    assert assert_finding(result, Label, name="seen") == Label(name="seen")
    assert result.explain() == trace_text(result.trace)
    with pytest.raises(PluginError, match="no table") as fault:
        await run_plugin(Judge(), message=a_message(subject="fault"))
    assert "judge  error" in fault.value.__notes__[0]


def test_a_comparison_that_fails_shows_the_trace(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)  # there the summary says all of it again
    pytester.makepyfile(
        """
        import asyncio
        from gateway import Plugin, accept, hook
        from gateway.testing import run_plugin

        class Quiet(Plugin):
            @hook(cheap=True)
            def judge(self): ...

        def test_fails():
            result = asyncio.run(run_plugin(Quiet()))
            assert result.verdict == accept()

        def test_of_something_else():
            assert (1,) == ()
        """
    )
    done = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    done.stdout.fnmatch_lines(["E*judge", "E*└── quiet  none  * ms"])
    assert str(done.stdout).count("quiet  none") == 1
    done.assert_outcomes(failed=2)


async def ask(scanner: FakeScanner, octets: bytes, *, count: int = -1) -> bytes:
    reader, writer = await asyncio.open_connection(scanner.host, scanner.port)
    writer.write(octets)
    try:
        return await (reader.read(count) if count < 0 else reader.readexactly(count))
    finally:
        writer.close()


async def test_a_scanner_by_clamd_s_protocol() -> None:
    stream = b"zINSTREAM\0" + (3).to_bytes(4) + b"abc" + (1).to_bytes(4) + b"d" + bytes(4)
    async with FakeScanner() as scanner:
        assert await ask(scanner, stream, count=11) == b"stream: OK\0"
        assert await ask(scanner, b"nPING\n", count=11) == b"stream: OK\0"
        assert scanner.requests == [b"abcd", b"nPING\n"]
        scanner.drops(b"stre")
        assert await ask(scanner, stream) == b"stre"
        scanner.talks_rubbish(b"?")
        assert await ask(scanner, stream, count=1) == b"?"
        scanner.hangs()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(scanner, stream), 0.05)
        await scanner.refuses()
        with pytest.raises(OSError, match="onnect"):
            await ask(scanner, stream)
        assert scanner.connections == 5


async def test_a_scanner_by_http() -> None:
    request = b"POST /checkv2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    async with FakeScanner("http") as scanner:
        scanner.answers({"score": 7.5}, b"raw", status=418)
        head, _, body = (await ask(scanner, request, count=94)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 418 ")
        assert body == b'{"score": 7.5}'
        assert scanner.requests == [request]
        assert await ask(scanner, request, count=3) == b"raw"
        assert await ask(scanner, b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n") == b""


async def test_a_signed_message_passes_dkim() -> None:
    async with EndToEnd(plugins=["dkim", "authres"], zones=signing_zone()) as mail:
        sent = await mail.send(a_signed_message(subject="Signed", attach=[a_message(subject="inside"), "a.txt"]))
    assert b"dkim=pass" in sent.taken[0].content
    made = a_message(attach=a_message(subject="inside", body="within"))
    assert made.parts[-1].content() == b"within"
    assert b"Content-Type: message/rfc822\r\n" in bytes(made.octets)


class Options(Plugin):
    """By the client's address, so that it can be seen who that is."""

    @hook(cheap=True)
    def judge(self, transaction: Any) -> Verdict | None:
        session = transaction.session
        if session.client_address == "2001:db8::7" and session.tls is not None:
            return quarantine("from there")
        return defer("Not now") if session.client_address == "192.0.2.9" else None


async def test_end_to_end_from_any_address(end_to_end: Any) -> None:
    async with end_to_end(plugins=[Options]) as mail:
        assert (await mail.send(client_address="2001:db8::7", tls=True)).fates == {"bob@example.org": "held"}
        deferred = await mail.send(b".dot\r\n", client_address="192.0.2.9")
        assert (deferred.code, deferred.fates) == (451, {"bob@example.org": "deferred"})
        assert "deferred by options" in deferred.explain()
        plain = await mail.send(b"..dots\r\n.\r\n")
        assert plain.taken[0].content.endswith(b"..dots\r\n.\r\n")
        relayed = await mail.send(recipients=["eve@elsewhere.example"])
        assert (relayed.code, relayed.taken) == (550, ())
        assert len(mail.gateway.records) == 4
    with pytest.raises(ConfigError, match="no_such"):
        async with end_to_end(plugins=["no_such"]):
            pass


async def test_context_is_still_the_plugin_s(fake_scanner: type[FakeScanner]) -> None:
    assert fake_scanner is FakeScanner
    result = await run_plugin(Judge(), session=a_session(), context=FakeContext())
    assert result.verdict is None
