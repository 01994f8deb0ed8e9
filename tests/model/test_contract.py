"""The contract of a composite model with named heads, point by point; each point breaks on a naive implementation."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    BertModel,
    BitsAndBytesConfig,
    ModernBertConfig,
    ModernBertModel,
    set_seed,
)
from transformers.quantizers.base import HfQuantizer

import multihead_hf.model
from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel
from multihead_hf.model.storage_multihead import without_heads

AWKWARD = ["items", "type", "forward", "a.b", "a b", "a-b", "a_b", "dtype", "_auto_class", "café", "情感", "training"]


def logits_of(model: torch.nn.Module, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model(**(inputs or tiny.batch())).logits


def assert_same_logits(first: torch.nn.Module, second: torch.nn.Module) -> None:
    one, other = logits_of(first), logits_of(second)
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


# ---- configuration ----


def test_head_order_survives_a_reload(tmp_path: Path) -> None:
    names = ["zebra", "apple", "mango", "10", "9"]
    model = tiny.model(heads={name: HeadConfig(labels=["x", "y"]) for name in names})
    model.save_pretrained(tmp_path)
    again = MultiHeadModel.from_pretrained(tmp_path)
    assert list(again.config.heads) == names
    assert [key for key, _ in again.named_parameters()] == [key for key, _ in model.named_parameters()]


def test_heads_named_like_keys_that_transformers_rewrites(tmp_path: Path) -> None:
    names = ["dtype", "_auto_class", "_output_attentions", "base_model_tp_plan", "_commit_hash"]
    config = tiny.model(heads={name: HeadConfig(labels=["x", "y"]) for name in names}).config
    before = copy.deepcopy(config.heads)
    config.save_pretrained(tmp_path)
    assert MultiHeadConfig.from_pretrained(tmp_path).heads == before
    assert list(MultiHeadConfig.from_pretrained(tmp_path).heads) == names


def test_a_resized_vocabulary_reopens(tmp_path: Path) -> None:
    model = tiny.model()
    assert model.config.get_text_config() is model.encoder.config
    model.resize_token_embeddings(80)
    model.save_pretrained(tmp_path)
    again = MultiHeadModel.from_pretrained(tmp_path)
    assert again.get_input_embeddings().num_embeddings == 80 == again.config.vocab_size
    assert_same_logits(model, again)


@pytest.mark.parametrize("family", ["bert", "t5", "modernbert", "distilbert", "gpt2"])
def test_encoder_settings_read_and_set_on_the_outer_config(family: str) -> None:
    config = MultiHeadConfig(encoder=tiny.encoder_config(family), heads=tiny.two_heads())
    assert config.hidden_size == 32
    assert config.vocab_size == len(tiny.VOCAB)
    config.vocab_size = 99
    assert config.encoder.vocab_size == 99
    assert hasattr(config, "max_position_embeddings") == (family != "t5")


def test_the_config_copies_what_it_is_given() -> None:
    encoder = BertModel._from_config(tiny.encoder_config(), attn_implementation="eager")
    heads = tiny.two_heads()
    config = MultiHeadConfig(encoder=encoder.config, heads=heads)
    assert encoder.config._attn_implementation == "eager"
    assert config.encoder._attn_implementation == "eager"
    assert config.encoder is not encoder.config
    heads["topic"].labels.append("changed")
    heads["other"] = HeadConfig(labels=["x"])
    assert config.heads["topic"].labels == tiny.TOPICS
    assert list(config.heads) == ["topic", "mood"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": {}}, "needs heads"),
        ({"heads": None}, "needs heads"),
        ({"heads": {"": {"labels": ["a"]}}}, "at least one character"),
        ({"heads": [{"name": "a", "labels": ["x"]}, {"name": "a", "labels": ["y"]}]}, "head 'a': two heads"),
        ({"heads": [{"labels": ["x"]}]}, "with a 'name'"),
        ({"heads": {"a": {"labels": []}}}, "head 'a': a head needs labels"),
        ({"heads": {"a": {"labels": "xy"}}}, "head 'a': labels 'xy': give a list of names"),
        ({"heads": {"a": {"labels": ["x", "x"]}}}, "head 'a': label 'x' is given twice"),
        ({"heads": {"a": {"labels": [1]}}}, "head 'a': label 1 is not a string"),
        ({"heads": {"a": {"labels": ["x"], "dropuot": 0.1}}}, "head 'a': unknown setting 'dropuot'.*'dropout'"),
        ({"heads": {"a": {"labels": ["x"], "problem_type": "multi_label"}}}, "head 'a': unknown problem_type"),
        ({"heads": {"a": {"labels": ["x"], "loss": "cross_entrpy"}}}, "head 'a'.*mean 'cross_entropy'"),
        ({"heads": {"a": {"labels": ["x"], "loss": "bce"}}}, "head 'a': loss 'bce' is for multi_label"),
        ({"heads": {"a": {"labels": ["x"], "architecture": "mpl"}}}, "head 'a': unknown architecture.*'mlp'"),
        ({"heads": {"a": {"labels": ["x"], "dropout": 1.0}}}, "head 'a': dropout 1.0"),
        ({"heads": {"a": {"labels": ["x"], "activation": "rellu"}}}, "head 'a': unknown activation 'rellu'.*'relu'"),
        ({"pooling": "men"}, "unknown pooling 'men'.*'mean'"),
        ({"poolling": "mean"}, "unknown setting 'poolling'.*'pooling'"),
        ({"dropout": 0.1}, "'dropout' is a setting of a head"),
        ({"encoder": None}, "needs an encoder"),
        ({"encoder": {"model_type": "brt"}}, "model_type 'brt'.*'bert'"),
        ({"max_length": 0}, "max_length 0"),
        ({"format_version": 999}, "format_version 999.*pip install -U"),
    ],
)
def test_wrong_settings_fail_when_the_config_is_made(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadConfig(**{"encoder": tiny.encoder_config(), "heads": tiny.two_heads(), **settings})


@pytest.mark.parametrize("load", ["config", "model"])
def test_a_plain_encoder_checkpoint_is_refused(tmp_path: Path, load: str) -> None:
    tiny.save_encoder(tmp_path)
    loader = MultiHeadConfig if load == "config" else MultiHeadModel
    with pytest.raises(ValueError, match="from_encoder"):
        loader.from_pretrained(tmp_path)


def test_hidden_states_and_attentions_set_on_the_outer_config() -> None:
    model = tiny.model(attn_implementation="eager")
    model.config.output_hidden_states = True
    model.config.output_attentions = True
    output = model(**tiny.batch())
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    assert output.hidden_states[-1].shape == (3, 12, 32)


# ---- model ----


@pytest.mark.parametrize("family", ["bert", "nomic_bert"])
def test_any_text_is_a_head_name(tmp_path: Path, family: str) -> None:
    model = tiny.model(family, heads={name: HeadConfig(labels=["x", "y"]) for name in AWKWARD})
    model.save_pretrained(tmp_path)
    again = MultiHeadModel.from_pretrained(tmp_path)
    assert list(logits_of(model)) == AWKWARD
    assert len({value.data_ptr() for value in model.heads.state_dict().values()}) == 2 * len(AWKWARD)
    assert_same_logits(model, again)


def test_peft_trains_the_heads_as_modules_to_save(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    base = tiny.model()
    base.save_pretrained(tmp_path / "base")
    set_seed(1)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"]))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("lora_" in name for name in trainable)
    assert any("heads.modules_to_save" in name for name in trainable)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        model.train()
        model(**tiny.batch(), labels=tiny.labels()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert not torch.equal(
        logits_of(model)["mood"], logits_of(MultiHeadModel.from_pretrained(tmp_path / "base"))["mood"]
    )
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(MultiHeadModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    assert_same_logits(model, again.eval())


@pytest.mark.parametrize("family", ["nomic_bert", "mixtral"])
def test_no_renaming_of_an_encoder_reaches_a_head(tmp_path: Path, family: str) -> None:
    inner = AutoModel.from_config(tiny.encoder_config(family))
    parts = {part for name, _ in inner.named_modules() for part in name.split(".") if part}
    # the patterns of the renamings, as far as a head could be called like it, and every module name in use
    names = sorted(parts | {"mlp", "norm1", "norm2", "fc1", "fc11", "fc2", "emb_ln", "encoder.layers", "experts.0.w1"})
    model = tiny.model(family, heads={name: HeadConfig(labels=["x", "y"], architecture="mlp") for name in names})
    model.save_pretrained(tmp_path)
    stored = {key for key in load_file(tmp_path / "model.safetensors") if key.startswith("heads.")}
    assert stored == {key for key in model.state_dict() if key.startswith("heads.")}
    assert_same_logits(model, MultiHeadModel.from_pretrained(tmp_path))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_trainable_parameter_gets_a_gradient(family: str) -> None:
    model = tiny.model(family).train()
    model(**tiny.batch(), labels={"topic": tiny.labels()["topic"]}).loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(not p.grad.any() for p in model.heads["mood"].parameters())
    assert any(p.grad.any() for p in model.heads["topic"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_return_dict_false_concerns_our_output_only(family: str) -> None:
    model = tiny.model(family)
    expected = model(**tiny.batch(), labels=tiny.labels())
    loss, logits, losses, _ = model(**tiny.batch(), labels=tiny.labels(), return_dict=False)
    assert torch.equal(loss, expected.loss)
    assert torch.equal(logits["topic"], expected.logits["topic"])
    assert list(losses) == ["topic", "mood"]
    model.config.return_dict = False
    assert isinstance(model(**tiny.batch()), tuple)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_encoder_under_float32_heads(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = tiny.save_encoder(tmp_path / "encoder")
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(), dtype=dtype)
    assert {p.dtype for p in model.encoder.parameters()} == {dtype}
    assert {p.dtype for p in model.heads.parameters()} == {torch.float32}
    assert logits_of(model)["topic"].dtype == torch.float32
    model.save_pretrained(tmp_path / "saved")
    again = MultiHeadModel.from_pretrained(tmp_path / "saved")
    assert {p.dtype for p in again.heads.parameters()} == {torch.float32}
    assert_same_logits(model, again)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_encoder_of_an_encoder_decoder_stands_alone(tmp_path: Path, family: str) -> None:
    folder = tiny.save_encoder(tmp_path / "encoder", family)
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads())
    assert not [name for name, _ in model.named_parameters() if "decoder" in name]
    whole = AutoModel.from_pretrained(folder).get_encoder()
    hidden = whole(**tiny.batch()).last_hidden_state
    assert torch.equal(model.encoder(**tiny.batch()).last_hidden_state, hidden)
    model.save_pretrained(tmp_path / "saved")
    again = MultiHeadModel.from_pretrained(tmp_path / "saved")
    assert not [name for name, _ in again.named_parameters() if "decoder" in name]
    assert_same_logits(model, again)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last"])
def test_padding_on_either_side(family: str, pooling: str) -> None:
    if pooling == "cls" and family != "bert":
        with pytest.raises(ValueError, match="gives one vector for all texts"):
            tiny.model(family, pooling=pooling)
        return
    model = tiny.model(family, pooling=pooling)
    ids = torch.tensor([[tiny.VOCAB["[CLS]"], 7, 8, 9, tiny.VOCAB["[SEP]"]]])
    alone = logits_of(model, input_ids=ids, attention_mask=torch.ones_like(ids))
    pad = torch.zeros(1, 3, dtype=torch.long)
    for side in ("right", "left"):
        parts = (ids, pad) if side == "right" else (pad, ids)
        mask = (torch.ones_like(ids), pad) if side == "right" else (pad, torch.ones_like(ids))
        inputs = {"input_ids": torch.cat(parts, 1), "attention_mask": torch.cat(mask, 1)}
        # positions counted from the first token, as a tokenizer's padding side cannot say it to absolute encoders
        if side == "left":
            inputs["position_ids"] = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]])
        padded = logits_of(model, **inputs)
        for name in alone:
            torch.testing.assert_close(padded[name], alone[name], atol=1e-5, rtol=1e-5)


# BART counts positions by itself and takes none, CANINE cuts the text into pieces from the left, and MPNet expects the
# padding id 1, which this tokenizer does not have
@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name not in ("bart", "canine", "mpnet")])
def test_the_padding_side_of_the_tokenizer_does_not_matter(family: str) -> None:
    """Without position ids, as a collator gives it."""
    model = tiny.model(family)
    if model.config.encoder.pad_token_id is None:
        model.config.encoder.pad_token_id = 0
    texts = ["w5", "w1 w2 w3 w4 w5 w6 w7 w8 w9", "w3 w4"]
    batches = {
        side: tiny.tokenizer(padding_side=side)(texts, padding=True, return_tensors="pt") for side in ("left", "right")
    }
    alone = [logits_of(model, **tiny.tokenizer()(text, return_tensors="pt")) for text in texts]
    for side, inputs in batches.items():
        together = logits_of(model, **inputs)
        for name in together:
            for row, single in enumerate(alone):
                torch.testing.assert_close(
                    together[name][row], single[name][0], atol=1e-5, rtol=1e-5, msg=f"{side} {name} {row}"
                )


def test_short_texts_under_canine() -> None:
    model = tiny.model("canine").train()
    ids = torch.tensor([[57344, 57345]])
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels={"mood": torch.tensor([1])})
    output.loss.backward()
    assert torch.isfinite(output.logits["topic"]).all()


def test_decoder_only_encoders_pool_the_last_token_and_keep_no_cache() -> None:
    model = tiny.model("llama")
    assert model.config.pooling == "last"
    assert model.encoder(**tiny.batch(), use_cache=False).past_key_values is None
    hidden = model.encoder(**tiny.batch()).last_hidden_state
    last = tiny.batch()["attention_mask"].sum(1) - 1
    expected = model.heads["mood"](hidden[torch.arange(3), last])
    torch.testing.assert_close(logits_of(model)["mood"], expected)


def test_labels_for_some_heads_and_errors_for_others() -> None:
    model = tiny.model()
    output = model(**tiny.batch(), labels={"mood": tiny.labels()["mood"]})
    assert output.losses["topic"] == 0
    assert output.losses["mood"] > 0
    torch.testing.assert_close(output.loss, output.losses["mood"] / 2)
    with pytest.raises(ValueError, match=r"labels: the model has no head 'moods'.*'mood'"):
        model(**tiny.batch(), labels={"moods": tiny.labels()["mood"]})
    with pytest.raises(ValueError, match=r"labels must be a dict head → tensor.*'topic', 'mood'.*Tensor"):
        model(**tiny.batch(), labels=tiny.labels()["mood"])
    with pytest.raises(ValueError, match=r"head 'topic': labels have shape \(3, 2\).*\(batch, 3\)"):
        model(**tiny.batch(), labels={"topic": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match=r"heads: the model has no head 'tpic'.*'topic'"):
        model(**tiny.batch(), heads=["tpic"])


def test_heads_limits_the_work() -> None:
    model = tiny.model()
    output = model(**tiny.batch(), heads=["mood"], labels=tiny.labels())
    assert list(output.logits) == ["mood"]
    assert torch.equal(output.logits["mood"], logits_of(model)["mood"])
    torch.testing.assert_close(output.loss, output.losses["mood"])


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert", "t5", "llama", "canine"])
def test_hidden_states_and_attentions_by_argument(family: str) -> None:
    model = tiny.model(family, attn_implementation="eager")
    output = model(**tiny.batch(), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) >= 3
    assert len(output.attentions) >= 2
    assert model(**tiny.batch()).hidden_states is None


def test_the_output_keeps_logits_as_one_dict() -> None:
    output = tiny.model()(**tiny.batch())
    assert list(output.keys()) == ["logits"]
    assert list(output["logits"]) == ["topic", "mood"]
    assert output.loss is None


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_the_attention_implementation_reaches_the_encoder(tmp_path: Path, family: str) -> None:
    model = tiny.model(family)
    assert model.encoder.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    assert model.encoder.config._attn_implementation == "eager"
    model.save_pretrained(tmp_path)
    again = MultiHeadModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert again.encoder.config._attn_implementation == "eager"
    folder = tiny.save_encoder(tmp_path / "encoder", family)
    fresh = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(), attn_implementation="eager")
    assert fresh.encoder.config._attn_implementation == "eager"


def test_auto_classes_know_the_model_when_the_package_is_imported(tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MultiHeadConfig)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is MultiHeadModel
    assert_same_logits(model, again)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["auto_map"] == {
        "AutoConfig": "configuration_multihead.MultiHeadConfig",
        "AutoModel": "modeling_multihead.MultiHeadModel",
    }


def test_an_encoder_with_code_of_its_own_is_refused_before_it_runs(tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["model_type"] = "homemade"
    settings["auto_map"] = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    for name in ("configuration_x", "modeling_x"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} was run')\n")
    for trust in (None, True, False):
        with pytest.raises(ValueError, match="runs code of its own repository"):
            MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads(), trust_remote_code=trust)


def test_a_fresh_encoder_is_initialised_as_its_own_class_would() -> None:
    config = ModernBertConfig(
        vocab_size=50,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    set_seed(3)
    own = ModernBertModel(copy.deepcopy(config)).state_dict()
    set_seed(3)
    ours = MultiHeadModel(MultiHeadConfig(encoder=config, heads=tiny.two_heads())).encoder.state_dict()
    for key in own:
        assert torch.equal(own[key], ours[key]), key


def test_encoder_weights_missing_from_a_checkpoint_are_initialised_alike(tmp_path: Path) -> None:
    model = tiny.model("modernbert")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = "encoder.layers.1.mlp.Wi.weight"
    spread = weights.pop(lost).std()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = MultiHeadModel.from_pretrained(tmp_path)
    fresh = dict(again.named_parameters())[lost]
    assert torch.isfinite(fresh).all()
    assert 0.7 < fresh.std() / spread < 1.4


def test_automatic_quantisation_leaves_all_heads_alone() -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    model = tiny.model(heads={"a": HeadConfig(labels=["x", "y"], architecture="mlp"), "b": HeadConfig(labels=["x"])})
    settings = without_heads(BitsAndBytesConfig(load_in_8bit=True))
    left_alone = HfQuantizer.get_modules_to_not_convert(
        model, settings.llm_int8_skip_modules, model._keep_in_fp32_modules
    )
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    heads = [name for name in linear if name.startswith("heads.")]
    assert len(heads) == 3
    assert not [name for name in heads if should_convert_module(name, left_alone)]
    assert [name for name in linear if name.startswith("encoder.") and should_convert_module(name, left_alone)]


def test_the_pipeline_works_in_batches() -> None:
    from transformers import pipeline

    heads = {
        **tiny.two_heads(),
        "past_key_values": HeadConfig(labels=["x", "y"]),
        "hidden_states": HeadConfig(labels=["z"]),
    }
    pipe = pipeline("multi-head-text-classification", model=tiny.model(heads=heads), tokenizer=tiny.tokenizer())
    texts = ["w1 w2", "w3", "", "w4 w5 w6 w7 w8", "w9"]
    one_by_one = [pipe(text, return_all_scores=True)[0] for text in texts]
    batched = pipe(texts, batch_size=2, return_all_scores=True)
    assert [list(row) for row in batched] == [list(heads)] * 5
    for single, together in zip(one_by_one, batched, strict=True):
        for name in heads:
            assert [entry["label"] for entry in single[name]] == [entry["label"] for entry in together[name]]
            for one, other in zip(single[name], together[name], strict=True):
                assert one["score"] == pytest.approx(other["score"], abs=1e-5)


# 26 and 29 are the Trainer's: tests/training/test_trainer.py; 27 is a push: tests/test_examples.py


@pytest.mark.slow
def test_saving_again_keeps_every_file(tmp_path: Path) -> None:
    files = {path.name for path in Path(multihead_hf.model.__file__).parent.glob("*_multihead.py")}
    assert len(files) >= 4
    tiny.model().save_pretrained(tmp_path / "first")
    assert files <= {path.name for path in (tmp_path / "first").iterdir()}
    # through the folder's own code, in a process that has never seen the package
    script = """
import sys
sys.modules["multihead_hf"] = None
from transformers import AutoModel
AutoModel.from_pretrained("first", trust_remote_code=True).save_pretrained("second")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert files <= {path.name for path in (tmp_path / "second").iterdir()}
    settings = json.loads((tmp_path / "second" / "config.json").read_text())
    assert (
        settings["custom_pipelines"]["multi-head-text-classification"]["impl"] == "pipeline_multihead.MultiHeadPipeline"
    )
    assert_same_logits(
        MultiHeadModel.from_pretrained(tmp_path / "first"), MultiHeadModel.from_pretrained(tmp_path / "second")
    )


def test_heads_are_a_dict_here_and_a_list_in_the_file(tmp_path: Path) -> None:
    given = tiny.two_heads()
    as_list = [{"name": name, **head.to_dict()} for name, head in given.items()]
    configs = [
        MultiHeadConfig(encoder=tiny.encoder_config(), heads=heads)
        for heads in (given, {name: head.to_dict() for name, head in given.items()}, as_list)
    ]
    for config in configs:
        assert config.heads == given
        assert config.to_dict()["heads"] == as_list
        assert MultiHeadConfig(**config.to_dict()).heads == given
    assert copy.deepcopy(configs[0]).heads == given
