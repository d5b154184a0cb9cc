"""The plugin `impersonation`: names of VIPs, look-alikes, addresses within names, authors who write for the first time."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import AuthResult, ClientClass, Defer, Fact, Label, Outcome, Plugin, Quarantine, Reject, Score, hook
from gateway.errors import StorageError
from gateway.plugins.impersonation import Impersonation, Options
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_chain
from tests.generated import examples

OPTIONS: dict[str, Any] = {
    "domains": ["contoso.example", "partner.example"],
    "vips": [
        {"names": ["Ada Lovelace", "Ada King"], "addresses": ["ada@contoso.example", "ada.lovelace@free.test", "@family.test"]}
    ],
    "trusted": ["lists.test"],
    "first_time_by": "off",
}


class Dmarc(Plugin):
    """Says that DMARC came to this."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dmarc",)
    result = ""

    @hook(cheap=True)
    def check(self) -> AuthResult | None:
        return AuthResult(method="dmarc", result=self.result) if self.result else None


async def checked(from_: str = "Alice <alice@client.test>", **more: Any) -> Result:
    context = more.pop("context", None) or FakeContext()
    options = Options.model_validate({**OPTIONS, **more.pop("options", {})})
    dmarc = Dmarc(name="dmarc")
    dmarc.result = more.pop("dmarc", "")
    session = a_session(client_class=more.pop("client_class", None))
    facts = {name: more.pop(name) for name in ("recipients", "reverse_path") if name in more}
    message = more.pop("message", None) or a_message(from_=from_, **more)
    plugin = Impersonation(options, name="impersonation", context=context)
    transaction = a_transaction(session=session, **facts)
    return await run_chain([plugin, dmarc], transaction=transaction, message=message, context=context)


def scores(result: Result) -> dict[str, float]:
    return {one.symbol: one.weight for one in result.findings if isinstance(one, Score)}


@pytest.mark.parametrize(
    ("from_", "found"),
    [
        ("Alice <alice@client.test>", {}),
        ("alice@client.test", {}),
        ("Ada Lovelace <ada@contoso.example>", {}),
        ("Ada Lovelace <ADA@Contoso.Example>", {}),
        ("Ada Lovelace <any@family.test>", {}),
        ("Ada Lovelace <bob@contoso.example>", {"VIP_NAME": 4.0}),
        ("Ada Lovelace <ceo@free.test>", {"VIP_NAME": 4.0}),
        ("=?utf-8?q?Lovelace=2C_=D0=90da?= <ceo@free.test>", {"VIP_NAME": 4.0}),
        ('"King, Ada (CEO)" <ceo@free.test>', {"VIP_NAME": 4.0}),
        ("ceo@free.test (Ada Lovelace)", {"VIP_NAME": 4.0}),
        ("Ada Lovelace", {}),
        ("Alice <a@c0ntoso.example>", {"LOOKALIKE_DOMAIN": 4.0}),
        ("Alice <a@xn--ontoso-hrf.example>", {"LOOKALIKE_DOMAIN": 4.0}),
        ("Alice <a@contoso.example.evil.test>", {"LOOKALIKE_DOMAIN": 4.0}),
        ("Alice <a@partner.test>", {"SIMILAR_DOMAIN": 1.0}),
        ("Alice <a@sales.partner.example>", {}),
        ('"bob@contoso.example" <x@evil.test>', {"OWN_ADDRESS_IN_NAME": 4.0}),
        ('"Bob <bob@mail.contoso.example>" <x@evil.test>', {"OWN_ADDRESS_IN_NAME": 4.0}),
        ('"bob@bank.test" <x@evil.test>', {"ADDRESS_IN_NAME": 1.5}),
        ('"x@mail.evil.test" <x@evil.test>', {}),
        ('"bob@contoso.example" <bob@contoso.example>', {}),
        ('"Ada Lovelace <ada@contoso.example>" <x@c0ntoso.example>', {"VIP_NAME": 4.0, "OWN_ADDRESS_IN_NAME": 4.0, "LOOKALIKE_DOMAIN": 4.0}),
        ("Alice <a@ok.test>, Ada Lovelace <x@evil.test>", {"VIP_NAME": 4.0}),
    ],
)  # fmt: skip
async def test_signs(from_: str, found: dict[str, float]) -> None:
    result = await checked(from_)
    assert scores(result) == found
    assert result.verdict is None, "nothing is refused by default"


@pytest.mark.parametrize(
    ("reply_to", "headers", "found"),
    [
        ("alice@mail.client.test", [], {}),
        ("alice@free.test", [], {"REPLY_TO_ELSEWHERE": 0.5}),
        ("alice@free.test", [("List-Id", "<talk.client.test>")], {}),
        ("alice@cont0so.example", [], {"LOOKALIKE_DOMAIN": 4.0, "REPLY_TO_ELSEWHERE": 0.5}),
        ("nobody", [], {}),
    ],
)
async def test_where_answers_go(reply_to: str, headers: list[tuple[str, str]], found: dict[str, float]) -> None:
    assert scores(await checked(headers=[("Reply-To", reply_to), *headers])) == found


async def test_lists_may_use_names_where_dmarc_passes() -> None:
    post = "Ada Lovelace via Talk <talk@lists.test>"
    assert scores(await checked(post, dmarc="pass")) == {}
    for result in ("fail", "none", ""):
        assert scores(await checked(post, dmarc=result)) == {"VIP_NAME": 4.0}
    assert scores(await checked("Ada Lovelace <talk@notlists.test>", dmarc="pass")) == {"VIP_NAME": 4.0}


async def test_verdicts() -> None:
    fake = "Ada Lovelace <x@evil.test>"
    refused = (await checked(fake, options={"vip_name": "reject"})).verdict
    assert isinstance(refused, Reject)
    assert (refused.code, refused.enhanced, refused.reason) == (550, "5.7.1", "impersonation-signs")
    assert refused.text == "Refused: the author's name belongs to somebody else"
    assert refused.evidence == "'Ada Lovelace' is the name of Ada Lovelace, and x@evil.test is not theirs"
    held = (await checked(fake, options={"quarantine_at": 4, "box": "fraud"})).verdict
    assert isinstance(held, Quarantine)
    assert held.box == "fraud"
    assert isinstance((await checked(fake, options={"vip_name": "defer"})).verdict, Defer)
    assert (await checked(fake, options={"vip_name": 0})).findings == ()


@pytest.mark.parametrize(
    "options",
    [
        {"domains": ["nothing"]},
        {"trusted": ["a b"]},
        {"vips": [{"names": []}]},
        {"vips": [{"names": ["42"]}]},
        {"vips": [{"names": ["Ada"], "addresses": ["ada"]}]},
        {"vips": [{"names": ["Ada"], "addresses": ["contoso.example"]}]},
        {"vip_name": "accept"},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


class Site:
    """One gateway over several messages, with the clock and store of its context."""

    def __init__(self, **options: Any) -> None:
        self.context = FakeContext()
        self.plugin = Impersonation(Options.model_validate(options), name="impersonation", context=self.context)

    async def mail(
        self,
        author: str,
        *recipients: str,
        fate: str = "delivered",
        dmarc: str = "",
        client_class: ClientClass = ClientClass.STRANGER,
    ) -> list[str]:
        """Who writes for the first time; then it is delivered, or not."""
        dmarc_plugin = Dmarc(name="dmarc")
        dmarc_plugin.result = dmarc
        session = a_session(client_class=client_class)
        transaction = a_transaction(session=session, recipients=recipients, reverse_path=author)
        message = a_message(from_=f"x <{author}>")
        await self.plugin.startup(self.context)
        if dmarc:
            transaction.findings.add("dmarc", AuthResult(method="dmarc", result=dmarc))
        found = await self.plugin.check(transaction, message) or []
        await self.plugin.done(transaction, Outcome(fates=tuple((one, fate) for one in recipients)))
        assert self.plugin._authors == {}
        weighs = any(isinstance(one, Score) and one.symbol == "FIRST_TIME" for one in found)
        labels = [one.evidence for one in found if isinstance(one, Label) and one.name == "first-time-sender"]
        return [*(["weighs"] if weighs else []), *labels]


async def test_the_first_time_is_told_once() -> None:
    site = Site()
    first = await site.mail("a@x.test", "bob@example.org")
    assert first == ["weighs", "example.org has had no mail of a@x.test before"]
    assert await site.mail("A@X.test", "carol@example.org") == []
    assert await site.mail("b@x.test", "bob@example.org") != []
    assert await site.mail("a@x.test", "bob@example.net") != []


async def test_each_mailbox_may_have_a_memory_of_its_own() -> None:
    site = Site(first_time_by="mailbox")
    await site.mail("a@x.test", "bob@example.org")
    assert await site.mail("a@x.test", "bob@example.org") == []
    assert await site.mail("a@x.test", "carol@example.org") == ["weighs", "carol@example.org has had no mail of a@x.test before"]
    mixed = await site.mail("b@x.test", "bob@example.org", "carol@example.org")
    assert len(mixed) == 3
    await site.mail("c@x.test", "bob@example.org")
    assert await site.mail("c@x.test", "bob@example.org", "dan@example.org") == [
        "dan@example.org has had no mail of c@x.test before"
    ]


@pytest.mark.parametrize("fate", ["rejected", "deferred", "held", "discarded", "vanished"])
async def test_who_was_not_delivered_is_not_known(fate: str) -> None:
    site = Site()
    await site.mail("a@x.test", "bob@example.org", fate=fate)
    assert await site.mail("a@x.test", "bob@example.org") != []


async def test_an_author_is_forgotten_in_the_end() -> None:
    site = Site(remember="10d")
    await site.mail("a@x.test", "bob@example.org")
    for _ in range(5):
        site.context.clock.move(9 * 86_400)
        assert await site.mail("a@x.test", "bob@example.org") == []
    site.context.clock.move(10 * 86_400 + 1)
    assert await site.mail("a@x.test", "bob@example.org") != []


async def test_a_forged_author_is_not_the_known_one() -> None:
    site = Site()
    await site.mail("a@x.test", "bob@example.org", dmarc="pass")
    assert await site.mail("a@x.test", "bob@example.org", dmarc="pass") == []
    assert await site.mail("a@x.test", "bob@example.org", dmarc="fail") != []


async def test_whom_ours_wrote_to_is_known() -> None:
    site = Site()
    for client in (ClientClass.AUTHENTICATED, ClientClass.TRUSTED):
        friend = f"friend.{client}@x.test"
        await site.mail("bob@example.org", friend, client_class=client)
        for dmarc in ("pass", ""):
            assert await site.mail(friend, "bob@example.org", dmarc=dmarc) == []
    assert await site.mail("stranger@x.test", "bob@example.org") != []


async def test_a_store_that_fails_holds_up_no_mail() -> None:
    class Broken:
        async def get(self, key: str) -> bytes | None:
            raise StorageError(key)

    site: Any = Site()
    site.context.store = Broken()
    assert await site.mail("a@x.test", "bob@example.org") == []
    assert [event for _, event, _ in site.context.log.lines] == ["plugin.store_failed"]


async def test_who_is_not_checked() -> None:
    fake = "Ada Lovelace <x@evil.test>"
    assert (await checked(fake, client_class=ClientClass.AUTHENTICATED)).findings == ()
    found = await checked(fake, client_class=ClientClass.TRUSTED, options={"all_clients": True, "first_time_by": "domain"})
    assert scores(found) == {"VIP_NAME": 4.0}


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.impersonation.MAX_WAITING", 5)
    site = Site()
    await site.plugin.startup(site.context)
    for _ in range(12):
        await site.plugin.check(a_transaction(), a_message())
    assert len(site.plugin._authors) == 5


TEXT = st.text(max_size=40) | st.sampled_from(
    ["<@>", "Ada Lovelace <x@y.test>", "=?utf-8?q?=?=", "@contoso.example", '"', "(", "x@xn--a.b"]
)


@examples(50)
@given(TEXT, TEXT)
async def test_no_input_raises(author: str, reply_to: str) -> None:
    octets = f"From: {author}\r\nReply-To: {reply_to}\r\n\r\n".encode("utf-8", "replace")
    result = await checked(message=a_message(octets), options={"reject_at": 0.1, "first_time_by": "mailbox"}, reverse_path="")
    assert result.verdict is None or isinstance(result.verdict, Reject)
    for one in result.findings:
        text = getattr(one, "evidence", "") or (str(one.value) if isinstance(one, Fact) else "")
        assert text.isascii()
        assert text == "" or text.isprintable()
