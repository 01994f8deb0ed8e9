"""Old checkpoints become multi-head models with the same logits, and nothing in them is run."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import cli
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    pipeline,
)
from typer import BadParameter

from multihead_hf import MultiHeadModel
from multihead_hf.cli.convert import label_names
from multihead_hf.publishing.convert import convert_ggu, convert_sequence_classification, convert_wimbert, join

LABELS = {"onderwerp": ["Afval", "Parkeren", "Zwembad"], "beleving": ["Boos", "Lang gewacht"]}
TEXTS = ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8 w9 w10 w11"]


def wimbert(folder: Path, thresholds: bool = True, **changes: Any) -> Path:
    """The artefacts of WimBERT v0, written as its training script did, on a tiny ModernBERT."""
    tiny.save_encoder(folder, "modernbert")
    torch.manual_seed(1)
    hidden = AutoModel.from_pretrained(folder).config.hidden_size
    state: dict[str, Any] = {"use_thresholds": thresholds, "dropout": 0.2, "max_length": 1408, "alpha": 0.15}
    state |= {"temperature": 2.0, "model_name": "jhu-clsp/mmBERT-base"}
    for name, labels in LABELS.items():
        head = nn.Sequential(nn.Linear(hidden, hidden), nn.Dropout(0.2), nn.ReLU(), nn.Linear(hidden, len(labels)))
        state[f"{name}_head_state"] = head.state_dict()
        state[f"num_{name}"] = len(labels)
        if thresholds:
            state[f"{name}_tau_logit"] = torch.linspace(-1, 1, len(labels))
    torch.save({**state, **changes}, folder / "dual_head_state.pt")
    (folder / "label_names.json").write_text(json.dumps(LABELS))
    return folder


def old_wimbert_logits(folder: Path, name: str) -> torch.Tensor:
    """As the original inference script computes them."""
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    state = torch.load(folder / "dual_head_state.pt", weights_only=True)[f"{name}_head_state"]
    head = nn.Sequential(
        nn.Linear(*state["0.weight"].T.shape), nn.Dropout(0.2), nn.ReLU(), nn.Linear(*state["3.weight"].T.shape)
    )
    head.load_state_dict(state)
    with torch.no_grad():
        return head.eval()(encoder(**tokenizer(TEXTS, padding=True, return_tensors="pt")).last_hidden_state[:, 0])


def test_wimbert(tmp_path: Path) -> None:
    folder = wimbert(tmp_path / "old")
    done = cli("convert", "wimbert", folder, "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "greatest difference of a logit" in done.stdout
    model = MultiHeadModel.from_pretrained(tmp_path / "new")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "new")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**tokens).logits
    for name, labels in LABELS.items():
        torch.testing.assert_close(logits[name], old_wimbert_logits(folder, name), atol=1e-5, rtol=1e-5)
        head = model.config.heads[name]
        assert head.labels == labels
        assert head.loss == "soft_f1_bce"
        assert head.loss_kwargs == {"alpha": 0.15, "temperature": 2.0}
        assert head.thresholds == pytest.approx(torch.sigmoid(torch.linspace(-1, 1, len(labels))).tolist())
    assert model.config.max_length == 1408
    # it decides as the original did: sigmoid(z) >= sigmoid(tau)
    decided = model.decode(logits)["onderwerp"].decisions
    assert torch.equal(decided, logits["onderwerp"] >= torch.linspace(-1, 1, 3))
    predict = pipeline("multi-head-text-classification", str(tmp_path / "new"), trust_remote_code=True)
    assert set(predict(TEXTS[0])[0]) == set(LABELS)


def test_wimbert_without_thresholds_has_the_usual_ones(tmp_path: Path) -> None:
    found = convert_wimbert(wimbert(tmp_path, thresholds=False))
    assert found.model.config.heads["onderwerp"].thresholds is None


@pytest.mark.parametrize("key", ["onderwerp_tau_logit", "beleving_tau_logit"])
@pytest.mark.parametrize("missing", [False, True])
def test_wimbert_never_falls_back_to_the_usual_thresholds(tmp_path: Path, key: str, missing: bool) -> None:
    folder = wimbert(tmp_path, **{key: None})
    if missing:
        state = torch.load(folder / "dual_head_state.pt", weights_only=True)
        state.pop(key)
        torch.save(state, folder / "dual_head_state.pt")
    head = key.removesuffix("_tau_logit")
    with pytest.raises(ValueError, match=rf"head '{head}' of .*: use_thresholds is set, but {key} is not a tensor"):
        convert_wimbert(folder)


def test_wimbert_never_drops_a_head(tmp_path: Path) -> None:
    folder = wimbert(tmp_path)
    (folder / "label_names.json").write_text(json.dumps({"onderwerp": LABELS["onderwerp"]}))
    with pytest.raises(
        ValueError, match=r"head 'beleving': .* \(beleving_head_state\), but .*label_names.json has no 'bel"
    ):
        convert_wimbert(folder)


def ggu(folder: Path, encoder_too: bool = True, prefix: str = "heads.") -> dict[str, list[str]]:
    """The artefacts of G6 on a tiny XLM-R: backbone folder and a state dict in float16."""
    tiny.save_encoder(folder / "pretrained" / "backbone", "xlm-roberta")
    encoder = AutoModel.from_pretrained(folder / "pretrained" / "backbone", add_pooling_layer=False)
    torch.manual_seed(1)
    state = {f"backbone.{key}": value for key, value in encoder.state_dict().items()} if encoder_too else {}
    for name in ("GGU", "sentiment"):
        head = nn.Linear(encoder.config.hidden_size, 3)
        state |= {f"{prefix}{name}.{key}": value for key, value in head.state_dict().items()}
    torch.save({key: value.half() for key, value in state.items()}, folder / "model.pth")
    return {"GGU": ["Greeting", "Gratitude", "Other"], "sentiment": ["Positive", "Negative", "Neutral"]}


@pytest.mark.parametrize(("encoder_too", "pooling"), [(True, "cls"), (False, "mean")])
def test_ggu(tmp_path: Path, encoder_too: bool, pooling: str) -> None:
    labels = ggu(tmp_path / "old", encoder_too)
    given = [f"{name}={','.join(names)}" for name, names in labels.items()]
    if pooling == "mean":  # a label with a comma
        labels["GGU"][0] = "Greeting, or so"
        given[0] = f"GGU={json.dumps(labels['GGU'])}"
    done = cli(
        *("convert", "ggu", tmp_path / "old", "-o", tmp_path / "new", "--pooling", pooling),
        *("--labels", given[0], "--labels", given[1]),
    )
    assert done.returncode == 0, done.stderr
    model = MultiHeadModel.from_pretrained(tmp_path / "new")
    assert {name: head.labels for name, head in model.config.heads.items()} == labels
    backbone = tmp_path / "old" / "pretrained" / "backbone"
    tokens = AutoTokenizer.from_pretrained(backbone)(TEXTS, padding=True, return_tensors="pt")
    state = torch.load(tmp_path / "old" / "model.pth", weights_only=True)
    encoder = AutoModel.from_pretrained(backbone, add_pooling_layer=False).eval()
    if encoder_too:
        own = {key.removeprefix("backbone."): value.float() for key, value in state.items() if "backbone" in key}
        encoder.load_state_dict(own)
    with torch.no_grad():
        hidden = encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        expected = pooled @ state["heads.GGU.weight"].float().T + state["heads.GGU.bias"].float()
        torch.testing.assert_close(model(**tokens).logits["GGU"], expected, atol=1e-5, rtol=1e-5)


def test_ggu_labels_as_they_are_typed(tmp_path: Path) -> None:
    assert label_names(["GGU = Greeting, Gratitude ,Other", 'x=["a, b", " c"]']) == {
        "GGU": ["Greeting", "Gratitude", "Other"],
        "x": ["a, b", " c"],
    }
    for given in ('GGU=["a",', "GGU=[a,b]"):
        done = cli("convert", "ggu", tmp_path / "old", "-o", tmp_path / "new", "--labels", given)
        assert (done.returncode, "--labels" in done.stderr) == (2, True)
        with pytest.raises(BadParameter, match=r"is not a JSON list of labels: Expecting value"):
            label_names([given])


def test_ggu_finds_the_state_beside_the_backbone(tmp_path: Path) -> None:
    labels = ggu(tmp_path)
    state = tmp_path / "model.pth"
    state.rename(tmp_path / "pretrained" / "model.pth")
    assert list(convert_ggu(tmp_path, labels).model.config.heads) == list(labels)
    (tmp_path / "pretrained" / "other.pth").write_bytes(b"")
    held = r"holds \['pretrained/model.pth', 'pretrained/other.pth'\]"
    with pytest.raises(ValueError, match=rf"{held}: name the file .*, state_file= \(--state-file\)"):
        convert_ggu(tmp_path, labels)
    found = convert_ggu(tmp_path, labels, state_file="pretrained/model.pth")
    assert list(found.model.config.heads) == list(labels)
    for path in (tmp_path / "pretrained").glob("*.pth"):
        path.unlink()
    with pytest.raises(ValueError, match=r"holds no \*\.pth and no pretrained/\*\.pth: name the file"):
        convert_ggu(tmp_path, labels)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "deberta-v2", "xlm-roberta"])
def test_sequence_classification(tmp_path: Path, kind: str) -> None:
    tiny.save_encoder(tmp_path, kind)
    source = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, id2label={0: "bad", 1: "fair", 2: "good"}, problem_type="single_label_classification"
    ).eval()
    source.save_pretrained(tmp_path)
    found = convert_sequence_classification(tmp_path, "quality")
    tokens = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(
            found.model(**tokens).logits["quality"], source(**tokens).logits, atol=1e-5, rtol=1e-5
        )
    assert found.model.config.heads["quality"].labels == ["bad", "fair", "good"]


def test_a_classifier_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path / "encoder", "bert")
    old = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=3)
    old.save_pretrained(tmp_path / "old")
    with pytest.raises(ValueError, match=r"old: its vocabulary has only special tokens.*tokenizer\.json"):
        convert_sequence_classification(tmp_path / "old", "quality")


def test_a_problem_type_is_given_where_the_configuration_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.save_encoder(tmp_path / "encoder", "bert")
    for folder, problem_type in (("topic", None), ("mood", "single_label_classification")):
        AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "encoder", num_labels=3, problem_type=problem_type
        ).save_pretrained(tmp_path / folder)
        AutoTokenizer.from_pretrained(tmp_path / "encoder").save_pretrained(tmp_path / folder)
    arguments = ["convert", "sequence-classification", tmp_path / "topic", "-o", tmp_path / "new"]
    assert "give a name for the head, such as --name topic" in cli(*arguments).stderr
    cli(*arguments, "--name", "topic")
    assert "--problem-type multi_label_classification" in caplog.text
    caplog.clear()
    done = cli(*arguments, "--name", "topic", "--overwrite", "--problem-type", "multi_label_classification")
    assert done.returncode == 0, done.stderr
    assert "problem_type" not in caplog.text
    assert MultiHeadModel.from_pretrained(tmp_path / "new").config.heads["topic"].multi_label
    arguments[2] = tmp_path / "mood"
    cli(*arguments, "--name", "mood", "--overwrite", "--problem-type", "multi_label_classification")
    assert "its configuration has problem_type 'single_label_classification', which is kept" in caplog.text
    assert not MultiHeadModel.from_pretrained(tmp_path / "new").config.heads["mood"].multi_label


def test_checkpoints_on_one_encoder_are_joined(tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path / "encoder", "xlm-roberta")
    for seed, name in enumerate(("topic", "mood")):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=2 + seed)
        model.save_pretrained(tmp_path / name)
        AutoTokenizer.from_pretrained(tmp_path / "encoder").save_pretrained(tmp_path / name)
    arguments = ["convert", "sequence-classification", tmp_path / "topic", tmp_path / "mood", "-o", tmp_path / "new"]
    done = cli(*arguments, "--name", "topic", "--name", "mood")
    assert done.returncode == 0, done.stderr
    heads = MultiHeadModel.from_pretrained(tmp_path / "new").config.heads
    assert {name: head.num_labels for name, head in heads.items()} == {"topic": 2, "mood": 3}
    again = cli(*arguments, "--name", "topic", "--name", "mood")
    assert again.returncode == 1
    assert "exists and is not empty" in again.stderr
    assert cli(*arguments, "--name", "topic", "--overwrite").returncode == 2
    # another encoder
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mood")
    with torch.no_grad():
        other.roberta.embeddings.word_embeddings.weight.add_(0.1)
    other.save_pretrained(tmp_path / "mood")
    done = cli(*arguments, "--name", "topic", "--name", "mood", "--overwrite")
    assert done.returncode == 1
    assert "encoder" in done.stderr


@pytest.mark.parametrize("labels", [(["neg", "pos"], ["spam", "ham"]), (["neg", "pos"], ["a", "b", "c"])])
@pytest.mark.parametrize("turned", [False, True])
def test_joined_whatever_their_labels_and_dropouts(tmp_path: Path, labels: Any, turned: bool) -> None:
    tiny.save_encoder(tmp_path / "encoder", "bert")
    given = dict(zip(("h1", "h2"), reversed(labels) if turned else labels, strict=True))
    for dropout, (name, own) in enumerate(given.items(), 1):
        model = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "encoder",
            id2label=dict(enumerate(own)),
            label2id={label: place for place, label in enumerate(own)},
            hidden_dropout_prob=dropout / 10,
            classifier_dropout=dropout / 10,
        )
        model.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
    found = join([convert_sequence_classification(tmp_path / name, name) for name in given])
    assert {name: head.labels for name, head in found.model.config.heads.items()} == given


class Harmful:
    """Unpickled, it would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_no_pickle_is_run(tmp_path: Path) -> None:
    folder = wimbert(tmp_path / "old")
    for content in (pickle.dumps({"x": Harmful(str(tmp_path / "run"))}), None):
        if content is None:
            torch.save({"x": Harmful(str(tmp_path / "run"))}, folder / "dual_head_state.pt")
        else:
            (folder / "dual_head_state.pt").write_bytes(content)
        with pytest.raises(ValueError, match="is refused: it is damaged, or" if content else r"values \(posix.mkdir\)"):
            convert_wimbert(folder)
    assert not (tmp_path / "run").exists()


def test_no_pickle_of_a_classifier_or_an_encoder_is_run(tmp_path: Path) -> None:
    old = BertForSequenceClassification(tiny.encoder_config())
    old.save_pretrained(tmp_path / "old")
    tiny.tokenizer().save_pretrained(tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save({"x": Harmful(str(tmp_path / "run"))}, tmp_path / "old" / "pytorch_model.bin")
    said = r"old: its weights are a pickle that is damaged or holds more than tensors, and reading it could run code"
    with pytest.raises(ValueError, match=said):
        convert_sequence_classification(tmp_path / "old", "mood")
    with pytest.raises(ValueError, match=said):
        MultiHeadModel.from_encoder(tmp_path / "old", tiny.two_heads())
    tiny.model().save_pretrained(tmp_path / "new")
    (tmp_path / "old" / "pytorch_model.bin").rename(tmp_path / "new" / "pytorch_model.bin")
    (tmp_path / "new" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=said.replace("old:", "new:")):
        MultiHeadModel.from_pretrained(tmp_path / "new", use_safetensors=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("encoder", "heads", "wrap"),
    [
        ("module.backbone.", "module.heads.", None),
        ("encoder.", "heads.", "model_state_dict"),
        ("_orig_mod.bert.", "_orig_mod.heads.", None),
    ],
)
def test_ggu_in_other_layouts(tmp_path: Path, encoder: str, heads: str, wrap: str | None) -> None:
    labels = ggu(tmp_path)
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    for key in [key for key in state if key.startswith("backbone.")]:
        state[key] = state[key] + 0.01  # trained on: not the backbone's folder any more
    plain = convert_ggu_of(tmp_path, state, labels)
    other = {
        key.replace("backbone.", encoder, 1) if key.startswith("backbone.") else key.replace("heads.", heads, 1): value
        for key, value in state.items()
    }
    found = convert_ggu_of(tmp_path, other if wrap is None else {wrap: other, "epoch": 3}, labels)
    for key, value in plain.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], value), key


def convert_ggu_of(folder: Path, state: dict[str, Any], labels: dict[str, list[str]]) -> Any:
    torch.save(state, folder / "model.pth")
    return convert_ggu(folder, labels)


def test_ggu_that_is_something_else(tmp_path: Path) -> None:
    labels = ggu(tmp_path)
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    layers = {"heads.GGU.0.weight": torch.zeros(32, 32), "heads.GGU.0.bias": torch.zeros(32)}
    with pytest.raises(ValueError, match=r"head 'GGU' of .* has several layers"):
        convert_ggu_of(tmp_path, {**state, **layers}, labels)
    with pytest.raises(
        ValueError, match=r"has weights that belong neither to a head nor to the encoder: .*norm\.weight"
    ):
        convert_ggu_of(tmp_path, {**state, "norm.weight": torch.zeros(3)}, labels)
    key = next(key for key in state if "attention" in key)
    with pytest.raises(ValueError, match="lacks weights of the encoder"):
        convert_ggu_of(tmp_path, {name: value for name, value in state.items() if name != key}, labels)
    with pytest.raises(ValueError, match="has other shapes than the encoder"):
        convert_ggu_of(tmp_path, {**state, key: torch.zeros(2)}, labels)


def test_an_encoder_alone_is_no_classifier(tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path, "bert")
    with pytest.raises(ValueError, match="is not a trained classifier: it lacks"):
        convert_sequence_classification(tmp_path, "x")


def test_the_old_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    folder = wimbert(tmp_path / "old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = cli("convert", "wimbert", folder, "-o", folder, "--overwrite")
    assert done.returncode == 1
    assert "itself, or inside or above it" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    done = cli("convert", "wimbert", folder, "-o", tmp_path / "new", "--pooling", "mean")
    assert done.returncode == 2
    assert "ggu does" in done.stderr


def test_what_is_missing_or_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks config\.json, label_names\.json, dual_head_state\.pt"):
        convert_wimbert(tmp_path)
    folder = wimbert(tmp_path / "a", onderwerp_head_state=None)
    with pytest.raises(ValueError, match="has no onderwerp_head_state for the labels of 'onderwerp'"):
        convert_wimbert(folder)
    folder = wimbert(tmp_path / "b")
    (folder / "label_names.json").write_text(json.dumps({**LABELS, "onderwerp": ["one"]}))
    with pytest.raises(ValueError, match=r"head 'onderwerp' of .* has 3 labels, but there are 1 names"):
        convert_wimbert(folder)
    (folder / "label_names.json").write_text("[")
    with pytest.raises(ValueError, match="is not valid JSON"):
        convert_wimbert(folder)
    state = torch.load(wimbert(tmp_path / "c") / "dual_head_state.pt", weights_only=True)
    state["beleving_head_state"]["0.weight"] = torch.zeros(7, 5)
    torch.save(state, tmp_path / "c" / "dual_head_state.pt")
    with pytest.raises(ValueError, match=r"head 'beleving' of .* does not fit a head on this encoder"):
        convert_wimbert(tmp_path / "c")
    labels = ggu(tmp_path / "d")
    with pytest.raises(
        ValueError,
        match=r"head 'sentiment' of .* has 3 labels, whose names are unknown .*--labels sentiment=LABEL1,LABEL2,LABEL3",
    ):
        convert_ggu(tmp_path / "d", {"GGU": labels["GGU"]})
    with pytest.raises(ValueError, match=r"labels were given for \['x'\]"):
        convert_ggu(tmp_path / "d", {**labels, "x": ["a"]})
    with pytest.raises(ValueError, match="has no encoder"):
        convert_ggu(tmp_path, labels)
    for content in (b"", b"hello world", b"\x00\x01\x02"):
        (tmp_path / "d" / "model.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read|is refused"):
            convert_ggu(tmp_path / "d", labels)
    state["onderwerp_tau_logit"] = 0.5
    torch.save(state, tmp_path / "c" / "dual_head_state.pt")
    with pytest.raises(ValueError, match="onderwerp_tau_logit is not a tensor of 3 thresholds"):
        convert_wimbert(tmp_path / "c")
    tiny.save_encoder(tmp_path / "e", "modernbert")
    with pytest.raises(ValueError, match="the classifier of a 'modernbert' cannot be converted to a head"):
        convert_sequence_classification(tmp_path / "e", "x")


@pytest.mark.parametrize("place", ["old", "old/pretrained/backbone", "."])
def test_the_old_checkpoint_is_never_written_into(tmp_path: Path, place: str) -> None:
    labels = ggu(tmp_path / "old", encoder_too=True)
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    given = [flag for name, names in labels.items() for flag in ("--labels", f"{name}={','.join(names)}")]
    done = cli("convert", "ggu", tmp_path / "old", "-o", tmp_path / place, "--overwrite", *given)
    assert done.returncode == 1
    assert "itself, or inside or above it: use another folder" in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {"0": "bad", "2": "good"}, "label2id": {}}, r"without a label for \[1\]"),
        ({"label2id": {"bad": 1, "good": 0}}, r"contradict each other about \['bad', 'good'\]"),
    ],
)
def test_labels_that_the_configuration_does_not_say(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    tiny.save_encoder(tmp_path, "bert")
    AutoModelForSequenceClassification.from_pretrained(
        tmp_path, id2label={0: "bad", 1: "good"}, problem_type="single_label_classification"
    ).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        convert_sequence_classification(tmp_path, "quality")
