"""What a folder that a model is saved into may hold already."""

import json
from pathlib import Path

import pytest
import tiny


def test_a_whole_model_is_not_saved_beside_an_adapter(tmp_path: Path) -> None:
    """Transformers would apply the adapter to the weights when it loads them."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match=r"holds an adapter"):
        tiny.model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_config.json"]
