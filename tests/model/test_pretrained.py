"""The contract of `PreTrainedModel`: precision, shards, devices, checkpointing, compilation, reproducible heads."""

import copy
import pickle
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModel, DistilBertConfig, GPT2Config, PreTrainedConfig, set_seed

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel

FAMILIES = ["bert", "distilbert", "deberta-v2", "modernbert", "t5", "llama"]


def logits_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model(**tiny.batch()).logits


def assert_same_logits(first: torch.nn.Module, second: torch.nn.Module) -> None:
    one, other = logits_of(first), logits_of(second)
    assert list(one) == list(other)
    for name in one:
        assert torch.isfinite(one[name]).all()
        assert torch.equal(one[name], other[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saved_and_reloaded_in_any_precision(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    tiny.model(family).save_pretrained(tmp_path / "first")
    model = MultiHeadModel.from_pretrained(tmp_path / "first", dtype=dtype)
    model.save_pretrained(tmp_path)
    again = MultiHeadModel.from_pretrained(tmp_path)
    # in fp16 transformers keeps some weights of T5 in float32
    assert {parameter.dtype for parameter in again.parameters()} - {dtype} <= {torch.float32}
    assert {parameter.dtype for parameter in again.heads.parameters()} == {dtype}
    assert_same_logits(model, again)
    again.save_pretrained(tmp_path / "again")
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path / "again"))


def test_loaded_in_another_precision(tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path)
    half = MultiHeadModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(logits_of(half)["topic"].float(), logits_of(model)["topic"], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cast_by_hand(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny.model().to(dtype)
    model.save_pretrained(tmp_path)
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path))


def test_learned_thresholds_stay_float32(tmp_path: Path) -> None:
    model = tiny.model(heads=tiny.two_heads(loss="soft_f1", learn_thresholds=0.565))
    model.save_pretrained(tmp_path)
    half = MultiHeadModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.heads["topic"].threshold_logits.dtype == torch.float32
    assert torch.equal(half.heads["topic"].threshold_logits, model.heads["topic"].threshold_logits)


def test_thresholds_that_are_set_beside_learned_ones_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.model(heads=tiny.two_heads(loss="soft_f1", learn_thresholds=0.565)).save_pretrained(tmp_path)
    model = MultiHeadModel.from_pretrained(tmp_path)
    with torch.no_grad():
        model.heads["topic"].threshold_logits.add_(0.1)
    model.sync_thresholds()
    model.extend_head("topic", ["further"])
    model.sync_thresholds()
    model.rename_head("topic", "theme")
    model.add_head("topic", HeadConfig(["a"], "multi_label_classification", loss="soft_f1", learn_thresholds=0.3))
    model.sync_thresholds()
    assert "the thresholds in the configuration were changed" not in caplog.text
    model.config.heads["theme"].thresholds = [0.01] * 4
    model.sync_thresholds()
    assert "head 'theme': the thresholds in the configuration were changed" in caplog.text
    assert model.config.heads["theme"].thresholds[0] > 0.5


def test_sharded_and_on_devices(tmp_path: Path) -> None:
    model = tiny.model("modernbert")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path))
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path, device_map="auto"))
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path, low_cpu_mem_usage=True))
    assert_same_logits(model, AutoModel.from_pretrained(tmp_path, device_map={"": "cpu"}))


def test_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = MultiHeadModel(tiny.model("modernbert").config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("family", FAMILIES)
def test_activation_checkpointing_gives_the_same_gradients(family: str) -> None:
    plain, checkpointed = tiny.model(family), tiny.model(family)
    newer = hasattr(checkpointed, "activation_checkpointing_enable")  # its name from transformers 5.23 on
    (checkpointed.activation_checkpointing_enable if newer else checkpointed.gradient_checkpointing_enable)()
    assert [module for module in checkpointed.encoder.modules() if getattr(module, "gradient_checkpointing", False)]
    for model in (plain, checkpointed):
        model.train()
        set_seed(1)
        model(**tiny.batch(), labels=tiny.labels()).loss.backward()
    assert any(parameter.grad.any() for parameter in plain.encoder.parameters())
    for (name, one), (_, other) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_compiled(family: str) -> None:
    model = tiny.model(family)
    compiled = torch.compile(model, backend="eager")
    expected = model(**tiny.batch(), labels=tiny.labels())
    found = compiled(**tiny.batch(), labels=tiny.labels())
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.logits["topic"], expected.logits["topic"])


def test_heads_are_reproducible_under_a_seed(tmp_path: Path) -> None:
    folder = tiny.save_encoder(tmp_path)
    models = []
    for seed in (1, 1, 2):
        set_seed(seed)
        models.append(MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(architecture="mlp")))
    assert_same_logits(models[0], models[1])
    assert not torch.equal(logits_of(models[0])["topic"], logits_of(models[2])["topic"])
    assert not models[0].training


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pretrained_encoder_weights_are_the_checkpoints(tmp_path: Path, family: str) -> None:
    folder = tiny.save_encoder(tmp_path / "encoder", family, seed=5)
    whole = AutoModel.from_pretrained(folder)
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads())
    saved = whole.state_dict()
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, saved.get(key, saved.get(f"encoder.{key}"))), key
    assert model.config.encoder.name_or_path == ""  # a path of this machine is nothing to publish
    model.save_pretrained(tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()


def test_w1_is_exactly_linear_dropout_activation_linear() -> None:
    head = tiny.model(heads={"a": HeadConfig(labels=list("xyz"), architecture="mlp", dropout=0.2)}).heads["a"]
    first, dropout, activation, last = head.layers
    assert (first.in_features, first.out_features, last.in_features, last.out_features) == (32, 32, 32, 3)
    assert dropout.p == 0.2
    assert type(activation).__name__ == "ReLU"
    wide = HeadConfig(labels=["x"], architecture="mlp", hidden_size=7, activation="gelu")
    assert tiny.model(heads={"a": wide}).heads["a"].layers[0].out_features == 7


def test_token_type_ids_go_only_where_they_are_taken() -> None:
    types = torch.zeros(3, 12, dtype=torch.long)
    types[:, 6:] = 1
    for family, taken in (("bert", True), ("distilbert", False), ("modernbert", False)):
        model = tiny.model(family)
        with torch.no_grad():
            typed = model(**tiny.batch(), token_type_ids=types).logits["topic"]
        assert torch.equal(typed, logits_of(model)["topic"]) != taken


def test_copies_and_pickles() -> None:
    model = tiny.model()
    assert_same_logits(model, copy.deepcopy(model))
    config = pickle.loads(pickle.dumps(model.config))
    assert config.heads == model.config.heads
    assert MultiHeadConfig.from_dict(model.config.to_dict()).heads == model.config.heads


def test_saving_leaves_the_configuration_as_it_is(tmp_path: Path) -> None:
    model = tiny.model()
    head = model.config.heads["topic"]
    model.save_pretrained(tmp_path)
    assert model.config.heads["topic"] is head
    model.config.heads["mood"] = {"labels": tiny.MOODS, "dropout": 7}
    with pytest.raises(ValueError, match=r"head 'mood': dropout 7"):
        model.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_multi_head_model_is_no_encoder(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    (tmp_path / "minilm").mkdir()
    for name, message in (
        (str(tmp_path / "minlm"), r"there is no such folder\. Give a folder"),
        ("./no/e", "Give"),
    ):
        with pytest.raises(ValueError, match=rf"encoder '{name}': .*{message}"):
            MultiHeadModel.from_encoder(name, heads=tiny.two_heads())
    with pytest.raises(ValueError, match=r"is already a multi-head model: use MultiHeadModel.from_pretrained"):
        MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads())


def dropouts(model: MultiHeadModel) -> tuple[set[float], set[float]]:
    """The dropouts inside the encoder's attention, and its others."""
    rates = {name: own.p for name, own in model.encoder.named_modules() if isinstance(own, torch.nn.Dropout)}
    inside = {name for name in rates if "attention.self" in name}
    return {rates[name] for name in inside}, {rates[name] for name in rates.keys() - inside}


def test_no_dropout_in_the_attention_of_an_encoder(tmp_path: Path) -> None:
    made = MultiHeadModel.from_encoder(tiny.save_encoder(tmp_path / "encoder"), {"mood": HeadConfig(tiny.MOODS)})
    assert dropouts(made) == ({0.0}, {0.1})
    made.save_pretrained(tmp_path / "model")
    assert dropouts(MultiHeadModel.from_pretrained(tmp_path / "model")) == ({0.0}, {0.1})


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=64), "attention_dropout"),
        (GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64), "attn_pdrop"),
    ],
)
def test_the_dropout_has_other_names_in_other_encoders(tmp_path: Path, config: PreTrainedConfig, setting: str) -> None:
    AutoModel.from_config(config).save_pretrained(tmp_path)
    made = MultiHeadModel.from_encoder(tmp_path, {"mood": HeadConfig(tiny.MOODS)})
    assert getattr(config, setting) == 0.1
    assert getattr(made.config.encoder, setting) == 0.0


def test_settings_of_the_encoder_are_changed_and_saved(tmp_path: Path) -> None:
    encoder = tiny.save_encoder(tmp_path / "encoder")
    settings = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.2}
    made = MultiHeadModel.from_encoder(encoder, {"mood": HeadConfig(tiny.MOODS)}, encoder_settings=settings)
    assert dropouts(made) == ({0.3}, {0.2})
    made.save_pretrained(tmp_path / "model")
    assert MultiHeadConfig.from_pretrained(tmp_path / "model").encoder.attention_probs_dropout_prob == 0.3

    def refused(settings: object, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            MultiHeadModel.from_encoder(encoder, {"mood": HeadConfig(tiny.MOODS)}, encoder_settings=settings)

    refused(
        {"attention_dropout_prob": 0.0}, "a BertConfig has no 'attention_dropout_prob'.*'attention_probs_dropout_prob'"
    )
    refused(["hidden_size"], "encoder_settings")
    refused({"hidden_size": "x"}, "encoder_settings: hidden_size 'x': Validation error")
    refused({"num_hidden_layers": 9}, "lacks weights of the encoder")
    refused({"hidden_size": 8}, "lacks weights of the encoder, or has them in other sizes")


def test_wrong_heads_are_found_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"head 'a': a head needs labels"):
        MultiHeadModel.from_encoder("no/such-encoder", heads={"a": {"labels": []}})


def test_weights_in_a_pickle_are_read_only_if_asked_for(tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for load in (MultiHeadModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(OSError, match="safetensors"):
            load(tmp_path)
    asked = MultiHeadModel.from_pretrained(tmp_path, use_safetensors=False)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in asked.state_dict().items())
