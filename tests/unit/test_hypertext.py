"""What HTML shows for its links, and what it hides."""

import pytest

from gateway.hypertext import MAX_SHOWN, read_html

ANCHORS = [
    ("<a href=http://x.test/>y <b>z</b></a>", [("http://x.test/", "y z")]),
    ("<a href=http://x.test/>www.bank&#46;test\n </a>", [("http://x.test/", "www.bank.test")]),
    ("<a href=1>a<a href=2>b</a>c</a>", [("1", "a"), ("2", "b")]),
    ("<a name=x>a</a>", []),
    ("<a href=#top>a</a>", []),
    ("<a href=1><img src=2></a>", [("1", "")]),
    ("<a href=1>open", [("1", "open")]),
    ("<map><area href=1></map>", [("1", "")]),
    ("<a href=1 href=2>doubled</a>", [("1", "doubled")]),
    ("<a\nHREF\n=\n'1'>a</A\n>b", [("1", "a")]),
    (
        '<base href="http://b.test/d/"><a href="x">r</a><a href="//c.test">s</a>',
        [("http://b.test/d/x", "r"), ("http://c.test", "s")],
    ),
    ('<base href="http://[x"><a href="x">r</a>', [("x", "r")]),
    ('<a xlink:href="1">svg</a>', [("1", "svg")]),
]


@pytest.mark.parametrize(("source", "anchors"), ANCHORS)
def test_what_is_shown_for_a_link(source: str, anchors: list[tuple[str, str]]) -> None:
    assert read_html(source).anchors == anchors


def test_anchors_are_bounded() -> None:
    assert len(read_html("<a href=1>x</a>" * 20, max_links=5).anchors) == 5
    assert len(read_html("<a href=1>" + "x" * 5_000 + "</a>").anchors[0][1]) == MAX_SHOWN


LINKS = [
    ('<meta http-equiv="Refresh" content="0; url=http://r.test/">', ["http://r.test/"]),
    ("<meta http-equiv=refresh content='5;http://r.test/'>", ["http://r.test/"]),
    ("<meta name=x content='0;url=http://r.test/'>", []),
    ('<img srcset="http://i.test/a.png 1x, b.png 2x">', ["http://i.test/a.png"]),
    ("<base href=http://b.test/><img src=i.png>", ["http://b.test/i.png"]),
]


@pytest.mark.parametrize(("source", "links"), LINKS)
def test_links_of_other_kinds(source: str, links: list[str]) -> None:
    assert read_html(source).links == links


HIDDEN = [
    ('<p style="display: none">a</p>b', "a"),
    ("<span hidden>a</span>b", "a"),
    ('<div style="FONT-SIZE:0px">a<div>b</div>c</div>d', "abc"),
    ('<div style="font-size:0.5px">a</div>', "a"),
    ('<div style="font-size:10px">a</div>', ""),
    ('<div style="opacity:0">a</div><div style="opacity:0.9">b</div>', "a"),
    ('<div style="color:#fff;background:#FFFFFF">a</div>', "a"),
    ('<div style="color:white; background-color:#fff">a</div>', "a"),
    ('<div style="color:#fff;background:#000">a</div>', ""),
    ('<font color=white bgcolor="#FFFFFF">a</font>', "a"),
    ('<td style="border-width:0;max-width:600px">a</td>', ""),
    ('<div style="max-height:0;overflow:hidden">a</div>', "a"),
    ('<div style="text-indent:-9999px">a</div>', "a"),
    ('<div style="mso-hide:all">a</div>', "a"),
    ('<img style="display:none">a', ""),
    ('<i style="display:none">a', "a"),
    ("</p hidden>a", ""),
]


@pytest.mark.parametrize(("source", "hidden"), HIDDEN)
def test_hidden_text(source: str, hidden: str) -> None:
    found = read_html(source)
    assert found.hidden.replace("\n", "") == hidden
    assert all(letter in found.text for letter in hidden), "the text has it too"
