"""Sealing: what we seal others verify, hop after hop; what must not be sealed is not; keys stay where they are."""

from __future__ import annotations

import base64
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import dkim
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding

from gateway import AddHeader, AuthResult, Edit, Fact, Message, OptionError, Plugin, Transaction, hook, remove_header
from gateway.content import Content
from gateway.mailauth import own_field, relaxed_field, render_tags, with_signature
from gateway.plugins.arc import Arc, ArcFinding
from gateway.plugins.arc import Options as ArcOptions
from gateway.plugins.arc_seal import ArcSeal, Options
from gateway.plugins.authres import AuthRes
from gateway.plugins.dkim_sign import DkimSign, KeyOptions
from gateway.plugins.dkim_sign import Options as DkimSignOptions
from gateway.testing import TEMPFAIL, Clock, FakeContext, FakeResolver, Result, a_session, a_transaction, run_chain
from tests.arc_chains import PLAIN, chain, pem, sealed, zones
from tests.arc_chains import key as private_key

NOW = 1_795_000_000.0
HOPS = [f"hop{number}.example" for number in range(1, 8)]
US = "us.example"
ALL = zones(*HOPS, US)
EIGHT_BIT = PLAIN.replace(b"Subject: news of", "Subject: d\u00e9j\u00e0 vu".encode()).replace(b"how", "c\u00f3mo".encode())
BODIES = [b"", b"\r\n\r\n", b"no line end", b"a  \t b \r\n\r\n\r\n", b"..\r\n.\r\n"]


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`key.pem` in the directory of the configuration."""
    file = tmp_path / "key.pem"
    file.write_bytes(pem())
    file.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return file


class Spf(Plugin):
    """Something to tell."""

    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

    @hook
    async def check(self) -> AuthResult:
        return AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "author.example"),))


def sealer(domain: str = US) -> ArcSeal:
    return ArcSeal(Options(domain=domain, selector="sel", file="key.pem"))


async def run(
    content: bytes,
    *plugins: Plugin[Any],
    table: dict[str, Any] | None = None,
    domain: str = US,
    utf8: bool = False,
    now: float = NOW,
    **facts: Any,
) -> Result:
    context = FakeContext(resolver=FakeResolver(ALL if table is None else table), clock=Clock(now), authserv_id=f"mx.{domain}")
    parameters = ("SMTPUTF8",) if utf8 else ()
    transaction = a_transaction(session=a_session(client_address="192.0.2.9"), parameters=parameters)
    message = Message(Content(content))
    for name, value in facts.items():
        setattr(message.content, name, value)
    return await run_chain(plugins or (Spf(), Arc(), sealer(domain)), message=message, transaction=transaction, context=context)


def on_top(fields: tuple[AddHeader, ...], content: bytes) -> bytes:
    for field in fields:
        content = f"{field.name}: {field.value}\r\n".encode() + content
    return content


async def seal(content: bytes, domain: str = US) -> bytes:
    result = await run(content, domain=domain)
    assert [field.name for field in result.signatures] == ["ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"]
    return on_top(result.signatures, content)


async def unsealed(*arguments: Any, **settings: Any) -> str:
    result = await run(*arguments, **settings)
    assert result.signatures == ()
    [reason] = [one.value for one in result.findings if isinstance(one, Fact) and one.name == "arcseal.unsealed"] or [
        step["findings"][0]["value"] for step in result.trace if step["stage"] == "sign" and step["findings"]
    ]
    return str(reason)


async def ours(content: bytes, table: dict[str, Any] | None = None, *, now: float = NOW) -> ArcFinding:
    result = await run(content, Arc(), table=table, now=now)
    [found] = result.transaction.findings.of(ArcFinding)
    return found


def dkimpys(content: bytes) -> str:
    """What dkimpy says of the chain."""

    def ask(name: bytes, timeout: float = 5) -> bytes | None:
        found = ALL.get(name.decode().rstrip("."))
        return found["TXT"][0].encode() if found else None

    state, _, reason = dkim.arc_verify(content, dnsfunc=ask)
    return state.decode() if state else f"none ({reason})"


async def test_the_three_fields() -> None:
    result = await run(PLAIN)
    results, signature, seal_ = (field.value for field in result.signatures)
    assert results.startswith("i=1; mx.us.example;\r\n\tspf=pass smtp.mailfrom=author.example;\r\n\tarc=none ")
    tags = dict(part.strip().split("=", 1) for part in re.sub(r"\s", "", signature).split(";"))
    assert (tags["i"], tags["a"], tags["c"], tags["d"], tags["s"]) == ("1", "rsa-sha256", "relaxed/relaxed", US, "sel")
    assert tags["t"] == "1795000000"
    assert tags["h"] == "from:from:subject:date:message-id:to"
    assert re.sub(r"\s", "", seal_).startswith("i=1;a=rsa-sha256;cv=none;d=us.example;s=sel;t=1795000000;b=")
    for field in result.signatures:
        assert max(len(line) for line in f"{field.name}: {field.value}".split("\r\n")) <= 78


@pytest.mark.parametrize("body", BODIES)
async def test_dkimpy_verifies_ours(body: bytes) -> None:
    content = await seal(PLAIN.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body)
    assert dkimpys(content) == "pass"
    assert (await ours(content)).result == "pass"


PATHS = [path for length in (2, 3) for path in itertools.product("ot", repeat=length)] + [
    tuple("otoot"),
    tuple("tottt"),
    tuple("ooooo"),
]
"""Who seals at each hop: we or they."""


@pytest.mark.parametrize("path", PATHS, ids="".join)
async def test_hops_of_both(path: tuple[str, ...]) -> None:
    content = EIGHT_BIT
    for domain, who in zip(HOPS, path, strict=False):
        content = await seal(content, domain) if who == "o" else sealed(content, domain)
        assert dkimpys(content) == "pass", domain
    found = await ours(content)
    assert (found.result, found.property("header.oldest-pass")) == ("pass", "0")
    assert found.sealers == tuple(HOPS[: len(path)])
    broken = content.replace(b"Hello", b"Hallo")
    assert (await ours(broken)).result == "fail"
    assert dkimpys(broken) == "fail"


async def test_a_list_between_two_of_ours() -> None:
    content = (
        (await seal(PLAIN, HOPS[0])).replace(b"Subject: ", b"Subject: [list] ").replace(b"you?\r\n", b"you?\r\n-- \r\nfooter\r\n")
    )
    content = sealed(content, HOPS[1])
    content = await seal(content, HOPS[2])
    found = await ours(content)
    assert (found.result, found.property("header.oldest-pass")) == ("pass", "2")
    assert dkimpys(content) == "pass"


async def test_a_from_that_is_added_breaks_it() -> None:
    content = await seal(PLAIN)
    assert (await ours(b"From: <evil@evil.example>\r\n" + content)).result == "fail"


async def test_a_chain_that_failed_is_sealed_as_such_and_only_once() -> None:
    """RFC 8617 5.1.2: the seal covers its own set alone."""
    broken = chain(HOPS[0], HOPS[1]).replace(b"Hello", b"Hallo")
    result = await run(broken)
    assert "cv=fail" in result.signatures[2].value
    assert result.signatures[0].value.startswith("i=3; mx.us.example;")
    content = on_top(result.signatures, broken)
    found = await ours(content)
    assert (found.result, found.reason) == ("fail", "i=3: sealed as a failed chain (cv=fail)")
    # With the set alone, as if it were the only one, the seal is right.
    alone = on_top(result.signatures, PLAIN.replace(b"Hello", b"Hallo")).replace(b"i=3;", b"i=1;")
    assert b"cv=fail" in alone
    assert await unsealed(content) == "it was sealed as a failed chain before"


async def test_the_seal_of_a_failed_chain_signs_its_own_set() -> None:
    """The hash, computed by other means."""
    broken = chain(HOPS[0]).replace(b"Hello", b"Hallo")
    result = await run(broken)
    lines = [re.sub(r"\s+", " ", field.value.replace("\r\n", "")) for field in result.signatures]
    lines[2], _, value = lines[2].partition("; b=")
    lines[2] += "; b="
    signature = base64.b64decode(value.replace(" ", ""))
    names = ("arc-authentication-results", "arc-message-signature", "arc-seal")
    signed = "\r\n".join(f"{name}:{line}" for name, line in zip(names, lines, strict=True)).encode()

    private_key(1024).public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


async def test_no_fifty_first_set() -> None:
    content = PLAIN
    for number in range(1, 51):
        content = await seal(content)
        if number in {1, 50}:
            assert (await ours(content)).result == "pass"
    assert await unsealed(content) == "the chain has 50 sets or more"


async def test_a_flood_of_fields() -> None:
    flood = b"".join(b"ARC-Seal: i=%d; cv=none; b=x\r\n" % number for number in range(1000)) + PLAIN
    assert await unsealed(flood) == "the chain has 50 sets or more"


async def test_a_failure_of_dns_seals_nothing() -> None:
    dead = ALL | {f"sel._domainkey.{HOPS[0]}": {"TXT": TEMPFAIL}}
    assert (await unsealed(chain(HOPS[0]), table=dead)).startswith("whether the chain is valid could not be told")


async def test_without_arc_nothing_is_sealed() -> None:
    assert (await unsealed(PLAIN, Spf(), sealer())).startswith("nobody verified the chain")


async def test_binary_content_is_not_sealed() -> None:
    assert (await unsealed(PLAIN, is_binary=True)).startswith("binary content")


async def test_more_fields_than_h_can_name() -> None:
    assert await unsealed(b"To: x@example.org\r\n" * 200 + PLAIN) == "too many header fields"


class Remover(Plugin):
    """A plugin that takes a chain apart."""

    @hook
    async def rewrite(self, transaction: Transaction) -> Edit:
        assert transaction is not None
        return remove_header("ARC-Seal", 0)


class Cleaner(Plugin):
    """One that removes it."""

    @hook
    async def rewrite(self) -> list[Edit]:
        return [remove_header(f"ARC-{name}") for name in ("Seal", "Message-Signature", "Authentication-Results")]


async def test_a_chain_that_was_changed_here_is_not_sealed() -> None:
    content = chain(HOPS[0], HOPS[1])
    assert (await unsealed(content, Arc(), Remover(), sealer())).startswith(
        "the chain was changed on the way through here: i=2: no ARC-Seal"
    )
    assert (await unsealed(content, Arc(), Cleaner(), sealer())).startswith("fields of a chain were added or removed")


async def test_the_whole_chain_of_plugins() -> None:
    """What `authres` writes and `dkim_sign` adds stands below the set, and the next gateway finds it valid."""
    signing = DkimSign(
        DkimSignOptions(
            key=(KeyOptions(domain="author.example", selector="sel", file="key.pem"),),
            clients=("stranger",),
            listeners=("default",),
        )
    )
    plugins: list[Plugin[Any]] = [Spf(), Arc(), AuthRes(), signing, sealer()]
    result = await run(PLAIN, *plugins)
    names = [field.name for field in result.signatures]
    assert names == ["DKIM-Signature", "ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"]
    [edit] = result.edits
    assert isinstance(edit, AddHeader)
    content = on_top(result.signatures, on_top((edit,), PLAIN))
    assert (await ours(content)).result == "pass"
    assert dkimpys(content) == "pass"


async def test_internationalized_results() -> None:
    class Other(Plugin):
        gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

        @hook
        async def check(self) -> AuthResult:
            return AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "j\u00f6rg@b\u00fccher.example"),))

    for utf8 in (False, True):
        result = await run(EIGHT_BIT, Other(), Arc(), sealer(), utf8=utf8)
        assert result.signatures[0].value.isascii() != utf8
        assert (await ours(on_top(result.signatures, EIGHT_BIT))).result == "pass"


async def test_an_ed25519_key(tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed.pem").write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "ed.pem").chmod(0o600)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    table = ALL | {"ed._domainkey.us.example": {"TXT": [f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"]}}
    content = chain(HOPS[0])
    result = await run(content, Arc(), ArcSeal(Options(domain=US, selector="ed", file="ed.pem")))
    content = on_top(result.signatures, content)
    assert (await ours(content, table)).result == "pass"
    assert (await ours(content.replace(b"Hello", b"Hallo"), table)).result == "fail"


async def test_an_older_message_signature_that_cannot_count_ends_the_run() -> None:
    """RFC 8617 5.2, step 5: it does not make the chain fail."""
    message = Message(Content(chain(HOPS[0])))
    results, signature = message.fields_named("ARC-Authentication-Results")[0], message.fields_named("ARC-Message-Signature")[0]
    unusable = signature.octets.replace(b"i=1;", b"i=1; l=none;")
    content = await _reseal(unusable + results.octets + PLAIN)
    assert (await ours(content)).reason == "i=1: ARC-Message-Signature: l= is not a number"
    found = await ours(sealed(content, HOPS[1]))
    assert (found.result, found.property("header.oldest-pass")) == ("pass", "2")
    assert found.reason == "2 sets, the newest of hop2.example; i=1: ARC-Message-Signature: l= is not a number"


async def _reseal(content: bytes) -> bytes:
    """A seal i=1 over the set that stands on top without one."""

    message = Message(Content(content))
    unsigned = render_tags("ARC-Seal", [("i", "1"), ("a", "rsa-sha256"), ("cv", "none"), ("d", HOPS[0]), ("s", "sel")])
    octets = b""
    for name in ("ARC-Authentication-Results", "ARC-Message-Signature"):
        [one] = message.fields_named(name)
        octets += relaxed_field(name.encode(), one.raw)
    octets += own_field(f"ARC-Seal: {unsigned}".encode(), is_relaxed=True)
    signature = private_key(1024).sign(octets, padding.PKCS1v15(), hashes.SHA256())
    return f"ARC-Seal: {with_signature('ARC-Seal', unsigned, signature)}\r\n".encode() + content


def test_a_key_that_cannot_be_used(key: Path) -> None:
    key.chmod(0o644)
    with pytest.raises(OptionError, match="everybody may read"):
        sealer()
    ArcSeal(Options(domain=US, selector="sel", file="key.pem", key_permissions="any"))
    key.unlink()
    with pytest.raises(OptionError, match="cannot be read"):
        sealer()


@pytest.mark.parametrize("names", [{"domain": "no name"}, {"selector": ""}])
def test_names_that_cannot_be(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a name in DNS"):
        Options(**({"domain": US, "selector": "sel", "file": "key.pem"} | names))


def test_the_default_of_arc_trusts_nobody() -> None:
    assert ArcOptions().trusted_sealers == ()


VERIFIER = r"""
use Mail::DKIM::ARC::Verifier; use Mail::DKIM::DNS;
no warnings 'redefine';
my %keys = map { chomp; split /\t/, $_, 2 } do { open my $f, '<', $ARGV[0] or die; <$f> };
{ package Answer; sub new { my ($c, $t) = @_; bless { t => $t }, $c } sub type { 'TXT' } sub char_str_list { ($_[0]{t}) } sub txtdata { $_[0]{t} } }
*Mail::DKIM::DNS::query = sub { my ($name) = @_; exists $keys{$name} ? (Answer->new($keys{$name})) : () };
my $verifier = Mail::DKIM::ARC::Verifier->new();
open my $mail, '<:raw', $ARGV[1] or die;
while (<$mail>) { $verifier->PRINT($_) }
$verifier->CLOSE;
print $verifier->result, "\n";
"""


def perl_verifies(folder: Path, content: bytes) -> str:
    (folder / "message").write_bytes(content)
    command: list[str | Path] = ["perl", folder / "verify.pl", folder / "keys", folder / "message"]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout.decode().strip()


@pytest.fixture
def perl(tmp_path: Path) -> Path:
    """A folder with a verifier of Perl's Mail::DKIM, which asks no name server."""
    there = ["perl", "-MMail::DKIM::ARC::Verifier", "-e", "1"]
    if not shutil.which("perl") or subprocess.run(there, check=False, capture_output=True).returncode:
        pytest.skip("Mail::DKIM (package libmail-dkim-perl) is not installed")
    (tmp_path / "keys").write_text("".join(f"{name}\t{records['TXT'][0]}\n" for name, records in ALL.items()))
    (tmp_path / "verify.pl").write_text(VERIFIER)
    return tmp_path


@pytest.mark.real
async def test_perls_mail_dkim_verifies_ours(perl: Path) -> None:
    content = EIGHT_BIT
    for place, domain in enumerate(HOPS[:5]):
        content = sealed(content, domain) if place == 2 else await seal(content, domain)
        assert perl_verifies(perl, content) == "pass"
    assert perl_verifies(perl, content.replace(b"Hello", b"Hallo")) == "fail"
