"""The plugin `clamav`: what it sends, what each answer comes to. A real clamd is asked in tests/integration/test_clamav.py."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import Fact, Label, Quarantine, Reject, Score
from gateway.content import CHUNK, Content
from gateway.message import Message
from gateway.plugins.clamav import Clamav, Options, made_at
from gateway.testing import FakeContext, FakeScanner, Result, a_message, run_plugin

FOUND = "stream: Win.Test.EICAR_HDB-1 FOUND"


def asking(scanner: FakeScanner, **options: Any) -> Clamav:
    return Clamav(Options.model_validate({"server": scanner.address, "ping": 0, **options}), name="clamav")


async def after(answer: str | bytes, *, on_error: str | None = None, **options: Any) -> Result:
    async with FakeScanner("clamd") as scanner:
        scanner.answers(answer)
        return await run_plugin(asking(scanner, **options), on_error=on_error)


async def test_what_is_sent_is_the_message_and_ok_is_a_fact() -> None:
    message = a_message(body="x" * 100_000)
    async with FakeScanner("clamd") as scanner:
        result = await run_plugin(asking(scanner), message=message)
        assert scanner.requests == [bytes(message.octets)]
        assert result.findings == (Fact(name="clamav.clean", value=scanner.address),)
    assert result.verdict is None


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
async def test_a_spooled_message_goes_in_chunks(size: int) -> None:
    octets = bytes(n % 251 for n in range(size))
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        content = Content.from_file(file)
        async with FakeScanner("clamd") as scanner:
            await run_plugin(asking(scanner), message=Message(content))
            assert scanner.requests == [octets]
        content.close()


async def test_a_signature_is_refused_by_name() -> None:
    result = await after(FOUND)
    assert isinstance(result.verdict, Reject)
    verdict = result.verdict
    assert (verdict.code, verdict.enhanced, verdict.text, verdict.reason, verdict.keep) == (
        554,
        "5.7.1",
        "Malware found: Win.Test.EICAR_HDB-1",
        "malware",
        False,
    )
    label, score = result.findings
    assert isinstance(label, Label)
    assert (label.name, label.evidence.partition(" by ")[0]) == ("clamav.found", "Win.Test.EICAR_HDB-1")
    assert isinstance(score, Score)
    assert (score.symbol, score.weight) == ("Win.Test.EICAR_HDB-1", 0.0)


async def test_found_says_what_an_unnamed_signature_does() -> None:
    held = (await after(FOUND, found="quarantine", box="malware")).verdict
    assert isinstance(held, Quarantine)
    assert (held.reason, held.box) == ("malware", "malware")
    finding = await after(FOUND, found="finding")
    assert (finding.verdict, [type(one) for one in finding.findings]) == (None, [Label, Score])
    kept = (await after(FOUND, keep=True)).verdict
    assert isinstance(kept, Reject)
    assert kept.keep


ROWS = [
    {"name": "PUA.Win.*", "then": "score", "score": 2.5},
    {"name": "PUA.*", "then": "reject"},
    {"name": "Heuristics.Encrypted.*", "then": "quarantine", "box": "encrypted"},
    {"name": "Heuristics.Phishing.*", "then": "quarantine"},
]


@pytest.mark.parametrize(
    ("signature", "verdict", "weight"),
    [
        ("PUA.Win.Packer.Upx", None, 2.5),
        ("PUA.Other", "reject", 0.0),
        ("Heuristics.Encrypted.Zip", "encrypted", 0.0),
        ("Heuristics.Phishing.Email.SpoofedDomain", "default", 0.0),
        ("Heuristics.Limits.Exceeded.MaxFileSize", None, 0.0),
        ("pua.win.x", "reject", 0.0),
    ],
)
async def test_the_first_row_that_fits_the_name_holds(signature: str, verdict: str | None, weight: float) -> None:
    result = await after(f"stream: {signature} FOUND", signature=ROWS)
    [score] = [one for one in result.findings if isinstance(one, Score)]
    assert (score.symbol, score.weight) == (signature, weight)
    told = result.verdict
    assert (told.box if isinstance(told, Quarantine) else "reject" if isinstance(told, Reject) else None) == verdict


@pytest.mark.parametrize("signature", ["PUA.X", "Heuristics.Encrypted.Zip", "Heuristics.Limits.Exceeded.MaxScanTime"])
async def test_what_is_no_malware_is_a_finding_without_any_row(signature: str) -> None:
    assert (await after(f"stream: {signature} FOUND")).verdict is None


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("stream: Eicar-Signature(44d88612fea8a8f36de82e1278abb02f:68) FOUND", "Eicar-Signature"),
        ("stream: a name of words FOUND", "a_name_of_words"),
        (b"stream: \xff\x1b[31m<b> FOUND\0", "??[31m<b>"),
        ("stream: " + "x" * 250 + " FOUND", "x" * 200),
    ],
)
async def test_names_are_bounded_and_printable(answer: str | bytes, name: str) -> None:
    result = await after(answer)
    assert isinstance(result.verdict, Reject)
    assert result.verdict.text == f"Malware found: {name}"


async def test_more_than_stream_max_length_is_too_large() -> None:
    for oversize, kind in (("pass", type(None)), ("quarantine", Quarantine), ("reject", Reject)):
        result = await after("INSTREAM size limit exceeded. ERROR", oversize=oversize)
        [label] = result.findings
        assert isinstance(label, Label)
        assert label.name == "clamav.too_large"
        assert "StreamMaxLength of 127.0.0.1:" in label.evidence
        assert isinstance(result.verdict, kind)


async def test_an_answer_that_comes_before_the_end_is_heard() -> None:
    """As clamd does past StreamMaxLength: it answers, and closes what it has not read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1000)
        writer.write(b"INSTREAM size limit exceeded. ERROR\0")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    plugin = Clamav(Options(server=(f"127.0.0.1:{server.sockets[0].getsockname()[1]}",), ping=0.0), name="clamav")
    for _ in range(20):
        result = await run_plugin(plugin, message=a_message(body=("x" * 70 + "\r\n") * 50_000))
        assert [one.name for one in result.findings if isinstance(one, Label)] == ["clamav.too_large"]
    server.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("stream: Can't allocate memory ERROR", "said 'stream: Can't allocate memory ERROR'"),
        ("UNKNOWN COMMAND", "said 'UNKNOWN COMMAND'"),
        ("stream:  FOUND", "said 'stream:  FOUND'"),
        ("", "said ''"),
        (b"\xff\x00 }{", "said '?'"),
        (b"x" * 100_000, "an answer without end"),
    ],
)
async def test_other_answers_are_faults(answer: str | bytes, told: str) -> None:
    for on_error, has_verdict in (("defer", True), ("ignore", False)):
        result = await after(answer, on_error=on_error)
        assert (result.verdict is not None) is has_verdict
        assert any(told in step["evidence"].replace('"', "'") for step in result.trace), result.trace
        assert result.findings == ()


async def test_servers_that_hang_drop_or_refuse() -> None:
    async with FakeScanner("clamd") as scanner:
        plugin = asking(scanner)
        scanner.hangs()
        result = await run_plugin(plugin, timeout=0.5, on_error="defer")
        assert "no answer within 0.45 s" in " ".join(step["evidence"] for step in result.trace)
        scanner.drops()
        result = await run_plugin(plugin, on_error="defer")
        assert "the connection was closed before the answer" in " ".join(step["evidence"] for step in result.trace)
        await scanner.refuses()
        result = await run_plugin(plugin, on_error="defer")
        assert "cannot connect" in " ".join(step["evidence"] for step in result.trace)


async def test_it_is_pinged() -> None:
    async with FakeScanner("clamd") as scanner:
        plugin = asking(scanner, max_age=0)
        [service] = plugin.services
        plugin.context = FakeContext()
        scanner.answers("PONG")
        assert await service.ping(plugin.ping, 1.0)
        scanner.answers("PANG")
        assert not await service.ping(plugin.ping, 1.0)
        assert service.breaker.problem == "to a ping: 'PANG' instead of PONG"
        assert scanner.requests == [b"zPING\0"] * 2  # and nothing else


async def test_old_signatures_are_told_of_once_an_hour() -> None:
    async with FakeScanner("clamd") as scanner:
        for max_age, lines in (("3d", 1), ("8d", 0), (0, 0)):
            plugin, context = asking(scanner, max_age=max_age), FakeContext()
            plugin.context = context
            context.clock.now = 1_795_000_000.0  # Wed Nov 18 2026
            scanner.answers("PONG", *(["ClamAV 1.4.6/27500/Fri Nov 13 09:00:00 2026"] if max_age else []), "PONG")
            for _ in range(2):
                assert await plugin.services[0].ping(plugin.ping, 1.0) is True
            assert [event for _, event, _ in context.log.lines] == ["clamav.old_signatures"] * lines


@pytest.mark.parametrize("version", ["ClamAV 1.4.6", "", "ClamAV 1.4.6/27500/yesterday", "\udcff/Fri Nov 99 09:00:00 2026"])
def test_an_age_that_nobody_knows_is_none(version: str) -> None:
    assert made_at(version) is None


@pytest.mark.parametrize(
    "row",
    [
        {"name": "", "then": "reject"},
        {"name": "x", "then": "score"},
        {"name": "x", "then": "reject", "score": 1},
        {"name": "x", "then": "finding", "box": "a b"},
        {"name": "x", "then": "burn"},
    ],
)
def test_rows_that_cannot_be(row: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"signature": [row]})


def test_defaults_are_those_of_debian() -> None:
    assert Options().server == ("unix:/run/clamav/clamd.ctl",)
    assert Options().max_size == 25 * 1024 * 1024
