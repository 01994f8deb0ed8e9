"""A save over a model that is there: killed or failed at any moment, no folder mixes two models."""

import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from training_runs import trainer_for
from transformers import Trainer

from multihead_hf import HeadConfig, MultiHeadModel
from multihead_hf.prediction.loading import load_model
from multihead_hf.publishing.convert import Converted, save_converted

BACKWARDS = {"topic": HeadConfig(tiny.TOPICS[::-1], "multi_label_classification"), "mood": HeadConfig(tiny.MOODS[::-1])}


class Killed(BaseException):
    """Stands for the end of the process: no handler of ours may run after it."""


def same(one: MultiHeadModel, other: MultiHeadModel) -> bool:
    labels = [head.labels for head in one.config.heads.values()] == [h.labels for h in other.config.heads.values()]
    weights = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return labels and all(torch.equal(a, b) for a, b in weights)


def save_both_ways(how: str, model: MultiHeadModel, place: Path) -> Any:
    if how == "convert":
        return lambda: save_converted(Converted(model, tiny.tokenizer(), {}), place)
    return lambda: trainer_for(place, model=model).save_model()


def state_after(place: Path, old: MultiHeadModel, new: MultiHeadModel) -> str:
    if not (place / "config.json").is_file():
        (place / "_saving-x").mkdir(exist_ok=True)  # as a killed process leaves it
        with pytest.raises(ValueError, match=r"no config.json \(a save into it was interrupted"):
            load_model(place)
        return "refused"
    found, _ = load_model(place)
    return "old" if same(found, old) else "new" if same(found, new) else "a mixture"


@pytest.mark.parametrize("how", ["trainer", "convert"])
def test_killed_at_any_moment_a_folder_holds_one_model_or_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tiny.model(seed=1), tiny.model(seed=2, heads=BACKWARDS)
    place, replace, moved = tmp_path / "model", os.replace, []
    save_both_ways(how, old, place)()
    shutil.copytree(place, tmp_path / "before")
    save = save_both_ways(how, new, place)

    def counted(source: Any, target: Any, stop: int | None = None) -> None:
        if "_saving-" in f"{source}{target}":
            if len(moved) == stop:
                raise Killed
            moved.append(Path(target).name)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", counted)
        # (what a killed process would not undo)
        patch.setattr("multihead_hf.utils.files.reversed", lambda done: iter(()), raising=False)
        save()
        assert state_after(place, old, new) == "new"
        names, found = list(moved), []
        assert len(names) > 6
        ours = [place for place, name in enumerate(names) if name in ("config.json", "model.safetensors")]
        for stop in sorted({0, len(names) - 1, *ours, *(place + 1 for place in ours)} - {len(names)}):
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "before", place)
            moved.clear()
            patch.setattr("os.replace", functools.partial(counted, stop=stop))
            with pytest.raises(Killed):
                save()
            found.append(state_after(place, old, new))
    assert found[0] == "old"
    assert set(found[1:]) == {"refused"}


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tiny.model(seed=1), tiny.model(seed=2, heads=BACKWARDS)
    trainer_for(tmp_path, model=old).save_model()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    trainer, replace = trainer_for(tmp_path, model=new), os.replace

    def fails(source: Any, target: Any) -> None:
        if Path(source).name == "model.safetensors" and Path(source).parent.name == "new":
            raise OSError("no space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="no space"):
        trainer.save_model()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_the_model_before_go_with_it(tmp_path: Path) -> None:
    """Transformers reads `model.safetensors` first, also where the new model is in several files."""
    old, new = tiny.model(seed=1), tiny.model(seed=2)
    trainer = trainer_for(tmp_path, model=old)
    trainer.save_model()
    save = new.save_pretrained
    new.save_pretrained = lambda *args, **kwargs: save(*args, **{**kwargs, "max_shard_size": "20KB"})
    trainer_for(tmp_path, model=new).save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors.index.json" in names
    assert "model.safetensors" not in names
    assert same(MultiHeadModel.from_pretrained(tmp_path), new)
    trainer.save_model()
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    assert same(MultiHeadModel.from_pretrained(tmp_path), old)


def test_an_adapter_in_the_folder_is_not_covered_up(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds an adapter"):
        trainer_for(tmp_path, model=tiny.model(seed=2)).save_model()
    with pytest.raises(ValueError, match="holds an adapter"):
        save_converted(Converted(tiny.model(seed=2), tiny.tokenizer(), {}), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_card_of_an_adapter_is_kept(tmp_path: Path) -> None:
    adapter = LoraConfig(target_modules=["query"], modules_to_save=["heads"])
    trainer = trainer_for(tmp_path, model=get_peft_model(tiny.model(), adapter))
    trainer.save_model()
    (tmp_path / "README.md").write_text((tmp_path / "README.md").read_text() + "\nMine.\n")
    trainer.save_model()
    assert "\nMine." in (tmp_path / "README.md").read_text()


def test_a_token_is_taken_by_place_as_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, given = trainer_for(tmp_path, model=tiny.model()), []
    monkeypatch.setattr(Trainer, "push_to_hub", lambda self, *args, **kwargs: given.append((args, kwargs)))
    trainer.push_to_hub("better", False, "hf_test", "v2", private=True)
    trainer.push_to_hub(commit_message="better", token="hf_test")
    assert given == [
        (("better", False, "hf_test", "v2"), {"private": True}),
        (("better", True, "hf_test"), {}),
    ]
