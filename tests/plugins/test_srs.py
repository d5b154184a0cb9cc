"""The plugin `srs`: addresses made and led back, what is refused, rotation of secrets, and Mail::SRS as the other opinion."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import Context, Reject, UseForwardPath
from gateway.plugins.srs import Options, Srs
from gateway.testing import Clock, FakeContext, a_recipient, a_session, a_transaction, run_plugin

SECRET = "a secret of some length"
DAY = 86_400


async def started(
    directory: Path, *, secrets: str = SECRET, clock: Clock | None = None, domain: str = "fwd.example", **more: Any
) -> Srs:
    file = directory / f"secrets-{domain}"
    file.write_text(f"{secrets}\n")
    context = cast("Context", FakeContext(clock=clock))
    options = Options.model_validate({"domain": domain, "secrets_file": str(file), "own_domains": ["Example.org"], **more})
    plugin = Srs(options, name="srs", context=context)
    await plugin.startup(context)
    return plugin


def rewritten(plugin: Srs, reverse_path: str, client_class: str = "trusted") -> str | None:
    answer = plugin.mail(a_transaction(reverse_path=reverse_path, session=a_session(client_class=client_class)))
    return None if answer is None else answer.path


def back(plugin: Srs, mailbox: str) -> str | None:
    answer = plugin.rcpt(a_recipient(mailbox))
    if isinstance(answer, Reject):
        assert (answer.code, answer.enhanced, answer.reason) == (550, "5.1.1", "srs-invalid")
        return f"refused: {answer.evidence.partition(' (')[0]}"
    return answer.path if isinstance(answer, UseForwardPath) else None


async def test_there_and_back(tmp_path: Path) -> None:
    plugin = await started(tmp_path)
    made = rewritten(plugin, "Alice@client.example")
    assert made is not None
    assert made.startswith("SRS0=")
    assert made.endswith("=client.example=Alice@fwd.example")
    assert back(plugin, made) == "Alice@client.example"
    assert back(plugin, made.lower()) == "alice@client.example"  # some servers write it so
    assert back(plugin, made.upper()) == "ALICE@CLIENT.EXAMPLE"


async def test_a_second_forwarder_keeps_the_first_and_a_third_takes_the_place_of_the_second(tmp_path: Path) -> None:
    first, second, third = [
        await started(tmp_path, domain=name, secrets=name * 3) for name in ("one.example", "two.example", "three.example")
    ]
    by_first = rewritten(first, "alice@client.example") or ""
    by_second = rewritten(second, by_first) or ""
    by_third = rewritten(third, by_second) or ""
    assert by_third.startswith("SRS1=")
    assert by_third.endswith("@three.example")
    assert back(third, by_third) == by_first
    assert back(second, by_second) == by_first
    assert back(first, by_first) == "alice@client.example"
    assert back(second, by_third.replace("three.example", "two.example")) == "refused: not our signature"


@pytest.mark.parametrize(
    ("reverse_path", "client_class"),
    [("", "trusted"), ("bob@example.org", "trusted"), ("bob@fwd.example", "trusted"), ("alice@client.example", "stranger")],
)
async def test_what_stays_as_it_is(tmp_path: Path, reverse_path: str, client_class: str) -> None:
    assert rewritten(await started(tmp_path), reverse_path, client_class) is None


@pytest.mark.parametrize(
    "mailbox", ["bob@fwd.example", "SRS0=x=y@elsewhere.example", "SRS2=a=b=c=d@fwd.example", "srs0@fwd.example"]
)
async def test_other_recipients_are_none_of_its_business(tmp_path: Path, mailbox: str) -> None:
    assert back(await started(tmp_path), mailbox) is None


@pytest.mark.parametrize(
    ("local_part", "why"),
    [
        ("SRS0=AAAA=JP=client.example=alice", "not our signature"),
        ("SRS0==JP=client.example=alice", "not as SRS0 is written"),
        ("SRS0=AAAA=JP=client.example", "not as SRS0 is written"),
        ("SRS1=AAAA=one.example==x=JP=client.example=alice", "not our signature"),
        ("SRS1=AAAA=one.example=x", "not as SRS1 is written"),
        ("SRS1=", "not as SRS1 is written"),
    ],
)
async def test_what_we_did_not_make_is_refused(tmp_path: Path, local_part: str, why: str) -> None:
    assert back(await started(tmp_path), f"{local_part}@fwd.example") == f"refused: {why}"


async def test_an_address_ages(tmp_path: Path) -> None:
    clock = Clock()
    plugin = await started(tmp_path, clock=clock, max_age="7d")
    made = rewritten(plugin, "alice@client.example") or ""
    clock.move(7 * DAY)
    assert back(plugin, made) == "alice@client.example"
    clock.move(DAY)
    assert back(plugin, made) == "refused: too old"
    clock.move(-9 * DAY)  # of tomorrow: nobody made it
    assert back(plugin, made) == "refused: too old"


async def test_secrets_rotate(tmp_path: Path) -> None:
    made = rewritten(await started(tmp_path), "alice@client.example") or ""
    after = await started(tmp_path, secrets=f"a newer secret of ours\n{SECRET}")
    assert back(after, made) == "alice@client.example"
    assert rewritten(after, "alice@client.example") != made
    assert back(await started(tmp_path, secrets="a newer secret of ours"), made) == "refused: not our signature"


@pytest.mark.parametrize(
    "secrets", ["", "short", "long enough a secret\nshort", "x" * 70_000, "\n".join(["a secret of some length"] * 11)]
)
async def test_secrets_that_are_none_stop_the_start(tmp_path: Path, secrets: str) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 10 lines"):
        await started(tmp_path, secrets=secrets)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1, max_size=30))
async def test_every_local_part_comes_back(tmp_path: Path, local_part: str) -> None:
    quoted = "".join(f"\\{c}" if c in '"\\' else c for c in local_part)
    transaction = a_transaction(reverse_path=f'"{quoted}"@client.example', session=a_session(client_class="trusted"))
    plugin = await started(tmp_path)
    sent = (await run_plugin(plugin, transaction=transaction)).transaction.sent_reverse_path.decode()[1:-1]
    answer = back(plugin, sent)
    assert answer in {f"{local_part}@client.example", f'"{quoted}"@client.example'}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.text(max_size=60))
async def test_no_address_is_led_anywhere_without_our_signature(tmp_path: Path, rest: str) -> None:
    answer = back(await started(tmp_path), f"SRS0={rest}@fwd.example")
    assert answer is None or answer.startswith("refused: ")


PERL = """
use Mail::SRS;
my $srs = new Mail::SRS(Secret => [$ARGV[0]], MaxAge => 21, HashLength => 4, HashMin => 4);
for my $line (<STDIN>) { chomp $line; my ($what, $address) = split / /, $line;
  print $what eq "forward" ? $srs->forward($address, "fwd.example") : $srs->reverse($address), "\\n"; }
"""


def mail_srs(lines: list[str]) -> list[str]:
    done = subprocess.run(["perl", "-e", PERL, SECRET], input="\n".join(lines), capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture
def has_mail_srs() -> None:
    perl = shutil.which("perl")
    if perl is None or subprocess.run([perl, "-MMail::SRS", "-e", "1"], check=False, capture_output=True).returncode:
        reason = "Mail::SRS is not installed: tests/install-servers installs it (root on Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("has_mail_srs")
async def test_mail_srs_makes_and_reads_the_same(tmp_path: Path) -> None:
    plugin = await started(tmp_path, clock=Clock(time.time()))
    senders = ["alice@client.example", "A.b+c=d@Client.example", "SRS0=abcd=JP=client.example=alice@one.example"]
    senders.append("SRS1=abcd=one.example==efgh=JP=client.example=alice@two.example")
    ours = [rewritten(plugin, one) or "" for one in senders]
    theirs = mail_srs([f"forward {one}" for one in senders])
    assert [one.lower() for one in ours] == [one.lower() for one in theirs]
    assert [back(plugin, one) for one in theirs[:2]] == ["alice@client.example", "A.b+c=d@Client.example"]
    assert [one.lower() for one in mail_srs([f"reverse {one}" for one in ours[:3]])] == [one.lower() for one in senders[:3]]
