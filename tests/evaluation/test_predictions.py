"""Logits and references from a model with its tokenizer, without a Trainer."""

import ast
import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from training_runs import trainer_for

import multihead_hf
from multihead_hf import prepare_dataset
from multihead_hf.evaluation.evaluate import evaluated
from multihead_hf.evaluation.predictions import predicted

PACKAGE = Path(multihead_hf.__file__).parent


def files_reached(start: Path) -> set[Path]:
    """Files of the package that a file imports, directly or through others, also inside functions."""
    reached: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                room = path.parents[node.level - 1]
                names = [node.module] if node.module else [alias.name for alias in node.names]
                waiting += [room.joinpath(*name.split(".")).with_suffix(".py") for name in names]
    return reached


@pytest.mark.parametrize("name", ["report_files", "evaluate", "comparison", "threshold_tuning"])
def test_a_walk_over_the_imports_of_the_evaluation_never_enters_the_training(name: str) -> None:
    reached = files_reached(PACKAGE / "evaluation" / f"{name}.py")
    assert PACKAGE / "evaluation" / "predictions.py" in reached
    assert all(path.is_file() for path in reached)
    assert {path.parent.name for path in reached} - {"utils"} == {"evaluation", "data", "model"}


@pytest.mark.slow
def test_a_model_is_evaluated_where_no_training_can_be_imported(tmp_path: Path) -> None:
    tiny.model(heads=tiny.two_heads()).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    tiny.table(24).to_parquet(tmp_path / "rows.parquet")
    script = """
import sys
sys.modules["multihead_hf.training"] = None  # importing it raises
from transformers import AutoTokenizer
from multihead_hf import MultiHeadModel, calibrate, compare, confidence_intervals, tune_thresholds, write_report
from multihead_hf.evaluation.evaluate import evaluated
model, tokenizer = MultiHeadModel.from_pretrained("model"), AutoTokenizer.from_pretrained("model")
write_report(model, "rows.parquet", "report", tokenizer=tokenizer, n_resamples=5)
evaluated(model, "rows.parquet", tokenizer)
compare(model, model, "rows.parquet", tokenizer=tokenizer, n_resamples=5)
confidence_intervals(model, "rows.parquet", tokenizer=tokenizer, n_resamples=5)
calibrate(model, "rows.parquet", tokenizer=tokenizer)
tune_thresholds(model, "rows.parquet", tokenizer=tokenizer)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert (tmp_path / "report" / "report.html").is_file()


def test_predictions_and_metrics_of_a_model_are_those_of_its_trainer(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    rows = tiny.table(21, seed=3)
    size = trainer.args.per_device_eval_batch_size
    expected, metrics = trainer.predict(rows), trainer.evaluate(rows)
    found = predicted(trainer.model, rows, tiny.tokenizer(), per_device_eval_batch_size=size)
    for name in found.heads:
        assert np.array_equal(found.logits[name], expected.predictions[name])
        assert np.array_equal(found.references[name], expected.label_ids[name])
    figures, counted = evaluated(trainer.model, rows, tiny.tokenizer())
    own = {key: value for key, value in metrics.items() if not key.endswith(("runtime", "per_second", "_time"))}
    assert {f"eval_{key}" for key in figures} == own.keys() - {"epoch"}
    for key, value in figures.items():
        assert own[f"eval_{key}"] == pytest.approx(value, abs=1e-5)
    assert "F1" in str(counted)


def test_a_model_is_left_as_it_was() -> None:
    model = tiny.model(heads=tiny.two_heads())
    model.train()
    model.heads.requires_grad_(False)
    before, modes = model.config.to_dict(), [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    raw = tiny.table(12).rename_column("text", "other")
    changed = predicted(model, raw, tiny.tokenizer(), text_columns="other", max_length=3, truncation="head+tail")
    assert model.config.to_dict() == before
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert model.device == torch.device("cpu")
    other = copy.deepcopy(model)
    other.config.max_length, other.config.truncation = 3, "head+tail"
    rows = prepare_dataset(tiny.table(12), tiny.tokenizer(), other)
    same = predicted(other, rows, tiny.tokenizer())
    assert all(np.array_equal(changed.logits[name], same.logits[name]) for name in same.heads)


def test_rows_of_a_stream_and_of_a_list_are_predicted_in_their_order() -> None:
    model, raw = tiny.model(heads=tiny.two_heads()), tiny.table(12)
    expected = predicted(model, raw, tiny.tokenizer())
    prepared = prepare_dataset(raw, tiny.tokenizer(), model)
    for rows in (raw.to_iterable_dataset(), list(prepared), prepared):
        found = predicted(model, rows, tiny.tokenizer())
        for name in expected.heads:
            assert np.array_equal(found.logits[name], expected.logits[name])
            assert np.array_equal(found.references[name], expected.references[name])


WRONG = [
    ({"max_lengths": 3}, "Unexpected keyword argument 'max_lengths'. Did you mean"),
    ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size 0: give a whole number of 1 or more"),
    ({"truncation": "middle"}, "truncation"),
    ({"max_length": 0}, "max_length 0"),
    ({"sep": {"topics": "|"}}, "topics"),
]


def test_what_cannot_be_read_is_refused() -> None:
    model = tiny.model(heads=tiny.two_heads())
    before = model.config.to_dict()
    with pytest.raises(ValueError, match="pass its tokenizer="):
        predicted(model, tiny.table(4))
    for reading, message in WRONG:
        with pytest.raises(ValueError, match=message):
            predicted(model, tiny.table(4), tiny.tokenizer(), **reading)
    with pytest.raises(ValueError, match="no row of the dataset is labelled"):
        evaluated(model, tiny.table(4).map(lambda row: dict.fromkeys(("topic_labels", "mood"))), tiny.tokenizer())
    assert model.config.to_dict() == before


@pytest.mark.parametrize("function", ["tune_thresholds", "calibrate", "confidence_intervals", "write_report"])
def test_a_trainer_takes_no_keyword_arguments_that_it_would_ignore(function: str, tmp_path: Path) -> None:
    trainer, call = trainer_for(tmp_path), getattr(multihead_hf, function)
    given = (trainer, tiny.table(16), *([tmp_path / "report"] if function == "write_report" else []))
    with pytest.raises(ValueError, match=r"label_columns: a trainer reads rows as its arguments say"):
        call(*given, label_columns={"mood": "mood2"})
    with pytest.raises(ValueError, match=r"Unexpected keyword argument 'max_lenght'\. Did you mean 'max_length'"):
        call(*given, max_lenght=12)


def test_logits_do_not_go_through_the_users_function_for_metrics(tmp_path: Path) -> None:
    def classes(logits: Any, labels: Any) -> Any:
        return {name: values.argmax(-1) for name, values in logits.items()}

    rows = tiny.table()
    trainer = trainer_for(tmp_path)
    trainer.preprocess_logits_for_metrics = classes
    with_function = predicted(trainer, rows)
    assert trainer.preprocess_logits_for_metrics is classes
    without = predicted(trainer_for(tmp_path, trainer.model), rows)
    for name, logits in without.logits.items():
        np.testing.assert_array_equal(with_function.logits[name], logits)
