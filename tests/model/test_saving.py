"""What a folder that a model is saved into may hold already."""

import json
from pathlib import Path

import pytest
import tiny

from multihead_hf import HeadConfig, MultiHeadModel


def test_a_whole_model_is_not_saved_beside_an_adapter(tmp_path: Path) -> None:
    """Transformers would apply the adapter to the weights when it loads them."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match=r"holds an adapter"):
        tiny.model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_config.json"]


def test_labels_in_another_order_than_the_saved_ones_are_refused(tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path)
    heads = model.config.heads
    assert list(MultiHeadModel.from_pretrained(tmp_path, heads=dict(heads)).config.heads) == list(heads)
    swapped = {**heads, "mood": HeadConfig(labels=heads["mood"].labels[::-1])}
    with pytest.raises(ValueError, match=r"head 'mood': the saved labels are .* the logits would mean other labels"):
        MultiHeadModel.from_pretrained(tmp_path, heads=swapped)


def test_a_file_is_no_folder_to_save_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(NotADirectoryError, match="file is a file: give a folder"):
        tiny.model().save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(NotADirectoryError, match="link is a symbolic link to something that does not exist"):
        tiny.model().save_pretrained(tmp_path / "link")


def test_files_that_describe_an_earlier_model_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.model().save_pretrained(tmp_path)
    tiny.model().save_pretrained(tmp_path)
    assert "earlier" not in caplog.text
    for name in ("model_card.json", "model.onnx"):
        (tmp_path / name).write_text("{}")
    tiny.model().save_pretrained(tmp_path)
    assert f"multihead-hf card {tmp_path} --report REPORT" in caplog.text
    assert f"{tmp_path} holds the graph of an earlier model (model.onnx)" in caplog.text
