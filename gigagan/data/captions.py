"""Captions as people write them (English): reading them, what they mean, and whether a mirrored picture still fits.

Captions are data. Nothing here, or downstream, evaluates them or uses them as a template.
"""

from __future__ import annotations

import json
import re
import unicodedata

from gigagan.data.skipped import Unusable

# Words without a meaning of their own. Prepositions stay: "on" and "under" are different pictures.
_FUNCTION_WORDS = re.compile(
    r"\b(?:an?|the|one|some|of|is|are|was|were|be|being|there|here|this|that|these|those|its?)\b"
)

# "a small picture of ..." speaks about the picture, "a small dog" about the dog: words of size and quality are only
# dropped where they lead up to a word for the picture at the caption's beginning.
_FRAME = re.compile(
    r"^(?:(?:this|that|it|here|there) ?(?:is|s) )?(?:(?:an?|the|one|this|that) )?"
    r"(?:(?:small|tiny|big|large|low|high|resolution|res|quality|blurry|blurred|pixelated|cropped|close|up|bright|dark"
    r"|good|bad|nice) )*"
    r"(?:photo|photograph|picture|image|pic|snapshot)s? (?:of|showing|depicting) "
)

# A mirrored picture contradicts words of direction, and its writing, digits and clock faces come out reversed.
_HANDED = re.compile(
    r"\b(?:left|right|(?:counter|anti)?clockwise|east|west|mirrored|reversed|backwards?"
    r"|texts?|letters?|lettering|words?|numbers?|digits?|signs?|says|saying|reads|written|writing|spell(?:s|ed|ing)"
    r"|logos?|labels?|clocks?|maps?)\b"
    r"|[\"“”«»]",  # quoted: most likely words seen in the picture
    re.IGNORECASE,
)

# What is no character: control characters that are not white space, half surrogate pairs (JSON can hold them) and
# noncharacters. No XML file may hold most of these. Code points without a character as yet stay, because Python's
# versions differ in which those are, and a caption must not depend on them.
_NO_CHARACTER = re.compile(
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def meaning(caption: str) -> str:
    """A key that captions share when they mean the same: their content words, in order.

    "A photo of one dog." and "the dog" share "dog"; "a small dog" keeps "small". Synonyms, plurals and word order are
    not resolved. A caption without content words is its own key.
    """
    plain = unicodedata.normalize("NFKC", caption).casefold()
    words = " ".join(re.findall(r"\w+", re.sub("['’]", "", plain)))
    content = _FUNCTION_WORDS.sub("", _FRAME.sub("", words)).split()
    return " ".join(content) or words or plain.strip()


def flippable(caption: str) -> bool:
    """Whether ``caption`` still holds when its picture is mirrored left to right; in doubt it does not."""
    return _HANDED.search(caption) is None


def one_line(text: str) -> str:
    """``text`` single-spaced on one line, of characters that can be written anywhere."""
    return " ".join(_NO_CHARACTER.sub("", text).split())


def clean(caption: object) -> str:
    """``caption`` on one line, of characters that can be written anywhere.

    Raises:
        Unusable: not a string, or nothing is left of it.
    """
    if not isinstance(caption, str):
        raise Unusable("caption is not a string", type(caption).__name__)
    caption = one_line(caption)
    if not caption:
        raise Unusable("empty caption")
    return caption


def from_text(data: bytes) -> str:
    """The caption in a ``.txt`` file. Raises ``Unusable`` as ``clean`` does, and when ``data`` is not UTF-8."""
    try:
        return clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unusable("caption is not UTF-8") from None


def from_json(data: bytes) -> str:
    """The ``caption`` in a ``.json`` file. Raises ``Unusable`` as ``clean`` does, and when it is not there."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Unusable("caption file is not JSON", str(e)) from None
    if not isinstance(fields, dict) or fields.get("caption") is None:
        raise Unusable("no caption", 'no "caption" in its JSON')
    return clean(fields["caption"])
