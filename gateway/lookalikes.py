"""Names that look like others: mixed scripts and confusable letters (UTS 39), in a compact form.

The table is drawn from Unicode's confusables.txt: the letters that a domain name may hold and that look like letters or digits of
ASCII, and some that look so only in small type (к, т, м). What one library has of it takes 15 MB and a tenth of a second to load.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import idna

MAX_NAME = 255
"""Characters of a name that are looked at."""

_LOOKS_LIKE = {
    "2": "ᒿ",
    "3": "𑣊𖼻",
    "4": "Ꮞ",
    "6": "бᏮ𑣕",
    "7": "𑣆",
    "8": "ȣ৪੪𐌚",
    "9": "৭੧୨൭𑣌𑣖",
    "a": "ɑαаᎪᗅꓮ𐊠𖽀",
    "aa": "ꜳ",
    "ae": "æӕ",
    "ao": "ꜵ",
    "au": "ꜷ",
    "av": "ꜹꜻ",
    "ay": "ꜽ",
    "b": "βвьᏏᏴᑲᖯᗷꓐ𐊂𐊡𐌁",
    "c": "сᏟᴄⲥꓚ𐊢𐌂𐐽𐔜𑣩",
    "d": "ԁᎠᏧᑯᗞᗪꓒꓓ",
    "dz": "ʣ",
    "e": "εеҽᎬⴹꓰꬲ𐊆",
    "f": "քᖴẝꓝꞙꬵ𐊇𐊥𐔥𑣂",
    "g": "ƍɡցᏀᏳᶃꓖ",
    "h": "нһհᎻᏂᕼꓧ𐋏",
    "i": "ıɩɪιіᎥꙇ𑣃",
    "j": "ϳјᎫᒍꓙ",
    "k": "κкᏦᛕꓗ𐔘",
    "l": "ǀӏᏞᒪᛁⵏꓡꓲ𐊊𐌉𐔦𖼖𖼨",
    "ll": "ǁ",
    "ls": "ʪ",
    "lz": "ʫ",
    "m": "мᎷᗰᛖꓟ𐊰𐌑",
    "n": "ηпոռꓠ𐔓",
    "o": "οσоօ०০੦૦ଠ୦௦౦೦ഠ൦๐໐ဝ၀ჿዐᴏᴑⲟⵔ〇ꓳꬽ𐊒𐊫𐐬𐓪𐔖𑓐𑣈𑣗𑣠",
    "oe": "œ",
    "oo": "ꚙꝏ",
    "p": "ρрᏢᑭⲣꓑ𐊕",
    "q": "ԛգզⵕ",
    "r": "гяᎡᏒᖇᴦⲅꓣꭇꭈ𖼵",
    "rn": "𑜀𑣣",
    "s": "ƽѕᏕᏚꓢꜱ𐊖𐑈𑣁𖼺",
    "t": "τтᎢꓔ𐊗𐊱𐌕𖼊",
    "tf": "ꝷ",
    "ts": "ʦ",
    "u": "ʋμυцսሀᑌᴜꓴꞟꭎꭒ𐓶𑣘𖽂",
    "ue": "ᵫ",
    "uo": "ꭣ",
    "v": "νѵᏙᐯᴠⴸꓦꛟ𐔝𑜆𑣀𖼈",
    "w": "ɯωшѡԝաᎳᏔᴡꓪ𑜊𑜎𑜏𑣦",
    "x": "χхᕁᕽᚷⵝꓫ𐊐𐊴𐌗𐔧",
    "y": "ɣʏγуүყᎩᎽᶌỿꓬꭚ𐊲𑣜𖽃",
    "z": "Ꮓᴢꓜ𑣄𑣥",
}
_FOLD = str.maketrans({letter: like for like, letters in _LOOKS_LIKE.items() for letter in letters})
_PAIRS = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"))
"""What looks alike within ASCII."""
_COMMON = frozenset({"DIGIT", "HYPHEN-MINUS", "FULL", "LOW", "MIDDLE"})
_WRITTEN_TOGETHER = (
    # UTS 39 5.2: highly restrictive
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


@lru_cache(maxsize=10_000)
def skeleton(name: str) -> str:
    """What a name looks like, in letters and digits of ASCII where there are such: two names that look alike have the same one.

    Examples:
        >>> skeleton("xn--pypal-4ve.com") == skeleton("PayPal.com") == skeleton("paypa1.com")
        True
    """
    text = u_labels(name).casefold()
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) not in {"Mn", "Cf"})
    plain = plain.translate(_FOLD)
    for pair, like in _PAIRS:
        plain = plain.replace(pair, like)
    return plain


@lru_cache(maxsize=10_000)
def is_mixed_script(name: str) -> bool:
    """True when a label of the domain mixes scripts that nobody writes together: Latin and Cyrillic.

    Examples:
        >>> is_mixed_script("p\u0430ypal.com"), is_mixed_script("\u0440\u0444.example"), is_mixed_script("東京tokyo.example")
        (True, False, False)
    """
    return any(_is_mixed(label) for label in u_labels(name).split(".") if not label.isascii())


def looks_like(name: str, domains: Iterable[str]) -> str:
    """The first of these domains that the name, or a domain above it, looks like and is not; or ``.

    Examples:
        >>> looks_like("login.paypa1.com", ["example.org", "paypal.com"]), looks_like("www.paypal.com", ["paypal.com"])
        ('paypal.com', '')
    """
    own = name.lower().rstrip(".")
    seen = skeleton(own)
    for domain in domains:
        wanted = domain.lower().strip(".")
        if not wanted or own == wanted or own.endswith("." + wanted):
            continue
        like = skeleton(wanted)
        if seen == like or seen.endswith("." + like):
            return domain
    return ""


def u_labels(name: str) -> str:
    """A domain with its A-labels decoded (RFC 5891 5.2), as programs show it; a label that cannot be decoded stays.

    Examples:
        >>> u_labels("xn--bcher-kva.example")
        'bücher.example'
    """
    name = name[:MAX_NAME]
    if "xn--" not in name.lower():
        return name
    return ".".join(map(_u_label, name.split(".")))


def _u_label(label: str) -> str:
    if label[:4].lower() != "xn--" or not label.isascii() or len(label) > 63:
        return label
    try:
        found = idna.ulabel(label)
    except UnicodeError:  # IDNAError is one; IDNA 2003 had room for more
        try:
            found = label[4:].encode("ascii").decode("punycode")
        except (UnicodeError, ValueError, OverflowError):
            return label
    return label if found.isascii() else found


def _is_mixed(label: str) -> bool:
    scripts = {_script(c) for c in label} - {""}
    return len(scripts) > 1 and not any(scripts <= together for together in _WRITTEN_TOGETHER)


@lru_cache(maxsize=10_000)
def _script(character: str) -> str:
    """First word of its name, which is its script for letters; `` for what all scripts share."""
    if unicodedata.category(character)[0] != "L":
        return ""
    word = unicodedata.name(character, "").partition(" ")[0]
    return "" if word in _COMMON else word
