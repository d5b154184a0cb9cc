"""The plugin `clean_headers`: which fields go, whose octets stay, and what a signature keeps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import Fact
from gateway.plugins.clean_headers import CleanHeaders, Options
from gateway.splice import apply
from gateway.testing import a_message, a_session, a_transaction, run_plugin

MAIL = (
    b"Received: from relay.example.org ([192.0.2.7])\r\n\tby mx; Tue\r\n"
    b"Received: from desk (desk\r\n [10.1.2.3]) by relay\r\n"
    b"X-Mailer: Thing 1.0\r\nFrom: a@example.org\r\nx-mailer:twice\r\nUser-Agent : Other\r\n\r\nX-Mailer: body\r\n"
)


async def cleaned(octets: bytes, *, client_class: str = "authenticated", **more: Any) -> tuple[bytes, list[Any]]:
    plugin = CleanHeaders(Options.model_validate(more), name="clean_headers")
    message = a_message(octets)
    done = await run_plugin(plugin, message=message, transaction=a_transaction(session=a_session(client_class=client_class)))
    return b"".join(apply(message.content, done.edits).chunks()), [one for one in done.findings if isinstance(one, Fact)]


async def test_named_fields_go_and_everything_else_keeps_its_octets() -> None:
    wanted = (
        MAIL.replace(b"X-Mailer: Thing 1.0\r\n", b"").replace(b"x-mailer:twice\r\n", b"").replace(b"User-Agent : Other\r\n", b"")
    )
    assert await cleaned(MAIL) == (wanted, [])


async def test_patterns_choose_among_fields_of_a_name() -> None:
    got, _ = await cleaned(MAIL, remove=[], matching={"received": [r"\[10\.", r"desk\s+\[172\."]})
    assert got == MAIL.replace(b"Received: from desk (desk\r\n [10.1.2.3]) by relay\r\n", b"")


@pytest.mark.parametrize("client_class", ["stranger", "trusted"])
async def test_only_mail_of_the_chosen_clients_is_cleaned(client_class: str) -> None:
    assert await cleaned(MAIL, client_class=client_class, clients=["authenticated"]) == (MAIL, [])
    assert (await cleaned(MAIL, client_class=client_class, clients=[client_class]))[0] != MAIL


@pytest.mark.parametrize("kind", [b"DKIM-Signature", b"ARC-Message-Signature"])
async def test_what_a_signature_covers_stays_and_is_told(kind: bytes) -> None:
    signed = kind + b": v=1; a=rsa-sha256; d=example.org; s=s; h=From:\r\n\tX-Mailer : Date; bh=x; b=y\r\n" + MAIL
    got, found = await cleaned(signed)
    assert got == signed.replace(b"User-Agent : Other\r\n", b"")
    assert found == [Fact(name="clean_headers.signed", value="x-mailer")]
    got, found = await cleaned(signed, signed="remove")
    assert b"Thing" not in got
    assert found == []


async def test_a_signature_that_cannot_be_read_covers_nothing() -> None:
    got, _ = await cleaned(b"DKIM-Signature: h=X-Mailer; h=X-Mailer\r\n" + MAIL)
    assert b"Thing" not in got


@pytest.mark.parametrize(
    "wrong",
    [
        {"remove": ["From"]},
        {"remove": ["content-type"]},
        {"remove": ["ARC-Seal"]},
        {"remove": ["no name"]},
        {"matching": {"Subject": ["x"]}},
        {"matching": {"Received": ["("]}},
        {"matching": {"Received": ["(?=x)"]}},
    ],
)
def test_what_must_stay_and_what_is_no_pattern_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="allowed: "):
        Options.model_validate(wrong)


@given(
    st.lists(st.sampled_from([b"X-Mailer: a\r\n", b"Received: [10.1]\r\n", b"Subject: s\r\n", b"X-Other:\r\n \r\n"]), max_size=12)
)
async def test_what_is_left_is_what_is_not_named(fields: list[bytes]) -> None:
    octets = b"".join(fields) + b"\r\nbody\r\n"
    got, _ = await cleaned(octets, remove=["X-Mailer"], matching={"Received": ["10"]})
    wanted = [one for one in fields if not one.startswith((b"X-Mailer", b"Received"))]
    assert got == b"".join(wanted) + b"\r\nbody\r\n"


@given(st.binary(max_size=400))
async def test_no_octets_make_it_fail(octets: bytes) -> None:
    await cleaned(b"DKIM-Signature: " + octets + b"\r\nX-Mailer: x\r\n" + octets, matching={"Received": [r"\d+"]})
