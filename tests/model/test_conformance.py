"""What transformers' own common tests ask of a configuration and a model, over five encoders."""

import copy
import inspect
import json
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, BitsAndBytesConfig, QuantoConfig, set_seed
from transformers.quantizers.auto import AutoQuantizationConfig

from multihead_hf import MultiHeadConfig, MultiHeadModel
from multihead_hf.model.storage_multihead import without_heads

FAMILIES = ("bert", "xlm-roberta", "modernbert", "distilbert", "deberta-v2")
every_family = pytest.mark.parametrize("family", FAMILIES)


def config_of(family: str) -> MultiHeadConfig:
    return tiny.model(family).config


def inputs() -> dict[str, Tensor]:
    return tiny.batch()


def logits_of(model: MultiHeadModel) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.eval()(**inputs()).logits


# ---- the configuration ----


@every_family
def test_a_config_has_the_common_properties(family: str) -> None:
    config = config_of(family)
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(config, name) == getattr(config.get_text_config(), name)


@every_family
def test_a_config_is_the_same_after_json_and_after_a_folder(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    config.to_json_file(tmp_path / "config.json")
    assert MultiHeadConfig.from_json_file(tmp_path / "config.json").to_dict() == config.to_dict()
    assert json.loads(config.to_json_string())["pooling"] == config.pooling
    for folder, options in ((tmp_path / "whole", {}), (tmp_path / "whole" / "part", {"subfolder": "part"})):
        config.save_pretrained(folder)
        assert MultiHeadConfig.from_pretrained(tmp_path / "whole", **options).to_dict() == config.to_dict()
    assert type(AutoConfig.from_pretrained(tmp_path / "whole")) is MultiHeadConfig
    with pytest.raises(OSError, match="nowhere"):
        MultiHeadConfig.from_pretrained(tmp_path / "nowhere")


@every_family
def test_the_encoders_config_can_be_read_out_of_the_whole(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    config.save_pretrained(tmp_path)
    assert "LABEL_" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    alone = type(config.encoder).from_pretrained(tmp_path)
    expected = config.to_dict()["encoder"]
    found = alone.to_dict()
    for settings in (expected, found):
        settings.pop("transformers_version", None)
    assert found == expected


@every_family
def test_a_setting_of_the_encoder_can_be_changed_while_loading(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    config.save_pretrained(tmp_path)
    changed = MultiHeadConfig.from_pretrained(tmp_path, encoder={"vocab_size": 20})
    assert changed.encoder.to_dict() == {**config.encoder.to_dict(), "vocab_size": 20}


def test_a_config_has_no_defaults_and_says_so() -> None:
    """Transformers makes a config without arguments to find what differs from the defaults, unless it is told."""
    assert MultiHeadConfig.has_no_defaults_at_init
    with pytest.raises(ValueError, match="needs an encoder"):
        MultiHeadConfig()
    config = config_of("bert")
    assert "MultiHeadConfig" in repr(config)
    assert config.to_diff_dict()["model_type"] == "multihead"
    assert MultiHeadConfig.from_dict(json.loads(config.to_json_string())).to_dict() == config.to_dict()


@every_family
def test_the_number_of_labels_can_be_set_as_of_any_config(family: str) -> None:
    config = MultiHeadConfig(encoder=tiny.encoder_config(family), heads=tiny.two_heads(), num_labels=5)
    assert (len(config.id2label), len(config.label2id)) == (5, 5)
    config.num_labels = 3
    assert (len(config.id2label), len(config.label2id)) == (3, 3)


def test_a_config_shows_no_labels_that_are_none_of_a_head(tmp_path: Path) -> None:
    """Transformers makes up LABEL_0 and LABEL_1. (In the encoder's part of the file they stay: its common tests read the
    encoder's config out of it and expect its defaults.)"""
    config = MultiHeadConfig(encoder=tiny.encoder_config(), heads=tiny.two_heads())
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {"id2label", "label2id", "num_labels"} & set(saved) == set()
    for own in (config, MultiHeadConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert (own.id2label, own.label2id, own.num_labels) == (None, None, None)
        assert [head.labels for head in own.heads.values()] == [tiny.TOPICS, tiny.MOODS]


# ---- saving and loading ----


@every_family
def test_a_model_is_the_same_after_it_was_saved(family: str, tmp_path: Path) -> None:
    model = tiny.model(family)
    model.save_pretrained(tmp_path)
    for again in (MultiHeadModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert not any(torch.isnan(own).any() for own in logits_of(again).values())
        for name, own in logits_of(again).items():
            assert torch.equal(own, logits_of(model)[name])
        assert again.state_dict().keys() == model.state_dict().keys()


@every_family
def test_every_key_is_saved_or_there_is_none_to_ignore(family: str, tmp_path: Path) -> None:
    model = tiny.model(family)
    for name in model._keys_to_ignore_on_save or ():
        assert name in model.state_dict(), name
    model.save_pretrained(tmp_path)
    again, info = MultiHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert MultiHeadModel._keys_to_ignore_on_save is None
    assert not again._keys_to_ignore_on_save


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_declared_to_stay_in_float32_does(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny.model(family)
    model.save_pretrained(tmp_path)
    half = MultiHeadModel.from_pretrained(tmp_path, dtype=dtype)
    stays = set(model._keep_in_fp32_modules_strict) | (model._keep_in_fp32_modules if dtype == torch.float16 else set())
    for name, parameter in half.named_parameters():
        expected = torch.float32 if stays & set(name.split(".")) else dtype
        assert parameter.dtype == expected, name
    for name in (*model._keep_in_fp32_modules, *model._keep_in_fp32_modules_strict):
        assert any(name in key.split(".") for key, _ in model.named_modules()), name


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        (BitsAndBytesConfig(load_in_8bit=True), "llm_int8_skip_modules"),
        (BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["pooler"]), "llm_int8_skip_modules"),
        (QuantoConfig(weights="int8"), "modules_to_not_convert"),
        ({"quant_method": "quanto", "weights": "int8", "modules_to_not_convert": ["x"]}, "modules_to_not_convert"),
    ],
)
def test_a_quantiser_is_told_to_leave_the_heads_alone(
    given: object, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.model().save_pretrained(tmp_path)
    before = copy.deepcopy(given)
    found = []

    def remembering(cls: type, *args: object, **kwargs: object) -> object:
        found.append(kwargs["quantization_config"])
        raise InterruptedError

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", classmethod(remembering))
    with pytest.raises(InterruptedError):
        MultiHeadModel.from_pretrained(tmp_path, quantization_config=given)
    original = AutoQuantizationConfig.from_dict(dict(given)) if isinstance(given, dict) else given
    assert getattr(found[0], setting) == [*(getattr(original, setting) or []), "heads"]
    assert type(found[0]) is type(original)
    same = given == before if isinstance(given, dict) else given.to_dict() == before.to_dict()
    assert same, "what the user gave stays as it is"


def test_what_is_no_module_name_is_left_out_of_a_quantiser() -> None:
    config = BitsAndBytesConfig(load_in_8bit=True)
    assert not hasattr(without_heads(config), "modules_to_not_convert")


# ---- the forward pass ----


@every_family
def test_the_forward_pass_names_the_usual_arguments_first(family: str) -> None:
    names = list(inspect.signature(tiny.model(family).forward).parameters)
    assert names[:2] == ["input_ids", "attention_mask"]
    assert tiny.model(family).main_input_name == "input_ids"


@every_family
def test_two_passes_give_the_same(family: str) -> None:
    model = tiny.model(family)
    first, second = logits_of(model), logits_of(model)
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_family
def test_a_batch_gives_what_its_rows_give(family: str) -> None:
    model = tiny.model(family).eval()
    together = logits_of(model)
    for row in range(len(inputs()["input_ids"])):
        with torch.no_grad():
            alone = model(**{name: value[row : row + 1] for name, value in inputs().items()}).logits
        for name, own in alone.items():
            torch.testing.assert_close(own[0], together[name][row], atol=1e-5, rtol=1e-5)


@every_family
def test_tokens_and_their_embeddings_give_the_same(family: str) -> None:
    model = tiny.model(family)
    given = inputs()
    ids = given.pop("input_ids")
    with torch.no_grad():
        embedded = model.eval()(inputs_embeds=model.get_input_embeddings()(ids), **given).logits
    for name, own in logits_of(model).items():
        torch.testing.assert_close(embedded[name], own)


@every_family
def test_a_tuple_holds_what_the_output_holds(family: str) -> None:
    model = tiny.model(family).eval()
    with torch.no_grad():
        output = model(**inputs(), output_hidden_states=True)
        as_tuple = model(**inputs(), output_hidden_states=True, return_dict=False)
    assert len(as_tuple) == len(output.to_tuple())
    assert all(torch.equal(as_tuple[0][name], output.logits[name]) for name in output.logits)


@every_family
def test_hidden_states_and_attentions_have_their_shapes_and_gradients(family: str) -> None:
    set_seed(0)
    config = config_of(family)
    model = MultiHeadModel(config)
    model.set_attn_implementation("eager")
    given = inputs()
    rows, length = given["input_ids"].shape
    output = model(**given, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == config.num_hidden_layers + 1
    assert len(output.attentions) == config.num_hidden_layers
    assert {tuple(own.shape) for own in output.hidden_states} == {(rows, length, config.hidden_size)}
    shape = (rows, config.num_attention_heads, length, length)
    assert {tuple(own.shape) for own in output.attentions} == {shape}
    output.hidden_states[0].retain_grad()
    output.attentions[0].retain_grad()
    sum(own.sum() for own in output.logits.values()).backward()
    assert output.hidden_states[0].grad is not None
    assert output.attentions[0].grad is not None


# ---- training ----


@every_family
@pytest.mark.parametrize("use_reentrant", [None, False, True])
def test_gradient_checkpointing_gives_the_same_gradients(family: str, use_reentrant: bool | None) -> None:
    if not tiny.model(family).supports_gradient_checkpointing:
        pytest.skip("the encoder has none")
    gradients = []
    for checkpoints in (False, True):
        model = tiny.model(family)  # in evaluation mode, without dropout
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpoints:
            # (older versions of transformers have the first of these names, newer ones deprecate it)
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable(None if use_reentrant is None else {"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        model(**inputs(), labels=tiny.labels()).loss.backward()
        gradients.append({name: own.grad for name, own in model.named_parameters() if own.requires_grad})
    plain, checkpointed = gradients
    for name, expected in plain.items():
        assert expected is not None, name
        torch.testing.assert_close(checkpointed[name], expected, atol=1e-6, rtol=1e-4)


@every_family
def test_a_few_steps_learn_a_batch(family: str) -> None:
    set_seed(0)
    model = tiny.model(family)  # in evaluation mode, without dropout
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(**inputs(), labels=tiny.labels()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# ---- embeddings ----


@every_family
def test_the_embeddings_can_be_resized_and_replaced(family: str) -> None:
    model = tiny.model(family)
    before = model.get_input_embeddings().weight.clone()
    model.resize_token_embeddings(len(before) + 10)
    assert model.config.vocab_size == model.config.encoder.vocab_size == len(before) + 10
    assert torch.equal(model.get_input_embeddings().weight[: len(before)], before)
    logits_of(model)
    model.resize_token_embeddings(len(before))
    new = torch.nn.Embedding(*before.shape)
    model.set_input_embeddings(new)
    assert model.get_input_embeddings() is new
    assert model.get_output_embeddings() is None


# ---- training ----


@pytest.mark.slow
@every_family
def test_a_fixed_batch_is_overfitted(family: str) -> None:
    """As `TrainingTesterMixin` of transformers' own tests, which is in no package: loss and gradients fall by 90 %."""
    set_seed(0)
    model = tiny.model(family)  # in evaluation mode, without dropout
    batch, labels = inputs(), {"topic": torch.eye(3), "mood": torch.tensor([0, 1, 0])}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses, norms = [], []
    for _ in range(300):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert norms[-1] < 0.1 * norms[0]
