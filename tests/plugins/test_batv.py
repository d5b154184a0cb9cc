"""The plugin `batv`: reverse-paths signed and read, bounces refused, keys rotated, and Exim's `prvs` as the other opinion."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import Fact, OptionError, Plugin, Reject, Score
from gateway.plugins.batv import Batv, Options
from gateway.plugins.recipients import Options as RecipientsOptions
from gateway.plugins.recipients import Recipients
from gateway.testing import Clock, EndToEnd, FakeContext, a_message, a_session, a_transaction, run_chain

SECRET = "a secret of some length"
OTHER = "another secret, as long"
DAY = 86_400
EXIM = Path("/opt/mailgateway-tests/exim/usr/sbin/exim4")


def made(directory: Path, *, clock: Clock | None = None, secrets: dict[str, str] | None = None, **options: Any) -> Batv:
    secrets = {"0": SECRET} if secrets is None else secrets
    for number, secret in secrets.items():
        (directory / f"batv-{number}").write_text(f"{secret}\n")
    keys = {number: f"batv-{number}" for number in secrets}
    context = FakeContext(clock=clock, base_directory=str(directory))
    return Batv(Options.model_validate({"domains": ["Example.org"], "keys": keys, **options}), name="batv", context=context)


def signed(plugin: Batv, mailbox: str = "alice@example.org", client_class: str = "authenticated") -> str | None:
    answer = plugin.mail(a_transaction(reverse_path=mailbox, session=a_session(client_class=client_class)))
    return None if answer is None else answer.path


async def come(plugin: Batv, recipient: str, reverse_path: str = "", *, headers: Any = (), **session: Any) -> Any:
    transaction = a_transaction(reverse_path=reverse_path, recipients=[recipient], session=a_session(**session))
    return await run_chain([plugin], transaction=transaction, message=a_message(headers=headers), context=plugin.context)


async def comes_to(plugin: Batv, recipient: str, reverse_path: str = "", **facts: Any) -> str:
    """The path that the next hop gets, or why there is none."""
    result = await come(plugin, recipient, reverse_path, **facts)
    if result.verdict is None:
        return str(result.recipients[0].sent_path.decode())
    assert isinstance(result.verdict, Reject)
    assert (result.verdict.code, result.verdict.enhanced, result.verdict.reason) == (550, "5.7.1", "batv-invalid")
    return f"refused at {result.decision.hook}: {result.verdict.evidence.partition(':')[0]}"


async def test_there_and_back(tmp_path: Path) -> None:
    plugin = made(tmp_path, clock=Clock(1_795_000_000.0))  # day 20775, so 775
    tagged = signed(plugin, "Alice@Example.org")
    assert tagged is not None
    assert tagged.startswith("prvs=0782")
    assert tagged.endswith("=Alice@example.org")
    assert await comes_to(plugin, tagged) == "<Alice@example.org>"
    assert await comes_to(plugin, tagged.lower()) == "<alice@example.org>"  # some servers write it so
    assert await comes_to(plugin, tagged.upper()) == "<ALICE@example.org>"
    assert await comes_to(plugin, tagged, "carol@client.example") == "<Alice@example.org>"  # a reply to the envelope's sender


@pytest.mark.parametrize(
    ("mailbox", "client_class"),
    [
        ("", "authenticated"),
        ("alice@client.example", "authenticated"),
        ("alice@example.org", "stranger"),
        ("postmaster@example.org", "authenticated"),
        ("list-7@example.org", "trusted"),
        ("prvs=0782abcdef=alice@example.org", "trusted"),
        ("SRS0=x7Qa=JP=client.example=alice@example.org", "trusted"),
    ],
)
async def test_what_is_not_signed(tmp_path: Path, mailbox: str, client_class: str) -> None:
    assert signed(made(tmp_path, exempt=["postmaster@", "list-7@example.org"]), mailbox, client_class) is None


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        ("alice@example.org", "refused at rcpt: unsigned"),
        ("prvs=0782abcdef=alice@example.org", "refused at rcpt: forged"),
        ("prvs=1782abcdef=alice@example.org", "refused at rcpt: forged"),  # there is no such key
        ("prvs=782abcdef=alice@example.org", "refused at rcpt: unsigned"),
        ("postmaster@example.org", "<postmaster@example.org>"),
        ("prvs=0782abcdef=postmaster@example.org", "<prvs=0782abcdef=postmaster@example.org>"),
        ("alice@elsewhere.example", "<alice@elsewhere.example>"),
        ("SRS0=x7Qa=JP=client.example=alice@example.org", "<SRS0=x7Qa=JP=client.example=alice@example.org>"),
    ],
)
async def test_bounces(tmp_path: Path, recipient: str, answer: str) -> None:
    assert await comes_to(made(tmp_path), recipient) == answer


async def test_whose_bounces_are_checked(tmp_path: Path) -> None:
    plugin = made(tmp_path, exempt_networks=["192.0.2.0/24"])
    assert await comes_to(plugin, "alice@example.org", "carol@client.example") == "<alice@example.org>"
    assert await comes_to(plugin, "alice@example.org", client_class="trusted") == "<alice@example.org>"
    assert await comes_to(plugin, "alice@example.org") == "<alice@example.org>"
    assert await comes_to(plugin, "alice@example.org", client_address="198.51.100.1") == "refused at rcpt: unsigned"


async def test_a_forged_tag_of_no_bounce_is_left_to_the_next_hop(tmp_path: Path) -> None:
    recipient = "prvs=0782abcdef=alice@example.org"
    assert await comes_to(made(tmp_path), recipient, "carol@client.example") == f"<{recipient}>"


async def test_a_tag_expires(tmp_path: Path) -> None:
    clock = Clock()
    plugin = made(tmp_path, clock=clock, lifetime="3d")
    tagged = signed(plugin) or ""
    clock.move(3 * DAY)
    assert await comes_to(plugin, tagged) == "<alice@example.org>"
    clock.move(DAY)
    assert await comes_to(plugin, tagged) == "refused at rcpt: expired"
    assert await comes_to(plugin, tagged, "carol@client.example") == "<alice@example.org>"


async def test_days_begin_anew_after_a_thousand(tmp_path: Path) -> None:
    clock = Clock(20_998.0 * DAY)
    plugin = made(tmp_path, clock=clock)
    tagged = signed(plugin) or ""
    assert tagged.startswith("prvs=0005")
    assert await comes_to(plugin, tagged) == "<alice@example.org>"
    clock.move(7 * DAY)
    assert await comes_to(plugin, tagged) == "<alice@example.org>"
    clock.move(DAY)
    assert await comes_to(plugin, tagged) == "refused at rcpt: expired"


async def test_keys_rotate(tmp_path: Path) -> None:
    tagged = signed(made(tmp_path)) or ""
    both = made(tmp_path, secrets={"0": SECRET, "1": OTHER}, sign_with=1)
    assert (signed(both) or "").startswith("prvs=1")
    assert await comes_to(both, tagged) == "<alice@example.org>"
    assert await comes_to(made(tmp_path, secrets={"1": OTHER}), tagged) == "refused at rcpt: forged"
    assert [str(one) for one in both.files_read] == [str(tmp_path / "batv-0"), str(tmp_path / "batv-1")]


async def test_after_the_content(tmp_path: Path) -> None:
    plugin = made(tmp_path, stage="content")
    assert await comes_to(plugin, "alice@example.org") == "refused at judge: unsigned"
    assert await comes_to(plugin, signed(plugin) or "") == "<alice@example.org>"
    receipt = [("Content-Type", 'multipart/report; boundary=x; report-type="disposition-notification"')]
    assert await comes_to(plugin, "alice@example.org", headers=receipt) == "<alice@example.org>"
    report = [("Content-Type", "multipart/report; report-type=delivery-status; boundary=x")]
    assert await comes_to(plugin, "alice@example.org", headers=report) == "refused at judge: unsigned"


async def test_each_recipient_of_a_bounce_has_its_own_answer(tmp_path: Path) -> None:
    plugin = made(tmp_path, stage="content")
    tagged = signed(plugin) or ""
    transaction = a_transaction(reverse_path="", recipients=[tagged, "bob@example.org", "postmaster@example.org"])
    decisions = (await run_chain([plugin], transaction=transaction, context=plugin.context)).decisions
    assert [one is None for one in decisions.values()] == [True, False, True]


@pytest.mark.parametrize("unsigned", ["score", "ignore"])
async def test_a_score_or_nothing(tmp_path: Path, unsigned: str) -> None:
    result = await come(made(tmp_path, unsigned=unsigned), "alice@example.org")
    score = Score(symbol="BATV_BOUNCE", weight=4.0, evidence="a bounce to an address that is unsigned")
    fact = Fact(name="batv.bounce", value="unsigned")
    assert (result.verdict, result.findings) == (None, (fact, score) if unsigned == "score" else (fact,))


async def test_findings_of_a_good_bounce_and_of_other_mail(tmp_path: Path) -> None:
    plugin = made(tmp_path)
    assert (await come(plugin, signed(plugin) or "")).findings == (Fact(name="batv.bounce", value="signed"),)
    assert (await come(plugin, "alice@example.org", "carol@client.example")).findings == ()


async def test_a_list_of_recipients_behind_it_sees_the_address_without_its_tag(tmp_path: Path) -> None:
    plugin = made(tmp_path)
    known = Recipients(RecipientsOptions(known={"example.org": ("alice",)}), name="recipients")
    orders: list[tuple[list[Plugin[Any]], str | None]] = [([plugin, known], None), ([known, plugin], "unknown-recipient")]
    for order, answer in orders:
        transaction = a_transaction(reverse_path="", recipients=[signed(plugin) or ""])
        verdict = (await run_chain(order, transaction=transaction, context=FakeContext(base_directory=str(tmp_path)))).verdict
        assert (verdict.reason if verdict is not None else None) == answer


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"domains": []}, "at least 1"),
        ({"keys": {"10": "x"}}, "one digit"),
        ({"keys": {"a": "x"}}, "one digit"),
        ({"keys": {"0": "x", "1": "y"}}, "sign_with"),
        ({"sign_with": 3}, "allowed: 0"),
        ({"lifetime": "1h"}, "lifetime"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Options.model_validate({"domains": ["example.org"], "keys": {"0": "x"}, **options})
    assert told in str(error.value)


@pytest.mark.parametrize("secret", ["", "short", "x" * 70_000])
def test_keys_that_are_none_stop_the_start(tmp_path: Path, secret: str) -> None:
    with pytest.raises(OptionError, match="allowed: a file with a secret of 16 octets"):
        made(tmp_path, secrets={"0": secret})
    with pytest.raises(OptionError, match="nowhere"):
        made(tmp_path, keys={"0": "nowhere"})


LOCAL_PARTS = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1, max_size=30
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(LOCAL_PARTS)
async def test_every_local_part_comes_back(tmp_path: Path, local_part: str) -> None:
    quoted = "".join(f"\\{c}" if c in '"\\' else c for c in local_part)
    plugin = made(tmp_path)
    tagged = signed(plugin, f'"{quoted}"@example.org')
    assert tagged is not None
    assert await comes_to(plugin, tagged) in {f"<{local_part}@example.org>", f'<"{quoted}"@example.org>'}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.from_regex(r"prvs=[0-9]{4}[0-9a-f]{6}=[a-z]{1,5}", fullmatch=True) | st.text(max_size=30).map(lambda text: f"prvs={text}")
)
async def test_nothing_passes_without_our_signature(tmp_path: Path, local_part: str) -> None:
    quoted = "".join(f"\\{c}" if c in '"\\' else c for c in local_part)
    assert (await comes_to(made(tmp_path), f'"{quoted}"@example.org')).startswith("refused at rcpt: ")


def exim(expansion: str) -> str:
    command = [str(EXIM), "-C", "/dev/null", "-be", expansion]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


@pytest.fixture
def has_exim() -> None:
    if not EXIM.exists():
        reason = f"{EXIM} is not there: tests/install-servers unpacks it (root on Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("has_exim")
async def test_exim_makes_and_reads_the_same(tmp_path: Path) -> None:
    plugin = made(tmp_path, clock=Clock(time.time()), secrets={"3": SECRET})
    for mailbox in ("alice@example.org", "a.b-c_d@example.org"):
        theirs = exim(f"${{prvs{{{mailbox}}}{{{SECRET}}}{{3}}}}")
        assert signed(plugin, mailbox) == theirs
        checked = exim(f"${{prvscheck{{{signed(plugin, mailbox)}}}{{{SECRET}}}{{$prvscheck_result $prvscheck_address}}}}")
        assert checked == f"1 {mailbox}"
        assert await comes_to(plugin, theirs) == f"<{mailbox}>"
    mixed = exim(f"${{prvs{{Alice@example.org}}{{{SECRET}}}{{3}}}}")  # Exim signs the case that it sees
    assert await comes_to(plugin, mixed) == "<Alice@example.org>"


async def test_what_both_sides_see(tmp_path: Path) -> None:
    """Through the whole gateway: signed on the way out, without the tag on the way in, refused otherwise."""
    (tmp_path / "batv").write_text(SECRET)
    options = {"batv": {"domains": ["example.org"], "keys": {"0": "batv"}}}
    config = '[[listener]]\nname = "mx"\nbind = "127.0.0.1:0"\ntrusted_networks = ["127.0.0.2/32"]\n'
    async with EndToEnd(plugins=["batv"], options=options, config=config, base=tmp_path) as mail:
        out = await mail.send(reverse_path="alice@example.org", recipients=["carol@example.net"], client_address="127.0.0.2")
        tagged = out.taken[0].reverse_path.decode().strip("<>")
        bounce = await mail.send(reverse_path="", recipients=[tagged, "alice@example.org"])
    assert tagged.startswith("prvs=0")
    assert tagged.endswith("=alice@example.org")
    assert bounce.replies[2].startswith("550 5.7.1 This address has sent no message that this is a bounce of")
    assert (bounce.code, bounce.taken[0].paths) == (250, [b"<alice@example.org>"])
