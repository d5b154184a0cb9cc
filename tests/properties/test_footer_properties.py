"""A footer in any message: it is put there, or there is a reason; nothing else is raised, no other octet goes, and it never comes twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.footer import Footer
from gateway.splice import apply
from gateway.testing import a_message

FOOTERS = [Footer(text="Example Ltd"), Footer(text="Grüße\nKöln"), Footer(text="-- \n=2D.", html="<p>x</p>")]
PIECES = [
    b"\r\n", b"\r\n\r\n", b"--B", b"--B--", b"--C", b"hello", b"=\r\n", b"=", b"=E9", b"</body>", b"<p>", b"aGVsbG8=", b"\xff", b"\xc3\xa9", b".", b" ",
    b"Content-Type: multipart/alternative; boundary=B\r\n", b"Content-Type: multipart/mixed; boundary=C\r\n", b"Content-Type: text/plain\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n", b'Content-Type: text/plain; charset="iso-8859-1"; x=y\r\n', b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: 8bit\r\n",
    b"Content-Disposition: attachment\r\n", b"Subject: x\r\n",
]  # fmt: skip
CONTENTS = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)


@given(content=CONTENTS, footer=st.sampled_from(FOOTERS))
def test_a_footer_is_put_there_or_there_is_a_reason(content: bytes, footer: Footer) -> None:
    message = a_message(content)
    try:
        edits = footer.edits(message)
    except ValueError:
        return
    done = b"".join(apply(message.content, edits).chunks())
    assert bool(edits) == (done != content)
    again = a_message(done)
    assert [part.content_type for part in again.parts] == [part.content_type for part in message.parts]
    assert footer.edits(again) == ()
