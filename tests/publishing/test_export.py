"""Exported graphs say what the model says, know what a program needs to decide, and are whole or absent."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from command_line import cli
from hub_server import HubServer
from packaging.version import parse
from sklearn.metrics import f1_score
from transformers import CanineTokenizer, pipeline

from multihead_hf import (
    HeadConfig,
    MultiHeadDataCollator,
    MultiHeadModel,
    MultiHeadPredictor,
    export_model,
    prepare_dataset,
)

onnx_ir = pytest.importorskip("onnx_ir")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
try:
    from transformers.exporters import ExportedModel  # noqa: F401
except ImportError:
    pytest.skip("export needs the exporters of a newer transformers", allow_module_level=True)
if parse(torch.__version__) < parse("2.11"):
    pytest.skip("transformers' exporters need a newer torch", allow_module_level=True)

from multihead_hf.prediction import graph_onnx  # noqa: E402
from multihead_hf.publishing import export_parity, quantization  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
MULTI = "multi_label_classification"
# the names of an input and of a node's value, and what XML, JSON and lists of names could stumble over
HEADS = {
    "topic": HeadConfig(labels=tiny.TOPICS, problem_type=MULTI, thresholds=[0.3, 0.5, 0.8], architecture="mlp"),
    "input_ids": HeadConfig(labels=["ja, graag", 'n"ee <&>']),
    "a.b é, c": HeadConfig(labels=["你好", "🙂", "x", "y"], problem_type=MULTI, min_labels=1, max_labels=2),
    "val_3": HeadConfig(labels=["a", "b", "c"], calibration_temperature=2.5, positive_label=None),
    "mask": HeadConfig(labels=["on", "off"], problem_type=MULTI, calibration_temperature=[0.5, 3.0]),
}
TEXTS = [
    *("w1 w2 w3", "", "w59", "?", "é 你好 🙂 w4", "  w1\tw2\n", "w5 " * 100, " ".join(tiny.WORDS)),
    *(" ".join(tiny.WORDS[i : i + 1 + i % 17]) for i in range(40)),
]


def made(family: str = "bert", heads: Any = None, **settings: Any) -> MultiHeadModel:
    """A tiny model whose scores differ from text to text."""
    model = tiny.model(family, heads=heads or HEADS, **{"pooling": "mean", **settings})
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)
        for parameter in model.heads.parameters():
            parameter.mul_(10)
    return model


def tokenizer_of(**options: Any) -> Any:
    return tiny.tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"], **options)


class Traced(NamedTuple):
    """What transformers' exporter gives for `made()`, and the folder that was made of it."""

    proto: Any
    folder: Path
    report: Any


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("exported") / "graph"
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_onnx, "trace", recorded(graph_onnx.trace, kept))
        report = export_model(made(), tokenizer_of(), folder)
    return Traced(kept[0], folder, report)


def recorded(trace: Callable, kept: list[Any]) -> Callable:
    def record(*arguments: Any) -> Any:
        program = trace(*arguments)
        kept.append(onnx_ir.to_proto(program))
        return program

    return record


@pytest.fixture
def quick(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models with the weights of `made()` need not be traced again, whatever their texts and decisions are."""
    monkeypatch.setattr(graph_onnx, "trace", lambda *_: onnx_ir.from_proto(traced.proto))


def padded(rows: int, length: int, side: str = "right") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(4, len(tiny.VOCAB), (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        padding = slice(max(1, length - 2 * row), None) if side == "right" else slice(0, min(length - 1, 2 * row))
        mask[row, padding] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def check_equal(session: Any, model: MultiHeadModel, tokens: dict[str, torch.Tensor], outputs: dict[str, str]) -> None:
    feed = {each.name: tokens[each.name].numpy() for each in session.get_inputs()}
    found = dict(zip(outputs, session.run(list(outputs.values()), feed), strict=True))
    with torch.no_grad():
        logits = model(**tokens).logits
    for name, expected in logits.items():
        torch.testing.assert_close(torch.from_numpy(found[name]), expected, atol=2e-5, rtol=1e-5)


def outputs_of(metadata: dict[str, str]) -> dict[str, str]:
    return {head["name"]: head["output"] for head in json.loads(metadata["multihead_hf.heads"])}


@pytest.mark.slow
def test_the_graph_says_what_the_model_says(traced: Traced) -> None:
    session, model = ort.InferenceSession(traced.folder / "model.onnx"), made()
    outputs = outputs_of(session.get_modelmeta().custom_metadata_map)
    assert outputs == {**{name: name for name in HEADS}, "input_ids": "input_ids_logits"}
    assert [(each.name, each.shape) for each in session.get_inputs()] == [
        (name, ["batch", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        (outputs[name], ["batch", head.num_labels]) for name, head in HEADS.items()
    ]
    for rows in (1, 7):
        for length in (1, 2, 5, 63, 64):
            for side in ("right", "left"):
                check_equal(session, model, padded(rows, length, side), outputs)


def test_the_report(traced: Traced) -> None:
    assert {path.name for path in traced.folder.iterdir()} == {
        *("model.onnx", "model.onnx.data", "config.json", "tokenizer.json", "tokenizer_config.json")
    }
    assert traced.report.files == {
        name: (traced.folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data")
    }
    assert traced.report.to_dict()["heads"]["topic"]["changed"] == 0
    assert 0 < traced.report.heads["topic"].difference < 1e-4
    assert "a.b é, c" in str(traced.report)
    assert not [path for path in traced.folder.parent.iterdir() if path != traced.folder]
    content = (traced.folder / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(Path.home()).encode() not in content


def test_the_metadata_are_those_of_the_configuration(traced: Traced) -> None:
    metadata = ort.InferenceSession(traced.folder / "model.onnx").get_modelmeta().custom_metadata_map
    assert set(metadata) == {
        f"multihead_hf.{key}" for key in ("format_version", "library_version", "heads", "text", "quantize")
    }
    heads = {head["name"]: head for head in json.loads(metadata["multihead_hf.heads"])}
    assert list(heads) == list(HEADS)
    for name, head in HEADS.items():
        for setting in ("labels", "problem_type", "positive_label"):
            assert heads[name][setting] == getattr(head, setting)
    assert heads["topic"]["thresholds"] == [0.3, 0.5, 0.8]
    assert heads["mask"]["thresholds"] == [0.5, 0.5]
    assert heads["mask"]["calibration_temperature"] == [0.5, 3.0]
    assert heads["val_3"]["calibration_temperature"] == [2.5]
    assert heads["val_3"]["thresholds"] is None
    assert (heads["a.b é, c"]["min_labels"], heads["a.b é, c"]["max_labels"]) == (1, 2)
    assert (heads["mask"]["min_labels"], heads["mask"]["max_labels"]) == (0, 2)
    text = json.loads(metadata["multihead_hf.text"])
    assert text["max_length"] == 64  # the tokenizer's
    assert (text["truncation"], text["text_prefix"], text["padding_side"]) == ("tail", "", "right")


BLOCKED = """
import json, sys
for name in ("torch", "transformers", "multihead_hf", "onnx", "datasets", "sklearn"):
    sys.modules[name] = None  # importing it raises
sys.path.insert(0, sys.argv[1])
from onnx_predict import Classifier
classifier = Classifier("moved")
texts = json.load(open("texts.json"))
json.dump([classifier(texts), [classifier([text])[0] for text in texts]], open("found.json", "w"))
"""


def check_example(model: MultiHeadModel, tokenizer: Any, folder: Path, where: Path) -> None:
    """`examples/onnx_predict.py`, without torch and transformers and with the folder moved, decides as the pipeline."""
    pairs = len(model.config.text_columns or ()) == 2
    texts = list(zip(TEXTS, TEXTS[::-1], strict=True)) if pairs else [(text,) for text in TEXTS]
    where.mkdir()
    folder.rename(where / "moved")
    (where / "texts.json").write_text(json.dumps(texts))
    subprocess.run([sys.executable, "-c", BLOCKED, str(EXAMPLES)], cwd=where, check=True)
    pipe = pipeline("multi-head-text-classification", model=model, tokenizer=tokenizer)
    given = [{"text": one, "text_pair": two} for one, two in texts] if pairs else TEXTS
    scores = [pipe(text, return_all_scores=True)[0] for text in given]
    chosen = [pipe(text)[0] for text in given]
    seen = set()
    for found in json.loads((where / "found.json").read_text()):
        for row, (heads, every, own) in enumerate(zip(found, scores, chosen, strict=True)):
            assert list(heads) == list(model.config.heads)
            for name, labels in heads.items():
                score_of = {entry["label"]: entry["score"] for entry in every[name]}
                assert [label for label, _ in labels] == [entry["label"] for entry in own[name]], (row, name)
                for label, score in labels:
                    assert abs(score - score_of[label]) < 1e-5, (row, name, label)
                seen.add((name, tuple(label for label, _ in labels)))
    assert len(seen) > len(HEADS) + 3  # not always the same


def test_the_example_decides_as_the_pipeline(traced: Traced, quick: None, tmp_path: Path) -> None:
    model, tokenizer = made(text_prefix="w7 ", max_length=9), tokenizer_of()
    export_model(model, tokenizer, tmp_path / "graph")
    check_example(model, tokenizer, tmp_path / "graph", tmp_path / "elsewhere")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "onnx_predict.py", tmp_path / "elsewhere" / "moved", "w1 w2", "w3"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line for line in done.stdout.splitlines() if not line.startswith("  ")] == [*HEADS, *HEADS]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["head+tail", "pairs", "left", "no special tokens"])
def test_the_example_reads_texts_as_the_pipeline(case: str, quick: None, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_length": 8}
    tokenizer = tokenizer_of()
    if case == "head+tail":
        settings["truncation"] = "head+tail"
    elif case == "pairs":
        settings |= {"text_columns": ["question", "answer"], "text_prefix": "w3 w3 "}
    elif case == "left":
        tokenizer = tokenizer_of(padding_side="left", truncation_side="left")
    else:
        tokenizer.backend_tokenizer.post_processor = None
        assert tokenizer("")["input_ids"] == []
    model = made(**settings)
    export_model(model, tokenizer, tmp_path / "graph")
    check_example(model, tokenizer, tmp_path / "graph", tmp_path / "elsewhere")


@pytest.mark.parametrize("pooling", ["mean", pytest.param("max", marks=pytest.mark.nightly)])
def test_windows(pooling: str, tmp_path: Path) -> None:
    settings = {"truncation": "windows", "max_length": 8, "stride": 2, "max_windows": 4}
    model, tokenizer = made("bert", window_pooling=pooling, **settings), tokenizer_of()
    export_model(model, tokenizer, tmp_path / "graph")
    session = ort.InferenceSession(tmp_path / "graph" / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", "windows", "length"]
    check_example(model, tokenizer, tmp_path / "graph", tmp_path / "elsewhere")


def test_a_graph_that_says_something_else_is_refused(quick: None, tmp_path: Path) -> None:
    model = made()
    with torch.no_grad():
        model.heads["val_3"].layers[-1].bias.add_(0.01)
    with pytest.raises(ValueError, match=r"head 'val_3': the graph's logits differ from PyTorch's by 1\.0e-02"):
        export_model(model, tokenizer_of(), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []
    export_model(model, tokenizer_of(), tmp_path / "graph", tolerance=0.02)


def test_the_model_stays_as_it_is(quick: None, tmp_path: Path) -> None:
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    export_model(model, tokenizer_of(), tmp_path / "graph")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.slow
def test_modes_and_learned_thresholds_stay_as_they_are(tmp_path: Path) -> None:
    model = tiny.model(heads=tiny.two_heads(loss="soft_f1", learn_thresholds=0.4))
    model.train()
    model.encoder.eval()
    report = export_model(model, tiny.tokenizer(), tmp_path / "graph")
    assert report.graph == "model.onnx"
    assert (model.training, model.encoder.training, model.heads.training) == (True, False, True)
    assert model.config.heads["topic"].thresholds is None


def test_half_precision_is_exported_in_float32(quick: None, tmp_path: Path) -> None:
    model = made()
    model.encoder.half()
    # the graph of the float32 weights differs by their rounding
    with pytest.raises(ValueError, match="the graph's logits differ"):
        export_model(model, tokenizer_of(), tmp_path / "graph")
    export_model(model, tokenizer_of(), tmp_path / "graph", tolerance=0.1)
    assert model.encoder.dtype == torch.float16


@pytest.mark.slow
def test_int8(quick: None, tmp_path: Path) -> None:
    model, tokenizer = made(), tokenizer_of()
    rows = tiny.table(40).remove_columns("mood")
    collator = MultiHeadDataCollator(tokenizer, model)
    batch = collator(list(prepare_dataset(rows, tokenizer, model)))
    report = export_model(model, tokenizer, tmp_path / "graph", quantize="int8", calibration=TEXTS, batches=[batch])
    assert sum(report.files.values()) < report.float32_bytes
    assert report.quantized_heads is not None
    assert {name for name, own in report.quantized_heads.items() if own.score is not None} == {"topic"}
    assert max(own.difference for own in report.heads.values()) < 1e-4
    assert max(own.difference for own in report.quantized_heads.values()) > 1e-3
    session = ort.InferenceSession(tmp_path / "graph" / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["multihead_hf.quantize"]) == "int8"
    compared = json.loads(metadata["multihead_hf.comparison"])
    assert compared == {name: own.metadata() for name, own in report.quantized_heads.items()}
    assert compared["topic"]["graph"] == report.quantized_heads["topic"].score is not None
    feed = {each.name: batch[each.name].numpy() for each in session.get_inputs()}
    known = (batch["labels"]["topic"] >= 0).all(1).numpy()
    logits = session.run([outputs_of(metadata)["topic"]], feed)[0]
    decided = 1 / (1 + np.exp(-logits)) >= np.array(HEADS["topic"].thresholds)
    expected = f1_score(batch["labels"]["topic"].numpy()[known], decided[known], average="micro", zero_division=0)
    assert report.quantized_heads["topic"].score == pytest.approx(expected)
    with torch.no_grad():
        exact = model(**{name: batch[name] for name in feed}).logits["topic"].sigmoid().numpy()
    changed = ((exact >= np.array(HEADS["topic"].thresholds)) != decided).sum()
    assert changed <= report.quantized_heads["topic"].changed <= changed + 30
    assert report.heads["topic"].score == report.quantized_heads["topic"].model_score
    assert f"{expected:.4f}, {report.heads['topic'].score:.4f} (f1_micro)" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, True])
def test_static_int8_of_onnx(quick: None, tmp_path: Path, labelled: bool) -> None:
    model, tokenizer = made(), tokenizer_of()
    rows = prepare_dataset(tiny.table(20).remove_columns("mood"), tokenizer, model)
    batches = [MultiHeadDataCollator(tokenizer, model)(list(rows))] if labelled else None
    report = export_model(model, tokenizer, tmp_path / "graph", quantize="int8", calibration=TEXTS, batches=batches)
    graph = onnx.load(tmp_path / "graph" / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert "QuantizeLinear" in kinds
    quantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    of_heads = [node for node in products if any("heads" in name for name in node.input)]
    assert len(of_heads) >= len(HEADS)
    assert not any(quantized & set(node.input) for node in of_heads)
    if labelled:
        topic = report.quantized_heads["topic"]
        assert topic.score >= (topic.model_score or 0) - 0.002
    check_predictions(model, tmp_path / "graph", report)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_layers_that_cost_accuracy_stay_in_float32(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = made(), tokenizer_of()
    rows = prepare_dataset(tiny.table(20).remove_columns("mood"), tokenizer, model)
    batches = [MultiHeadDataCollator(tokenizer, model)(list(rows))]
    with torch.no_grad():
        exact = model(**{name: batches[0][name] for name in tokenizer.model_input_names}).logits["topic"].numpy()

    def score(model: Any, outputs: Any) -> Any:
        """Falls with each layer in int8, unlike an F1 of 20 rows."""
        return lambda run, rows: 1 - float(np.abs(run(rows[0].tokens)[outputs["topic"]] - exact).mean())

    monkeypatch.setattr("multihead_hf.publishing.export.LeastChange", score)
    lost = {}
    for name, given in (("plain", None), ("searched", batches)):
        folder = tmp_path / name
        export_model(model, tokenizer, folder, format, quantize="int8", calibration=TEXTS, batches=given)
        logits = MultiHeadPredictor.from_pretrained(str(folder)).logits_of_rows(list(rows))["topic"]
        lost[name] = float(np.abs(logits - exact).mean())
    assert lost["searched"] <= quantization.MOST_LOST < lost["plain"]


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, True])
def test_static_int8_of_openvino(tmp_path: Path, labelled: bool) -> None:
    model, tokenizer = made(), tokenizer_of()
    rows = prepare_dataset(tiny.table(20).remove_columns("mood"), tokenizer, model)
    batches = [MultiHeadDataCollator(tokenizer, model)(list(rows))] if labelled else None
    options = {"quantize": "int8", "calibration": TEXTS, "batches": batches}
    report = export_model(model, tokenizer, tmp_path / "graph", "openvino", **options)
    assert sum(report.files.values()) < report.float32_bytes
    if labelled:
        assert report.quantized_heads is not None
        topic = report.quantized_heads["topic"]
        assert topic.score is not None
        assert topic.score >= (topic.model_score or 0) - 0.002
    check_predictions(model, tmp_path / "graph", report)


def check_predictions(model: MultiHeadModel, folder: Path, report: Any) -> None:
    """A predictor takes the folder like a model, and says what is in the report."""
    assert max(own.difference for own in report.heads.values()) < 1e-4
    assert max(own.difference for own in report.quantized_heads.values()) > 1e-3
    predictor = MultiHeadPredictor.from_pretrained(str(folder))
    assert (predictor.backend, predictor.chosen) == (report.format, "int8")
    assert predictor.choose_precision(TEXTS).precision == predictor.chosen == "int8"
    with pytest.raises(ValueError, match="holds a graph in int8, not in 'fp32'"):
        predictor.use("fp32")
    found = predictor.predict(TEXTS)
    exact = MultiHeadPredictor(model, tokenizer_of(), device="cpu", backend="torch", precision="fp32").predict(TEXTS)
    assert list(found) == list(exact)
    for name, own in found.items():
        difference = (own.probabilities - exact[name].probabilities).abs()
        assert 0 < float(difference.mean()) < 0.1
    for settings, message in (
        ({"precision": "fp32"}, "holds a graph in int8, not in 'fp32'"),
        ({"backend": "torch"}, f"holds a graph for {report.format}, not for 'torch'"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiHeadPredictor.from_pretrained(str(folder), **settings)


def test_the_score_of_a_graph_is_what_the_worst_head_loses() -> None:
    model = tiny.model().eval()
    outputs = {name: f"logits_{name}" for name in model.config.heads}
    rows = prepare_dataset(tiny.table(40), tiny.tokenizer(), model)
    tokens = MultiHeadDataCollator(tiny.tokenizer(), model)(list(rows))
    given = list(export_parity.labelled_batches([tokens], ["input_ids", "attention_mask"]))
    with torch.no_grad():
        exact = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    score = export_parity.LeastChange(model, outputs)
    same = {outputs[name]: logits.numpy() for name, logits in exact.items()}
    assert score(lambda tokens: same, given) == 1.0
    known = (tokens["labels"]["topic"] >= 0).all(1)
    decided = exact["topic"][known] >= 0
    found = f1_score(tokens["labels"]["topic"][known], decided, average="micro")
    assert found > 0
    nothing = same | {"logits_topic": np.full_like(same["logits_topic"], -9)}
    assert score(lambda tokens: nothing, given) == pytest.approx(1 - found, abs=1e-6)


def test_a_graph_is_not_written_over_a_model(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds the weights of a model: give another folder for the graph"):
        export_model(tiny.model(), tiny.tokenizer(), tmp_path, overwrite=True)


def test_batches_without_a_label_are_left_out() -> None:
    labels = {"mood": torch.tensor([-100, 1])}
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.int64)}
    given = [{**batch, "labels": labels}, {**batch, "labels": {"mood": torch.tensor([-100, -100])}}]
    (kept,) = export_parity.labelled_batches(given, ["input_ids"])
    assert kept.labels is labels


def test_calibration_is_checked(quick: None, tmp_path: Path) -> None:
    model, tokenizer = made(), tokenizer_of()
    for options, message in (
        (
            {"quantize": "int8"},
            r"needs calibration: a few hundred texts .*--calibration rows.csv",
        ),
        ({"calibration": TEXTS}, r"calibration is for int8: give quantize='int8'"),
        ({"calibration": [], "quantize": "int8"}, "calibration has no rows"),
        ({"calibration": "rows.csv", "quantize": "int8"}, r"^calibration is a str: give texts, or rows"),
        ({"calibration": {"text": ["w1"]}, "quantize": "int8"}, r"^calibration is a dict: give texts, or rows"),
        ({"calibration": [{"txet": "w1"}], "quantize": "int8"}, "^calibration row 0: .*'text'"),
    ):
        with pytest.raises(ValueError, match=message):
            export_model(model, tokenizer, tmp_path / "graph", **options)
    inputs = ["input_ids", "attention_mask"]
    batches = quantization.calibration_batches(model, tokenizer, [f"w{row}" for row in range(2_400)], inputs)
    ids = {tuple(row) for batch in batches for row in batch["input_ids"].tolist()}
    assert sum(len(batch["input_ids"]) for batch in batches) == 800 >= len(ids)
    assert not (tmp_path / "graph").exists()


def test_what_was_there_stays_until_the_new_is_whole(quick: None, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (folder / "model.onnx").write_text("old")
    with pytest.raises(ValueError, match=r"exists and is not empty.*--overwrite"):
        export_model(made(), tokenizer_of(), folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # as a full disk: a file cannot grow beyond
    try:
        for place in (folder, tmp_path / "new"):
            with pytest.raises(OSError, match=r"too large|written"):
                export_model(made(), tokenizer_of(), place, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "model.onnx"]
    assert (folder / "model.onnx").read_text() == "old"
    export_model(made(), tokenizer_of(), folder, overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"
    ort.InferenceSession(folder / "model.onnx")
    for name in ("openvino_model.xml", "openvino_model.bin"):
        (folder / name).write_text("of another model")
    with pytest.raises(ValueError, match=r"holds two graphs, openvino_model.xml and model.onnx, which may differ"):
        MultiHeadPredictor.from_pretrained(str(folder))
    export_model(made(), tokenizer_of(), folder, overwrite=True)
    assert not list(folder.glob("openvino*"))
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]


@pytest.mark.slow
def test_what_cannot_be_exported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny.model(), tokenizer_of()
    with pytest.raises(ValueError, match=r"format 'onx'.*Did you mean 'onnx'"):
        export_model(model, tokenizer, tmp_path / "x", "onx")
    with pytest.raises(ValueError, match="quantize 'int4': give one of"):
        export_model(model, tokenizer, tmp_path / "x", quantize="int4")
    with pytest.raises(ValueError, match="quantize='int8' needs calibration"):
        export_model(model, tokenizer, tmp_path / "x", "openvino", "int8")
    with pytest.raises(ValueError, match="a CanineTokenizer is written in Python and has no tokenizer"):
        export_model(model, CanineTokenizer(), tmp_path / "x")
    with pytest.raises(ValueError, match="a Linear is not a multi-head model"):
        export_model(torch.nn.Linear(2, 2), tokenizer, tmp_path / "x")
    with pytest.raises(ValueError, match=r"a 'canine' encoder cannot be exported to onnx: \w+: .*static shape"):
        export_model(tiny.model("canine"), tokenizer, tmp_path / "x")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'onnxscript cannot be imported \(.*\): pip install "multihead-hf\[onnx\]"'):
        export_model(model, tokenizer, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_does_more_than_its_file_is_refused(quick: None, tmp_path: Path) -> None:
    class Saying(type(tokenizer_of())):  # type: ignore[misc]
        def _encode_plus(self, text: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._encode_plus([f"{each} w1" for each in text], *args, **kwargs)

    tokenizer = tokenizer_of()
    tokenizer.__class__ = Saying
    with pytest.raises(ValueError, match=r"tokenizer\.json alone tokenizes 'Het grof"):
        export_model(made(), tokenizer, tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_splits_special_tokens_is_refused(quick: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json alone tokenizes 'A text may hold \[UNK\] and"):
        export_model(made(), tokenizer_of(split_special_tokens=True), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def saved(folder: Path) -> Path:
    made().save_pretrained(folder)
    tokenizer_of().save_pretrained(folder)
    return folder


def test_the_command(quick: None, tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    tiny.table(20).remove_columns("mood").to_json(rows)
    done = cli("export", model, "-o", tmp_path / "out", "--data", rows, "--label-column", "topic=topic_labels")
    assert done.returncode == 0, done.stderr
    assert "(f1_micro)" in done.stdout
    assert done.stdout.endswith(f"The graph is {tmp_path / 'out' / 'model.onnx'}\n")
    again = cli("export", model, "-o", tmp_path / "out")
    assert again.returncode == 1
    assert "exists and is not empty" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1
    done = cli("export", model, "-o", tmp_path / "out", "--overwrite", "--quantize", "int8")
    assert done.returncode == 1
    assert "quantize='int8' needs calibration: a few hundred texts" in done.stderr
    others = pd.DataFrame({"body": ["w1 w2", "w3"], "text": [1, 2]})
    others.to_csv(tmp_path / "others.csv", index=False)
    static = ("--overwrite", "--quantize", "int8", "--calibration", tmp_path / "others.csv")
    labelled = ("--data", tmp_path / "joined.csv", "--sep", "topic=|", "--empty", "topic=none", "--text-column", "body")
    pd.DataFrame({"body": ["w1 w2", "w3"], "topic": ["roads|waste", ""]}).to_csv(tmp_path / "joined.csv", index=False)
    done = cli("export", model, "-o", tmp_path / "out", *static, *labelled)
    assert done.returncode == 0, done.stderr
    done = cli("export", model, "-o", tmp_path / "out", *static)
    assert done.returncode == 1
    assert "calibration: text column 'text' is not text" in done.stderr
    done = cli("export", model, "-o", tmp_path / "out", *static, "--text-column", "body", "--json")
    report = json.loads(done.stdout)
    assert (report["quantize"], set(report["quantized_heads"])) == ("int8", set(HEADS))
    assert (
        "multihead_hf.comparison"
        in ort.InferenceSession(tmp_path / "out" / "model.onnx").get_modelmeta().custom_metadata_map
    )
    done = cli("export", model, "-o", tmp_path / "none", "--tolerance", "0")
    assert done.returncode == 1
    assert "the graph's logits differ from PyTorch's" in done.stderr
    assert not (tmp_path / "none").exists()
    assert cli("export", model, "-o", tmp_path / "none", "--format", "tflite").returncode == 2
    assert cli("export", model).returncode == 2
    for option in ("--format", "--quantize", "--data", "--tolerance", "--overwrite"):
        assert option in cli("export", "--help").stdout


@pytest.mark.slow
def test_openvino(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = made()
    report = export_model(model, tokenizer_of(), tmp_path / "graph", "openvino")
    assert set(report.files) == {"openvino_model.xml", "openvino_model.bin"}
    assert (tmp_path / "graph" / "tokenizer.json").is_file()
    moved = (tmp_path / "graph").rename(tmp_path / "moved")
    graph = openvino.Core().read_model(moved / "openvino_model.xml")
    metadata = {key: graph.get_rt_info(["multihead_hf", key]).value for key in ("heads", "text", "format_version")}
    heads = json.loads(metadata["heads"])
    assert [head["labels"] for head in heads] == [head.labels for head in HEADS.values()]
    assert json.loads(metadata["text"])["max_length"] == 64
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for rows, length in ((1, 1), (7, 5), (7, 64)):
        tokens = padded(rows, length)
        found = compiled({name: values.numpy() for name, values in tokens.items()})
        with torch.no_grad():
            logits = model(**tokens).logits
        for head in heads:
            own = torch.from_numpy(np.array(found[head["output"]]))
            torch.testing.assert_close(own, logits[head["name"]], atol=2e-5, rtol=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        *(("modernbert", pooling) for pooling in ("cls", "mean", "max", "last")),
        *((family, "mean") for family in ("bert", "xlm-roberta", "distilbert", "deberta-v2", "nomic_bert", "mpnet")),
        *((family, None) for family in ("electra", "albert", "t5", "bart", "llama", "gpt2")),
    ],
)
def test_encoders(family: str, pooling: str | None, format: str, tmp_path: Path) -> None:
    """The command's own comparison, which the tests above compare with one of theirs."""
    report = export_model(made(family, pooling=pooling), tokenizer_of(), tmp_path / "graph", format)
    assert all(own.changed == 0 for own in report.heads.values())


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = made("modernbert", truncation="windows", max_length=8)
    model.encoder.to(dtype)
    export_model(model, tokenizer_of(), tmp_path / "graph")
    assert model.encoder.dtype == dtype


SIGNALLED = """
import gc, signal, sys
sys.path.insert(0, sys.argv[1])
import tiny
from multihead_hf import MultiHeadPredictor, export_model

texts = ["w1 w2 w3", "w4 w5"] * 4
predictors = [MultiHeadPredictor(tiny.model(), tiny.tokenizer(), backend="openvino") for _ in range(2)]
for predictor in predictors:
    predictor.predict(texts)
del predictor
while predictors:  # the first that was made goes first
    del predictors[0]
    gc.collect()
export_model(tiny.model(), tiny.tokenizer(), "graph", "openvino", quantize="int8", calibration=texts)
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="the alternate signal stack is kept on Linux only")
def test_signals_can_be_handled_after_openvino_and_nncf(tmp_path: Path) -> None:
    """Several of OpenVINO's plugins leave a freed signal stack behind, and Ctrl+C would be a segmentation fault."""
    command = [sys.executable, "-c", SIGNALLED, str(Path(tiny.__file__).parent)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("handled\n")


def test_a_graph_is_no_model_with_weights(traced: Traced, tmp_path: Path) -> None:
    predictor = MultiHeadPredictor.from_pretrained(str(traced.folder))
    with pytest.raises(ValueError, match="holds an exported graph without weights"):
        predictor.model(input_ids=torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="this model has no weights that could be saved"):
        predictor.model.save_pretrained(tmp_path / "saved")
    for command, *options in (("explain", "w1", "--head", "topic"), ("tune-thresholds", tmp_path / "rows.csv")):
        done = cli(command, traced.folder, *options)
        assert done.returncode == 1
        assert "holds a graph exported for onnx, without weights" in " ".join(done.stderr.split())
    for name, value in (("truncation", "windows"), ("pooling", "max")):
        before = getattr(predictor.model.config, name)
        setattr(predictor.model.config, name, value)
        with pytest.raises(ValueError, match=f"{name}={before!r} is part of the graph"):
            predictor.predict(["w1"])
        setattr(predictor.model.config, name, before)
    done = cli("card", traced.folder)
    assert done.returncode == 1
    assert "holds a graph exported for onnx, without weights" in " ".join(done.stderr.split())
    predictor.model.extend_head("topic", ["further"])
    with pytest.raises(ValueError, match=r"\['topic'\] cannot be computed: change the heads of the model that it was"):
        predictor.predict(["w1"])
    predictor = MultiHeadPredictor.from_pretrained(str(traced.folder))
    predictor.model.rename_head("topic", "renamed")
    with pytest.raises(ValueError, match=r"\['renamed'\] cannot be computed"):
        predictor.predict(["w1"])


def test_a_graph_whose_files_were_changed(traced: Traced, tmp_path: Path) -> None:
    shutil.copytree(traced.folder, tmp_path / "graph")
    config = json.loads((tmp_path / "graph" / "config.json").read_text())
    config["heads"][0]["labels"].append("more")
    config["heads"][0]["thresholds"] = None
    (tmp_path / "graph" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"head 'topic': the labels in config.json are not those of the graph"):
        MultiHeadPredictor.from_pretrained(str(tmp_path / "graph"))
    shutil.copyfile(traced.folder / "config.json", tmp_path / "graph" / "config.json")
    with pytest.raises(ValueError, match="holds an exported graph, whose precision is fixed: leave dtype out"):
        MultiHeadPredictor.from_pretrained(str(tmp_path / "graph"), dtype="bfloat16")
    graph = tmp_path / "graph" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :])  # of the same size
    with pytest.raises(ValueError, match="its graph is not the one that was exported, it is damaged or was changed"):
        MultiHeadPredictor.from_pretrained(str(tmp_path / "graph"))
    config = json.loads((tmp_path / "graph" / "config.json").read_text())
    del config["_graph_digest"]  # as in a folder of an earlier version
    (tmp_path / "graph" / "config.json").write_text(json.dumps(config))
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="its graph cannot be read, export it again"):
        MultiHeadPredictor.from_pretrained(str(tmp_path / "graph")).predict(["w1"])


def test_a_configuration_that_decides_otherwise_than_the_graph(
    traced: Traced, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MultiHeadPredictor.from_pretrained(str(traced.folder))
    assert "differ from the graph's metadata" not in caplog.text
    shutil.copytree(traced.folder, tmp_path / "graph")
    config = json.loads((tmp_path / "graph" / "config.json").read_text())
    config["heads"][0]["thresholds"] = [0.99] * len(config["heads"][0]["labels"])
    (tmp_path / "graph" / "config.json").write_text(json.dumps(config))
    MultiHeadPredictor.from_pretrained(str(tmp_path / "graph"))
    assert "head 'topic': thresholds in config.json differ from the graph's metadata" in caplog.text


@pytest.mark.slow
def test_a_graph_and_a_subfolder_on_the_hub(traced: Traced, tmp_path: Path) -> None:
    made().save_pretrained(tmp_path / "models" / "inner")
    tokenizer_of().save_pretrained(tmp_path / "models" / "inner")
    script = """
from multihead_hf import MultiHeadPredictor
for name, settings in (("org/graph", {}), ("org/models", {"subfolder": "inner"}), ("models", {"subfolder": "inner"})):
    predictor = MultiHeadPredictor.from_pretrained(name, device="cpu", **settings)
    print(predictor.backend, predictor.predict(["w1 w2"])["topic"].labels)
try:
    MultiHeadPredictor.from_pretrained("org/rest")
except ValueError as error:
    print(error)
"""
    with HubServer(tmp_path / "hub") as server:
        server.add_model("org/graph", traced.folder)
        server.add_model("org/models", tmp_path / "models")
        shutil.copytree(tmp_path / "models" / "inner", tmp_path / "rest", ignore=lambda *_: ["model.safetensors"])
        server.add_model("org/rest", tmp_path / "rest")
        (tmp_path / "home").mkdir()
        command, env = [sys.executable, "-c", script], server.env(tmp_path / "home", None)
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    graph, remote, local, refused = done.stdout.splitlines()
    assert graph.startswith("onnx ")
    assert remote == local == graph.replace("onnx ", "torch ")
    assert refused.startswith("org/rest: its weights cannot be loaded: org/rest does not appear to have a file named")
