"""arc, dmarc and authres together: a list that changes messages, seals them, and is or is not trusted (RFC 8617 7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import AddHeader, Plugin, Reject
from gateway.mailauth.arc import ArcFinding
from gateway.plugins.arc import Arc
from gateway.plugins.arc import Options as ArcOptions
from gateway.plugins.authres import AuthRes
from gateway.plugins.dkim import Dkim
from gateway.plugins.dmarc import Dmarc, DmarcFinding, Options
from gateway.testing import FakeContext, FakeResolver, Result, a_message, run_chain
from tests.arc_chains import PLAIN, chain, zones

LIST = "lists.example"
PASSED = "dmarc=pass header.from=author.example"
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; d=author.example; s=sel; h=from; bh=AAAA; b=AAAA\r\n"


async def run(content: bytes, *trusted: str, **options: Any) -> tuple[DmarcFinding, Result]:
    table = {**zones(LIST, "other.example", "author.example"), "_dmarc.author.example": {"TXT": ["v=DMARC1; p=reject"]}}
    context: Any = FakeContext(resolver=FakeResolver(table))
    settings = Options.model_validate({"verdict": "policy", **options})
    plugins: list[Plugin[Any]] = [Dkim(), Arc(ArcOptions(trusted_sealers=trusted)), Dmarc(settings), AuthRes()]
    result = await run_chain(plugins, message=a_message(SIGNATURE + content), context=context)
    [finding] = result.transaction.findings.of(DmarcFinding)
    return finding, result


async def test_a_list_that_is_trusted() -> None:
    finding, result = await run(chain(LIST, results=PASSED), LIST)
    assert (finding.result, finding.is_let_through, result.verdict) == ("fail", True, None)
    assert finding.override == ("local_policy", f"arc=pass, sealed by {LIST}, which saw dmarc=pass")
    [added] = [one for one in result.edits if isinstance(one, AddHeader)]
    written = " ".join(added.value.split())
    assert "arc=pass" in written
    assert "header.from=author.example policy.dmarc=reject policy.override=local_policy" in written
    assert 'dmarc=fail reason="let through, local_policy: arc=pass, sealed by lists.example' in written


@pytest.mark.parametrize(
    ("content", "trusted", "options"),
    [
        (chain(LIST, results=PASSED), (), {}),
        (chain(LIST, results=PASSED), ("other.example",), {}),
        (chain(LIST, results=PASSED), (LIST,), {"trust_arc": False}),
        (chain(LIST, results="dmarc=fail header.from=author.example"), (LIST,), {}),
        (chain(LIST, results="dmarc=pass header.from=other.example"), (LIST,), {}),
        (chain(LIST, "other.example", results=PASSED), (LIST,), {}),
        (chain(LIST, results=PASSED).replace(b"how are you", b"buy now"), (LIST,), {}),
    ],
    ids=[
        "nobody trusted",
        "another trusted",
        "not asked for",
        "it saw a failure",
        "another author",
        "a stranger sealed last",
        "changed since",
    ],
)
async def test_whoever_is_not_is_refused(content: bytes, trusted: tuple[str, ...], options: dict[str, Any]) -> None:
    finding, result = await run(content, *trusted, **options)
    assert (finding.result, finding.is_let_through) == ("fail", False)
    assert isinstance(result.verdict, Reject)


@pytest.mark.parametrize("results", ["dmarc=fail header.from=author.example", "spf=pass smtp.mailfrom=author.example"])
async def test_why_a_trusted_seal_changed_nothing_is_told(results: str) -> None:
    _, result = await run(chain(LIST, results=results), LIST)
    [arc] = result.transaction.findings.of(ArcFinding)
    assert arc.reason == f"1 set, the newest of {LIST}; no trusted sealer of it tells dmarc=pass for the author's domain"


async def test_an_author_in_letters_of_its_own() -> None:
    table = {**zones(LIST), "_dmarc.xn--bcher-kva.example": {"TXT": ["v=DMARC1; p=reject"]}}
    content = chain(
        LIST,
        results="dmarc=pass header.from=xn--bcher-kva.example",
        content=PLAIN.replace(b"author.example", "bücher.example".encode()),
    )
    context: Any = FakeContext(resolver=FakeResolver(table))
    plugins: list[Plugin[Any]] = [Arc(ArcOptions(trusted_sealers=(LIST,))), Dmarc(Options(verdict="policy"))]
    result = await run_chain(plugins, message=a_message(content), context=context)
    [finding] = result.transaction.findings.of(DmarcFinding)
    assert (finding.domain, finding.result, finding.is_let_through) == ("xn--bcher-kva.example", "fail", True)


async def test_a_second_author_is_not_covered() -> None:
    two = chain(LIST, results=PASSED).replace(b"From: Alice <alice@author.example>", b"From: x@author.example, y@other.example")
    finding, result = await run(two, LIST)
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)
