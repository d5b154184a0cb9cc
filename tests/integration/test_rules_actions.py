"""Actions of rules, end to end: boxes of the quarantine, routes, recipients; and Junk, with a real Dovecot that runs Sieve."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from gateway.quarantine import Query
from gateway.testing import EndToEnd, ScriptedNextHop
from tests.integration.dovecot import DOMAIN, RealDovecot

CONTENT = b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@client.test>\r\nSubject: %s\r\n\r\nhello\r\n"


async def test_a_message_is_held_in_the_box_that_the_rule_names() -> None:
    config = """
    [[rule]]
    name = "to malware"
    when = 'message.subject == "virus"'
    then = [{ quarantine = "malware" }, { add_header = "X-Held: yes" }]
    """
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        sent = await mail.send(CONTENT % (b"a", b"virus"))
        found = await mail.gateway.quarantine.search(Query(box="malware"))
        others = await mail.gateway.quarantine.search(Query(box="default"))
    assert (sent.code, sent.fates, sent.taken) == (250, {"bob@example.org": "held"}, ())
    assert [(entry.box, entry.plugin, entry.reason) for entry in found] == [("malware", "rules", "rule-to-malware")]
    assert others == []


async def test_a_redirected_message_goes_to_the_other_route_with_all_its_recipients() -> None:
    async with ScriptedNextHop() as other:
        config = f"""
        [[route]]
        name = "default"
        domains = ["example.org"]
        servers = ["{{next_hop}}"]
        [[route]]
        name = "other"
        domains = []
        servers = ["{other.address}"]
        [[rule]]
        name = "elsewhere"
        when = 'message.subject == "large"'
        then = {{ redirect = "other" }}
        """
        async with EndToEnd(plugins=["rules"], config=config) as mail:
            small = await mail.send(CONTENT % (b"a", b"small"))
            sent = await mail.send(CONTENT % (b"a", b"large"), recipients=["bob@example.org", "carol@example.org"])
        (taken,) = other.transactions
    assert (len(small.taken), sent.code, sent.taken) == (1, 250, ())
    assert taken.paths == [b"<bob@example.org>", b"<carol@example.org>"]
    assert taken.content.endswith(CONTENT % (b"a", b"large"))


async def test_a_redirect_of_some_recipients_only_sends_them_apart() -> None:
    async with ScriptedNextHop() as other:
        config = f"""
        [[route]]
        name = "default"
        domains = ["example.org"]
        servers = ["{{next_hop}}"]
        [[route]]
        name = "other"
        domains = []
        servers = ["{other.address}"]
        [[rule]]
        name = "partner"
        at = "rcpt"
        when = 'recipient.local_part == "bob"'
        then = "accept"
        [[rule]]
        name = "elsewhere"
        when = "true"
        then = {{ redirect = "other" }}
        """
        async with EndToEnd(plugins=["rules"], config=config) as mail:
            message, both = CONTENT % (b"a", b"x"), ["bob@example.org", "carol@example.org"]
            first = await mail.send(message, recipients=both)
            again = await mail.send(message, recipients=both)
            alone = await mail.send(message, recipients=both[1:])
        assert (first.code, first.taken) == (451, ())
        assert [reply[:9] for reply in again.replies[1:3]] == ["250 2.1.5", "452 4.5.3"]
        assert (again.code, [one.paths for one in again.taken]) == (250, [[b"<bob@example.org>"]])
        assert (alone.code, alone.taken, [one.paths for one in other.transactions]) == (250, (), [[b"<carol@example.org>"]])


async def test_recipients_come_and_go() -> None:
    config = """
    [[rule]]
    name = "journal"
    at = "rcpt"
    when = "true"
    then = { add_recipient = "journal@example.org" }
    [[rule]]
    name = "not carol"
    when = 'message.subject == "secret"'
    then = { remove_recipient = "carol@example.org" }
    """
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        sent = await mail.send(CONTENT % (b"a", b"secret"), recipients=["bob@example.org", "carol@example.org"])
        mail.next_hop.script("RCPT TO:<journal@", "550 5.1.1 No such user")
        refused = await mail.send(CONTENT % (b"b", b"x"))
    assert sent.fates == {"bob@example.org": "delivered", "carol@example.org": "discarded", "journal@example.org": "delivered"}
    assert sorted(sent.taken[0].paths) == [b"<bob@example.org>", b"<journal@example.org>"]
    assert refused.reply.startswith("451 4.3.5")


async def test_edited_fields_arrive_and_everything_else_keeps_its_octets() -> None:
    config = """
    [[rule]]
    name = "fields"
    when = "true"
    then = [{ replace_header = "Reply-To: desk@example.org" }, { remove_header = "X-Internal" }, { tag_subject = "[EXT]" }, { add_header = "X-Seen: yes" }]
    """
    content = (
        b"From: ann@client.example\r\nreply-to:  old@client.example\r\nX-Internal: a\r\n b\r\nSubject:   odd  spacing\r\n"
        b"x-internal: c\r\nReply-To: other@client.example\r\n\r\nbody  \r\n"
    )
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        sent = await mail.send(content)
    assert sent.taken[0].content.endswith(
        b"X-Seen: yes\r\nFrom: ann@client.example\r\nreply-to: desk@example.org\r\nSubject: [EXT] odd  spacing\r\n\r\nbody  \r\n"
    )


@pytest.mark.real
async def test_marked_mail_is_in_junk_and_a_strangers_mark_counts_for_nothing(
    dovecot: RealDovecot, require: Callable[[str], str]
) -> None:
    require("sievec")
    config = f"""
    [[route]]
    name = "dovecot"
    domains = ["{DOMAIN}"]
    servers = ["{dovecot.address}"]
    [[rule]]
    name = "spam"
    when = 'message.subject == "spam"'
    then = "junk"
    """
    spam, ham = secrets.token_hex(6), secrets.token_hex(6)
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        for marker, subject, mark in ((spam, "spam", "NO"), (ham, "ham", "YES")):
            content = f"X-Spam-Flag: {mark}\r\n".encode() + CONTENT % (marker.encode(), subject.encode())
            sent = await mail.send(content, recipients=[f"alice@{DOMAIN}"])
            assert sent.code == 250, sent.explain()
    (junk,) = [one for one in dovecot.junk("alice") if spam.encode() in one]
    (inbox,) = [one for one in dovecot.messages("alice") if ham.encode() in one]
    assert (junk.count(b"X-Spam-Flag: YES"), junk.count(b"X-Spam-Flag")) == (1, 1)
    assert inbox.count(b"X-Spam-Flag") == 0
    assert not [one for one in dovecot.messages("alice") if spam.encode() in one]
    assert inbox.replace(b"\n", b"\r\n").endswith(CONTENT % (ham.encode(), b"ham"))
