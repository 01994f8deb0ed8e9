"""Words of a text, and which token belongs to which."""

import logging

import pytest
import tiny
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from multihead_hf.explanation.words import Place, find_words, place_tokens, read_text

TEXTS = [
    "The lamp came broken, and a week late!",
    "Héé, het café — en daarna\n\nde straat:\tniets…",
    "Wat een 🙂👩‍👩‍👧🇳🇱👍🏽 dag, 😡😡",
    "broken broken, broken",
    "  spaces before  and   after ",
    "न्हिदी में लिखा हुआ पाठ",
    "我的灯坏了。とても遅い!",
    "don't e-mail me@x.nl before 3.5 o’clock, 1,000.00 times",
    "unbelievably antidisestablishmentarian",
    "\u200bx e\u0301e\u0301n \x1b[31m",
]


def words(text: str) -> list[str]:
    return [text[word.start : word.end] for word in find_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXTS[0], ["The", "lamp", "came", "broken", ",", "and", "a", "week", "late", "!"]),
        (TEXTS[1], ["Héé", ",", "het", "café", "—", "en", "daarna", "de", "straat", ":", "niets", "…"]),
        (TEXTS[2], ["Wat", "een", "🙂", "👩‍👩‍👧", "🇳🇱", "👍🏽", "dag", ",", "😡", "😡"]),
        (TEXTS[5], ["न्हिदी", "में", "लिखा", "हुआ", "पाठ"]),
        ("我的灯坏了。", ["我", "的", "灯", "坏", "了", "。"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("안녕 세계", ["안녕", "세계"]),
        (
            "don't e-mail before 3.5, 1,000.00 or ’t",
            ["don't", "e-mail", "before", "3.5", ",", "1,000.00", "or", "’", "t"],
        ),
        ("wait... what?! (no) snake_case", ["wait", "...", "what", "?!", "(", "no", ")", "snake_case"]),
        ("e\u0301e\u0301n 1\ufe0f\u20e3", ["e\u0301e\u0301n", "1\ufe0f\u20e3"]),
        (" \n\t\x07", []),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_in_order_and_leave_nothing_but_space_between_them(text: str) -> None:
    found = find_words(text)
    ends = [0, *(word.end for word in found)]
    starts = [*(word.start for word in found), len(text)]
    for end, start in zip(ends, starts, strict=True):
        assert end <= start
        assert all(letter.isspace() or letter in "\u200b\x1b" for letter in text[end:start])


def trained(kind: str) -> PreTrainedTokenizerBase:
    """Tokenizers of the kinds that encoders have, trained on the texts."""
    if kind == "canine":
        return tiny.canine_tokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=special)
    elif kind == "byte-level":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="[UNK]")
    backend.train_from_iterator(TEXTS, trainer)
    numbers = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=numbers
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)


KINDS = ["wordpiece", "byte-level", "unigram", "canine"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_belongs_to_the_words_it_stands_for(kind: str) -> None:
    tokenizer, config = trained(kind), tiny.model(max_length=500).config
    several = 0
    for text in TEXTS:
        reading = read_text(tokenizer, config, [text])
        ids, shares = reading.inputs["input_ids"][0], reading.token_shares()[0]
        assert ids == tokenizer(text)["input_ids"]
        assert shares[0] == shares[-1] == []  # special tokens
        assert all(sum(share for _, share in own) == pytest.approx(1) for own in shares[1:-1])
        assert {word for own in shares for word, _ in own} == set(range(len(reading.words)))
        several += len(ids) - 2 > len(reading.words)
        for token, own in zip(ids, shares, strict=True):
            shown = tokenizer.decode([token]).strip()
            if own and len(own) == 1 and shown.isascii() and shown.isalnum() and kind != "wordpiece":
                word = reading.words[own[0][0]]
                assert shown in text[word.start : word.end]
    assert several > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair(kind: str) -> None:
    tokenizer = trained(kind)
    texts = ["late late", "late again"]
    reading = read_text(tokenizer, tiny.model(max_length=500).config, texts)
    assert [(word.part, texts[word.part][word.start : word.end]) for word in reading.words] == [
        (0, "late"),
        (0, "late"),
        (1, "late"),
        (1, "again"),
    ]
    found = [word for own in reading.token_shares()[0] for word, _ in own]
    assert found == sorted(found)
    assert set(found) == {0, 1, 2, 3}


def test_tokens_that_are_not_the_text_have_no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ByT5Tokenizer()
    assert place_tokens(tokenizer, tokenizer("ab c")["input_ids"], ["ab c"]) == [
        *(Place(0, at, at + 1) for at in range(4)),
        None,
    ]
    assert place_tokens(tokenizer, tokenizer("né")["input_ids"], ["né"]) is None  # bytes
    left = tiny.canine_tokenizer()
    monkeypatch.setattr(left, "truncation_side", "left")
    assert place_tokens(left, left("abab", truncation=True, max_length=4)["input_ids"], ["abab"]) is None


def names(reading: object) -> list[list[str]]:
    tokens = {number: token for token, number in tiny.VOCAB.items()}
    return [[tokens[number] for number in row] for row in reading.inputs["input_ids"]]


TEN = " ".join(f"w{number}" for number in range(10))


def test_what_is_cut_away_is_not_read() -> None:
    tokenizer = tiny.tokenizer()
    tail = read_text(tokenizer, tiny.model(max_length=6).config, [TEN])
    assert tail.was_cut
    assert [one is not None for one in tail.read()] == [True] * 4 + [False] * 6
    both = read_text(tokenizer, tiny.model(max_length=6, truncation="head+tail").config, [TEN])
    assert names(both) == [["[CLS]", "w0", "w1", "w8", "w9", "[SEP]"]]
    assert [one is not None for one in both.read()] == [True] * 2 + [False] * 6 + [True] * 2
    windows = tiny.model(max_length=6, truncation="windows", stride=1, max_windows=2).config
    some = read_text(tokenizer, windows, [TEN])
    assert [one is not None for one in some.read()] == [True] * 7 + [False] * 3
    assert [[word for own in row for word, _ in own] for row in some.token_shares()] == [[0, 1, 2, 3], [3, 4, 5, 6]]
    pair = read_text(tokenizer, tiny.model(max_length=8).config, [TEN, "w1 w2"])
    assert [word.part for word, one in zip(pair.words, pair.read(), strict=True) if one is None] == [0] * 7


def test_the_prefix_is_no_word() -> None:
    config = tiny.model(text_prefix="w9 w8 ", max_length=6).config
    reading = read_text(tiny.tokenizer(), config, ["w1 w9 w2"])
    assert names(reading) == [["[CLS]", "w9", "w8", "w1", "w9", "[SEP]"]]
    assert reading.places == [[None, None, None, Place(0, 0, 2), Place(0, 3, 5), None]]
    assert reading.read() == [(0, 2), (3, 5), None]


def test_a_word_that_is_read_in_part() -> None:
    tokenizer = tiny.canine_tokenizer()
    config = tiny.model("canine", max_length=8).config
    reading = read_text(tokenizer, config, ["abc defghi jk"])
    assert reading.read() == [(0, 3), (4, 6), None]


def test_a_tokenizer_without_places_says_so(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("multihead_hf.explanation.words")
    logger.addHandler(caplog.handler)
    try:
        reading = read_text(ByT5Tokenizer(), tiny.model(max_length=6).config, ["één twee drie"])
    finally:
        logger.removeHandler(caplog.handler)
    assert reading.places is None
    assert reading.token_shares() == []
    assert reading.read() == [(0, 3), (4, 8), (9, 13)]
    assert "ByT5Tokenizer does not report which of its words were truncated" in caplog.text
