"""Saved models that are not as they were saved."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import cli
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, BartConfig

from multihead_hf import MultiHeadConfig, MultiHeadModel, MultiHeadPredictor
from multihead_hf.prediction.loading import load_model, load_tokenizer

HUGE: list[Callable[[dict[str, Any]], Any]] = [
    lambda config: config["encoder"].update(hidden_size=10**9),
    lambda config: config["encoder"].update(vocab_size=10**10),
    lambda config: config["encoder"].update(num_hidden_layers=10**12),
    lambda config: config["heads"][0].update(architecture="mlp", hidden_size=10**10),
    lambda config: config.update(heads=[{**config["heads"][1], "name": f"h{number}"} for number in range(300)]),
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny.model().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("change", HUGE)
def test_a_configuration_of_a_huge_model_is_refused_before_it_is_made(saved: Path, change: Callable) -> None:
    config = json.loads((saved / "config.json").read_text())
    change(config)
    (saved / "config.json").write_text(json.dumps(config))
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"config.json asks for a model with more weights than the 41 \(of 35,813"):
        load_model(saved)
    assert time.monotonic() - begin < 20


def test_after_a_refusal_models_of_any_size_can_be_made(saved: Path) -> None:
    test_a_configuration_of_a_huge_model_is_refused_before_it_is_made(saved, HUGE[2])
    assert tiny.model(heads={f"h{number}": tiny.two_heads()["mood"] for number in range(300)})


def test_a_model_in_several_files_is_loaded(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path, max_shard_size="20KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert list(load_model(tmp_path)[0].config.heads) == ["topic", "mood"]
    config = json.loads((tmp_path / "config.json").read_text())
    HUGE[2](config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="asks for a model with more weights"):
        load_model(tmp_path)


def test_a_run_that_starts_from_such_a_model_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    HUGE[2](config)
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "rows.csv").write_text("text,mood\nw1,calm\nw2,angry\n")
    run = {"model": {"start_from": str(saved)}, "data": {"train": str(saved / "rows.csv")}, "heads": {"mood": {}}}
    (saved / "run.yaml").write_text(json.dumps({**run, "training": {"output_dir": str(saved / "out")}}))
    done = cli("train", saved / "run.yaml")
    assert done.returncode == 1
    assert "asks for a model with more weights" in done.stderr


def test_a_loaded_model_computes_bit_by_bit_what_the_saved_one_did(tmp_path: Path) -> None:
    """Of heads of one label, too, whose product sums in another order where the weights are not aligned."""
    for seed in range(4):
        heads = {
            "one": {"labels": ["a"], "problem_type": "multi_label_classification"},
            "narrow": {"labels": ["a", "b"], "architecture": "mlp", "hidden_size": 1},
        }
        model = tiny.model(seed=seed, heads=heads)
        model.save_pretrained(tmp_path / str(seed))
        again = MultiHeadModel.from_pretrained(tmp_path / str(seed))
        for rows in (1, 3, 8):
            batch = tiny.batch(rows, 20)
            for name, logits in model(**batch).logits.items():
                assert logits.equal(again(**batch).logits[name]), (seed, name, rows)


def test_encoders_that_the_configuration_does_not_describe(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["encoder"]["num_hidden_layers"] = 1
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="has weights of the encoder that its configuration has no place for: 16 param"
    ):
        load_model(saved)
    MultiHeadModel.from_pretrained(saved)
    assert "has weights of the encoder that its configuration has no place for: 16 parameters" in caplog.text


def test_damaged_weights_are_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a file of its weights is damaged, download or save it again"):
        MultiHeadModel.from_pretrained(saved)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged, download or save it again"):
        load_model(saved)


def test_a_configuration_without_its_version(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config["format_version"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config.json has no format_version"):
        load_model(saved)


def test_an_encoder_that_is_made_with_a_decoder_is_loaded(tmp_path: Path) -> None:
    layers = {"encoder_layers": 24, "decoder_layers": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    encoder = BartConfig(vocab_size=64, d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64, **layers)
    MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=tiny.two_heads())).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert list(load_model(tmp_path)[0].config.heads) == ["topic", "mood"]


def test_an_adapter_without_its_base_model(tmp_path: Path) -> None:
    get_peft_model(tiny.model(), LoraConfig(target_modules=["query"])).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds an adapter \(PEFT\) without its base model: PeftModel.from_pretrained"
    ):
        load_model(tmp_path)


def test_a_place_that_is_no_name() -> None:
    with pytest.raises(ValueError, match="None: give a folder or a name on the Hub"):
        MultiHeadPredictor.from_pretrained(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bert", "mpnet", "modernbert", "gpt2"])
def test_a_folder_without_a_vocabulary(tmp_path: Path, kind: str) -> None:
    """transformers makes an empty tokenizer of some, and ends in various errors for others."""
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"its vocabulary has only special tokens|has no tokenizer files"):
        load_tokenizer(tmp_path)
