"""The plugin `language`."""

import pytest

from gateway import Fact, Message, OptionError
from gateway.content import Content
from gateway.plugins.language import Language, Options
from gateway.testing import a_message, run_plugin

GERMAN = "Sehr geehrte Damen und Herren, anbei finden Sie die Rechnung für den Monat November mit der Bitte um Zahlung."
DUTCH = "Geachte heer, bijgaand vindt u de factuur van de maand november. Wij verzoeken u vriendelijk te betalen."
CHINESE = "尊敬的客户，您好！请查收附件中的十一月份发票，并请在收到后的十四天之内完成付款，谢谢您的合作与支持。"


async def language(message: Message, **options: float) -> list[object]:
    done = await run_plugin(Language(Options.model_validate(options)), message=message)
    return [fact.value for fact in done.findings if isinstance(fact, Fact) and fact.name == "language"]


@pytest.mark.parametrize(("text", "code"), [(GERMAN, "de"), (DUTCH, "nl"), (CHINESE, "zh")])
async def test_guesses(text: str, code: str) -> None:
    assert await language(a_message(body=text)) == [code]
    assert await language(a_message(body="", html=f"<p>{text}</p>")) == [code]


async def test_a_large_message_is_read_in_a_thread() -> None:
    assert await language(a_message(body=GERMAN * 1_000)) == ["de"]


@pytest.mark.parametrize("text", ["", "Rechnung", "https://a.test/" + "x" * 100, "bob@example.org " * 20, "1 2 3 " * 50])
async def test_says_nothing_of_what_is_no_text(text: str) -> None:
    assert await language(a_message(body=text)) == []


async def test_options() -> None:
    assert await language(a_message(body=GERMAN), least=1_000) == []
    assert await language(a_message(body="ok " * 30), probability=1.0) == []


@pytest.mark.parametrize("octets", [b"", b"\r\n" + b"\xff\xfe\x00\xd8" * 100, b"\r\n" + b"\0 x" * 200])
async def test_never_raises(octets: bytes) -> None:
    await language(Message(Content(octets)))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcld3", None)
    with pytest.raises(OptionError, match=r"mailgateway\[language\]"):
        Language()
