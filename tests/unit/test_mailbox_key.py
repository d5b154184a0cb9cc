"""`gateway.mailbox_key`: spellings of one mailbox."""

from __future__ import annotations

import pytest

from gateway import MailboxKey, Path, mailbox_key
from gateway.testing import a_recipient


def key(mailbox: str, **how: object) -> MailboxKey:
    return mailbox_key(a_recipient(mailbox).forward_path, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("mailbox", ["bob@example.org", "Bob@EXAMPLE.org", '"bob"@example.org.', '"b\\ob"@example.org'])
def test_spellings_of_one_mailbox_have_one_key(mailbox: str) -> None:
    assert key(mailbox) == MailboxKey("bob", "example.org")
    assert key(mailbox).address == "bob@example.org"


def test_case_subaddress_and_domains() -> None:
    assert key("Bob@example.org", case_sensitive=True).local_part == "Bob"
    assert key("bob+a-b@example.org", subaddress="+-").local_part == "bob"
    assert key("bob+a@example.org").local_part == "bob+a"
    assert key("+bob@example.org", subaddress="+").local_part == "+bob"
    assert key("bob@bücher.example").domain == "xn--bcher-kva.example"
    assert key("bob@[192.0.2.1]").domain == "[192.0.2.1]"


def test_postmaster_needs_no_domain() -> None:
    path = mailbox_key(Path(b"<Postmaster>", "Postmaster", ""))
    assert (path.is_postmaster, path.address) == (True, "postmaster")
    assert not key("postmasters@example.org").is_postmaster
