from __future__ import annotations

import json
import unicodedata

import pytest

from gigagan.data import captions
from gigagan.data.captions import flippable, meaning
from gigagan.data.skipped import Unusable

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WORDINGS = [
    "a {}",
    "a photo of a {}",
    "a blurry photo of a {}",
    "a low resolution photo of a {}",
    "a small picture of a {}",
    "an image of one {}",
]


def test_class_captions_mean_their_class() -> None:
    for name in CLASSES:
        assert {meaning(wording.format(name)) for wording in WORDINGS} == {name}


@pytest.mark.parametrize(
    "caption",
    [
        "A dog.",
        "The DOG!",
        "There is a dog",
        "this is a photo of a dog",
        "It's a picture of the dog",
        "This image of a dog",
        "Picture showing a dog",
        "A low-resolution, blurry photograph of a dog",
        "a close-up photo of one dog",
        "ａ ｄｏｇ",
    ],
)
def test_wordings_of_one_meaning(caption: str) -> None:
    assert meaning(caption) == "dog"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a small dog", "a big dog"),
        ("a small dog", "a dog"),
        ("a picture of a small dog", "a small picture of a dog"),
        ("a cat on a table", "a cat under a table"),
        ("a red cube and a blue ball", "a blue cube and a red ball"),
        ("a man takes a picture of a dog", "a man takes a dog"),
        ("a black and white photo of a dog", "a photo of a dog"),
        ("two dogs", "three dogs"),
        ("犬の写真", "猫の写真"),
        ("🐶", "🐱"),
        ("a", "the"),
    ],
)
def test_other_meanings_stay_apart(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


def test_a_caption_without_content_words_is_its_own_key() -> None:
    assert meaning("The one.") == "the one"
    assert meaning(" !? ") == "!?"


@pytest.mark.parametrize(
    "caption", ["{0.__class__}", "%s %(x)s", "__import__('os').system('false')", "\\1", "a" * 10**5]
)
def test_captions_are_data(caption: str) -> None:
    assert captions.clean(caption) == caption
    assert meaning(caption)
    assert flippable(caption)


@pytest.mark.parametrize("caption", ["a bright cleft", "two dogs on the grass", "a man riding a horse", ""])
def test_flippable(caption: str) -> None:
    assert flippable(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "A dog to the LEFT of a cat",
        "a left-handed batter",
        "a stop sign",
        "a shirt that says hello",
        'a board with "open" on it',
        "a large clock",
        "the number 10 on a jersey",
    ],
)
def test_not_flippable(caption: str) -> None:
    assert not flippable(caption)


def test_captions_are_put_on_one_line() -> None:
    assert captions.from_text(b"\xef\xbb\xbf a dog\r\n on\tgrass \n") == "a dog on grass"
    assert captions.from_json(json.dumps({"caption": " a\ndog ", "url": "x"}).encode()) == "a dog"


def test_what_is_no_character_is_left_out() -> None:
    assert captions.clean("a \0 do\x7fg\x85on\x1f\x1b\x07gra\ufffess \ud83d\x9f\ufdd0\U0010ffff") == "a dog on grass"
    kept = "שלום 犬 \U0001f468\u200d\U0001f469\u200d\U0001f466 \U0001fae8 \ufffd \ue000 \u202ee\u0301"
    assert captions.clean(kept) == kept
    everything = captions.clean("".join(map(chr, range(0x110000))))
    assert not {"Cc", "Cs"} & set(map(unicodedata.category, everything))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty caption"),
        (b" \n", "empty caption"),
        (b"\0 \x1b\xc2\x80\xef\xbf\xbe", "empty caption"),
        (b"caf\xe9", "caption is not UTF-8"),
    ],
)
def test_unusable_text(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        captions.from_text(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a dog", "caption file is not JSON"),
        (b"", "caption file is not JSON"),
        (b"\xff\xfe\xfd", "caption file is not JSON"),
        (b"[" * 10**5, "caption file is not JSON"),
        (b'["a dog"]', "no caption"),
        (b'{"text": "a dog"}', "no caption"),
        (b'{"caption": null}', "no caption"),
        (b'{"caption": ["a dog"]}', "caption is not a string"),
        (b'{"caption": 3}', "caption is not a string"),
        (b'{"caption": " "}', "empty caption"),
        (b'{"caption": "\\ud83d"}', "empty caption"),
    ],
)
def test_unusable_json(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        captions.from_json(data)
    assert caught.value.reason == reason
