"""An MTA of the tests that asks a milter: each step with the answers to it, as packets. Bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gateway.milter import codec

LIMIT = 10.0
ACTIONS = codec.Actions(0x1FF)
STEPS = codec.Steps(0x1FFFFF)
FIELDS = ((b"From", b" a@client.test"), (b"Subject", b" hello"))


class Mta:
    """`async with Mta(port) as mta: await mta.client(); answers = await mta.message(…)`."""

    def __init__(
        self, port: int = 0, *, path: str = "", version: int = 6, actions: codec.Actions = ACTIONS, steps: codec.Steps = STEPS
    ) -> None:
        self._port, self._path = port, path
        self.offered = codec.offer(actions, steps, version)
        self.agreed = codec.Agreement()
        self.state = codec.State.NEW
        self._packets = codec.read_answers()
        self._found: list[codec.Answer] = []
        self.progress = 0

    async def __aenter__(self) -> Self:
        if self._path:
            self.reader, self.writer = await asyncio.open_unix_connection(self._path)
        else:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.writer.close()

    def send(self, *packets: codec.Packet) -> None:
        self.writer.write(codec.write(*packets))

    async def answer(self) -> codec.Answer:
        """The next packet. EOFError where the milter closed."""
        async with asyncio.timeout(LIMIT):
            while not self._found:
                try:
                    octets = await self.reader.read(65536)
                except ConnectionError:
                    octets = b""
                if not octets:
                    raise EOFError
                self._found += self._packets.feed(octets)
        return self._found.pop(0)

    async def ask(self, command: codec.Command) -> list[codec.Answer]:
        """Say it, and have all answers, edits first; none where none is agreed. Both sides are held to the order."""
        kind = type(command)
        if not self.agreed.is_sent(kind) and kind is not codec.Negotiate:
            return []
        self.state = codec.after_command(self.state, kind, self.agreed)
        self.send(command)
        answers: list[codec.Answer] = []
        while self.agreed.is_answered(kind) and (not answers or not codec.is_last(answers[-1])):
            answer = await self.answer()
            if isinstance(answer, codec.Progress):
                self.progress += 1
                continue
            answers.append(answer)
            self.state = codec.after_answer(self.state, kind, answer, self.agreed)
        return answers

    async def negotiate(self) -> codec.Agreement:
        (taken,) = await self.ask(self.offered)
        assert isinstance(taken, codec.Negotiate)
        self.agreed = codec.agree(self.offered, taken)
        return self.agreed

    def macros(self, kind: type[codec.Command], **values: str) -> None:
        """`i`, `j` and the like, before the command."""
        pairs = tuple(((name if len(name) == 1 else f"{{{name}}}").encode(), value.encode()) for name, value in values.items())
        self.state = codec.after_command(self.state, codec.Macros, self.agreed)
        self.send(codec.Macros(kind.letter, pairs))

    async def client(
        self, address: str = "192.0.2.1", *, name: str = "client.test", helo: str = "client.test"
    ) -> list[codec.Answer]:
        """A client; the first answer that is no Continue, or []."""
        if self.state is codec.State.NEW:
            await self.negotiate()
        self.macros(codec.Connect, j="mx.test", daemon_name="mx", client_ptr=name)
        family = codec.INET6 if ":" in address else codec.INET
        for command in (codec.Connect(name.encode(), family, 2525, address.encode()), codec.Helo(helo.encode())):
            answers = await self.ask(command)
            if answers not in ([], [codec.Continue()]):
                return answers
        return []

    async def envelope(
        self, recipients: Sequence[str], *, sender: str = "a@client.test", parameters: Sequence[str] = (), **macros: str
    ) -> list[list[codec.Answer]]:
        """The answers to MAIL, each RCPT and DATA; no further than a refused MAIL."""
        self.macros(codec.Mail, i="4Xq1", **macros)
        answers = [await self.ask(codec.Mail(f"<{sender}>".encode(), tuple(word.encode() for word in parameters)))]
        if answers[0] not in ([], [codec.Continue()]):
            return answers
        answers += [await self.ask(codec.Rcpt(f"<{one}>".encode())) for one in recipients]
        answers.append(await self.ask(codec.Data()))
        return answers

    async def content(
        self, fields: Sequence[tuple[bytes, bytes]] = FIELDS, body: bytes = b"text\r\n", *, chunk: int = 65535
    ) -> list[codec.Answer]:
        """The answers to the end of the message."""
        with_space = self.agreed.steps & codec.Steps.HDR_LEADSPC
        for name, value in fields:
            await self.ask(codec.Header(name, value if with_space else value.removeprefix(b" ")))
        await self.ask(codec.EndOfHeader())
        for piece in codec.chunks(body, chunk):
            await self.ask(codec.Body(piece))
        await self.writer.drain()
        return await self.ask(codec.EndOfBody())

    async def message(
        self,
        recipients: Sequence[str] = ("b@example.test",),
        *,
        fields: Sequence[tuple[bytes, bytes]] = FIELDS,
        body: bytes = b"text\r\n",
    ) -> list[codec.Answer]:
        """A whole transaction of an accepted envelope; the answers to its end."""
        for answers in await self.envelope(recipients):
            assert answers in ([], [codec.Continue()]), answers
        return await self.content(fields, body)
