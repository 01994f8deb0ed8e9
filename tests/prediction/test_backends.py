"""Graphs in PyTorch's place: the same logits, made once, and never of another model."""

import contextlib
import importlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import cli
from huggingface_hub import constants
from packaging.version import parse

from multihead_hf import HeadConfig, MultiHeadPredictor, predict_files
from multihead_hf.prediction import backends, graph_openvino, quiet_imports, runtime
from multihead_hf.prediction import precision as precision_module

pytest.importorskip("transformers.exporters", reason="the exporters need a newer transformers")
if parse(torch.__version__) < parse("2.11"):
    pytest.skip("transformers' exporters need a newer torch", allow_module_level=True)
MULTI = "multi_label_classification"
HEADS = {"topic": HeadConfig(tiny.TOPICS, MULTI), "a.b é": HeadConfig(["x", "y"], architecture="mlp")}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "multihead_hf" / "graphs"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of the model of `saved`, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("graph")
    backends.make_graph(tiny.model(heads=HEADS), tiny.tokenizer(), "openvino", folder)
    return folder


@pytest.fixture
def made(exported: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that a graph was made for, of which only the first time takes seconds."""
    names: list[str] = []

    def copied(_: Any, __: Any, backend: str, folder: Path) -> None:
        names.append(backend)
        shutil.copytree(exported, folder, dirs_exist_ok=True)

    monkeypatch.setattr(backends, "make_graph", copied)
    return names


def texts(count: int, longest: int = 20) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(tiny.WORDS, k=draw.randint(0, longest))) for _ in range(count)]


def saved(folder: Path, **settings: Any) -> Path:
    tiny.model(heads=HEADS, **settings).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def check_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, logits in one.items():
        np.testing.assert_allclose(logits, other[name], atol=2e-5, rtol=1e-5)


class Odd(torch.nn.Module):
    """A module whose computation depends on a number, which no graph has."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return input_ids * 2 if input_ids.sum().item() == 1 else input_ids


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_a_graph_that_cannot_be_traced_is_not_printed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    sample = {"input_ids": torch.ones(2, 3, dtype=torch.long)}
    with pytest.raises(Exception, match="Could not guard"):
        backends.GRAPHS[name].trace(Odd(), sample, {"input_ids": {0: torch.export.Dim.DYNAMIC}})
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.parametrize("settings", [{}, {"truncation": "windows", "max_length": 8, "stride": 2, "max_windows": 3}])
def test_the_logits_are_those_of_pytorch(backend: str, settings: dict[str, Any]) -> None:
    model, tokenizer = tiny.model(heads=HEADS, **settings), tiny.tokenizer()
    given = texts(60)
    exact = MultiHeadPredictor(model, tokenizer, device="cpu", backend="torch", precision="fp32")
    graph = MultiHeadPredictor(model, tokenizer, device="cpu", backend=backend, precision="fp32", batch_tokens=64)
    check_equal(graph.logits(given), exact.logits(given))
    assert (graph.backend, exact.backend) == (backend, "torch")
    some = MultiHeadPredictor(model, tokenizer, heads="a.b é", device="cpu", backend=backend)
    assert list(some.logits(given[:3])) == ["a.b é"]
    assert not graph.logits([])["topic"].size


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.parametrize("settings", [{}, {"truncation": "windows", "max_length": 8, "stride": 2, "max_windows": 3}])
def test_a_feature_that_is_not_a_number_decides_nothing(backend: str, settings: dict[str, Any]) -> None:
    """The relu of OpenVINO makes it 0."""
    model = tiny.model(heads={"mood": HeadConfig(tiny.MOODS, architecture="mlp", activation="relu")}, **settings)
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny.VOCAB["w3"]] = torch.nan
    predictor = MultiHeadPredictor(model, tiny.tokenizer(), backend=backend)
    predictor.predict(["w1 w2", "w4"])
    assert predictor.backend == backend
    with pytest.raises(ValueError, match="head 'mood': its logits are not finite"):
        predictor.predict(["w1 w2", "w3 w4"])


@pytest.mark.slow
def test_a_model_that_has_changed_has_another_graph() -> None:
    model = tiny.model(heads=HEADS)
    graph = MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend="openvino", precision="fp32")
    before = graph.logits(texts(5))
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(2)
    exact = MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend="torch", precision="fp32")
    after = graph.logits(texts(5))
    check_equal(after, exact.logits(texts(5)))
    assert np.abs(after["topic"] - before["topic"]).max() > 1e-3


@pytest.mark.slow
def test_auto_makes_a_graph_where_it_pays_and_keeps_that_of_a_saved_model(
    tmp_path: Path, empty_cache: Path, made: list[str]
) -> None:
    folder = saved(tmp_path / "model")
    first = MultiHeadPredictor.from_pretrained(str(folder), device="cpu")
    first.logits(texts(20))
    assert (first.backend, empty_cache.exists()) == ("torch", False)
    found = first.logits(texts(400))
    assert first.backend == "openvino"
    assert len(list(empty_cache.iterdir())) == 1
    again = MultiHeadPredictor.from_pretrained(str(folder), device="cpu")
    check_equal(again.logits(texts(400)[:5]), {name: logits[:5] for name, logits in found.items()})
    assert again.backend == "openvino"  # of any number of texts, as the graph is there
    assert made == ["openvino"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["another", "broken", "not a text"])
def test_a_cached_graph_that_is_wrong_is_made_anew(
    tmp_path: Path, empty_cache: Path, made: list[str], damage: str
) -> None:
    folder = saved(tmp_path / "model")
    given = texts(300)
    expected = MultiHeadPredictor.from_pretrained(str(folder), device="cpu", backend="torch").logits(given)
    MultiHeadPredictor.from_pretrained(str(folder), device="cpu").logits(given)
    (cached,) = empty_cache.iterdir()
    if damage == "broken":
        (cached / "openvino_model.xml").write_text("<net/>")
    elif damage == "not a text":
        (cached / "digest").write_bytes(b"\xff\xfe\xff")
    else:
        weights = bytearray((cached / "openvino_model.bin").read_bytes())
        weights[1000:2000] = bytes(1000)
        (cached / "openvino_model.bin").write_bytes(weights)
    again = MultiHeadPredictor.from_pretrained(str(folder), device="cpu")
    check_equal(again.logits(given), expected)
    assert again.backend == "openvino"
    third = MultiHeadPredictor.from_pretrained(str(folder), device="cpu")
    check_equal(third.logits(given), expected)
    assert made == ["openvino", "openvino"]


def test_old_graphs_are_removed_when_a_new_one_is_kept(tmp_path: Path, empty_cache: Path, made: list[str]) -> None:
    empty_cache.mkdir(parents=True)
    now = time.time()
    for number in range(12):
        (empty_cache / f"openvino-{number}").mkdir()
        days = 0.5 if number < 3 else number
        os.utime(empty_cache / f"openvino-{number}", (now, now - days * 86_400))
    predictor = MultiHeadPredictor.from_pretrained(str(saved(tmp_path / "model")), device="cpu", backend="openvino")
    predictor.logits(texts(3))
    names = {path.name for path in empty_cache.iterdir()}
    assert {f"openvino-{number}" for number in range(9)} <= names  # the new one and the nine that were used last
    assert len(names) == 10
    (used,) = names - {f"openvino-{number}" for number in range(12)}
    os.utime(empty_cache / used, (0, 0))
    MultiHeadPredictor.from_pretrained(str(tmp_path / "model"), device="cpu", backend="openvino").logits(texts(3))
    assert (empty_cache / used).stat().st_mtime > now - 60


def test_a_graph_that_says_something_else_is_not_used(
    exported: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "make_graph", lambda *given: shutil.copytree(exported, given[3], dirs_exist_ok=True))
    model = tiny.model(heads=HEADS)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)
    graph, exact = (
        MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend=backend) for backend in ("openvino", "torch")
    )
    with caplog.at_level("WARNING"):
        check_equal(graph.logits(texts(5)), exact.logits(texts(5)))
    assert graph.backend == "torch"
    assert "openvino cannot be used for this model, so PyTorch is used: head 'topic': its logits differ" in caplog.text


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path: Path, empty_cache: Path, made: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("a file in the folder's place")
    own = MultiHeadPredictor.from_pretrained(str(saved(tmp_path / "model")), device="cpu", backend="openvino")
    with caplog.at_level("WARNING"):
        own.logits(texts(5))
    assert own.backend == "openvino"
    assert f"The graph is not cached: {empty_cache} cannot be written" in caplog.text


def test_a_model_that_cannot_be_exported_is_predicted_by_pytorch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise NotImplementedError("no such\noperator")

    monkeypatch.setattr(backends.graph_openvino, "trace", fails)
    own = MultiHeadPredictor(tiny.model(heads=HEADS), tiny.tokenizer(), device="cpu", backend="openvino")
    with caplog.at_level("WARNING"):
        own.logits(texts(5))
        own.logits(texts(9))
    assert own.backend == "torch"
    said = "openvino cannot be used for this model, so PyTorch is used (backend='torch'): NotImplementedError: no such"
    assert caplog.text.count(said) == 1


def test_without_openvino_auto_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    own = MultiHeadPredictor(tiny.model(heads=HEADS), tiny.tokenizer(), device="cpu")
    with caplog.at_level("WARNING"):
        own.logits(texts(400))
    assert own.backend == "torch"
    assert 'pip install "multihead-hf[openvino]"' in caplog.text
    with pytest.raises(ImportError, match=r"backend='onnx' needs onnx and .*: pip install \"multihead-hf\[onnx\]\""):
        MultiHeadPredictor(tiny.model(heads=HEADS), tiny.tokenizer(), device="cpu", backend="onnx")


def test_a_runtime_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A package may be there and fail, as after an upgrade of another one."""
    model, tokenizer = tiny.model(heads=HEADS), tiny.tokenizer()
    real = importlib.import_module

    def fail(name: str, *arguments: Any) -> Any:
        if name.startswith("openvino"):
            raise ValueError("libtbb.so: no such file")
        return real(name, *arguments)

    monkeypatch.setattr(backends.importlib, "import_module", fail)
    own = MultiHeadPredictor(model, tokenizer, device="cpu")
    with caplog.at_level("WARNING"):
        own.logits(texts(400))
    assert own.backend == "torch"
    said = [record.getMessage() for record in caplog.records if "openvino" in record.getMessage()]
    assert len(said) == 1
    assert "Predicting with PyTorch: openvino cannot be imported (libtbb.so: no such file)" in said[0]
    assert 'pip install "multihead-hf[openvino]"' in said[0]
    with pytest.raises(ImportError, match=r"openvino cannot be imported .*: pip install \"multihead-hf\[openvino\]\""):
        MultiHeadPredictor(model, tokenizer, device="cpu", backend="openvino")


def test_a_model_with_hooks_is_predicted_by_pytorch(made: list[str]) -> None:
    model = tiny.model(heads=HEADS)
    model(**tiny.batch(), output_hidden_states=True)  # (transformers leaves hooks of its own)
    own = MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend="openvino")
    own.logits(texts(4))
    assert (own.backend, made) == ("openvino", ["openvino"])
    made.clear()
    model.encoder.register_forward_hook(lambda *_: None)
    own = MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend="openvino")
    own.logits(texts(4))
    assert (own.backend, made) == ("torch", [])


def test_settings_that_do_not_exist_are_refused_before_the_model_is_loaded() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'bakend'"):
        MultiHeadPredictor.from_pretrained("no/such-model", bakend="torch")


def test_bad_input() -> None:
    model, tokenizer = tiny.model(heads=HEADS), tiny.tokenizer()
    for settings, message in (
        ({"backend": "openvyno"}, r"Unknown backend 'openvyno'\. Did you mean 'openvino'.* Use one of: auto, torch"),
        ({"backend": "openvino", "device": "meta"}, "computes on a CPU, but the device is meta: use backend='torch'"),
        ({"precision": "int8"}, "needs a graph that was quantized with your texts: multihead-hf export MODEL"),
        ({"precision": "bf16", "backend": "onnx"}, "ONNX Runtime has no bfloat16 on a CPU"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiHeadPredictor(model, tokenizer, **{"device": "cpu", **settings})


@pytest.mark.slow
def test_files_say_what_computed(tmp_path: Path) -> None:
    source = tmp_path / "texts.csv"
    source.write_text("text\n" + "\n".join(texts(40, 8)))
    folder = saved(tmp_path / "model")
    done = cli("predict", folder, source, "-o", tmp_path / "out.jsonl", "--backend", "openvino", "--precision", "fp32")
    assert "rows/s (openvino, fp32)" in done.stdout
    predictor = MultiHeadPredictor.from_pretrained(str(folder), device="cpu", backend="torch")
    report = predict_files(predictor, str(source), tmp_path / "again.jsonl")
    assert (report.backend, report.precision) == ("torch", "fp32")
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "again.jsonl").read_text()


@pytest.mark.slow
def test_nothing_is_sent() -> None:
    """OpenVINO reports each import to a server, where its package for that can be imported."""
    script = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError("a connection was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from multihead_hf.prediction import backends, quiet_imports
from multihead_hf.publishing.export import check_packages
backends.check_backend("openvino", torch.device("cpu"))
check_packages("openvino")
quiet_imports.nncf()
import transformers.exporters
assert "openvino_telemetry" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_threshold_of_texts_is_what_the_docstring_says() -> None:
    assert f"{runtime.WORTH_A_GRAPH} different texts" in (MultiHeadPredictor.__doc__ or "")


_FORKED = """
import sys
import time
sys.path.insert(0, sys.argv[1])
import tiny
from datasets import Dataset
from multihead_hf import MultiHeadPredictor

predictor = MultiHeadPredictor(tiny.model(), tiny.tokenizer(), device="cpu", backend=sys.argv[2])
texts = [f"w{row} w{row + 1}" for row in range(40)]
expected = predictor.predict([f"{text} w1" for text in texts])["mood"].labels
predictor._known.clear()
rows = Dataset.from_dict({"text": texts})
done = rows.map(lambda row: {"mood": predictor.predict([f"{row['text']} w1"])["mood"].labels[0]}, num_proc=2)
assert done["mood"] == expected, (done["mood"][:3], expected[:3])
print("the same")
"""


_FORKED_WITHOUT_PREDICTION = """
import sys
import time
sys.path.insert(0, sys.argv[1])
import tiny, torch
from datasets import Dataset
from multihead_hf import MultiHeadPredictor

model, tokenizer = tiny.model(), tiny.tokenizer()
texts = [f"w{row} w{row + 1}" for row in range(400)]
with torch.no_grad():
    model(**tokenizer(texts, return_tensors="pt"))
predictor = MultiHeadPredictor(model, tokenizer, device="cpu", backend=sys.argv[2])
done = Dataset.from_dict({"text": texts}).map(
    lambda rows: {"mood": predictor.predict(rows["text"])["mood"].labels}, batched=True, batch_size=200, num_proc=2
)
assert done["mood"] == predictor.predict(texts)["mood"].labels
print("the same")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "backend"),
    [
        (_FORKED, "torch"),
        (_FORKED, "openvino"),
        pytest.param(_FORKED, "onnx", marks=pytest.mark.nightly),
        (_FORKED_WITHOUT_PREDICTION, "torch"),
    ],
)
def test_a_forked_process_predicts_after_its_parent(script: str, backend: str) -> None:
    """Threads are not copied by a fork, and it would wait for them for ever."""
    command = [sys.executable, "-c", script, str(Path(tiny.__file__).parent), backend]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, errors = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert said.endswith("the same\n"), errors


@pytest.mark.slow
def test_tokenizers_with_other_inputs_have_their_own_graphs() -> None:
    model, given = tiny.model(heads=HEADS), [{"text": "w1 w2", "text_pair": "w3"}, {"text": "w4", "text_pair": "w5 w6"}]
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        tokenizer = tiny.tokenizer()
        tokenizer.model_input_names = names
        expected = MultiHeadPredictor(model, tokenizer, device="cpu", backend="torch").logits(given)
        check_equal(MultiHeadPredictor(model, tokenizer, device="cpu", backend="openvino").logits(given), expected)


def test_bf16_where_openvino_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(package: str) -> None:
        raise OSError("libopenvino.so: no such file")

    monkeypatch.setattr(quiet_imports, "package", broken)
    own = MultiHeadPredictor(tiny.model(heads=HEADS), tiny.tokenizer(), device="cpu", precision="bf16")
    own.logits(texts(300))
    assert own.backend == "torch"
    assert (
        'openvino cannot be imported (libopenvino.so: no such file): pip install "multihead-hf[openvino]"'
        in caplog.text
    )


def test_bf16_where_openvino_has_none(monkeypatch: pytest.MonkeyPatch, made: list[str]) -> None:
    model, tokenizer = tiny.model(heads=HEADS), tiny.tokenizer()
    for has_bf16 in (True, False):
        monkeypatch.setattr(graph_openvino, "has_bf16", lambda has=has_bf16: has)
        monkeypatch.setattr(precision_module, "is_faster_in_bf16", lambda on_cpu: True)
        own = MultiHeadPredictor(model, tokenizer, device="cpu", precision="bf16")
        own.logits(texts(300))
        assert own.backend == ("openvino" if has_bf16 else "torch")  # which has it, in software if need be
        auto = MultiHeadPredictor(model, tokenizer, device="cpu", backend="openvino")
        assert (auto.choose_precision(texts(300)).rows > 0) == has_bf16
    own = MultiHeadPredictor(model, tokenizer, device="cpu")
    own.logits(texts(300))
    own.use("bf16")
    own.logits(texts(300))
    assert own.backend == "torch"
    with pytest.raises(ValueError, match="OpenVINO has no bfloat16 on this processor: use precision='auto'"):
        MultiHeadPredictor(model, tokenizer, device="cpu", backend="openvino", precision="bf16")


def test_a_cache_that_was_emptied_meanwhile(
    tmp_path: Path,
    empty_cache: Path,
    made: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_openvino, "has_bf16", lambda: True)
    own = MultiHeadPredictor.from_pretrained(str(saved(tmp_path / "model")), device="cpu", backend="openvino")
    expected = own.logits(texts(12))
    shutil.rmtree(empty_cache)
    own.use("bf16")
    check_equal(
        own.logits(texts(12)),
        MultiHeadPredictor(own.model, own.tokenizer, backend="torch", precision="bf16").logits(texts(12)),
    )
    assert "openvino cannot be used for this model, so PyTorch is used: " in caplog.text
    assert own.backend == "torch"
    own.use("fp32")
    check_equal(own.logits(texts(12)), expected)


@pytest.mark.slow
def test_a_graph_that_another_process_made_meanwhile_stays(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be reading the files."""
    folder = str(saved(tmp_path / "model"))
    make = backends.make_graph
    kept: list[int] = []

    def slower(*given: Any) -> None:
        make(*given)
        monkeypatch.setattr(backends, "make_graph", make)
        MultiHeadPredictor.from_pretrained(folder, device="cpu", backend="openvino").logits(texts(3))
        kept.extend(path.stat().st_ino for path in sorted(empty_cache.glob("*/*")))

    monkeypatch.setattr(backends, "make_graph", slower)
    own = MultiHeadPredictor.from_pretrained(folder, device="cpu", backend="openvino")
    expected = MultiHeadPredictor.from_pretrained(folder, device="cpu", backend="torch").logits(texts(12))
    check_equal(own.logits(texts(12)), expected)
    assert own.backend == "openvino"
    assert kept == [path.stat().st_ino for path in sorted(empty_cache.glob("*/*"))] != []


def test_the_version_of_a_package_whose_distribution_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise backends.PackageNotFoundError(name)

    monkeypatch.setattr(backends, "version", unknown)
    assert backends._version("numpy") == np.__version__


@pytest.mark.slow
def test_threads_share_one_graph(tmp_path: Path, empty_cache: Path, made: list[str]) -> None:
    own = MultiHeadPredictor.from_pretrained(str(saved(tmp_path / "model")), device="cpu", backend="openvino")
    given = texts(12)
    expected = MultiHeadPredictor.from_pretrained(str(tmp_path / "model"), device="cpu", backend="torch").logits(given)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(own.logits, [given] * 8))
    for result in results:
        check_equal(result, expected)
    assert made == ["openvino"]


def test_a_few_texts_read_the_weights_once(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = runtime.cache_folder
    monkeypatch.setattr(runtime, "cache_folder", lambda *given: asked.append(1) or original(*given))
    own = MultiHeadPredictor.from_pretrained(str(saved(tmp_path / "model")), device="cpu")
    for text in texts(5):
        own.logits([text])
    assert len(asked) == 1
    with torch.no_grad():
        next(own.model.parameters()).add_(1.0)
    own.logits(texts(1))
    assert len(asked) == 2


@pytest.mark.slow
def test_a_model_in_half_precision_is_compared_in_float32() -> None:
    model = tiny.model(heads=HEADS).bfloat16()
    own = MultiHeadPredictor(model, tiny.tokenizer(), device="cpu", backend="openvino", precision="fp32")
    own.logits(texts(5))
    assert own.backend == "openvino"


def test_a_predictor_is_pickled_without_its_graph(tmp_path: Path) -> None:
    own = MultiHeadPredictor(tiny.model(heads=HEADS), tiny.tokenizer(), device="cpu", backend="onnx")
    expected = own.logits(texts(5))
    again = pickle.loads(pickle.dumps(own))
    assert again.backend == "onnx"
    again._known.clear()
    check_equal(again.logits(texts(5)), expected)
