"""The recipes of docs/forwarding.md do what the page says: each configuration, taken from it, on messages of its situation."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from tests import arc_chains
from tests.docs.blocks import TOP, Block, of_page
from tests.docs.test_blocks import completed

PAGE = TOP / "docs" / "forwarding.md"
ZONES = """
[dns.zones]
"_dmarc.bank.example" = { TXT = ["v=DMARC1; p=reject"] }
"bank.example" = { TXT = ["v=spf1 ip4:198.51.100.1 -all"], A = ["198.51.100.1"] }
"_dmarc.partner.example" = { TXT = ["v=DMARC1; p=reject"] }
"partner.example" = { TXT = ["v=spf1 -all"], A = ["198.51.100.2"] }
"alumni.example.edu" = { TXT = ["v=spf1 ip4:203.0.113.9 -all"] }
"relay.example.net" = { TXT = ["v=spf1 ip4:203.0.113.10 -all"] }
"scanner.example" = { TXT = ["v=spf1 ip4:203.0.113.11 -all"] }
"example" = { A = ["198.51.100.9"] }
"""
SIGNED = "DKIM-Signature: v=1; a=rsa-sha256; d={0}; s=s; h=from; bh=AAAA; b=AAAA\n"


def recipes() -> dict[str, Block]:
    """The configurations, by the heading they stand under, numbered where there are several."""
    text = PAGE.read_text(encoding="utf-8")
    found: dict[str, Block] = {}
    for block in of_page(PAGE):
        if block.language == "toml":
            before = "\n".join(text.splitlines()[: block.line])
            heading = re.findall(r"^## (.*)$", before, re.MULTILINE)[-1]
            found[heading if heading not in found else f"{heading}, 2"] = block
    return found


@dataclass(frozen=True)
class Situation:
    """Under which heading, what comes, and what becomes of it."""

    recipe: str
    title: str
    verdict: str
    """`reject`, `quarantine`, `defer` or `` for none."""
    client: str = "192.0.2.99"
    sender: str = "a@bank.example"
    author: str = "a@bank.example"
    header: str = ""
    shows: str = ""


FORWARDER, ALUMNI, RELAY = "192.0.2.25", "203.0.113.9", "203.0.113.10"
SITUATIONS = [
    Situation("Where to begin", "a plain forgery", "reject"),
    Situation("Where to begin", "a broken signature", "quarantine", header=SIGNED.format("bank.example"), shows="looks like forwarding: dkim="),
    Situation("Where to begin", "a list", "quarantine", header="List-Id: <x.example>\n", shows="looks like forwarding: List-Id"),
    Situation("Where to begin", "from the domain's own host", "", client="198.51.100.1"),
    Situation("A forwarder you know", "by its address, plain", "", client=FORWARDER, shows="policy.override=trusted_forwarder"),
    Situation("A forwarder you know", "by its second address", "", client="2001:db8:25::7", shows="policy.override=trusted_forwarder"),
    Situation("A forwarder you know", "by its domain, rewritten", "", client=ALUMNI, sender="SRS0=x=y=bank.example=a@alumni.example.edu", shows="policy.override=trusted_forwarder"),
    Situation("A forwarder you know", "its own users in the name of others", "reject", client=ALUMNI, sender="x@alumni.example.edu"),
    Situation("A forwarder you know", "a stranger that claims the name", "reject", sender="SRS0=x=y=bank.example=a@alumni.example.edu"),
    Situation("A forwarder you know, 2", "the partner through the relay", "", client=RELAY, sender="x@relay.example.net", author="a@partner.example", header=SIGNED.format("partner.example"), shows="trusted_forwarder"),
    Situation("A forwarder you know, 2", "another author through the relay", "reject", client=RELAY, sender="x@relay.example.net", header=SIGNED.format("bank.example")),
    Situation("A forwarder you know, 2", "the partner from elsewhere", "reject", author="a@partner.example", header=SIGNED.format("partner.example")),
    Situation("A mailing list you know", "a list that did not sign", "reject", header="List-Id: <dev.lists.example.net>\n"),
    Situation("An exception of your own", "the partner's scanner", "", client="203.0.113.11", sender="s@scanner.example", author="a@partner.example"),
    Situation("An exception of your own", "the same in another name", "reject", client="203.0.113.11", sender="s@scanner.example"),
    Situation("An exception of your own", "somebody else in the partner's name", "reject", author="a@partner.example"),
    Situation("This gateway behind another", "what the one in front found", "", client="192.0.2.1", header="Authentication-Results: mx1.example.org; spf=pass smtp.mailfrom=bank.example\n", shows="spf of bank.example is aligned"),
    Situation("This gateway behind another", "a failure there", "reject", client="192.0.2.1", header="Authentication-Results: mx1.example.org; spf=fail smtp.mailfrom=bank.example\n"),
    Situation("This gateway behind another", "a stranger that writes the field", "reject", header="Authentication-Results: mx1.example.org; spf=pass smtp.mailfrom=bank.example\n"),
]  # fmt: skip


@pytest.mark.parametrize("one", SITUATIONS, ids=lambda one: f"{one.recipe}: {one.title}")
def test_a_recipe_does_what_the_page_says(one: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MAILGATEWAY")]:
        monkeypatch.delenv(name)
    config, message = tmp_path / "config.toml", tmp_path / "message.eml"
    text = completed(recipes()[one.recipe].text)
    if "plugins" not in text.split("[", 1)[0] or ('"spf"' not in text and "upstream" not in text):
        text = re.sub(r"^plugins = .*$", 'plugins = ["spf", "dkim", "dmarc", "authres"]', text, flags=re.MULTILINE)
    config.write_text(text + ZONES, encoding="utf-8")
    message.write_text(f"{one.header}From: {one.author}\nSubject: x\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n\nbody\n")
    arguments = [
        "check",
        str(message),
        "--config",
        str(config),
        "--ip",
        one.client,
        "--from",
        one.sender,
        "--to",
        "bob@example.org",
    ]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
    shown = " ".join(result.output.split())
    assert result.exit_code in {0, 1}, result.output
    verdicts = re.findall(r"dmarc verdict (reject|quarantine|defer)", shown)
    assert verdicts == ([one.verdict] if one.verdict else []), result.output
    assert one.shows in shown, result.output


ARC = "Sealers you trust (ARC)"


@pytest.mark.parametrize(("sealer", "verdict"), [("lists.example.net", []), ("stranger.example", ["reject"])])
def test_sealers_do_what_the_page_says(sealer: str, verdict: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MAILGATEWAY")]:
        monkeypatch.delenv(name)
    config, message = tmp_path / "config.toml", tmp_path / "message.eml"
    key = f'"sel._domainkey.{sealer}" = {{ TXT = ["{arc_chains.record()}"] }}\n'
    policy = '"_dmarc.author.example" = { TXT = ["v=DMARC1; p=reject"] }\n'
    config.write_text(completed(recipes()[ARC].text) + ZONES + key + policy, encoding="utf-8")
    message.write_bytes(arc_chains.chain(sealer, results="dmarc=pass header.from=author.example"))
    arguments = ["check", str(message), "--config", str(config), "--from", f"x@{sealer}", "--to", "bob@example.org"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
    shown = " ".join(result.output.split())
    assert re.findall(r"dmarc verdict (reject|quarantine|defer)", shown) == verdict, result.output
    assert ("policy.override=local_policy" in shown) is (verdict == []), result.output
    assert "arc=pass" in shown


def test_every_recipe_is_tried() -> None:
    assert set(recipes()) == {ARC, *(one.recipe for one in SITUATIONS)}
