"""Messages that a plugin's cost is measured on: what most mail is like, and what is heavy. Made here, the same each time."""

from __future__ import annotations

from gateway.testing import a_message

_PARAGRAPH = (
    "Dear Bob,\r\n\r\nplease find below what we spoke about on Monday: https://www.example.org/minutes?id=17 and more.\r\n"
)
_ROW = '<tr><td><a href="https://news.example.net/read/{n}">Number {n}</a></td><td>{n} pieces at a good price</td></tr>\r\n'


def samples() -> dict[str, bytes]:
    """Octets by what they are."""
    received = [
        ("Received", f"from a{number}.example.net by b{number}.example.net; Tue, 24 Nov 2026 09:00:00 +0000")
        for number in range(4)
    ]
    rows = "".join(_ROW.format(n=number) for number in range(200))
    made = {
        "a short text": a_message(body=_PARAGRAPH, headers=received),
        "a long text": a_message(body=_PARAGRAPH * 80, headers=received, subject="Minutes of Monday’s meeting"),
        "a newsletter": a_message(
            body=_PARAGRAPH * 10,
            html=f"<html><body><table>{rows}</table></body></html>",
            headers=[*received, *(("X-Campaign", f"value {number} of a campaign") for number in range(20))],
        ),
        "an attachment of 100 KB": a_message(
            body=_PARAGRAPH, attach=("report.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 400, "application/pdf"), headers=received
        ),
        "ten attachments": a_message(
            body=_PARAGRAPH, attach=[(f"picture-{number}.png", b"\x89PNG\r\n\x1a\n" + bytes(2_000)) for number in range(10)]
        ),
    }
    return {name: bytes(message.octets) for name, message in made.items()}
