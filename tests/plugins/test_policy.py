"""The plugin `policy`: what it asks, what each action comes to, and what a server that misbehaves costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import (
    Accept,
    AddHeader,
    ClientClass,
    Defer,
    Discard,
    Fact,
    PluginError,
    Proxy,
    Quarantine,
    Reject,
    Tls,
)
from gateway.plugins.policy import Options, Policy
from gateway.policy.codec import Reader
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_chain, run_plugin

Answer = bytes | None


class Server:
    """A policy server: `answer` makes the octets for a request; None closes the connection."""

    def __init__(self, answer: Callable[[dict[str, str]], Answer]) -> None:
        self.answer = answer
        self.requests: list[dict[str, str]] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.address = ""
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        requests = Reader()
        try:
            while some := await reader.read(8192):
                for request in requests.feed(some):
                    self.requests.append(request)
                    self.asked.set()
                    answer = self.answer(request)
                    if answer is None:
                        return
                    writer.write(answer)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def policy_server(answer: Callable[[dict[str, str]], Answer] | str, path: Path | None = None) -> AsyncIterator[Server]:
    octets = f"action={answer}\n\n".encode() if isinstance(answer, str) else b""
    server = Server(answer if callable(answer) else lambda _: octets)
    if path is not None:
        listening = await asyncio.start_unix_server(server.serve, path)
        server.address = f"unix:{path}"
    else:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def asking(server: str, **options: Any) -> Policy:
    return Policy(Options(server=server, **options), name="policy")


async def asked(action: str, *, recipients: tuple[str, ...] = ("bob@example.org",), **options: Any) -> Result:
    async with policy_server(action) as server:
        return await run_plugin(asking(server.address, **options), transaction=a_transaction(recipients=recipients))


TLS = Tls(
    version="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    bits=256,
    peer_subject="CN=Client One\\, Ltd,O=Example",
    peer_issuer="O=Example,CN=Our CA",
    peer_fingerprint="00ff10",
)


async def test_asks_as_a_postfix_does(tmp_path: Path) -> None:
    session = a_session(client_port=4711, server_address="192.0.2.25", server_port=25, identity="alice", tls=TLS)
    transaction = a_transaction(
        session=session, recipients=["bob@example.org"], parameters=["SIZE=1234", "AUTH=alice@client.example"], declared_size=1234
    )
    zones = {"192.0.2.1": {"PTR": ["Mail.client.example."]}, "mail.client.example": {"A": ["192.0.2.1"]}}
    async with policy_server("DUNNO", tmp_path / "policy") as server:
        await run_plugin(asking(server.address, policy_context="mx"), transaction=transaction, context=FakeContext(zones=zones))
    assert server.requests == [
        {
            "request": "smtpd_access_policy",
            "protocol_state": "RCPT",
            "protocol_name": "ESMTP",
            "client_address": "192.0.2.1",
            "client_name": "mail.client.example",
            "client_port": "4711",
            "reverse_client_name": "mail.client.example",
            "server_address": "192.0.2.25",
            "server_port": "25",
            "helo_name": "client.example",
            "sender": "alice@client.example",
            "recipient": "bob@example.org",
            "recipient_count": "0",
            "queue_id": transaction.id,
            "instance": transaction.id,
            "size": "1234",
            "etrn_domain": "",
            "stress": "",
            "sasl_method": "",
            "sasl_username": "alice",
            "sasl_sender": "alice@client.example",
            "ccert_subject": "Client+20One,+20Ltd",
            "ccert_issuer": "Our+20CA",
            "ccert_fingerprint": "00:FF:10",
            "encryption_protocol": "TLSv1.3",
            "encryption_cipher": "TLS_AES_256_GCM_SHA384",
            "encryption_keysize": "256",
            "policy_context": "mx",
        }
    ]


ALL = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE")


async def test_every_state_on_one_connection() -> None:
    async with policy_server("DUNNO") as server:
        transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"], reverse_path="")
        message = a_message()
        result = await run_plugin(asking(server.address, states=ALL), transaction=transaction, message=message)
    assert result.verdict is None
    assert server.connections == 1
    told = [(r["protocol_state"], r["recipient"], r["recipient_count"], r["size"]) for r in server.requests]
    assert told == [
        ("CONNECT", "", "0", "0"),
        ("EHLO", "", "0", "0"),
        ("MAIL", "", "0", "0"),
        ("RCPT", "bob@example.org", "0", "0"),
        ("RCPT", "carol@example.org", "0", "0"),
        ("DATA", "", "2", "0"),
        ("END-OF-MESSAGE", "", "2", str(message.size)),
    ]
    assert {r["sender"] for r in server.requests} == {""}
    assert len({r["instance"] for r in server.requests[2:]}) == 1


async def test_one_recipient_is_named_at_data_and_a_hostile_name_stays_in_its_line() -> None:
    session = a_session(helo="x\nsender=root", esmtp=False, client_address="")
    async with policy_server("DUNNO") as server:
        await run_plugin(asking(server.address, states=("EHLO", "DATA")), transaction=a_transaction(session=session))
    [helo, data] = server.requests
    assert (helo["protocol_state"], helo["protocol_name"], helo["helo_name"]) == ("HELO", "SMTP", "x?sender=root")
    assert (helo["client_address"], helo["client_name"]) == ("unknown", "unknown")
    assert (data["recipient"], data["recipient_count"]) == ("bob@example.org", "1")


NAMES = {
    "192.0.2.1": {"PTR": ["liar.example"]},
    "liar.example": {"A": ["192.0.2.66", "no address"]},
    "192.0.2.2": "TEMPFAIL",
    "192.0.2.3": {"PTR": ["dead.example"]},
    "dead.example": "TEMPFAIL",
}


@pytest.mark.parametrize(
    ("session", "names"),
    [
        ({"client_address": "192.0.2.1"}, ("unknown", "liar.example")),
        ({"client_address": "192.0.2.2"}, ("unknown", "unknown")),
        ({"client_address": "192.0.2.3"}, ("unknown", "dead.example")),
        ({"client_address": "192.0.2.4"}, ("unknown", "unknown")),
        ({"client_address": "192.0.2.1", "client_name": "told.example"}, ("told.example", "told.example")),
        ({"client_address": "192.0.2.1", "client_reverse_name": "told.example"}, ("unknown", "told.example")),
    ],
)
async def test_client_names(session: dict[str, Any], names: tuple[str, str]) -> None:
    async with policy_server("DUNNO") as server:
        transaction = a_transaction(session=a_session(**session))
        await run_plugin(asking(server.address), transaction=transaction, context=FakeContext(zones=NAMES))
    [request] = server.requests
    assert (request["client_name"], request["reverse_client_name"]) == names


async def test_names_and_tls_of_a_client_behind_a_proxy() -> None:
    session = a_session(tls=True, proxy=Proxy(address="10.0.0.1", tls=TLS))
    async with policy_server("DUNNO") as server:
        await run_plugin(asking(server.address, client_names=False), transaction=a_transaction(session=session))
    assert server.requests[0]["encryption_keysize"] == "256"
    assert server.requests[0]["client_name"] == "unknown"


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ("DUNNO", None),
        ("OK", None),
        ("250", None),
        ("INFO hello", None),
        ("WARN hello", None),
        ("DEFER_IF_REJECT later", None),
        ("REJECT", ("Access denied", 554, "5.7.1")),
        ("REJECT 5.7.23 SPF fail", ("SPF fail", 554, "5.7.23")),
        ("550 5.1.1 unknown", ("unknown", 550, "5.1.1")),
        ("521 go away", ("go away", 521, "5.7.1")),
        ("DEFER", ("Access denied", 450, "4.7.1")),
        ("DEFER_IF_PERMIT 4.2.0 Greylisted", ("Greylisted", 450, "4.2.0")),
        ("421 4.3.2 closing", ("closing", 421, "4.3.2")),
        ("451 \x1b]0;evil\x07 \xe9", ("?]0;evil? ?", 451, "4.7.1")),
        ("550 " + "x" * 1000, ("x" * 297 + "...", 550, "5.7.1")),
    ],
)
async def test_answers_at_rcpt(action: str, verdict: tuple[str, int, str] | None) -> None:
    result = await asked(action)
    if verdict is None:
        assert result.verdict is None
        return
    assert isinstance(result.verdict, Reject | Defer)
    assert (result.verdict.text, result.verdict.code, result.verdict.enhanced) == verdict
    assert result.verdict.reason == ("policy-reject" if verdict[1] >= 500 else "policy-defer")
    assert "at RCPT <bob@example.org>" in result.verdict.evidence


async def test_ok_spares_the_judges_only_where_that_is_wanted() -> None:
    assert isinstance((await asked("OK", permit="accept")).verdict, Accept)
    assert (await asked("DUNNO", permit="accept")).verdict is None


async def test_each_recipient_has_its_own_answer() -> None:
    def answer(request: dict[str, str]) -> bytes:
        return b"action=REJECT\n\n" if request["recipient"].startswith("carol") else b"action=DUNNO\n\n"

    async with policy_server(answer) as server:
        transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"])
        result = await run_plugin(asking(server.address), transaction=transaction)
    assert result.decisions["bob@example.org"] is None
    assert result.decisions["carol@example.org"] is not None


async def test_refusals_of_session_and_transaction() -> None:
    for state in ("CONNECT", "EHLO", "MAIL", "DATA", "END-OF-MESSAGE"):
        result = await asked("550 5.7.1 no", states=(state,))
        assert isinstance(result.verdict, Reject), state


async def test_hold_and_discard_are_for_the_whole_message() -> None:
    def answer(request: dict[str, str]) -> bytes:
        return f"action={'HOLD odd' if request['recipient'].startswith('carol') else 'DUNNO'}\n\n".encode()

    async with policy_server(answer) as server:
        transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"])
        result = await run_plugin(asking(server.address, box="odd"), transaction=transaction)
    for decision in result.decisions.values():
        assert decision is not None
        assert isinstance(decision.verdict, Quarantine)
        assert (decision.verdict.box, decision.verdict.reason) == ("odd", "policy-hold")
        assert "HOLD odd" in decision.verdict.evidence
    assert isinstance((await asked("DISCARD", states=("MAIL",))).verdict, Discard)
    assert isinstance((await asked("HOLD", states=("END-OF-MESSAGE",))).verdict, Quarantine)


async def test_defer_if_reject_softens_what_comes_later() -> None:
    def answer(request: dict[str, str]) -> bytes:
        return b"action=DEFER_IF_REJECT dns\n\n" if request["protocol_state"] == "MAIL" else b"action=550 5.1.1 unknown\n\n"

    async with policy_server(answer) as server:
        result = await run_plugin(asking(server.address, states=("MAIL", "RCPT")))
    assert isinstance(result.verdict, Defer)
    assert (result.verdict.code, result.verdict.enhanced) == (450, "4.1.1")


async def test_prepended_fields_stand_in_the_order_they_came() -> None:
    numbers = iter(range(10))
    async with policy_server(lambda _: b"action=PREPEND X-A: %d\n\n" % next(numbers)) as server:
        transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"])
        result = await run_plugin(asking(server.address), transaction=transaction)
    # edits: the last one stands highest
    assert result.edits == (AddHeader(name="X-A", value="1"), AddHeader(name="X-A", value="0"))


async def test_bcc_is_one_more_recipient_once() -> None:
    result = await asked("BCC archive@example.org", recipients=("bob@example.org", "carol@example.org"))
    assert [one.mailbox for one in result.recipients if one.added] == ["archive@example.org"]


async def test_what_was_said_is_in_the_record() -> None:
    result = await asked("WARN look \x1b at this")
    [fact] = result.findings
    assert isinstance(fact, Fact)
    assert fact.name == "policy.rcpt"
    assert str(fact.value).endswith("at RCPT <bob@example.org>: WARN look ? at this")


@pytest.mark.parametrize(
    ("action", "states", "told"),
    [
        ("FILTER smtp:[127.0.0.1]:10025", ("RCPT",), "FILTER has no equivalent"),
        ("REDIRECT eve@example.org", ("RCPT",), "REDIRECT has no equivalent"),
        ("reject_unauth_destination", ("RCPT",), "REJECT_UNAUTH_DESTINATION has no equivalent"),
        ("\x07\x07", ("RCPT",), "?? has no equivalent"),
        ("HOLD", ("CONNECT",), "HOLD at CONNECT"),
        ("PREPEND X-A: b", ("EHLO",), "PREPEND at EHLO"),
        ("PREPEND X-A: b", ("END-OF-MESSAGE",), "PREPEND at END-OF-MESSAGE"),
        ("PREPEND no field", ("RCPT",), "no header field"),
        ("PREPEND X A: b", ("RCPT",), "is not a field name"),
        ("BCC nobody", ("RCPT",), "no address"),
        ("BCC archive@example.org", ("MAIL",), "BCC has no equivalent"),
    ],
)
async def test_what_has_no_equivalent_is_a_fault_by_name(action: str, states: tuple[str, ...], told: str) -> None:
    with pytest.raises(PluginError, match="plugin policy") as caught:
        await asked(action, states=states)
    assert told in str(caught.value)


def _many(count: int) -> Callable[[dict[str, str]], bytes]:
    return lambda _: b"action=DUNNO\n\n" * count


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: None, "closed before the answer"),
        (lambda _: b"nonsense\n\n", "no attribute"),
        (lambda _: b"\n", "an empty line"),
        (lambda _: b"action=\n\n", "the action is empty"),
        (lambda _: b"other=1\n\n", "the action is empty"),
        (_many(2), "more than one answer"),
        (lambda _: b"action=DUNNO\n\naction", "more than one answer"),
        (lambda _: b"action=" + b"x" * 100_000, "more than 65536 octets"),
        (lambda _: b"", "no answer within"),
    ],
)
async def test_a_server_that_misbehaves_costs_what_on_error_says(answer: Callable[..., Answer], told: str) -> None:
    async with policy_server(answer) as server:
        for on_error, expected in (("defer", Defer), ("ignore", type(None))):
            plugin = asking(server.address, reply_timeout=1.0)
            result = await run_plugin(plugin, on_error=on_error)
            assert isinstance(result.verdict, expected)
            [fault] = [step for step in result.trace if step["outcome"] == "error"]
            assert told in fault["evidence"]
            assert fault["stage"] == "rcpt"


async def test_a_server_that_is_not_there(free_port: Callable[[], int], tmp_path: Path) -> None:
    for server in (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/none"):
        with pytest.raises(PluginError, match="cannot connect"):
            await run_plugin(asking(server))


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    counts = iter([b"action=DUNNO\n\n", None, b"action=REJECT\n\n"])
    async with policy_server(lambda _: next(counts)) as server:
        transaction = a_transaction(recipients=["bob@example.org", "carol@example.org"])
        result = await run_plugin(asking(server.address), transaction=transaction)
    assert result.decisions["bob@example.org"] is None
    assert result.decisions["carol@example.org"] is not None
    assert server.connections == 2


async def test_after_failures_it_is_left_alone_and_tried_again() -> None:
    is_well = False
    async with policy_server(lambda _: b"action=REJECT\n\n" if is_well else None) as server:
        plugin = asking(server.address, failures=2, rest=0.05)

        async def once() -> Result:
            return await run_plugin(plugin, on_error="ignore", start=False)

        await once()
        await once()
        resting = await once()
        assert server.connections == 2
        assert any("not asked for" in step["evidence"] and "after 2 failures" in step["evidence"] for step in resting.trace)
        is_well = True
        while True:
            result = await once()
            if isinstance(result.verdict, Reject):
                break
            await asyncio.sleep(0.01)
        assert server.connections == 3
        assert isinstance((await once()).verdict, Reject)
        await plugin.shutdown()


async def test_no_more_connections_at_once_than_allowed() -> None:
    async with policy_server(lambda _: b"") as server:
        plugin = asking(server.address, connections=1, connect_timeout=0.1, reply_timeout=2, failures=1)
        first = asyncio.get_running_loop().create_task(run_plugin(plugin, start=False, on_error="ignore"))
        await server.asked.wait()
        busy = await run_plugin(plugin, start=False, on_error="ignore")
        assert any("all 1 connections are in use" in step["evidence"] for step in busy.trace)
        server.writers[0].write(b"action=REJECT\n\n")
        assert isinstance((await first).verdict, Reject)
        await plugin.shutdown()
    assert server.connections == 1


async def test_connections_end_after_their_uses_and_after_their_rest() -> None:
    async with policy_server("DUNNO") as server:
        plugin = asking(server.address, max_uses=2)
        for _ in range(3):
            await run_plugin(plugin, start=False)
        assert server.connections == 2
        idle = asking(server.address, idle=0.02)
        await run_plugin(idle, start=False)
        assert idle._service.idle_wires == 1
        for _ in range(1000):
            if not idle._service.idle_wires:
                break
            await asyncio.sleep(0.01)
        assert not idle._service.idle_wires
        await plugin.shutdown()
        assert not plugin._service.idle_wires


async def test_two_servers_are_two_uses_of_the_plugin() -> None:
    async with policy_server("DUNNO") as first, policy_server("REJECT") as second:
        plugins = [
            Policy(Options(server=first.address), name="greylist"),
            Policy(Options(server=second.address), name="spf_server"),
        ]
        result = await run_chain(plugins)
    assert result.decision is not None
    assert result.decision.plugin == "spf_server"
    assert len(first.requests) == len(second.requests) == 1


async def test_skipped_clients_and_monitor_mode() -> None:
    async with policy_server("REJECT") as server:
        trusted = a_transaction(session=a_session(client_class=ClientClass.TRUSTED))
        assert (await run_plugin(asking(server.address), transaction=trusted, skip=["trusted"])).verdict is None
        assert not server.requests
        assert (await run_plugin(asking(server.address), mode="monitor")).would


async def test_nothing_is_kept_of_what_ended() -> None:
    async with policy_server("HOLD") as server:
        plugin = asking(server.address)
        await run_plugin(plugin)
    assert not plugin._notes


@pytest.mark.parametrize("server", ["", "here", "[::1]", "unix:relative", "127.0.0.1:0", "::1:10", "a b:1", "inet:h:70000"])
def test_wrong_servers(server: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        asking(server)


def test_right_servers() -> None:
    for server, shown in (("inet:localhost:10023", "localhost:10023"), ("[::1]:10", "[::1]:10"), ("unix:/run/p", "unix:/run/p")):
        assert str(asking(server)._service.address) == shown
