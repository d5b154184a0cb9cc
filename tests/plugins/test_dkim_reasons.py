"""Why a signature does not match: what happened to the message on its way is found out where that can be told, and never made up."""

from __future__ import annotations

import pytest

from gateway import AuthResult, Message
from gateway.content import Content
from gateway.plugins.dkim import Dkim, diagnosis
from gateway.testing import Clock, FakeContext, run_plugin
from tests.dkim_signer import ed25519_key, rsa_key, sign

RSA, OTHER, ED = rsa_key(1024), rsa_key(1024), ed25519_key()
HEADER = (
    b"From: Alice <alice@example.org>\r\nReply-To: alice@example.org\r\nTo: list@example.net\r\nSubject: hello\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nContent-Transfer-Encoding: 8bit\r\n"
)
BODY = b"One line.\r\n\r\nAnother  line. \r\n\r\n"
NAMES = b"from:from:reply-to:to:cc:cc:subject:subject:date:list-id:list-post:sender:content-transfer-encoding"
TEMPLATE = b" v=1; a=%s; c=%s; d=example.org; s=sel; h=" + NAMES + b"; bh={bh}; b={b}"


def signed(algorithm: bytes, canon: bytes = b"relaxed/relaxed", more: bytes = b"") -> bytes:
    key = RSA if algorithm == b"rsa-sha256" else ED
    return sign(HEADER + b"\r\n" + BODY, key, TEMPLATE % (algorithm, canon) + more)


async def one(content: bytes, record: str = "") -> tuple[str, str]:
    records = [record] if record else [RSA.record, ED.record]
    context = FakeContext(zones={"sel._domainkey.example.org": {"TXT": records}}, clock=Clock())
    [found] = (await run_plugin(Dkim(), message=Message(Content(content)), context=context)).findings[:1]
    assert isinstance(found, AuthResult)
    return found.result, found.reason


NO_MATCH = "signature does not match; "
CHANGED = NO_MATCH + "signed header fields were changed"
LISTED = b"List-Id: <l.example.net>\r\nList-Post: <mailto:list@example.net>\r\nSender: list@example.net\r\n"


@pytest.mark.parametrize("algorithm", [b"rsa-sha256", b"ed25519-sha256"])
@pytest.mark.parametrize("canon", [b"relaxed/relaxed", b"simple/simple"])
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Subject: hello", b"Subject: [list] hello", NO_MATCH + "a tag was put in front of Subject"),
        (b"Subject: hello", b"Subject: ***SPAM*** hello", NO_MATCH + "a tag was put in front of Subject"),
        (b"Subject: hello", b"Subject: EXTERNAL: hello", NO_MATCH + "a tag was put in front of Subject"),
        (b"Subject: hello", b"Subject: bye", CHANGED),
        (b"Subject: hello", b"Subject: [list] bye", CHANGED),
        (b"To: list", b"To: another", CHANGED),
        (b"Date: ", b"Cc: x@example.com\r\nDate: ", NO_MATCH + "Cc was added after signing"),
        (b"From: A", b"From: evil@example.com\r\nFrom: A", NO_MATCH + "From was added after signing"),
        (b"Subject: ", b"Subject: other\r\nSubject: ", NO_MATCH + "Subject was added after signing"),
        (b"Date: ", LISTED + b"Date: ", NO_MATCH + "added after signing: Reply-To, List-ID, List-Post, Sender"),
        (b"8bit", b"7bit", NO_MATCH + "Content-Transfer-Encoding was 8bit when it was signed"),
        (b"From: Alice <alice@example.org>", b"From: Alice via List <list@example.net>", CHANGED),
        (
            b"Subject: hello",
            b"Cc: x@example.com\r\nSubject: [list] hello",
            NO_MATCH + "a tag was put in front of Subject, and Cc was added",
        ),
    ],
)
async def test_header_fields(algorithm: bytes, canon: bytes, old: bytes, new: bytes, reason: str) -> None:
    content = signed(algorithm, canon)
    if b"List-Post" in new:  # the list set Reply-To too
        content = sign(
            (HEADER + b"\r\n" + BODY).replace(b"Reply-To: alice@example.org\r\n", b""),
            RSA if algorithm == b"rsa-sha256" else ED,
            TEMPLATE % (algorithm, canon),
        )
        new += b"Reply-To: list@example.net\r\n" if new.endswith(b"\r\n") else b""
        new = b"Reply-To: list@example.net\r\n" + new
    assert (await one(content))[0] == "pass"
    head, _, rest = content.partition(b"\r\nFrom: ")
    changed = head + (b"\r\nFrom: " + rest).replace(old, new, 1)
    assert changed != content
    if reason == CHANGED and algorithm == b"ed25519-sha256":  # such a signature does not tell what it is over
        reason += ", or another key signed"
    assert await one(changed) == ("fail", reason)


@pytest.mark.parametrize("algorithm", [b"rsa-sha256", b"ed25519-sha256"])
async def test_a_rewritten_author(algorithm: bytes) -> None:
    template = TEMPLATE.replace(b"h=" + NAMES, b"h=from:reply-to:reply-to:subject") % (algorithm, b"relaxed/relaxed")
    content = sign(b"From: Alice <alice@example.org>\r\nSubject: x\r\n\r\n" + BODY, RSA if b"rsa" in algorithm else ED, template)
    rewritten = content.replace(
        b"From: Alice <alice@example.org>", b"Reply-To: Alice <alice@example.org>\r\nFrom: Alice via List <list@example.net>"
    )
    assert await one(rewritten) == (
        "fail",
        NO_MATCH + "From was rewritten, its former value is in the added Reply-To",
    )


Z = b"; z=From:=20Alice=20<alice@example.org>|Subject:=20hello|\r\n To:=20list@example.net|Odd|X:=ZZ"


async def test_copied_fields() -> None:
    content = signed(b"rsa-sha256", more=Z)
    assert (await one(content))[0] == "pass"
    changed = content.replace(b"\r\nSubject: hello", b"\r\nSubject: bye").replace(b"\r\nTo: list", b"\r\nTo: other")
    assert await one(changed) == ("fail", NO_MATCH + "changed after signing, by z= of the signer: Subject, To")
    further = changed.replace(b"Date: Tue", b"Date: Wed")
    assert await one(further) == ("fail", CHANGED + "; by z= of the signer: Subject, To")
    folded = content.replace(b"\r\nTo: list@example.net", b"\r\nTo:\r\n\tlist@example.net").replace(b"Date: Tue", b"Date: Wed")
    assert await one(folded) == ("fail", CHANGED)


@pytest.mark.parametrize("canon", [b"relaxed/relaxed", b"simple/simple"])
async def test_bodies(canon: bytes) -> None:
    content = signed(b"rsa-sha256", canon)
    size = 28 if canon == b"relaxed/relaxed" else 30
    footer = content + b"--\r\nlist footer\r\n"
    added = f"body hash does not match: the first {size} of {size + 19} octets are as signed, the rest was added"
    assert await one(footer) == ("fail", added + "; the header fields are as signed")
    tagged = footer.replace(b"\r\nSubject: ", b"\r\nSubject: [list] ")
    assert await one(tagged) == ("fail", added + "; a tag was put in front of Subject")
    intact = "body hash does not match; the header fields are as signed"
    assert await one(content.replace(b"One line", b"Two lines")) == ("fail", intact)
    assert await one(content.replace(b"One line", b"Two lines") + b"--\r\nfooter\r\n") == ("fail", intact)
    assert await one(content[: -len(b"\r\nAnother  line. \r\n\r\n")]) == ("fail", intact)


async def test_another_key() -> None:
    assert await one(signed(b"rsa-sha256"), OTHER.record) == (
        "fail",
        NO_MATCH + "the signature was not made with the published key, or is damaged",
    )
    other = ed25519_key(b"another seed")
    assert await one(signed(b"ed25519-sha256"), other.record) == ("fail", CHANGED + ", or another key signed")


async def test_tries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = signed(b"rsa-sha256").replace(b"\r\nDate: ", b"\r\nCc: x@example.com\r\nDate: ", 1)
    assert "Cc was added" in (await one(content))[1]
    monkeypatch.setattr(diagnosis, "MAX_TRIES", 2)
    assert await one(content) == ("fail", CHANGED)
    monkeypatch.undo()
    monkeypatch.setattr(diagnosis, "MAX_OCTETS", 1000)
    assert await one(content) == ("fail", CHANGED)
