"""Any packets at any time: the milter server answers within the protocol or closes, keeps no session, and has no fault of its own."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.config.models import Config
from gateway.milter import codec
from gateway.testing.in_process import InProcessGateway
from tests.fuzzing import FIRST_SEED, TIMES

SESSIONS = 150 * TIMES
SAYS = Path(__file__).parents[1] / "milter_says.py"
WORDS = (
    b"",
    b"<a@client.test>",
    b"<hold-b@example.test>",
    b"<refuse-c@example.test>",
    b"<>",
    b"edit",
    b"\xff\n\n",
    b"reject",
    b"x" * 300,
)


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """No fault may be in it."""
    before = structlog.get_config()
    captured = LogCapture()
    structlog.configure(processors=[captured], cache_logger_on_first_use=False)
    yield captured
    structlog.configure(**before)
    assert [entry for entry in captured.entries if entry["log_level"] in {"error", "critical"}] == []


def packet(chance: random.Random) -> codec.Packet:
    word = chance.choice(WORDS)
    return chance.choice(
        [
            codec.Macros(b"M", ((b"i", word), (b"{auth_authen}", word))),
            codec.Connect(word, codec.INET, 25, chance.choice([b"192.0.2.1", b"192.0.2.66", word])),
            codec.Helo(word),
            codec.Mail(word, (b"SIZE=" + word,)),
            codec.Rcpt(word),
            codec.Rcpt(word),
            codec.Data(),
            codec.Header(b"Subject", word),
            codec.Header(word or b"X", word),
            codec.EndOfHeader(),
            codec.Body(word * chance.randrange(3)),
            codec.EndOfBody(word),
            codec.EndOfBody(),
            codec.Abort(),
            codec.Unknown(word),
            codec.QuitNewConnection(),
            codec.Quit(),
        ]
    )


def session(chance: random.Random) -> list[codec.Packet]:
    """Mostly in order, so that it comes far; a wrong one now and then."""
    usual: list[codec.Packet] = [
        codec.offer(codec.Actions(chance.randrange(0x200)), codec.Steps(chance.randrange(0x200000)), chance.choice([2, 3, 4, 6])),
        codec.Connect(b"client.test", codec.INET, 25, b"192.0.2.1"),
        codec.Helo(b"client.test"),
    ]
    for _ in range(chance.randrange(4)):
        usual += [
            codec.Mail(chance.choice(WORDS)),
            codec.Rcpt(chance.choice(WORDS)),
            codec.Rcpt(chance.choice(WORDS)),
            codec.Data(),
        ]
        usual += [
            codec.Header(b"Subject", chance.choice(WORDS)),
            codec.EndOfHeader(),
            codec.Body(chance.choice(WORDS)),
            codec.EndOfBody(),
        ]
    for _ in range(chance.randrange(3)):
        usual.insert(chance.randrange(len(usual) + 1), packet(chance))
    return usual


async def talk(port: int, octets: bytes, *, is_whole: bool) -> list[codec.Answer]:
    """Everything that is answered until it closes. Where octets were changed it may wait for more than there will be: we leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[codec.Answer] = []
    packets = codec.read_answers()
    try:
        writer.write(octets + codec.write(codec.Quit()))
        if not is_whole:
            writer.write_eof()
        async with asyncio.timeout(20):
            while found := await reader.read(65536):
                answers += packets.feed(found)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answers


@pytest.mark.slow
async def test_any_packets_at_any_time(tmp_path: Path, log: LogCapture) -> None:
    del log
    (tmp_path / "site").mkdir()
    shutil.copy(SAYS, tmp_path / "site" / "says.py")
    config = {
        "plugins": ["says"],
        "plugin_path": [str(tmp_path / "site")],
        "listener": [{"bind": "127.0.0.1:0", "protocol": "milter"}],
        "route": [{"domains": ["example.test"], "servers": ["127.0.0.1:1"]}],
    }
    far = 0
    async with InProcessGateway(Config.model_validate(config), directory=tmp_path) as gateway:
        for seed in range(FIRST_SEED, FIRST_SEED + SESSIONS):
            chance = random.Random(seed)
            sent = session(chance)
            octets = bytearray(codec.write(*sent))
            changes = chance.choice([0, 0, 0, 1, 3])
            for _ in range(changes):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            answers = await talk(gateway.port(), bytes(octets), is_whole=not changes)
            assert all(isinstance(one, codec.Packet) for one in answers), seed
            far += any(isinstance(one, codec.Accept | codec.Discard) for one in answers)
        await gateway.quiet()
        records = gateway.records
    assert far > SESSIONS // 20, "some come to the end of a message"
    assert all(record["verdict"] for record in records)
