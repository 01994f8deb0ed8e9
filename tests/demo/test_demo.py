"""What stands behind the demo page, without the page."""

import csv
import os
import re
import socket
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest
import tiny
from command_line import cli
from demo_models import TOPICS, knowing_model, save
from transformers import Pipeline, pipeline

from multihead_hf import HeadConfig, explain
from multihead_hf.demo.demo import ALL_LABELS, PREDICTED, TOP_K, Demo, DemoSettings
from multihead_hf.demo.demo_html import colour

MOOD = "<i>mood</i>"


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return pipeline("multi-head-text-classification", model=knowing_model(), tokenizer=tiny.tokenizer())


@pytest.fixture
def demo(pipe: Pipeline) -> Demo:
    return Demo(pipe, DemoSettings(max_rows=80, max_chars=60), explain)


class _Cards(HTMLParser):
    """Head → label → (score, whether it is marked as predicted), of the page as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, tuple[float, bool]]] = {}
        self.tags: set[str] = set()
        self._in = self._label = ""
        self._on = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self._in = dict(attrs).get("class") or tag
        if tag == "li":
            self._on = self._in == "mh-on"

    def handle_data(self, data: str) -> None:
        if self._in == "h3":
            self.found[data] = {}
        elif self._in == "mh-name":
            self._label = data
        elif self._in == "mh-score":
            self.found[list(self.found)[-1]][self._label] = (float(data), self._on)
        self._in = ""


def cards(page: str) -> dict[str, dict[str, tuple[float, bool]]]:
    return _Cards(page).found


def test_the_predicted_labels_are_those_of_the_pipeline(demo: Demo, pipe: Pipeline) -> None:
    for text in ("w1 w2", "w3", "w40", "w5 w1 w2 w3"):
        found = cards(demo.results(demo.read(text)))
        said = pipe(text)[0]
        assert {head: list(own) for head, own in found.items()} == {
            head: [each["label"] for each in own] for head, own in said.items()
        }
        for head, own in said.items():
            for each in own:
                assert found[head][each["label"]] == (pytest.approx(each["score"], abs=6e-4), True)
    assert list(cards(demo.results(demo.read("w1 w2")))["topic"]) in (["roads", "waste"], ["waste", "roads"])


def test_views(demo: Demo, pipe: Pipeline) -> None:
    reading = demo.read("w2")
    assert {head: len(own) for head, own in cards(demo.results(reading, PREDICTED)).items()} == {"topic": 1, MOOD: 1}
    assert {head: len(own) for head, own in cards(demo.results(reading, TOP_K, 2)).items()} == {"topic": 2, MOOD: 2}
    everything = cards(demo.results(reading, ALL_LABELS))
    assert set(everything["topic"]) == set(TOPICS)
    assert [label for label, (_, on) in everything["topic"].items() if on] == ["waste"]
    assert list(cards(demo.results(reading, names=[MOOD]))) == [MOOD]
    assert list(cards(demo.results(reading, names=[]))) == ["topic", MOOD]
    assert "will appear here" in demo.results(None)


def test_another_threshold_and_the_saved_ones(pipe: Pipeline) -> None:
    head = pipe.model.config.heads["topic"]
    with mock.patch.object(head, "thresholds", [0.9, 0.1, 0.5]):
        demo = Demo(pipe, DemoSettings())
        reading = demo.read("w1")
        assert list(cards(demo.results(reading))["topic"]) == ["waste"]  # roads 0.8 < 0.9, waste 0.2 >= 0.1
        page = demo.results(reading, ALL_LABELS)
        order = [TOPICS.index(label) for label in cards(page)["topic"]]
        assert re.findall(r"left:([\d.]+)%", page) == [["90.0", "10.0", "50.0"][place] for place in order]
        assert "at or above their thresholds" in page
        for cut, labels in ((0.5, {"roads"}), (0.05, set(TOPICS)), (0.95, set())):
            page = demo.results(reading, saved=False, threshold=cut)
            assert set(cards(page)["topic"]) == labels
            assert ("none of the labels" in page) == (not labels)
            assert f"with a probability of {cut:.2f} or more" in page
            assert list(cards(page)[MOOD]) == ["calm"]


def test_at_least_and_at_most(pipe: Pipeline) -> None:
    head = pipe.model.config.heads["topic"]
    with mock.patch.object(head, "min_labels", 1), mock.patch.object(head, "max_labels", 2):
        demo = Demo(pipe, DemoSettings())
        assert len(cards(demo.results(demo.read("w40")))["topic"]) == 1
        page = demo.results(demo.read("w1 w2 w3"))
        assert len(cards(page)["topic"]) == 2
        assert "at least 1, at most 2" in page


def test_names_are_text(demo: Demo) -> None:
    page = demo.results(demo.read("w3"), ALL_LABELS)
    assert _Cards(page).tags == {"div", "section", "h3", "p", "ul", "li", "span"}
    assert "&lt;b&gt;noise&lt;/b&gt;" in page


def test_colours_differ_in_lightness() -> None:
    light = [int(re.findall(r"(\d+)%\)", colour(score / 10))[0]) for score in range(11)]
    assert light == sorted(set(light), reverse=True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "type a text"), (" \n", "type a text"), ("w1 " * 21, "63 characters, but the maximum is 60")],
)
def test_texts_that_are_refused(demo: Demo, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        demo.read(text)


def test_words(demo: Demo) -> None:
    reading = demo.read("w7 w1 <b>")
    assert demo.best_label(reading, "topic") == "roads"
    assert demo.best_label(None, "topic") == TOPICS[0]
    for method in demo.methods:
        page = demo.words(reading, "topic", "roads", method)
        marks = dict(re.findall(r'title="([-+\d.e]+)"[^>]*>(\w+)<', page))
        strongest = max(marks, key=lambda score: float(score))
        assert marks[strongest] == "w1"
        assert "&lt;" in page
        assert "<b>" not in page
    with pytest.raises(ValueError, match="type a text first"):
        demo.words(None, "topic", "roads", "occlusion")


def test_words_of_long_texts_are_refused(pipe: Pipeline) -> None:
    demo = Demo(pipe, DemoSettings(), explain)
    with pytest.raises(ValueError, match="words can be shown for texts of up to 2,000"):
        demo.words(demo.read("w1 " * 2000), "topic", "roads", "occlusion")


def test_a_file(demo: Demo, pipe: Pipeline, tmp_path: Path) -> None:
    texts = [" ".join(tiny.WORDS[: 1 + place % 7]) for place in range(70)]
    (tmp_path / "mine.csv").write_text("text\n" + "\n".join(texts))
    seen: list[tuple[int, int]] = []
    path, said = demo.predict_file(str(tmp_path / "mine.csv"), str(tmp_path / "out"), seen.append)
    assert seen == [(0, 70), (64, 70)]
    assert "70 rows predicted" in said
    assert "mine-predictions.csv" in path
    assert len(Path(path).parent.name) == 32  # hex digits that nobody guesses
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    for row, own in zip(rows, pipe(texts), strict=True):
        assert row["predicted_topic"] == "|".join(each["label"] for each in own["topic"])
        assert row[f"predicted_{MOOD}"] == own[MOOD][0]["label"]
        assert float(row[f"predicted_{MOOD}_score"]) == pytest.approx(own[MOOD][0]["score"], abs=1e-4)
    assert len({row["predicted_topic"] for row in rows}) > 2


def test_files_that_are_refused(demo: Demo, tmp_path: Path) -> None:
    def refused(path: str | None, max_file_mb: float = 5) -> str:
        demo.settings.max_file_mb = max_file_mb
        with pytest.raises(ValueError, match=r"\w+") as error:
            demo.predict_file(path, str(tmp_path / "out"), print)
        return str(error.value)

    path = tmp_path / "mine.csv"
    path.write_text("text\n" + "w1\n" * 81)
    assert refused(None) == "choose a file first"
    assert refused(str(path)) == "the file has more than 80 rows: split it"
    assert refused(str(path), max_file_mb=1e-4) == "the file is larger than 0.0001 MB: split it"
    assert not (tmp_path / "out").exists()


def test_pairs_of_texts(tmp_path: Path) -> None:
    model = tiny.model(text_columns=["question", "answer"])
    pipe = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
    demo = Demo(pipe, DemoSettings(), explain)
    said = pipe({"question": "w1 w2", "answer": "w3"}, return_all_scores=True)[0]
    found = cards(demo.results(demo.read("w1 w2", "w3"), ALL_LABELS))
    assert {head: list(own) for head, own in found.items()} == {
        head: [each["label"] for each in own] for head, own in said.items()
    }
    assert found["topic"][said["topic"][0]["label"]][0] == pytest.approx(said["topic"][0]["score"], abs=6e-4)
    with pytest.raises(ValueError, match="type a text for 'answer' first"):
        demo.read("w1", "")
    assert "w3</mark>" in demo.words(demo.read("w1 w2", "w3"), "mood", "calm", "occlusion")
    (tmp_path / "pairs.jsonl").write_text('{"answer": "w3", "question": "w1 w2"}\n')
    path, _ = demo.predict_file(str(tmp_path / "pairs.jsonl"), str(tmp_path / "out"), lambda done: None)
    with open(path, newline="") as file:
        assert next(csv.DictReader(file))["predicted_mood"] == said["mood"][0]["label"]
    assert "columns “question” and “answer”" in demo.limits()


def test_long_texts_in_windows() -> None:
    model = tiny.model(max_length=8, truncation="windows", heads={"mood": HeadConfig(tiny.MOODS)})
    pipe = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
    demo = Demo(pipe, DemoSettings())
    text = " ".join(tiny.WORDS[:30])
    found = cards(demo.results(demo.read(text), ALL_LABELS))["mood"]
    for each in pipe(text, return_all_scores=True)[0]["mood"]:
        assert found[each["label"]][0] == pytest.approx(each["score"], abs=6e-4)


def test_the_command_without_gradio(tmp_path: Path) -> None:
    folder = save(tiny.model(), tmp_path / "model")
    with mock.patch.dict(sys.modules, {"gradio": None}):
        done = cli("demo", folder)
    assert done.returncode == 1
    assert done.stderr.strip() == 'multihead-hf: The demo page needs gradio: pip install "multihead-hf[demo]"'


def test_the_command_without_a_model(tmp_path: Path) -> None:
    done = cli("demo", tmp_path)
    assert done.returncode == 1
    assert "is not a saved model: it has no config.json" in done.stderr


def test_the_command_says_who_can_use_the_page(tmp_path: Path) -> None:
    folder = save(tiny.model(), tmp_path / "model")
    with mock.patch("multihead_hf.cli.demo._serve") as serve:
        assert cli("demo", folder).stderr == ""
        assert serve.call_args.args[2:] == ("127.0.0.1", None)
        done = cli("demo", folder, "--host", "0.0.0.0", "--port", "8080")
        assert done.stderr == "multihead-hf: everyone who can reach 0.0.0.0 can use this page, without a password\n"
        assert serve.call_args.args[2:] == ("0.0.0.0", 8080)


def test_examples_are_the_widget_texts_of_the_card(tmp_path: Path) -> None:
    folder = save(tiny.model(), tmp_path / "model")
    (folder / "model_card.json").write_text('{"widget_texts": ["w1", "w2"]}')
    with mock.patch("multihead_hf.cli.demo._serve") as serve:
        for options, examples in (([], ["w1", "w2"]), (["--example", "w3"], ["w3"])):
            assert cli("demo", folder, *options).returncode == 0
            settings = serve.call_args.args[1]
            assert (settings.title, list(settings.examples)) == ("model", examples)
    model = tiny.model(text_columns=["question", "answer"])
    save(model, folder)
    with mock.patch("multihead_hf.cli.demo._serve") as serve:
        assert cli("demo", folder).returncode == 0
        assert not serve.call_args.args[1].examples
        done = cli("demo", folder, "--example", "w3")
        assert done.returncode == 2
        assert "pairs of texts" in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    folder = save(tiny.model(), tmp_path / "model")
    with socket.socket() as taken, mock.patch.dict(os.environ), mock.patch("signal.signal"):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("demo", folder, "--port", str(port))
    assert done.returncode == 1
    said = f"multihead-hf: the page cannot listen at 127.0.0.1, port {port}: give another --port or --host"
    assert done.stderr.strip().splitlines()[-1] == said
