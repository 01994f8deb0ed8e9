"""What is said while a pretrained encoder is loaded: nothing of weights that it does not need, all of those it lacks."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM
from transformers.utils.logging import set_tqdm_hook

from multihead_hf import MultiHeadModel
from multihead_hf.model.encoder_multihead import _without_report

REPORTS = logging.getLogger("transformers.modeling_utils")


@pytest.fixture(autouse=True)
def _with_bars() -> Iterator[None]:
    transformers.utils.logging.enable_progress_bar()
    yield
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged by transformers and by the library, from warnings on."""
    texts: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    recorder, loggers = (
        Recorder(logging.WARNING),
        [logging.getLogger(name) for name in ("transformers", "multihead_hf")],
    )
    for own in loggers:
        own.addHandler(recorder)
    yield texts
    for own in loggers:
        own.removeHandler(recorder)


def change(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace weights of a checkpoint, or with `None` remove those whose name begins so."""
    weights = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        weights = {key: own for key, own in weights.items() if not key.startswith(name)}
        weights |= {} if value is None else {name: value}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_whole_encoder_is_loaded_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[str], family: str
) -> None:
    tiny.save_encoder(tmp_path, family)
    capsys.readouterr()
    MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads())
    assert said == []
    assert capsys.readouterr() == ("", "")


def test_the_head_of_a_language_model_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    AutoModelForMaskedLM.from_config(tiny.encoder_config("modernbert")).save_pretrained(tmp_path)
    capsys.readouterr()
    model = MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads())
    assert (said, capsys.readouterr()) == ([], ("", ""))
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(model.encoder.get_input_embeddings().weight, weights["model.embeddings.tok_embeddings.weight"])
    AutoModel.from_pretrained(tmp_path)  # elsewhere transformers reports as before, with its bar
    assert ["LOAD REPORT" in text for text in said] == [True]
    assert "Loading weights" in capsys.readouterr().err


def test_weights_that_are_missing_are_named(tmp_path: Path, said: list[str]) -> None:
    tiny.save_encoder(tmp_path)
    change(tmp_path, **{"encoder.layer.1.": None})
    with pytest.raises(
        ValueError,
        match=r"lacks weights of the encoder, or has them in other sizes, and they would start at random: 16 parameters, encoder\.layer\.1\.attention\."
        r"output\.LayerNorm\.bias, .* and 11 more\. Is it a checkpoint of this architecture \(bert\)",
    ):
        MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads())
    assert said == []


def test_what_the_encoder_does_not_use_may_be_missing(tmp_path: Path, said: list[str]) -> None:
    """The pooler of a class that always makes one, and the decoder of BART."""
    for family, name in (("canine", "pooler."), ("bart", "decoder.layers.0.fc1")):
        folder = tiny.save_encoder(tmp_path / family, family)
        change(folder, **{name: None})
        MultiHeadModel.from_encoder(folder, heads=tiny.two_heads())
    assert said == []


def test_weights_of_other_sizes_are_named(tmp_path: Path, said: list[str]) -> None:
    tiny.save_encoder(tmp_path)
    change(tmp_path, **{"encoder.layer.1.output.dense.weight": torch.zeros(3, 3)})
    with pytest.raises(
        ValueError, match=r"in other sizes, .* 1 parameters, encoder\.layer\.1\.output\.dense\.weight\."
    ):
        MultiHeadModel.from_encoder(tmp_path, heads=tiny.two_heads())
    assert said == []


def test_a_report_is_shown_when_an_error_refers_to_it(tmp_path: Path, said: list[str]) -> None:
    tiny.save_encoder(tmp_path)
    change(tmp_path, **{"encoder.layer.1.output.dense.weight": torch.zeros(3, 3)})
    with pytest.raises(RuntimeError, match="look at the above report"):
        _without_report(AutoModel.from_pretrained, tmp_path)
    assert ["MISMATCH" in text for text in said] == [True]
    assert REPORTS.filters == []


def test_a_saved_model_is_loaded_without_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def other(factory: object, args: tuple, kwargs: dict) -> object:
        raise AssertionError("a bar")

    tiny.model().save_pretrained(tmp_path)
    capsys.readouterr()
    before = set_tqdm_hook(other)
    try:
        MultiHeadModel.from_pretrained(tmp_path)
    finally:
        assert set_tqdm_hook(before) is other  # what was set is set again
    assert capsys.readouterr() == ("", "")
