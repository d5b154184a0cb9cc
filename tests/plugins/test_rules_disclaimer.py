"""The action `disclaimer`: what tests/unit/test_footer.py does not show."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway import Label, ReplacePart
from gateway.plugins.rules import Options, Rules
from gateway.testing import EndToEnd, a_message, a_signed_message, run_plugin


def group(**action: object) -> Rules:
    rule = {"name": "imprint", "when": "true", "then": {"disclaimer": "Example Ltd", **action}}
    return Rules(Options.model_validate({"rule": [rule]}), name="rules")


async def test_a_message_gets_it_and_is_delivered_with_it() -> None:
    config = """
    [[rule]]
    name = "imprint"
    when = "true"
    then = { disclaimer = "Grüße\\nExample Ltd" }
    """
    message = a_message(body="Hello\r\n", html="<p>Hello</p>")
    async with EndToEnd(plugins=["rules"], config=config) as mail:
        sent = await mail.send(message)
        again = await mail.send(sent.taken[0].content)
    content = sent.taken[0].content
    assert content.count(b"Example Ltd") == 2
    assert b"<hr>\r\n<p>Gr&#252;&#223;e<br>\r\nExample Ltd</p>" in content
    assert again.taken[0].content.endswith(content), "never twice"


async def test_signed_mail_stays_unless_the_rule_breaks_it() -> None:
    kept = await run_plugin(group(), message=a_signed_message())
    assert kept.edits == ()
    (label,) = kept.findings
    assert label == Label(name="no-disclaimer", evidence="the message has DKIM-Signature, which would not verify any more")
    broken = await run_plugin(group(signed="break"), message=a_signed_message())
    assert [type(one) for one in broken.edits] == [ReplacePart]


@pytest.mark.parametrize("wrong", [{"disclaimer": " "}, {"html": "x" * 1_000}, {"signed": "maybe"}])
def test_what_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        group(**wrong)
