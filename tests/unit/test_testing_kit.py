"""`gateway.testing`: what plugin authors' tests stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway import (
    ClientClass,
    DnsError,
    Finding,
    Label,
    Message,
    Plugin,
    PluginError,
    Recipient,
    Reject,
    Session,
    Tls,
    Transaction,
    Verdict,
    add_header,
    add_recipient,
    discard,
    hook,
    redirect,
    reject,
    tag_subject,
    use_forward_path,
    use_reverse_path,
)
from gateway.testing import (
    TEMPFAIL,
    FakeContext,
    FakeResolver,
    a_message,
    a_recipient,
    a_session,
    a_transaction,
    run_chain,
    run_plugin,
)

# Builders


def test_a_session() -> None:
    assert a_session().client_class is ClientClass.STRANGER
    assert a_session(identity="alice").client_class is ClientClass.AUTHENTICATED
    assert a_session(client_class="trusted", tls=True).tls is not None
    tls = Tls(version="TLSv1.2", cipher="x")
    assert a_session(tls=tls, listener="submission").tls is tls
    assert a_session().tls is None
    assert a_session().id != a_session().id


def test_a_transaction() -> None:
    made = a_transaction(
        reverse_path="", recipients=["a@x.example", a_recipient("b@y.example", "NOTIFY=NEVER")], parameters=["SIZE=9"]
    )
    assert made.reverse_path.is_null
    assert made.sent_reverse_path == b"<>"
    assert [one.mailbox for one in made.recipients] == ["a@x.example", "b@y.example"]
    assert made.recipients[1].parameters[0].value == "NEVER"
    assert made.recipients[0].forward_path.octets == b"<a@x.example>"
    assert made.parameters[0].keyword == "SIZE"


def test_a_message_has_crlf_only_and_the_fields_asked_for() -> None:
    made = a_message(subject="Grüße", body="a\nb\r\n", headers=[("X-One", "1"), ("from", "Eve <eve@evil.example>")])
    octets = bytes(made.octets)
    assert octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")
    assert made.subject == "Grüße"
    assert octets.startswith(b"X-One: 1\r\nfrom: Eve")
    assert made.author_addresses == ("eve@evil.example",)
    assert octets.endswith(b"\r\n\r\na\r\nb\r\n")
    assert bytes(a_message(b"as: it is\n").octets) == b"as: it is\n"


def test_a_message_with_html_and_attachments() -> None:
    made = a_message(html="<p>Hi</p>", attach=["a.txt", ("b.bin", b"\0\1"), ("c.pdf", b"%PDF-1.7", "application/pdf")])
    assert [part.content_type for part in made.parts] == [
        "text/plain",
        "text/html",
        "application/octet-stream",
        "application/octet-stream",
        "application/pdf",
    ]
    assert [part.filename for part in made.attachments] == ["a.txt", "b.bin", "c.pdf"]
    assert made.attachments[1].content() == b"\0\1"
    assert [part.filename for part in a_message(attach=("x.bin", b"1")).attachments] == ["x.bin"]
    assert [part.filename for part in a_message(attach="").attachments] == [""]
    assert [part.content_type for part in a_message(html="<p>Hi</p>").parts] == ["text/plain", "text/html"]


# DNS


async def test_fake_dns() -> None:
    resolver = FakeResolver(
        {
            "Example.org.": {"TXT": ["v=spf1 -all", ["two ", "strings"]], "MX": [[10, "mx.example.org."]], "A": ["192.0.2.1"]},
            "www.example.org": {"CNAME": ["example.org"]},
            "192.0.2.1": {"PTR": ["mx.example.org"]},
            "broken.example": TEMPFAIL,
            "half.example": {"A": ["192.0.2.2"], "TXT": TEMPFAIL},
            "a.loop.example": {"CNAME": ["b.loop.example"]},
            "b.loop.example": {"CNAME": ["a.loop.example"]},
        }
    )
    assert (await resolver.query("example.ORG", "TXT")).records == ((b"v=spf1 -all",), (b"two ", b"strings"))
    assert (await resolver.query("example.org", "MX")).records == ((10, "mx.example.org"),)
    alias = await resolver.query("www.example.org", "A")
    assert (alias.records, alias.canonical) == (("192.0.2.1",), "example.org")
    assert (await resolver.query("1.2.0.192.in-addr.arpa", "PTR")).records == ("mx.example.org",)
    absent = await resolver.query("nowhere.example", "A")
    assert (absent.records, absent.exists) == ((), False)
    assert (await resolver.query("loop.example", "A")).exists  # names lie below it
    assert (await resolver.query("example.org", "AAAA")).exists
    for name, kind in (("broken.example", "A"), ("half.example", "TXT"), ("a.loop.example", "A")):
        with pytest.raises(DnsError):
            await resolver.query(name, kind)
    assert (await resolver.query("half.example", "A")).records == ("192.0.2.2",)
    assert resolver.queries[0] == ("example.ORG", "TXT")
    long = FakeResolver({"x.example": {"TXT": ["y" * 300]}})
    assert [len(piece) for piece in (await long.query("x.example", "TXT")).records[0]] == [255, 45]


# Context


async def test_fake_context() -> None:
    context = FakeContext(zones={"x.example": {"A": ["192.0.2.1"]}})
    await context.store.put("k", b"v", ttl=10)
    assert [await context.store.incr("n", ttl=10) for _ in range(3)] == [1, 2, 3]
    assert not await context.store.put_if_absent("k", b"w", ttl=10)
    context.clock.move(11)
    assert await context.store.get("k") is None
    assert await context.store.incr("n", 5, ttl=10) == 5
    assert [await context.store.take("bucket", rate=0.5, burst=2) for _ in range(3)] == [1, 0, -1]
    context.clock.move(2)
    assert await context.store.take("bucket", rate=0.5, burst=2) == 0
    assert await context.store.put_if_absent("k", b"w", ttl=10)
    await context.store.delete("k")
    assert await context.store.get("k") is None
    context.log.debug("a")
    context.log.info("b", n=1)
    context.log.warning("c")
    context.log.error("d")
    assert [line[:2] for line in context.log.lines] == [("debug", "a"), ("info", "b"), ("warning", "c"), ("error", "d")]
    context.metrics.count("seen", kind="x")
    context.metrics.observe("took", 0.5)
    assert context.metrics.values == [("seen", 1, {"kind": "x"}), ("took", 0.5, {})]
    assert await context.run_in_process(len, b"abc") == 3


# Running


class Everything(Plugin):
    """Has a hook at every stage, and notes the order."""

    def __init__(self, name: str = "everything") -> None:
        super().__init__(name=name)
        self.log: list[str] = []

    @hook(cheap=True)
    def startup(self) -> None:
        self.log.append("startup")
        self.context.log.info("ready")

    @hook(cheap=True)
    def connect(self, session: Session) -> Reject | None:
        self.log.append("connect")
        return reject("not you", code=554) if session.client_address == "192.0.2.66" else None

    @hook(cheap=True)
    def helo(self) -> None:
        self.log.append("helo")

    @hook(cheap=True)
    def authenticated(self) -> None:
        self.log.append("authenticated")

    @hook(cheap=True)
    def mail(self, transaction: Transaction) -> Any:
        self.log.append("mail")
        if transaction.reverse_path.mailbox == "noise@x.example":
            return discard("noise")
        return use_reverse_path("bounces@x.example") if transaction.reverse_path.mailbox else reject("no null")

    @hook(cheap=True)
    def rcpt(self, recipient: Recipient) -> Any:
        self.log.append("rcpt")
        return {
            "no@x.example": reject("no such"),
            "alias@x.example": use_forward_path("real@x.example"),
            "list@x.example": add_recipient("archive@x.example"),
            "other@x.example": redirect("other"),
        }.get(recipient.mailbox)

    @hook(cheap=True)
    def route(self, recipient: Recipient) -> str | None:
        return "vip" if recipient.mailbox == "vip@x.example" else None

    @hook(cheap=True)
    def policy_class(self, recipient: Recipient) -> str | None:
        return recipient.domain

    @hook(cheap=True)
    def data(self) -> None:
        self.log.append("data")

    @hook(cheap=True)
    def check(self) -> Finding:
        self.log.append("check")
        return Label(name="seen")

    @hook(cheap=True)
    def judge(self) -> None:
        self.log.append("judge")

    @hook(cheap=True)
    def rewrite(self) -> Any:
        self.log.append("rewrite")
        return tag_subject("[X]")

    @hook(cheap=True)
    def sign(self, message: Message) -> Any:
        self.log.append("sign")
        return add_header("X-Signed", message.subject)

    @hook(cheap=True)
    def done(self) -> None:
        self.log.append("done")

    @hook(cheap=True)
    def disconnect(self) -> None:
        self.log.append("disconnect")

    @hook(cheap=True)
    def shutdown(self) -> None:
        self.log.append("shutdown")


async def test_all_stages_in_their_order() -> None:
    plugin = Everything()
    result = await run_plugin(plugin, session=a_session(identity="alice"), message=a_message(subject="Hi"))
    names = "startup connect helo authenticated mail rcpt data check judge rewrite sign done disconnect shutdown"
    assert plugin.log == names.split()
    assert result.verdict is None
    assert result.findings == (Label(name="seen"),)
    assert result.edits == (tag_subject("[X]"),)
    assert result.signatures == (add_header("X-Signed", "[X] Hi"),)  # signed as it will be sent
    assert result.transaction.sent_reverse_path == b"<bounces@x.example>"
    assert result.recipients[0].policy_class == ("example.org",)
    assert result.trace[0]["stage"] == "connect"


async def test_what_happens_at_rcpt() -> None:
    names = ["no", "alias", "list", "other", "vip"]
    result = await run_plugin(Everything(), transaction=a_transaction(recipients=[f"{name}@x.example" for name in names]))
    sent = {one.mailbox: (one.sent_path, one.route, one.added) for one in result.recipients}
    assert sent["alias@x.example"] == (b"<real@x.example>", "default", False)
    assert sent["archive@x.example"] == (b"<archive@x.example>", "default", True)
    assert sent["other@x.example"][1] == "other"
    assert sent["vip@x.example"][1] == "vip"
    assert result.decisions["no@x.example"] is not None
    assert [one.mailbox for one in result.transaction.recipients][:2] == ["alias@x.example", "list@x.example"]


async def test_a_refusal_ends_the_way() -> None:
    plugin = Everything()
    result = await run_plugin(plugin, session=a_session(client_address="192.0.2.66"))
    assert result.verdict == reject("not you", code=554)
    assert plugin.log == ["startup", "connect", "done", "disconnect", "shutdown"]
    null = await run_plugin(Everything(), transaction=a_transaction(reverse_path=""))
    assert null.decisions == {"bob@example.org": null.decision}
    assert null.verdict == reject("no null")


async def test_discard_at_mail_decides_every_recipient() -> None:
    plugin = Everything()
    result = await run_plugin(plugin, transaction=a_transaction(reverse_path="noise@x.example"))
    assert result.verdict == discard("noise")
    assert "judge" not in plugin.log
    assert "rewrite" not in plugin.log


class Faulty(Plugin):
    @hook
    async def judge(self) -> Verdict:
        raise LookupError("a mistake of mine")


class FaultyRewrite(Plugin):
    @hook
    async def rewrite(self) -> None:
        raise LookupError("a mistake of mine")


class FaultyRoute(Plugin):
    @hook
    async def route(self) -> None:
        raise LookupError("a mistake of mine")


class FaultyStart(Plugin):
    @hook
    async def startup(self) -> None:
        raise LookupError("no table")


@pytest.mark.parametrize("kind", [Faulty, FaultyRewrite, FaultyRoute])
async def test_a_fault_fails_the_test_unless_it_is_asked_for(kind: type[Plugin[Any]]) -> None:
    with pytest.raises(PluginError, match=r"a mistake of mine at test_testing_kit\.py"):
        await run_plugin(kind())
    result = await run_plugin(kind(), on_error="defer")
    assert result.verdict is not None
    assert result.verdict.reason == "plugin-error"
    assert (await run_plugin(kind(), on_error="ignore")).verdict is None


async def test_a_plugin_that_cannot_start() -> None:
    with pytest.raises(PluginError, match="startup: LookupError: no table"):
        await run_plugin(FaultyStart())
    assert (await run_plugin(FaultyStart(), start=False)).verdict is None


async def test_misspelt_hooks_fail_the_test() -> None:
    class Misspelt(Plugin):
        @hook
        async def juge(self) -> None: ...

    with pytest.raises(PluginError, match="did you mean 'judge'"):
        await run_plugin(Misspelt())


class Rejects(Plugin):
    @hook
    async def judge(self) -> Verdict:
        return reject("no")


async def test_monitor_and_chains() -> None:
    result = await run_plugin(Rejects(), mode="monitor")
    assert (result.verdict, result.would) == (None, (reject("no"),))
    both = await run_chain([Everything(), Rejects()], context=FakeContext())
    assert both.decision is not None
    assert (both.decision.plugin, both.edits) == ("rejects", ())


# The pytest plugin


async def test_fixtures(
    fake_dns: Callable[..., FakeResolver], plugin_context: FakeContext, run_plugin: Any, run_chain: Any
) -> None:
    assert (await fake_dns({"x.example": {"A": ["192.0.2.1"]}}).query("x.example", "A")).records == ("192.0.2.1",)
    assert plugin_context.clock() > 0
    assert (await run_plugin(Rejects())).verdict == reject("no")
    assert (await run_chain([Rejects()])).verdict == reject("no")
