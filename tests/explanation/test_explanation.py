"""`explain`: what it takes and gives, how it is shown, and what it refuses."""

import io
import json
import re
import sys
from typing import Any

import pytest
import tiny
from planted import PLANTED, planted_model
from rich.console import Console
from transformers import pipeline

from multihead_hf import Explanation, WordScore, explain

METHODS = ("integrated_gradients", "lime", "occlusion")
EVIL = 'w1 <script>alert("x")</script> & w7 [bold]w2[/bold] \x1b[31m'


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "text", ["w1 w2 w1", "  w1\n\nw2\t", "é😡 w7, 👩‍👩‍👧 onbekend", "w1", EVIL, "w7 " * 30, "我的 w7"]
)
def test_words_are_the_texts(method: str, text: str) -> None:
    found = explain(planted_model(), tiny.tokenizer(), text, "topic", method=method)
    assert found.text == text
    assert found.words
    for word in found.words:
        assert text[word.start : word.end] == word.word
        assert word.word.strip() == word.word != ""
    assert [word.start for word in found.words] == sorted({word.start for word in found.words})
    assert isinstance(found.words[0].score, float)


@pytest.mark.parametrize("head", ["topic", "mood"])
def test_label_and_score_are_the_pipelines(head: str) -> None:
    model, text = planted_model(), f"w1 {PLANTED} w2"
    predict = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
    best = predict(text, top_k=1)[0][head][0]
    found = explain(model, tiny.tokenizer(), text, head, method="occlusion")
    assert (found.head, found.label) == (head, best["label"])
    assert found.score == pytest.approx(best["score"], abs=1e-6)
    for entry in predict(text, return_all_scores=True)[0][head]:
        own = explain(model, tiny.tokenizer(), text, head, entry["label"], "occlusion")
        assert own.score == pytest.approx(entry["score"], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_plain_values(method: str) -> None:
    found = explain(planted_model(), tiny.tokenizer(), ["w1", "w2 w7"], "topic", "waste", method)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["text"] == ["w1", "w2 w7"]
    assert plain["method"] == method
    assert (plain["additivity_error"] is None) == (method != "integrated_gradients")
    assert plain["words"][2] == {
        "word": "w7",
        "start": 3,
        "end": 5,
        "score": found.words[2].score,
        "part": 1,
        "read": True,
    }
    assert {"topic: waste, probability", METHODS_SHOWN[method]} <= {
        part for part in ("topic: waste, probability", METHODS_SHOWN[method]) if part in str(found)
    }


METHODS_SHOWN = {
    "integrated_gradients": "additivity error",
    "lime": "linear model of the probability (R²",
    "occlusion": "how much the probability falls without the word",
}


def made(**settings: Any) -> Explanation:
    words = [
        WordScore("late", 0, 4, 0.5),
        WordScore("<b>", 5, 8, -0.25),
        WordScore("late", 9, 13, 0.0),
        WordScore("end", 14, 17, 0.0, read=False),
    ]
    details = {"window": 1}
    found = Explanation("late <b>\nlate end", "a<b", "x>&y", "occlusion", 0.75, words, None, "probability", details)
    for name, value in settings.items():
        setattr(found, name, value)
    return found


def test_the_table() -> None:
    assert str(made()).splitlines() == [
        "a<b: x>&y, probability 0.7500",
        "occlusion: how much the probability falls without the word",
        "",
        "+0.500  ++++++++++++++++++++  late @0",
        "-0.250  ----------            <b>",
        "+0.000                        late @9",
        "1 words are not read",
    ]
    small = [WordScore("a", 0, 1, -0.00234), WordScore("b", 2, 3, 0.00001)]
    assert [line.split()[0] for line in str(made(text="a b", words=small)).splitlines()[3:]] == ["-0.00234", "+0.00001"]
    nothing = [WordScore("a", 0, 1, 0.0)]
    assert str(made(text="a", words=nothing)).splitlines()[-1].split() == ["+0.000", "a"]
    many = [WordScore("a", 2 * number, 2 * number + 1, number / 100) for number in range(50)]
    table = str(made(text="a " * 50, words=many)).splitlines()
    assert len(table) == 3 + 20 + 1
    assert table[-1] == "30 more words have lower scores"


def test_html_holds_the_text_and_no_code() -> None:
    page = made().to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in page
    assert "a&lt;b: x&gt;&amp;y" in page
    assert re.findall(r'<mark title="([^"]+)"[^>]*>([^<]*)</mark>', page) == [
        ("+0.500", "late"),
        ("-0.250", "&lt;b&gt;"),
        ("+0.000", "late"),
    ]
    assert '<span title="not read" style="opacity: 0.5">end</span>' in page
    assert "</mark>\n<mark" in page  # the text's own line
    solid, dotted, none = re.findall(r"rgba\(([^)]*)\); border-bottom: 2px (\w+)", page)
    assert solid[1] == none[1] == "solid"
    assert dotted[1] == "dotted"
    strengths = [float(colour.split(",")[-1]) for colour, _ in (solid, dotted, none)]
    assert strengths == [0.6, 0.3, 0.0]
    assert "src=" not in page
    assert "http" not in page
    part = made().to_html(page=False)
    assert part.startswith("<figure")
    assert part in page
    assert made()._repr_html_() == part


@pytest.mark.parametrize("method", METHODS)
def test_what_users_type_is_escaped(method: str) -> None:
    found = explain(planted_model(), tiny.tokenizer(), EVIL, "topic", "waste", method)
    page = found.to_html()
    assert "<script" not in page
    shown = re.sub(r"<[^>]*>", "", page.split("<p")[1].split(">", 1)[1].split("</p>")[0])
    assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&") == EVIL


def test_in_a_terminals_colours() -> None:
    def shown(found: Explanation, **options: Any) -> str:
        out = io.StringIO()
        Console(file=out, width=200, **options).print(found)
        return out.getvalue()

    coloured = shown(made(), force_terminal=True, color_system="truecolor")
    assert re.search(r"\x1b\[[\d;]+mlate\x1b\[0m", coloured)
    plain = shown(made())
    assert "\x1b" not in plain
    assert "late <b>\nlate end" in plain
    assert plain.rstrip().endswith("\n".join(str(made()).splitlines()[3:]))
    # what users type is neither markup nor a command for the terminal
    evil = explain(planted_model(), tiny.tokenizer(), EVIL, "topic", "waste", "occlusion")
    for text in (shown(evil), str(evil)):
        assert "\x1b" not in text
    assert "[bold]w2[/bold]" in shown(evil)


@pytest.mark.parametrize(
    ("text", "head", "label", "method", "settings", "message"),
    [
        ("w1", "tpic", None, "lime", {}, r"explain: the model has no head 'tpic'. Did you mean 'topic'\?"),
        ("w1", "topic", "wast", "lime", {}, r"head 'topic' has no label 'wast'. Did you mean 'waste'\? Its labels: \["),
        (
            "w1",
            "topic",
            None,
            "limes",
            {},
            r"unknown method 'limes'. Did you mean 'lime'\? Known: integrated_gradients",
        ),
        (
            "w1",
            "topic",
            None,
            "lime",
            {"samples": 3},
            r"lime has no setting 'samples'.*\['num_samples', 'seed', 'batch",
        ),
        ("w1", "topic", None, "occlusion", {"windw": 3}, r"occlusion has no setting 'windw'. Did you mean 'window'"),
        ("", "topic", None, "occlusion", {}, r"there is no word to explain: the text is empty"),
        (" \n", "topic", None, "lime", {}, r"the text is empty"),
        (("", " "), "topic", None, "lime", {}, r"the text is empty"),
        (None, "topic", None, "lime", {}, r"a text must be a string, or a pair of strings, not NoneType"),
        (["w1"], "topic", None, "lime", {}, r"a text must be a string, or a pair of strings, not list"),
        ("w1", "topic", None, "lime", {"num_samples": 1}, r"num_samples 1: give a whole number above 1"),
        ("w1", "topic", None, "occlusion", {"window": 0}, r"window 0: give a whole number above 0"),
        ("w1", "topic", None, "occlusion", {"quantity": "logits"}, r"unknown quantity 'logits'. Did you mean 'logit'"),
        ("w1", "topic", None, "integrated_gradients", {"max_steps": 0}, r"max_steps 0"),
        ("w1", "topic", None, "integrated_gradients", {"tolerance": -1}, r"tolerance -1"),
    ],
)
def test_refusals(text: Any, head: str, label: Any, method: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(tiny.model(), tiny.tokenizer(), text, head, label, method, **settings)


def test_pairs_for_a_model_that_reads_windows() -> None:
    model = tiny.model(max_length=6, truncation="windows")
    with pytest.raises(ValueError, match=r"'windows' is for single texts"):
        explain(model, tiny.tokenizer(), ("w1", "w2"), "topic")


@pytest.mark.parametrize(("method", "package"), [("integrated_gradients", "captum"), ("lime", "lime")])
def test_without_the_extra(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs? {package}: pip install "multihead-hf\[explain\]"'):
        explain(tiny.model(), tiny.tokenizer(), "w1", "topic", method=method)
    assert explain(tiny.model(), tiny.tokenizer(), "w1", "topic", method="occlusion").words
