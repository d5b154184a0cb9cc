"""The plugin `milter`: what it tells a milter and when, what each answer comes to, and what one that misbehaves costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import Defer, Discard, Edit, Message, PluginError, Quarantine, Reject
from gateway.content import Content
from gateway.milter import codec
from gateway.milter.codec import Actions, MacroStage, Steps
from gateway.plugins.milter import Milter, Options
from gateway.plugins.milter.view import View
from gateway.splice import apply
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_chain, run_plugin

C, A = codec, codec.Continue()
NO_STEPS = Steps(0)
Script = dict[type[codec.Command], Any]
"""Answers by command: one, several in a row, octets as they are, `None` to close the connection, or a function of the command."""
MAIL = b"From: a@b\r\nSubject: one\r\nSubject: two\r\nX-Last: z\r\n\r\nbody\r\n"


class FakeMilter:
    """A milter that answers by a script, and keeps what it was told."""

    def __init__(self, script: Script, steps: Steps, symbols: Any) -> None:
        self.script = script
        self.steps = steps
        self.symbols = symbols
        self.told: list[codec.Command] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.address = ""
        self.serving: set[asyncio.Task[None] | None] = set()

    @property
    def commands(self) -> list[codec.Command]:
        """Without macros and negotiations."""
        return [one for one in self.told if not isinstance(one, C.Macros | C.Negotiate)]

    def macros(self, letter: bytes) -> dict[str, str]:
        """The last ones of a command."""
        found = [one for one in self.told if isinstance(one, C.Macros) and one.command == letter][-1]
        return {name.decode(): value.decode() for name, value in found.values}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        self.serving.add(asyncio.current_task())
        commands = codec.read_commands()
        agreed = codec.Agreement()
        try:
            while some := await reader.read(65536):
                for command in commands.feed(some):
                    self.told.append(command)
                    answer = self.script.get(type(command), A)
                    if callable(answer):
                        answer = answer(command)
                    if answer is None:
                        return
                    if isinstance(command, C.Negotiate) and answer is A:
                        answer = codec.take(command, Actions(0xFF), self.steps, self.symbols)
                        agreed = codec.agree(command, answer)
                    if isinstance(answer, bytes):
                        writer.write(answer)
                    elif agreed.is_answered(type(command)):
                        writer.write(codec.write(*(answer if isinstance(answer, list) else [answer])))
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_milter(script: Script | None = None, *, steps: Steps = NO_STEPS, symbols: Any = ()) -> AsyncIterator[FakeMilter]:
    milter = FakeMilter(script or {}, steps, symbols)
    listening = await asyncio.start_server(milter.serve, "127.0.0.1", 0)
    milter.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield milter
    finally:
        listening.close()
        if milter.serving:  # what was said last is still to be read
            await asyncio.wait([one for one in milter.serving if one is not None], timeout=0.5)
        for writer in milter.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def asking(milter: FakeMilter, name: str = "milter", **options: Any) -> Milter:
    return Milter(Options(server=milter.address, **{"reuse": True, **options}), name=name)


def at_end(*edits: codec.Answer, last: codec.Answer = A) -> Script:
    return {C.EndOfBody: [*edits, last]}


async def run(script: Script | None = None, *, message: Message | None = None, options: Any = None, **more: Any) -> Result:
    async with a_milter(script, steps=more.pop("steps", Steps(0))) as milter:
        return await run_plugin(asking(milter, **(options or {})), message=message or a_message(MAIL), **more)


def final(result: Result, octets: bytes = MAIL) -> bytes:
    return b"".join(apply(Content(octets), result.edits).chunks())


async def test_everything_is_told_in_order_with_its_macros() -> None:
    session = a_session(client_port=4711, identity="alice", tls=True, server_address="192.0.2.25", listener="mx")
    transaction = a_transaction(session=session, recipients=["bob@example.org", "carol@example.org"], parameters=["SIZE=100"])
    zones = {"192.0.2.1": {"PTR": ["mail.client.example"]}, "mail.client.example": {"A": ["192.0.2.1"]}}
    async with a_milter() as milter:
        await run_plugin(asking(milter), transaction=transaction, message=a_message(MAIL), context=FakeContext(zones=zones))
    assert milter.commands == [
        C.Connect(b"mail.client.example", C.INET, 4711, b"192.0.2.1"),
        C.Helo(b"client.example"),
        C.Mail(b"<alice@client.example>", (b"SIZE=100",)),
        C.Rcpt(b"<bob@example.org>"),
        C.Rcpt(b"<carol@example.org>"),
        C.Data(),
        C.Header(b"From", b"a@b"),
        C.Header(b"Subject", b"one"),
        C.Header(b"Subject", b"two"),
        C.Header(b"X-Last", b"z"),
        C.EndOfHeader(),
        C.Body(b"body\r\n"),
        C.EndOfBody(),
        C.QuitNewConnection(),
    ]
    assert milter.macros(b"C")["_"] == "mail.client.example [192.0.2.1]"
    assert milter.macros(b"C")["{daemon_name}"] == "mx"
    assert milter.macros(b"H")["{tls_version}"] == "TLSv1.3"
    mail = milter.macros(b"M")
    assert (mail["{auth_authen}"], mail["{mail_addr}"], mail["i"]) == ("alice", "alice@client.example", transaction.id)
    assert milter.macros(b"R")["{rcpt_addr}"] == "carol@example.org"


async def test_the_macros_that_it_names_and_no_others() -> None:
    symbols = ((MacroStage.CONNECT, (b"j",)), (MacroStage.END_OF_BODY, (b"i", b"{client_addr}", b"{nothing}")))
    async with a_milter(symbols=symbols) as milter:
        await run_plugin(asking(milter), message=a_message(MAIL))
    assert milter.macros(b"C") == {"j": "mx.example.org"}
    assert milter.macros(b"M") == {}
    assert set(milter.macros(b"E")) == {"i", "{client_addr}"}


async def test_what_it_does_not_want_is_not_told_and_what_it_does_not_answer_not_waited_for() -> None:
    steps = Steps.NOHELO | Steps.NOBODY | Steps.NOHDRS | Steps.NR_RCPT | Steps.NR_HDR | Steps.NODATA | Steps.HDR_LEADSPC
    async with a_milter(steps=steps) as milter:
        result = await run_plugin(asking(milter), message=a_message(MAIL))
    kinds = [type(one) for one in milter.commands]
    assert kinds == [C.Connect, C.Mail, C.Rcpt, C.EndOfHeader, C.EndOfBody, C.QuitNewConnection]
    assert result.verdict is None


async def test_a_large_body_comes_in_pieces_and_skip_ends_it() -> None:
    body = b"0123456789abcde\r\n" * 20_000
    message = a_message(MAIL.replace(b"body\r\n", body))
    async with a_milter() as milter:
        await run_plugin(asking(milter), message=message)
    pieces = [one.chunk for one in milter.commands if isinstance(one, C.Body)]
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) == 65535
    async with a_milter({C.Body: C.Skip()}, steps=Steps.SKIP) as milter:
        await run_plugin(asking(milter), message=message)
    assert [type(one) for one in milter.commands[-3:]] == [C.Body, C.EndOfBody, C.QuitNewConnection]


async def test_fields_come_as_they_are_where_it_wants_the_space() -> None:
    octets = b"A:no space\r\nB:  two\r\n\tfolded\r\nC: \x00nul\xff\r\n\r\n"
    async with a_milter(steps=Steps.HDR_LEADSPC) as milter:
        await run_plugin(asking(milter), message=a_message(octets))
    assert [one.value for one in milter.commands if isinstance(one, C.Header)] == [b"no space", b"  two\n\tfolded", b" nul\xff"]


@pytest.mark.parametrize("command", [C.Connect, C.Helo, C.Mail, C.Rcpt, C.Data, C.Header, C.EndOfHeader, C.Body, C.EndOfBody])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (C.Reject(), (550, "5.7.1", "Command rejected")),
        (C.Tempfail(), (451, "4.7.1", "Service unavailable - try again later")),
        (C.ReplyCode.of(554, "5.7.9", b"100% sure"), (554, "5.7.9", "100% sure")),
        (C.ReplyCode.of(450, "", b"later", b"or \xe9 never"), (450, "4.7.1", "later or ? never")),
        (C.Shutdown(), (421, "4.7.0", "Server closing connection")),
        (C.ConnectionFailed(), (421, "4.7.0", "Server closing connection")),
    ],
)
async def test_refusals_at_each_command(command: type[codec.Command], answer: codec.Answer, told: tuple[int, str, str]) -> None:
    result = await run({command: answer})
    assert isinstance(result.verdict, Reject | Defer)
    assert (result.verdict.code, result.verdict.enhanced, result.verdict.text) == told
    assert command.__name__ in result.verdict.evidence or command in {C.Header, C.EndOfHeader, C.Body}


async def test_one_recipient_refused_is_one_recipient_refused() -> None:
    def answer(command: codec.Command) -> codec.Answer:
        return C.Reject() if isinstance(command, C.Rcpt) and command.path.startswith(b"<carol") else A

    everybody = a_transaction(recipients=["bob@example.org", "carol@example.org", "dave@example.org"])
    result = await run({C.Rcpt: answer}, transaction=everybody)
    assert {who for who, decision in result.decisions.items() if decision is not None} == {"carol@example.org"}


async def test_accept_ends_the_questions() -> None:
    async with a_milter({C.Connect: C.Accept()}) as milter:
        assert (await run_plugin(asking(milter), message=a_message(MAIL))).verdict is None
    assert [type(one) for one in milter.commands] == [C.Connect, C.QuitNewConnection]
    async with a_milter({C.Rcpt: C.Accept()}) as milter:
        assert (await run_plugin(asking(milter), message=a_message(MAIL))).verdict is None
    assert [type(one) for one in milter.commands] == [C.Connect, C.Helo, C.Mail, C.Rcpt, C.QuitNewConnection]
    async with a_milter({C.EndOfHeader: C.Accept()}) as milter:
        await run_plugin(asking(milter), message=a_message(MAIL))
    assert [type(one) for one in milter.commands[-2:]] == [C.EndOfHeader, C.QuitNewConnection]


@pytest.mark.parametrize("command", [C.Mail, C.Rcpt, C.Data, C.Header, C.EndOfBody])
async def test_discard_is_for_the_whole_message(command: type[codec.Command]) -> None:
    result = await run({command: C.Discard()}, transaction=a_transaction(recipients=["bob@example.org", "carol@example.org"]))
    for decision in result.decisions.values():
        assert decision is not None
        assert isinstance(decision.verdict, Discard)
        assert decision.verdict.reason == "milter-discard"


async def test_quarantine_is_held_here() -> None:
    result = await run(at_end(C.Quarantine(b"odd \x1b"), C.AddHeader(b"X-A", b"b")), options={"box": "odd"})
    assert isinstance(result.verdict, Quarantine)
    assert (result.verdict.box, result.verdict.reason) == ("odd", "milter-quarantine")
    assert result.verdict.evidence.endswith(": odd ?")
    assert final(result) == MAIL.replace(b"\r\n\r\n", b"\r\nX-A: b\r\n\r\n")


SUBJECTS = b"Subject: one\r\nSubject: two\r\n"


@pytest.mark.parametrize(
    ("edits", "wanted"),
    [
        ([C.AddHeader(b"X-A", b"b")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: b\r\n\r\n")),
        ([C.AddHeader(b"X-A", b"1"), C.AddHeader(b"X-A", b"2")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\nX-A: 2\r\n\r\n")),
        ([C.InsertHeader(0, b"X-A", b"b")], b"X-A: b\r\n" + MAIL),
        ([C.InsertHeader(1, b"X-A", b"b")], b"X-A: b\r\n" + MAIL),
        ([C.InsertHeader(0, b"X-A", b"1"), C.InsertHeader(0, b"X-A", b"2")], b"X-A: 2\r\nX-A: 1\r\n" + MAIL),
        ([C.InsertHeader(2, b"X-A", b"1")], MAIL.replace(b"Subject: one", b"X-A: 1\r\nSubject: one")),
        ([C.InsertHeader(99, b"X-A", b"1")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\n\r\n")),
        ([C.ChangeHeader(2, b"subject", b"2")], MAIL.replace(b"Subject: two", b"Subject: 2")),
        ([C.ChangeHeader(1, b"Subject", b"")], MAIL.replace(b"Subject: one\r\n", b"")),
        ([C.ChangeHeader(1, b"Subject", b""), C.ChangeHeader(1, b"Subject", b"")], MAIL.replace(SUBJECTS, b"")),
        ([C.ChangeHeader(3, b"Subject", b"three")], MAIL.replace(b"\r\n\r\n", b"\r\nSubject: three\r\n\r\n")),
        ([C.ChangeHeader(9, b"Subject", b"")], MAIL),
        ([C.ChangeHeader(1, b"X-Last", b""), C.AddHeader(b"X-A", b"b")], MAIL.replace(b"X-Last: z", b"X-A: b")),
        ([C.AddHeader(b"X-A", b"1"), C.ChangeHeader(1, b"X-A", b"2")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: 2\r\n\r\n")),
        ([C.AddHeader(b"X-A", b"1"), C.ChangeHeader(1, b"X-A", b"")], MAIL),
        ([C.AddHeader(b"X-A", b"1\n\tfolded\nnot\n")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\n\tfolded\r\n\tnot\r\n\r\n")),
        ([C.AddHeader(b"X-A", b" spaced")], MAIL.replace(b"\r\n\r\n", b"\r\nX-A: spaced\r\n\r\n")),
    ],
)
async def test_edits_of_the_header_section(edits: list[codec.Answer], wanted: bytes) -> None:
    result = await run(at_end(*edits))
    assert final(result) == wanted
    assert result.verdict is None


async def test_another_body_where_that_is_allowed() -> None:
    edits: list[codec.Answer] = [C.ReplaceBody(b"new\nbo"), C.AddHeader(b"X-A", b"b"), C.ReplaceBody(b"dy\r\n")]
    result = await run(at_end(*edits), options={"allow_body_edits": True})
    assert final(result) == MAIL.replace(b"\r\n\r\nbody", b"\r\nX-A: b\r\n\r\nnew\r\nbody")
    with pytest.raises(PluginError, match="allow_body_edits"):
        await run(at_end(*edits))


async def test_edits_in_front_of_a_refusal_are_nothing() -> None:
    result = await run(at_end(C.AddHeader(b"X-A", b"b"), last=C.Reject()))
    assert isinstance(result.verdict, Reject)
    assert not result.edits


async def test_a_recipient_taken_away_is_discarded_and_the_others_go_on() -> None:
    everybody = a_transaction(recipients=["bob@example.org", "carol@example.org"])
    result = await run(
        at_end(C.DeleteRecipient(b"<carol@example.org>"), C.AddRecipient(b"bob@example.org")), transaction=everybody
    )
    assert result.decisions["bob@example.org"] is None
    carol = result.decisions["carol@example.org"]
    assert carol is not None
    assert isinstance(carol.verdict, Discard)
    back: list[codec.Answer] = [
        C.DeleteRecipient(b"<bob@example.org>"),
        C.AddRecipient(b"<bob@example.org>"),
        C.ChangeFrom(b"<alice@client.example>"),
    ]
    assert (await run(at_end(*back))).verdict is None


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (C.AddRecipient(b"<eve@example.org>"), "another recipient (ADDRCPT)"),
        (C.AddRecipientWithParameters(b"<eve@example.org>", b"NOTIFY=NEVER"), "another recipient (ADDRCPT)"),
        (C.ChangeFrom(b"<eve@example.org>"), "another reverse-path (CHGFROM)"),
        (C.AddHeader(b"X A", b"b"), "is not a field name"),
        (C.AddHeader(b"X-A", b"x" * 2000), "longer than 998"),
        (C.InsertHeader(1, b"X-\xff", b"b"), "is not a field name"),
    ],
)
async def test_what_cannot_be_done_is_a_fault_by_name(edit: codec.Answer, told: str) -> None:
    with pytest.raises(PluginError) as caught:
        await run(at_end(edit))
    assert told in str(caught.value)


async def test_a_later_milter_sees_and_changes_what_an_earlier_one_did() -> None:
    first = at_end(
        C.InsertHeader(0, b"X-A", b"1"),
        C.AddHeader(b"X-B", b"1"),
        C.ChangeHeader(1, b"Subject", b"changed"),
        C.ReplaceBody(b"new\r\n"),
    )
    second = at_end(C.ChangeHeader(1, b"X-B", b"2"), C.ChangeHeader(1, b"Subject", b""), C.InsertHeader(2, b"X-C", b"3"))
    async with a_milter(first) as one, a_milter(second) as two:
        plugins = [asking(one, "one", allow_body_edits=True), asking(two, "two")]
        result = await run_chain(plugins, message=a_message(MAIL))
    told = [(c.name, c.value) for c in two.commands if isinstance(c, C.Header)]
    assert told == [
        *[(b"X-A", b"1"), (b"From", b"a@b"), (b"Subject", b"changed"), (b"Subject", b"two"), (b"X-Last", b"z"), (b"X-B", b"1")]
    ]
    assert [c.chunk for c in two.commands if isinstance(c, C.Body)] == [b"new\r\n"]
    wanted = b"X-C: 3\r\nX-A: 1\r\nFrom: a@b\r\nSubject: two\r\nX-Last: z\r\nX-B: 2\r\n\r\nnew\r\n"
    assert sorted(final(result).split(b"\r\n")) == sorted(wanted.split(b"\r\n"))
    assert final(result).endswith(wanted[wanted.index(b"From") :])


async def test_one_connection_serves_one_client_after_the_other() -> None:
    async with a_milter() as milter:
        plugin = asking(milter)
        for _ in range(3):
            await run_plugin(plugin, message=a_message(MAIL), start=False)
        await plugin.shutdown()
    assert milter.connections == 1
    assert sum(isinstance(one, C.Negotiate) for one in milter.told) == 1
    assert sum(isinstance(one, C.Connect) for one in milter.told) == 3


async def test_without_reuse_each_client_has_a_connection_for_all_its_messages() -> None:
    async with a_milter() as milter:
        plugin = asking(milter, reuse=False)
        session = a_session()
        for _ in range(2):
            await run_plugin(plugin, message=a_message(MAIL), transaction=a_transaction(session=session), start=False)
        await plugin.shutdown()
    assert milter.connections == 2  # each run ends its session
    assert [type(one) for one in milter.commands].count(C.Quit) == 2


async def test_an_old_milter_gets_a_connection_for_each_client() -> None:
    def old(command: codec.Command) -> codec.Answer:
        assert isinstance(command, C.Negotiate)
        return C.Negotiate(2, Actions(0x3F), Steps(0))

    async with a_milter({C.Negotiate: old}) as milter:
        plugin = asking(milter)
        for _ in range(2):
            result = await run_plugin(plugin, message=a_message(MAIL), start=False)
            assert result.verdict is None
        await plugin.shutdown()
    assert milter.connections == 2
    assert [type(one) for one in milter.commands].count(C.Quit) == 2
    assert not any(isinstance(one, C.Data | C.QuitNewConnection) for one in milter.told)


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    counts = iter([A, None, A])
    async with a_milter({C.Connect: lambda _: next(counts)}) as milter:
        plugin = asking(milter)
        for _ in range(2):
            assert (await run_plugin(plugin, message=a_message(MAIL), start=False)).verdict is None
        await plugin.shutdown()
    assert milter.connections == 2


async def test_a_transaction_that_comes_to_nothing_is_aborted() -> None:
    async with a_milter() as milter:
        plugin = asking(milter)
        plugin.context = FakeContext()
        session = a_session()
        first = a_transaction(session=session)
        await plugin.rcpt(first, first.recipients[0])
        await plugin.done(first)
        second = a_transaction(session=session)
        await plugin.rcpt(second, second.recipients[0])
        await plugin.mail(a_transaction(session=session))
        await plugin.disconnect(session)
        await plugin.shutdown()
    kinds = [type(one) for one in milter.commands]
    assert kinds.count(C.Abort) == 3
    assert kinds[-2:] == [C.Abort, C.QuitNewConnection]


PROGRESS = codec.write(C.Progress())


def _negotiates(answer: codec.Packet | bytes) -> Script:
    return {C.Negotiate: answer}


@pytest.mark.parametrize(
    ("script", "stage", "told"),
    [
        ({C.Connect: None}, "connect", "the connection was closed"),
        ({C.Mail: None}, "mail", "the connection was closed"),
        ({C.EndOfBody: None}, "judge", "the connection was closed"),
        ({C.Helo: b""}, "helo", "no answer to Helo within"),
        ({C.EndOfBody: b""}, "judge", "no answer to EndOfBody within"),
        ({C.Mail: b"garbage!"}, "mail", "a packet of"),
        ({C.Mail: codec.write(C.Skip())}, "mail", "Skip as answer to Mail"),
        ({C.Mail: codec.write(C.AddHeader(b"X", b"y"))}, "mail", "AddHeader as answer to Mail"),
        ({C.Mail: b"\0\0\0\1!"}, "mail", "an unknown packet"),
        ({C.Mail: b"\xff\xff\xff\xffc"}, "mail", "a packet of"),
        ({C.EndOfBody: codec.write(C.ReplyCode(b"250 2.0.0 fine"))}, "judge", "begins with no code"),
        (_negotiates(b""), "connect", "no negotiation within"),
        (_negotiates(C.Continue()), "connect", "instead of a negotiation"),
        (_negotiates(C.Negotiate(9, Actions(0), Steps(0))), "connect", "version 9"),
        (_negotiates(C.Negotiate(6, Actions(0xFFFF), Steps(0))), "connect", "which were not offered"),
    ],
)
async def test_a_milter_that_misbehaves_costs_what_on_error_says(script: Script, stage: str, told: str) -> None:
    if isinstance(script.get(C.Negotiate), C.Continue):
        script = {C.Negotiate: codec.write(C.Continue())}
    async with a_milter(script) as milter:
        for on_error, expected in (("defer", Defer), ("ignore", type(None))):
            plugin = asking(milter, command_timeout=0.7, content_timeout=0.7, failures=1)
            result = await run_plugin(plugin, message=a_message(MAIL), on_error=on_error)
            assert isinstance(result.verdict, expected)
            faults = [step for step in result.trace if step["outcome"] == "error"]
            assert told in faults[0]["evidence"]
            assert faults[0]["stage"] == stage


async def test_progress_is_waited_for_and_not_for_ever() -> None:
    slow = [*[C.Progress()] * 50, C.AddHeader(b"X-A", b"b"), C.Progress(), A]
    assert (await run({C.EndOfBody: slow})).edits

    async def drip(writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(PROGRESS)
            await asyncio.sleep(0.02)

    async with a_milter({C.EndOfBody: PROGRESS}) as milter:
        plugin = asking(milter, command_timeout=5, content_timeout=0.3)
        loop = asyncio.get_running_loop()
        drips: list[asyncio.Task[None]] = []

        def begin(_: codec.Command) -> bytes:
            drips.append(loop.create_task(drip(milter.writers[-1])))
            return PROGRESS

        milter.script = {C.EndOfBody: begin}
        with pytest.raises(PluginError, match=r"no answer to EndOfBody within 0\.3 s"):
            await run_plugin(plugin, message=a_message(MAIL))
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)


async def test_after_a_fault_everything_is_said_again() -> None:
    counts = iter([None, A])
    async with a_milter({C.Data: lambda _: next(counts)}) as milter:
        result = await run_plugin(asking(milter), message=a_message(MAIL), on_error="ignore")
    assert result.verdict is None
    assert milter.connections == 2
    kinds = [type(one) for one in milter.commands]
    again = kinds[kinds.index(C.Data) + 1 :]
    assert again[:5] == [C.Connect, C.Helo, C.Mail, C.Rcpt, C.Header]


async def test_a_milter_that_is_away_is_left_alone(free_port: Callable[[], int]) -> None:
    plugin = Milter(Options(server=f"127.0.0.1:{free_port()}", failures=2, rest=30))
    result = await run_plugin(plugin, message=a_message(MAIL), on_error="ignore")
    faults = [step["evidence"] for step in result.trace if step["outcome"] == "error"]
    assert "cannot connect" in faults[0]
    assert "not asked for" in faults[-1]


async def test_connections_of_silent_clients_are_given_up_and_opened_again() -> None:
    async with a_milter() as milter:
        plugin = asking(milter, idle=0.02)
        plugin.context = FakeContext()
        session = a_session()
        assert await plugin.connect(session) is None
        for _ in range(500):
            if not plugin._clients:
                break
            await asyncio.sleep(0.01)
        assert not plugin._clients
        assert await plugin.helo(session) is None
        await plugin.disconnect(session)
        await plugin.shutdown()
    assert milter.connections == 2


def hostile(view: View, edits: Sequence[tuple[int, bytes, bytes]]) -> list[Edit]:
    for index, name, value in edits:
        view.change(index, name, value, "m")
    return view.edits("m")


def test_a_message_without_fields() -> None:
    view = View.of(a_message(b"no header\r\n"))
    view.add(b"X-A", b"b", "m")
    edits = view.edits("m")
    assert b"".join(apply(Content(b"no header\r\n"), edits).chunks()) == b"X-A: b\r\n\r\nno header\r\n"
    assert hostile(View.of(a_message(b"")), [(0, b"X", b""), (7, b"X", b"y")])
