"""MultiHeadTrainer on tiny models: losses, logs, metrics, checkpoints, and what it refuses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from training_runs import arguments, still, trainer_for, weights
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadDataCollator,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    prepare_dataset,
)
from multihead_hf.data.counting import head_counts
from multihead_hf.model.layers_multihead import module_key
from multihead_hf.training import run_data

# ---- loss ----


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 4), (8, 2), (5, 4)])
def test_accumulation_does_not_change_the_step(tmp_path: Path, batch: int, accumulation: int) -> None:
    runs = []
    for size, steps in ((batch * accumulation, 1), (batch, accumulation)):
        trainer = trainer_for(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            learning_rate=1e-2,
            max_steps=6,
            train_sampling_strategy="sequential",
        )
        before = weights(trainer.model)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "mood_loss" in entry]
        runs.append((weights(trainer.model), logs))
        assert any(not torch.equal(before[key], runs[-1][0][key]) for key in before)
    (one, logs_one), (other, logs_other) = runs
    for key in one:
        torch.testing.assert_close(one[key], other[key], atol=2e-5, rtol=1e-4)
    assert len(logs_one) == len(logs_other) == 6
    for entry_one, entry_other in zip(logs_one, logs_other, strict=True):
        for key in ("loss", "topic_loss", "mood_loss", "topic_soft_f1", "topic_bce"):
            assert entry_one[key] == pytest.approx(entry_other[key], abs=1e-4), key


@pytest.mark.parametrize("accumulation", [2, 4])
def test_the_stock_trainer_multiplies_a_classifiers_loss(tmp_path: Path, accumulation: int) -> None:
    """What is mended: the stock loss and gradient grow with the accumulation steps."""
    rows = [{"input_ids": [2, 5 + i % 40, 6, 3], "attention_mask": [1] * 4, "labels": i % 2} for i in range(16)]
    losses = []
    for steps in (1, accumulation):
        set_seed(0)
        config = BertConfig(**{**still().config.encoder.to_dict(), "num_labels": 2})
        args = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=16 // steps,
            gradient_accumulation_steps=steps,
            max_steps=1,
            logging_steps=1,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
        )
        trainer = Trainer(model=BertForSequenceClassification(config), args=args, train_dataset=rows)
        trainer.train()
        losses.append(trainer.state.log_history[0])
    assert losses[1]["loss"] / losses[0]["loss"] == pytest.approx(accumulation, rel=1e-3)
    assert losses[1]["grad_norm"] / losses[0]["grad_norm"] == pytest.approx(accumulation, rel=1e-2)


def test_logs_hold_every_heads_loss_its_parts_and_rates(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path, max_steps=2, learning_rate=1e-3, encoder_learning_rate=1e-4, head_learning_rate=5e-3
    )
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx((first["topic_loss"] + first["mood_loss"]) / 2, abs=1e-5)
    assert first["topic_loss"] == pytest.approx(0.15 * first["topic_soft_f1"] + 0.85 * first["topic_bce"], abs=1e-5)
    assert "mood_cross_entropy" not in first
    assert first["learning_rate_encoder"] == pytest.approx(1e-4)
    assert first["learning_rate_heads"] == pytest.approx(5e-3)
    assert first["learning_rate"] == pytest.approx(first["learning_rate_encoder"])


def test_a_head_without_labels_in_the_data_stays_as_it_is(tmp_path: Path) -> None:
    model = still()
    before = weights(model.heads)
    rows = tiny.table(16).remove_columns("topic_labels")
    trainer = MultiHeadTrainer(model, arguments(tmp_path, max_steps=2), None, rows, None, tiny.tokenizer())
    trainer.train()
    after = weights(model.heads)
    assert all(torch.equal(before[key], after[key]) for key in before if "topic" in key)
    assert any(not torch.equal(before[key], after[key]) for key in before if "mood" in key)
    assert trainer.state.log_history[0]["topic_loss"] == 0


# ---- metrics ----


def test_evaluation_loss_is_exact_over_all_rows(tmp_path: Path) -> None:
    """Batches that label different heads, and a mean of batch means would be another number."""
    macro = {"loss": "soft_f1_bce", "loss_kwargs": {"average": "macro", "absent_labels": "count"}}
    model = still(**tiny.two_heads(**macro, learn_thresholds=0.4))
    table = tiny.table(23)
    rows = table.to_list()
    for i, row in enumerate(rows):
        row["topic_labels" if i % 2 else "mood"] = None
    rows = Dataset.from_list(rows, features=table.features)
    results = []
    for size in (3, 23):
        args = arguments(tmp_path, per_device_eval_batch_size=size)
        trainer = MultiHeadTrainer(model, args, None, None, rows, tiny.tokenizer())
        results.append(trainer.evaluate())
        args.prediction_loss_only = True
        losses = trainer.evaluate()
        assert "eval_f1" not in losses
        for key in ("eval_loss", "eval_topic_loss", "eval_mood_loss"):
            assert losses[key] == results[-1][key]
    prepared = prepare_dataset(rows, tiny.tokenizer(), model)
    batch = MultiHeadDataCollator(tiny.tokenizer(), model)([prepared[i] for i in range(len(rows))])
    model.eval()
    with torch.no_grad():
        output = model(**batch)
    for metrics in results:
        assert metrics["eval_loss"] == pytest.approx(output.loss.item(), abs=1e-5)
        for name in ("topic", "mood"):
            assert metrics[f"eval_{name}_loss"] == pytest.approx(output.losses[name].item(), abs=1e-5)
    same = set(results[0]) - {
        "eval_runtime",
        "eval_samples_per_second",
        "eval_steps_per_second",
        "eval_model_preparation_time",
    }
    assert {key: results[0][key] for key in same} == pytest.approx({key: results[1][key] for key in same}, abs=1e-5)


def test_sample_weights_in_training_and_evaluation(tmp_path: Path) -> None:
    """A weight of 2 is a row given twice, whatever the batches."""
    table = tiny.table(16)
    weights = [float(i % 3) for i in range(16)]
    weighted = table.add_column("sample_weight", weights)
    repeated = table.select([i for i in range(16) for _ in range(int(weights[i]))])
    runs = []
    for rows, size, steps in ((weighted, 4, 4), (repeated, 32, 1)):
        args = arguments(
            tmp_path,
            max_steps=1,
            learning_rate=1e-2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            per_device_eval_batch_size=5,
            train_sampling_strategy="sequential",
        )
        trainer = MultiHeadTrainer(still(), args, None, rows, rows, tiny.tokenizer())
        before = trainer.evaluate()
        trainer.train()
        runs.append(
            (
                before,
                trainer.state.log_history[0],
                {key: value.clone() for key, value in trainer.model.state_dict().items()},
            )
        )
        assert set(trainer.predict(rows).label_ids) == {"topic", "mood"}
    for key in ("eval_loss", "eval_topic_loss", "eval_mood_loss"):
        assert runs[0][0][key] == pytest.approx(runs[1][0][key], abs=1e-5)
    assert runs[0][1]["loss"] == pytest.approx(runs[1][1]["loss"], abs=1e-5)
    for key, value in runs[0][2].items():
        torch.testing.assert_close(value, runs[1][2][key], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [3, 8, 20])
def test_dropping_the_last_training_batch_drops_no_evaluation_row(tmp_path: Path, size: int) -> None:
    trainer = trainer_for(tmp_path)  # 16 rows
    expected = trainer.evaluate()
    trainer = trainer_for(tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=size)
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-6)
    assert trainer.args.dataloader_drop_last
    assert len(trainer.predict(trainer.eval_dataset).label_ids["mood"]) == 16


def test_an_unknown_loss_predicts_and_has_metrics(tmp_path: Path) -> None:
    heads = tiny.two_heads()
    model = still(**{**heads, "topic": HeadConfig.from_saved({**heads["topic"].to_dict(), "loss": "mine"})})
    trainer = MultiHeadTrainer(model, arguments(tmp_path), None, None, tiny.table(8), tiny.tokenizer())
    assert trainer.predict(tiny.table(8).select_columns("text")).predictions["topic"].shape == (8, 3)
    metrics = trainer.evaluate()
    assert {"eval_topic_f1_micro", "eval_mood_loss"} <= set(metrics)
    assert not {"eval_topic_loss", "eval_loss"} & set(metrics)  # a part of the sum is another number


def test_raw_rows_from_files_streams_and_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = tiny.table(24)
    rows = [
        {"text": row["text"], "topic": "|".join(row["topic_labels"] or []), "mood": tiny.MOODS[row["mood"] or 0]}
        for row in table
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "train.csv", index=False)
    losses = []
    for train in (str(tmp_path / "train.csv"), frame, Dataset.from_list(rows).to_iterable_dataset()):
        args = arguments(
            tmp_path / "out",
            max_steps=3,
            sep="|",
            empty="none",
            max_length=8,
            truncation="head+tail",
            train_sampling_strategy="sequential",
        )
        trainer = MultiHeadTrainer(still(), args, None, train, tmp_path / "train.csv", tiny.tokenizer())
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
        assert (trainer.config.max_length, trainer.config.truncation) == (8, "head+tail")
    assert losses[0] == pytest.approx(losses[1]) == pytest.approx(losses[2])
    assert "train_dataset: " in caplog.text
    assert "longer than 8 tokens and were truncated (truncation='head+tail')" in caplog.text
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in ("train", "validation"):
        frame.to_csv(folder / f"{part}.csv", index=False)
    trainer = MultiHeadTrainer(still(), args, None, str(folder), str(folder), tiny.tokenizer())
    assert len(trainer.train_dataset) == len(trainer.eval_dataset) == 24
    assert trainer.evaluate(str(tmp_path / "train.csv"))["eval_loss"] > 0
    files = [tmp_path / "train.csv", str(folder / "train.csv")]
    assert len(MultiHeadTrainer(still(), args, None, files, None, tiny.tokenizer()).train_dataset) == 48
    with pytest.raises(ValueError, match=r"train_dataset: .*nowhere.csv: there is no such file"):
        MultiHeadTrainer(still(), args, None, str(tmp_path / "nowhere.csv"), None, tiny.tokenizer())


def test_outputs_that_a_user_ignores(tmp_path: Path) -> None:
    assert trainer_for(tmp_path).evaluate(ignore_keys=["hidden_states"])["eval_loss"] > 0


def test_evaluation_without_any_label_of_a_head(tmp_path: Path) -> None:
    rows = tiny.table(12).remove_columns("topic_labels")
    trainer = MultiHeadTrainer(still(), arguments(tmp_path), None, None, rows, tiny.tokenizer())
    metrics = trainer.evaluate()
    assert not [key for key in metrics if key.startswith("eval_topic")]
    assert metrics["eval_f1"] == metrics["eval_mood_f1_macro"]
    assert all(not math.isnan(value) for value in metrics.values())


def test_figures_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    trainer = trainer_for(tmp_path)
    metrics = trainer.evaluate()
    found = trainer.predict(trainer.eval_dataset)
    assert set(found.predictions) == {"topic", "mood"} == set(found.label_ids)
    topic, truth = found.predictions["topic"], found.label_ids["topic"]
    labelled = truth[:, 0] != -100
    assert 0 < labelled.sum() < len(truth)
    on = topic[labelled] >= 0  # sigmoid >= 0.5
    assert metrics["eval_topic_f1_micro"] == pytest.approx(f1_score(truth[labelled], on, average="micro"))
    expected = roc_auc_score(truth[labelled], topic[labelled], average="macro")
    assert metrics["eval_topic_roc_auc_macro"] == pytest.approx(expected)
    mood, truth = found.predictions["mood"].argmax(-1), found.label_ids["mood"]
    assert metrics["eval_mood_f1_macro"] == pytest.approx(
        f1_score(truth[truth >= 0], mood[truth >= 0], average="macro")
    )
    assert metrics["eval_f1"] == pytest.approx((metrics["eval_topic_f1_micro"] + metrics["eval_mood_f1_macro"]) / 2)
    assert found.metrics["test_topic_f1_micro"] == pytest.approx(metrics["eval_topic_f1_micro"])


def test_texts_without_labels_can_be_predicted(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    texts = Dataset.from_dict({"text": ["w1", "w2 w3", ""]})
    found = trainer.predict(texts)
    assert found.predictions["topic"].shape == (3, 3)
    assert "test_loss" not in found.metrics


def test_a_users_metrics_stand_beside_ours(tmp_path: Path) -> None:
    def mine(prediction: Any) -> dict[str, float]:
        return {"rows": float(len(prediction.predictions["mood"])), "f1": 7.0}

    metrics = trainer_for(tmp_path, compute_metrics=mine).evaluate()
    assert metrics["eval_rows"] == 16
    assert metrics["eval_f1"] == 7.0
    assert "eval_topic_f1_micro" in metrics


def test_heads_named_like_a_prefix_keep_their_keys(tmp_path: Path) -> None:
    heads = {"eval_x": HeadConfig(labels=tiny.MOODS), "x": HeadConfig(labels=tiny.MOODS)}
    rows = tiny.table(12).rename_column("mood", "x").remove_columns("topic_labels")
    rows = rows.add_column("eval_x", [row["x"] for row in rows], feature=rows.features["x"])
    trainer = MultiHeadTrainer(still(**heads), arguments(tmp_path), None, None, rows, tiny.tokenizer())
    metrics = trainer.evaluate()
    assert {"eval_eval_x_accuracy", "eval_x_accuracy"} <= set(metrics)


def test_several_evaluation_sets(tmp_path: Path) -> None:
    sets = {"a": tiny.table(8), "b": tiny.table(8, seed=1)}
    args = arguments(
        tmp_path, eval_strategy="epoch", num_train_epochs=1, save_strategy="epoch", metric_for_best_model="f1"
    )
    trainer = MultiHeadTrainer(still(), args, None, tiny.table(16), sets, tiny.tokenizer())
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_f1"] == pytest.approx((metrics["eval_a_f1"] + metrics["eval_b_f1"]) / 2)
    assert trainer.state.best_metric is not None


def test_early_stopping_on_the_mean_over_several_sets(tmp_path: Path) -> None:
    sets = {"a": tiny.table(8), "b": tiny.table(8, seed=1)}
    args = arguments(
        tmp_path,
        num_train_epochs=9,
        learning_rate=0.0,
        head_learning_rate=1e-12,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="f1",
    )
    patience = EarlyStoppingCallback(early_stopping_patience=2)
    trainer = MultiHeadTrainer(still(), args, None, tiny.table(16), sets, tiny.tokenizer(), callbacks=[patience])
    trainer.train()
    assert trainer.state.epoch == 3


@pytest.mark.parametrize(
    ("metric", "sets", "message"),
    [
        ("topic_f1_mikro", False, "Did you mean 'topic_f1_micro'"),
        ("eval_mood_f1_micro", False, "metric_for_best_model 'mood_f1_micro' is not one of the metrics"),
        ("a_topic_f1", True, "Did you mean 'a_topic_f1_m"),
        ("loss", True, "'loss' is not one of the metrics"),
    ],
)
def test_a_metric_that_does_not_exist_is_said_before_training(
    tmp_path: Path, metric: str, sets: bool, message: str
) -> None:
    rows = tiny.table(8)
    args = arguments(tmp_path / "out", metric_for_best_model=metric)
    with pytest.raises(ValueError, match=message):
        MultiHeadTrainer(
            still(), args, None, tiny.table(16), {"a": rows, "b": rows} if sets else rows, tiny.tokenizer()
        )
    assert not (tmp_path / "out").exists()
    only_losses = arguments(tmp_path / "out", metric_for_best_model="f1", prediction_loss_only=True)
    with pytest.raises(ValueError, match="'f1' is not one of the metrics"):
        MultiHeadTrainer(still(), only_losses, None, tiny.table(16), rows, tiny.tokenizer())


# ---- optimiser ----


def test_groups_for_encoder_heads_and_thresholds(tmp_path: Path) -> None:
    heads = tiny.two_heads(loss="soft_f1", learn_thresholds=0.565)
    trainer = trainer_for(tmp_path, still(**heads), learning_rate=1e-3, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    found = [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
    assert found == [
        ("encoder", 1e-3, 0.1),
        ("encoder", 1e-3, 0.0),
        ("heads", 1e-3, 0.1),
        ("heads", 1e-3, 0.0),
        ("thresholds", 5e-3, 0.0),
    ]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in trainer.model.parameters())


def test_learned_thresholds_move_are_logged_saved_and_used(tmp_path: Path) -> None:
    model = still(**tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565))
    start = torch.sigmoid(model.heads["topic"].threshold_logits)
    torch.testing.assert_close(start, torch.full((3,), 0.565))
    trainer = trainer_for(tmp_path, model, max_steps=8, learning_rate=1e-2)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["topic_threshold_min"] <= log["topic_threshold_mean"] <= log["topic_threshold_max"] < 0.6
    assert log["learning_rate_thresholds"] == pytest.approx(5 * log["learning_rate_encoder"])
    trainer.save_model(str(tmp_path / "saved"))
    learned = torch.sigmoid(model.heads["topic"].threshold_logits).tolist()
    assert all(abs(value - 0.565) > 1e-3 for value in learned)
    again = MultiHeadModel.from_pretrained(tmp_path / "saved")
    assert again.config.heads["topic"].thresholds == pytest.approx(learned)
    assert torch.equal(again.heads["topic"].threshold_logits, model.heads["topic"].threshold_logits)
    logits = {"topic": torch.logit(torch.tensor([[learned[0] + 0.01, learned[1] - 0.01, learned[2] + 0.01]]))}
    assert again.decode(logits)["topic"].decisions.tolist() == [[True, False, True]]


def test_balanced_weights_become_numbers(tmp_path: Path) -> None:
    heads = tiny.two_heads(pos_weight="balanced")
    heads["mood"].label_weights = "balanced"
    model = still(**heads)
    with pytest.raises(ValueError, match=r"head 'topic': pos_weight='balanced' is not computed yet"):
        model.save_pretrained(tmp_path / "early")
    assert not (tmp_path / "early").exists()
    trainer = trainer_for(tmp_path, model)
    rows = tiny.table(64).select(range(48))
    moods = [row["mood"] for row in rows if row["mood"] is not None]
    expected = [len(moods) / (2 * moods.count(label)) for label in (0, 1)]
    assert trainer.config.heads["mood"].label_weights == pytest.approx(expected)
    roads = [("roads" in row["topic_labels"]) for row in rows if row["topic_labels"] is not None]
    assert trainer.config.heads["topic"].pos_weight[0] == pytest.approx(roads.count(False) / roads.count(True))
    only_calm = rows.filter(lambda row: row["mood"] == 0)
    model.config.heads["mood"].label_weights = "balanced"
    with pytest.raises(ValueError, match=r"head 'mood': 'balanced' weights are infinite.*\['angry'\]"):
        MultiHeadTrainer(model, arguments(tmp_path), None, only_calm, None, tiny.tokenizer())


def test_group_by_length_reads_the_length_column(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, train_sampling_strategy="group_by_length", max_steps=2)
    kept = trainer._remove_unused_columns(trainer.train_dataset)
    assert "length" in kept.column_names
    trainer.train()


# ---- precision and adapters ----


def test_a_frozen_half_precision_encoder_trains_its_heads(tmp_path: Path) -> None:
    folder = tiny.save_encoder(tmp_path / "encoder")
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(), dtype=torch.bfloat16)
    model.encoder.requires_grad_(False)
    before = weights(model)
    trainer_for(tmp_path, model, max_steps=2, learning_rate=1e-2).train()
    assert next(model.encoder.parameters()).dtype == torch.bfloat16
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items() if "encoder" in key)
    assert any(not torch.equal(value, model.state_dict()[key]) for key, value in before.items() if "heads" in key)


def test_trainable_half_precision_becomes_float32(tmp_path: Path) -> None:
    folder = tiny.save_encoder(tmp_path / "encoder")
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(), dtype=torch.float16)
    trainer_for(tmp_path, model, max_steps=1).train()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_lora_with_the_heads_trains_and_evaluates(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = still()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"]))
    trainer = trainer_for(
        tmp_path / "out",
        model,
        max_steps=4,
        learning_rate=1e-2,
        save_strategy="steps",
        save_steps=2,
        head_learning_rate=0.1,
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["learning_rate_heads"] == pytest.approx(0.1)
    assert log["learning_rate_encoder"] == pytest.approx(1e-2)
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert (tmp_path / "out" / "checkpoint-4" / "adapter_model.safetensors").is_file()


def test_lora_with_learned_thresholds(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = still(**tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["heads"]))
    trainer = trainer_for(tmp_path, model, max_steps=6, learning_rate=1e-2)
    assert trainer.evaluate()["eval_topic_loss"] > 0
    trainer.train()
    trained = [p for n, p in model.named_parameters() if n.endswith("threshold_logits") and p.requires_grad]
    learned = torch.sigmoid(trained[0]).tolist()
    assert all(abs(value - 0.565) > 1e-3 for value in learned)
    trainer.evaluate()
    assert base.config.heads["topic"].thresholds == pytest.approx(learned, abs=1e-6)


def test_a_collator_that_leaves_out_heads(tmp_path: Path) -> None:
    usual = MultiHeadDataCollator(tiny.tokenizer(), still())

    def partly(rows: list) -> dict:
        batch = usual(rows)
        return {**batch, "labels": {"mood": batch["labels"]["mood"]}}

    trainer = trainer_for(tmp_path, max_steps=2, gradient_accumulation_steps=2, data_collator=partly)
    trainer.train()
    assert trainer.state.log_history[0]["topic_loss"] == 0


def test_model_init_models_are_made_ready_each_time(tmp_path: Path) -> None:
    def fresh() -> MultiHeadModel:
        heads = tiny.two_heads()
        heads["mood"].label_weights = "balanced"
        return still(**heads)

    args = arguments(tmp_path / "out", max_steps=2, text_columns=["body"], max_length=9)
    rows = tiny.table(24).rename_column("text", "body")
    trainer = MultiHeadTrainer(None, args, None, rows, None, tiny.tokenizer(), model_init=fresh)
    first = trainer.model
    trainer.train()
    assert trainer.model is not first
    trainer.save_model()
    saved = MultiHeadConfig.from_pretrained(tmp_path / "out")
    assert saved.text_columns == ["body"]
    assert saved.max_length == 9
    assert all(isinstance(weight, float) for weight in saved.heads["mood"].label_weights)


def test_predictions_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, model=tiny.model(pooling="mean"), train_sampling_strategy="group_by_length")
    rows = tiny.table(40).filter(lambda row: row["mood"] is not None)
    found = trainer.predict(rows)
    assert found.label_ids["mood"].tolist() == rows["mood"]
    tokens = tiny.tokenizer()(list(rows["text"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = trainer.model(**tokens).logits["mood"]
    torch.testing.assert_close(torch.from_numpy(found.predictions["mood"]), expected, atol=1e-5, rtol=0)
    assert trainer.args.train_sampling_strategy == "group_by_length"


def test_eval_loss_is_that_of_the_heads_that_are_trained(tmp_path: Path) -> None:
    rows = tiny.table(16).remove_columns("topic_labels")
    trainer = trainer_for(tmp_path, train_heads=["mood"])
    metrics = trainer.evaluate(rows)
    assert metrics["eval_loss"] == metrics["eval_mood_loss"]


def test_a_search_runs_its_trials_and_the_trainer_trains_after_it(tmp_path: Path) -> None:
    trainer = MultiHeadTrainer(
        args=arguments(tmp_path, num_train_epochs=1, eval_strategy="epoch", train_heads=["mood"]),
        processing_class=tiny.tokenizer(),
        train_dataset=tiny.table(24),
        eval_dataset=tiny.table(16, seed=1),
        model_init=lambda: still(),
    )
    rates: list[float] = []

    def space(trial: Any) -> dict[str, float]:
        rates.append(trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True))
        return {"learning_rate": rates[-1]}

    best = trainer.hyperparameter_search(space, lambda metrics: metrics["eval_f1"], n_trials=3, direction="maximize")
    assert len(set(rates)) == 3
    assert best.hyperparameters["learning_rate"] in rates
    assert 0 <= best.objective <= 1
    with pytest.raises(ValueError, match=r"After a hyperparameter search the trainer has none: make a MultiHead"):
        trainer.evaluate()
    trainer.train()
    assert trainer.evaluate()["eval_f1"] >= 0


@pytest.mark.parametrize(
    ("settings", "key", "direction"),
    [
        ({}, "eval_f1", "maximize"),
        ({"metric_for_best_model": "mood_accuracy"}, "eval_mood_accuracy", "maximize"),
        ({"metric_for_best_model": "eval_mood_loss"}, "eval_mood_loss", "minimize"),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, "eval_f1", "minimize"),
        ({"prediction_loss_only": True}, "eval_loss", "minimize"),
        ({"load_best_model_at_end": True, "save_strategy": "epoch", "save_total_limit": 1}, "eval_loss", "minimize"),
    ],
)
def test_what_a_search_goes_by(tmp_path: Path, settings: dict, key: str, direction: str) -> None:
    args = arguments(tmp_path, **{"num_train_epochs": 2, "eval_strategy": "epoch", "learning_rate": 1e-2, **settings})
    rows = tiny.table(16)
    trainer = MultiHeadTrainer(None, args, None, rows, rows, tiny.tokenizer(), model_init=lambda: still())
    directions: list[str] = []

    def space(trial: Any) -> dict[str, float]:
        directions.append(trial.study.direction.name.lower())
        return {}

    best = trainer.hyperparameter_search(space, n_trials=1)
    assert directions == [direction]
    found = [log[key] for log in trainer.state.log_history if key in log]
    assert len(found) == 2
    assert best.objective == (min(found) if "load_best_model_at_end" in settings else found[-1])


def test_a_search_over_several_sets_goes_by_their_mean(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=1)
    sets = {"a": tiny.table(8), "b": tiny.table(8, seed=1)}
    trainer = MultiHeadTrainer(None, args, None, sets["a"], sets, tiny.tokenizer(), model_init=lambda: still())
    best = trainer.hyperparameter_search(lambda trial: {}, n_trials=1)
    logs = {key: value for log in trainer.state.log_history for key, value in log.items()}
    assert best.objective == pytest.approx((logs["eval_a_f1"] + logs["eval_b_f1"]) / 2)
    own = trainer.hyperparameter_search(lambda trial: {}, lambda metrics: metrics["eval_a_loss"], 1)
    logs = {key: value for log in trainer.state.log_history for key, value in log.items()}
    assert own.objective == logs["eval_a_loss"]


TRIALS: list[dict[str, Any]] = [
    {"freeze_encoder": True},
    {},  # as before the search, not as the trial before
    {"head_weighting": "uncertainty"},
    {"train_heads": ["mood"], "seed": 7},
    {"train_top_layers": 1},
]


def test_each_trial_of_a_search_has_its_own_arguments(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=1)
    seen, waiting = [], iter(TRIALS)

    class Seen(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
            heads = [key for key in ("topic", "mood") if any(f".{module_key(key)}." in name for name in trained)]
            layers = {name.split(".layer.")[1][0] for name in trained if ".layer." in name}
            seen.append((args.head_weighting, trainer.head_weights is not None, heads, sorted(layers)))

    rows = tiny.table(16)
    trainer = MultiHeadTrainer(
        None, args, None, rows, rows, tiny.tokenizer(), model_init=lambda: still(), callbacks=[Seen()]
    )
    trainer.hyperparameter_search(lambda trial: next(waiting), n_trials=len(TRIALS))
    both, all_layers = ["topic", "mood"], ["0", "1"]
    assert seen == [
        ("fixed", False, both, []),
        ("fixed", False, both, all_layers),
        ("uncertainty", True, both, all_layers),
        ("fixed", False, ["mood"], all_layers),
        ("fixed", False, both, ["1"]),
    ]
    assert (trainer.args.train_top_layers, trainer.args.seed, trainer.args.train_heads) == (None, 0, None)


def test_a_search_chooses_open_settings_for_each_trial_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows, chosen = tiny.table(64), {}

    class Seen(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            chosen[args.per_device_train_batch_size, args.freeze_encoder] = (args.num_train_epochs, state.max_steps)

    def made(**settings: Any) -> MultiHeadTrainer:
        args = arguments(tmp_path, num_train_epochs=None, learning_rate=None, **settings)
        return MultiHeadTrainer(
            None, args, None, rows, rows, tiny.tokenizer(), model_init=lambda: still(), callbacks=[Seen()]
        )

    trials: list[dict[str, Any]] = [
        {"per_device_train_batch_size": 16, "train_heads": "mood"},
        {"per_device_train_batch_size": 64, "freeze_encoder": True, "gradient_accumulation_steps": 1},
    ]
    trainer = made()
    trainer.hyperparameter_search(lambda trial: trials[trial.number], n_trials=2)
    searched = dict(chosen)
    for settings in trials:
        made(**settings).train()
    assert chosen == searched
    trainer.args.per_device_train_batch_size = 16
    trainer.args.train_heads = ["mood"]
    trainer.train()
    assert (trainer.args.num_train_epochs, trainer.state.max_steps) == searched[16, False]
    assert trainer.args.gradient_accumulation_steps == made().args.gradient_accumulation_steps


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixing_temperature": 2.0}, "cannot change mixing_temperature: a Trainer prepares its data once"),
        ({"sep": "|"}, "cannot change sep: a Trainer prepares its data once"),
        ({"max_length": 6}, r"max_length None \(now 6\).*a hyperparameter search cannot change this"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is for models with one head"),
        ({"head_weighting": "priors"}, r"unknown head_weighting 'priors'\. Did you mean 'prior'"),
    ],
)
def test_what_a_search_cannot_change(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    rows = tiny.table(8)
    args = arguments(tmp_path, max_steps=1)
    trainer = MultiHeadTrainer(None, args, None, rows, rows, tiny.tokenizer(), model_init=lambda: still())
    with pytest.raises(ValueError, match=message):
        trainer.hyperparameter_search(lambda trial: values, n_trials=1)


# ---- what it refuses ----


def test_processes_that_would_each_train_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, args = still(), arguments(tmp_path / "never")
    assert args.world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets it
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match=r"2 processes were started .* use_cpu=True"):
        MultiHeadTrainer(model, args, train_dataset=tiny.table(8), processing_class=tiny.tokenizer())
    assert not (tmp_path / "never").exists()


def test_refusals_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "never"
    rows, tokenizer = tiny.table(8), tiny.tokenizer()

    def refused(message: str, **changes: Any) -> None:
        given = {"model": still(), "args": arguments(folder), "train_dataset": rows, "processing_class": tokenizer}
        with pytest.raises(ValueError, match=message):
            MultiHeadTrainer(**{**given, **changes})
        assert not folder.exists()

    refused("pushing to the Hub needs a token.*hf auth login", args=arguments(folder, push_to_hub=True))
    refused("a MultiHeadModel is expected, not a Linear", model=torch.nn.Linear(2, 2))
    refused("args must be a MultiHeadTrainingArguments", args=TrainingArguments(str(folder), use_cpu=True))
    refused("train_dataset: there is no text column 'text'", train_dataset=rows.rename_column("text", "tekst"))
    refused("train_dataset is empty", train_dataset=rows.select([]))
    refused("eval_dataset 'b': there is no text column", eval_dataset={"a": rows, "b": rows.rename_column("text", "x")})
    refused("pass it as processing_class", processing_class=None)
    refused("train_dataset must be one dataset, but it is a dict of", train_dataset=DatasetDict(a=rows))
    refused("train_dataset is empty", train_dataset=[])
    refused("train_dataset is a list of raw rows", train_dataset=rows.to_list())
    tokens = rows.map(lambda row: tokenizer(row["text"]))
    refused("train_dataset holds tokens but no `labels`: .*rename the column input_ids", train_dataset=tokens)
    refused("two metrics have the key 'eval_loss'", model=still(eval=HeadConfig(["x"])))

    def broken() -> MultiHeadModel:
        return still()

    refused("there is no text column", model=None, model_init=broken, train_dataset=rows.rename_column("text", "tekst"))
    refused("label_smoothing_factor", args=arguments(folder, label_smoothing_factor=0.1))
    monkeypatch.setattr(MultiHeadTrainingArguments, "n_gpu", 2)
    refused("accelerate launch --num_processes 2")


@pytest.mark.parametrize(
    "setting", ["encoder_learning_rate", "head_learning_rate", "threshold_learning_rate", "layer_learning_rate_decay"]
)
@pytest.mark.parametrize("value", [0, "1e-3", True])
def test_arguments_above_zero(tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} {value!r}: give a number above 0"):
        arguments(tmp_path, **{setting: value})


def test_evaluation_sets_whose_metrics_have_one_key(tmp_path: Path) -> None:
    rows = tiny.table(8)
    heads = {"mood": HeadConfig(tiny.MOODS, positive_label="angry")}
    given = {"model": still(**heads), "args": arguments(tmp_path), "processing_class": tiny.tokenizer()}
    message = "two metrics have the key '{}_a_mood_.*' of head 'mood' on the set 'a' and .* on the set 'a_mood'"
    with pytest.raises(ValueError, match=message.format("eval")):
        MultiHeadTrainer(**given, eval_dataset={"a": rows, "a_mood": rows})
    with pytest.raises(ValueError, match=message.format("test")):
        MultiHeadTrainer(**given).evaluate({"a": rows, "a_mood": rows}, metric_key_prefix="test")


def test_the_metrics_of_several_sets_are_listed_once(tmp_path: Path) -> None:
    rows = tiny.table(8)
    args = arguments(tmp_path, eval_strategy="epoch", metric_for_best_model="loss")
    with pytest.raises(
        ValueError, match=r"f1 is the mean over the datasets\. The metrics are f1, a_f1, a_loss, a_topic"
    ):
        MultiHeadTrainer(still(), args, None, rows, {"a": rows, "b": rows}, tiny.tokenizer())


def test_heads_that_changed_since_the_data_was_prepared(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=1)
    trainer.train()
    model = trainer.model
    model.extend_head("mood", ["glad"])
    model.rename_head("topic", "subject")
    message = (
        r"the heads \['subject'\] were added, the heads \['topic'\] were removed, the heads \['mood'\] changed their labels: make a "
        "new MultiHeadTrainer"
    )
    for run in (
        trainer.train,
        trainer.evaluate,
        lambda: trainer.evaluate(trainer.eval_dataset),
        lambda: trainer.predict(trainer.eval_dataset),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    rows = tiny.table(8).rename_column("topic_labels", "subject")
    assert "eval_subject_f1_micro" in trainer.evaluate(rows)
    assert trainer.predict(rows).predictions["mood"].shape == (8, 3)
    MultiHeadTrainer(model, arguments(tmp_path, max_steps=1), None, rows, None, tiny.tokenizer()).train()


def test_a_model_init_whose_heads_change(tmp_path: Path) -> None:
    given = iter([tiny.two_heads(), {"mood": HeadConfig(tiny.MOODS)}])
    args = arguments(tmp_path, max_steps=1)
    trainer = MultiHeadTrainer(
        None, args, None, tiny.table(8), None, tiny.tokenizer(), model_init=lambda: still(**next(given))
    )
    with pytest.raises(ValueError, match=r"the heads \['topic'\] were removed: make a new MultiHeadTrainer"):
        trainer.train()


def test_text_settings_are_kept_with_the_model(tmp_path: Path) -> None:
    rows = tiny.table(8).rename_column("text", "body").rename_column("mood", "feeling")
    args = arguments(tmp_path, text_columns=["body"], max_length=7, label_columns={"mood": "feeling"})
    trainer = MultiHeadTrainer(still(), args, None, rows, None, tiny.tokenizer())
    trainer.save_model(str(tmp_path / "saved"))
    config = MultiHeadConfig.from_pretrained(tmp_path / "saved")
    assert config.text_columns == ["body"]
    assert config.max_length == 7
    assert max(trainer.train_dataset["length"]) <= 7
    assert [row["mood"] for row in trainer.train_dataset["labels"]] == rows["feeling"]


def test_the_training_labels_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that there is something to learn, balanced weights, the table at the start and the card read them."""
    counted: list[Any] = []

    def counting(rows: Any, heads: Any) -> Any:
        counted.append(rows)
        return head_counts(rows, heads)

    monkeypatch.setattr(run_data, "head_counts", counting)
    heads = {**tiny.two_heads(), "mood": HeadConfig(labels=tiny.MOODS, label_weights="balanced")}
    trainer = trainer_for(tmp_path, model=tiny.model(heads=heads), max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "README.md").is_file()
    assert counted == [trainer.train_dataset]


# ---- the random state ----


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(
            {
                "dataloader_num_workers": 1,
                "dataloader_persistent_workers": True,
                "freeze_encoder": True,
                "cache_features": True,
            },
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["plain", "persistent workers"],
)
def test_an_evaluation_does_not_change_what_is_trained(tmp_path: Path, settings: dict) -> None:
    """Loaders draw a seed from the random state for each pass, that of the dropout."""
    runs = []
    for extra in ({}, {"eval_strategy": "steps", "eval_steps": 2}, {"eval_strategy": "steps", "eval_steps": 4}):
        model = tiny.model(heads=tiny.two_heads(dropout=0.3))
        before = weights(model)
        trainer = trainer_for(tmp_path, model=model, max_steps=8, learning_rate=1e-2, **settings, **extra)
        trainer.train()
        assert len([entry for entry in trainer.state.log_history if "eval_loss" in entry]) == (
            8 // extra["eval_steps"] if extra else 0
        )
        runs.append(weights(trainer.model))
        assert any(not torch.equal(value, before[key]) for key, value in runs[-1].items())
    for other in runs[1:]:
        assert all(torch.equal(value, other[key]) for key, value in runs[0].items())


def test_nothing_is_said_of_rows_that_were_not_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MultiHeadTrainer(
        still(), arguments(tmp_path), train_dataset=tiny.table(16), processing_class=tiny.tokenizer()
    ).train()
    assert "these prepared rows do not say" not in caplog.text


def test_text_settings_cannot_be_searched(tmp_path: Path) -> None:
    trainer = MultiHeadTrainer(
        args=arguments(tmp_path, max_steps=1),
        model_init=lambda: still(),
        train_dataset=tiny.table(16),
        eval_dataset=tiny.table(16),
        processing_class=tiny.tokenizer(),
    )
    trainer.args.max_length = 5
    with pytest.raises(ValueError, match=r"max_length None \(now 5\).*a hyperparameter search cannot change this"):
        trainer.train()
