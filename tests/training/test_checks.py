"""What cannot be learned, measured or collated is refused when the Trainer is made; what is left out is said."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset, concatenate_datasets
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from training_runs import arguments, trainer_for
from transformers import DataCollatorWithPadding, pipeline

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadPredictor,
    MultiHeadTrainer,
    prepare_dataset,
    tune_thresholds,
)
from multihead_hf.model.losses_multihead import AdditiveTerm
from multihead_hf.training import checks

TASK = "multi-head-text-classification"


def made(
    folder: Path, rows: Any = None, model: Any = None, evaluation: Any = None, **settings: Any
) -> MultiHeadTrainer:
    extra = {"data_collator": settings.pop("data_collator")} if "data_collator" in settings else {}
    return MultiHeadTrainer(
        model=model if model is not None else tiny.model(),
        args=arguments(folder, **settings),
        train_dataset=rows if rows is not None else tiny.table(),
        eval_dataset=evaluation,
        processing_class=tiny.tokenizer(),
        **extra,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(checks.logger, "warning", found.append)
    return found


def test_nothing_to_learn_from(tmp_path: Path, said: list[str]) -> None:
    bare = Dataset.from_list([{"text": f"w{i}", "mood": None, "topic": None} for i in range(16)])
    with pytest.raises(ValueError, match=r"no row has a label for \['topic', 'mood'\], so nothing would be learned"):
        made(tmp_path, bare)
    with pytest.raises(ValueError, match=r"sample_weight is 0 in all rows"):
        made(tmp_path, tiny.table().add_column("sample_weight", [0.0] * 64))
    with pytest.raises(ValueError, match=r"the loss_weight of all trained heads is 0"):
        made(tmp_path, model=tiny.model(heads={"mood": HeadConfig(labels=tiny.MOODS, loss_weight=0.0)}))
    with pytest.raises(ValueError, match=r"train_dataset has 5 rows, fewer than the 8 of a batch"):
        made(tmp_path, tiny.table().select(range(5)), dataloader_drop_last=True)
    rows = tiny.table().add_column("sample_weight", [0.0] * 64)
    columns = [name for name in rows.column_names if name not in ("text", "sample_weight")]
    bare = {**rows[0], **dict.fromkeys(columns), "sample_weight": 1.0}
    rows = concatenate_datasets([rows, Dataset.from_list([bare], features=rows.features)])
    with pytest.raises(ValueError, match=r"sample_weight is 0 in all rows with a label for the heads"):
        made(tmp_path, rows)
    assert said == []
    made(tmp_path, rows.map(lambda row: {"sample_weight": float(row["mood"] is None)}))
    assert said == [
        "train_dataset: sample_weight is 0 in all rows with a label for the heads ['mood'], so they learn nothing"
    ]
    said.clear()
    table = tiny.table()
    made(tmp_path, table.remove_columns("mood").add_column("mood", [None] * len(table)))
    assert [text for text in said if "no row has a label for the heads ['mood']" in text]


def test_a_metric_of_a_head_that_is_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a metric of head 'mood', but eval_dataset has no labels of that head"):
        made(
            tmp_path,
            evaluation=tiny.table().remove_columns("mood"),
            metric_for_best_model="mood_accuracy",
            eval_strategy="epoch",
        )


def test_a_collator_that_does_not_know_the_labels(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data_collator DataCollatorWithPadding fails on prepared rows: .* subclass it"
    ):
        made(tmp_path, data_collator=DataCollatorWithPadding(tiny.tokenizer()))


def test_heads_that_an_adapter_leaves_out(tmp_path: Path, said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path, model=get_peft_model(tiny.model(), LoraConfig(target_modules=["query"])))
    assert [
        text for text in said if "the heads ['topic', 'mood'] are frozen and will not be part of the adapter" in text
    ]
    said.clear()
    kept = get_peft_model(tiny.model(), LoraConfig(target_modules=["query"], modules_to_save=["heads"]))
    trainer = made(tmp_path, model=kept)
    trainer.save_model(tmp_path / "plain")
    assert said == []
    trainer.config.heads["topic"].thresholds = [0.2, 0.3, 0.4]
    trainer.save_model(tmp_path / "tuned")
    assert "an adapter does not store thresholds" in caplog.text


def test_an_adapter_that_transformers_adds(tmp_path: Path, said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    tiny.model().save_pretrained(tmp_path / "base")
    model = MultiHeadModel.from_pretrained(tmp_path / "base")
    model.add_adapter(LoraConfig(target_modules=["query"]))
    trainer = made(tmp_path, model=model)
    assert [text for text in said if "the heads ['topic', 'mood'] are frozen" in text]
    trainer.save_model(tmp_path / "plain")
    assert "an adapter does not store thresholds" not in caplog.text
    base_is_unknown = "it does not record its base model"
    assert base_is_unknown not in caplog.text
    for other in (model, tiny.model()):
        if other is not model:
            other.add_adapter(LoraConfig(target_modules=["query"]))
        other.config.heads["topic"].thresholds = [0.2, 0.3, 0.4]
        caplog.clear()
        other.save_pretrained(tmp_path / "tuned")
        assert "an adapter does not store thresholds" in caplog.text
        assert (base_is_unknown in caplog.text) == (other is not model)


@pytest.mark.parametrize("setting", ["bf16_full_eval", "fp16_full_eval"])
def test_an_evaluation_in_half_precision_leaves_the_weights(tmp_path: Path, setting: str) -> None:
    trainer = trainer_for(tmp_path, max_steps=2, **{setting: True})
    trainer.train()
    before = {name: own.detach().clone() for name, own in trainer.model.named_parameters()}
    if setting == "bf16_full_eval":
        trainer.evaluate()
    for name, own in trainer.model.named_parameters():
        assert own.dtype == torch.float32
        assert torch.equal(own, before[name])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length", "batch_rebalance"])
def test_a_run_goes_on_in_a_later_epoch_as_if_it_had_not_stopped(tmp_path: Path, strategy: str) -> None:
    """Batches of 8 of 48 rows are 6 steps an epoch; the checkpoint is in the second one."""
    common = {"train_sampling_strategy": strategy, "max_steps": 10, "save_strategy": "steps", "save_steps": 8}
    whole = trainer_for(tmp_path / "whole", **common)
    whole.train()
    stopped = trainer_for(tmp_path / "other", **{**common, "max_steps": 10})
    stopped.train()
    resumed = trainer_for(tmp_path / "other", **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "other" / "checkpoint-8"))
    assert resumed.state.global_step == 10
    for name, own in resumed.model.state_dict().items():
        torch.testing.assert_close(own, whole.model.state_dict()[name], rtol=0, atol=0, msg=name)


def test_a_run_that_has_ended_takes_no_further_step(tmp_path: Path) -> None:
    common = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "lr_scheduler_type": "constant"}
    done = trainer_for(tmp_path, **common)
    done.train()
    again = trainer_for(tmp_path, **common)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    assert not (tmp_path / "checkpoint-9").exists()
    for name, own in again.model.state_dict().items():
        assert torch.equal(own, done.model.state_dict()[name]), name


def test_after_bf16_the_model_computes_as_it_will_when_it_is_loaded(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=2, bf16=True)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    loaded = MultiHeadModel.from_pretrained(tmp_path / "saved")
    model = trainer.model.eval()
    for name, logits in loaded(**tiny.batch()).logits.items():
        torch.testing.assert_close(model(**tiny.batch()).logits[name], logits)


UNLABELLED = Dataset.from_list([{"text": f"w{place}", "mood": None, "topic": None} for place in range(8)])


@pytest.mark.parametrize("metric", [None, "loss", "f1", "mood_accuracy"])
def test_the_best_model_by_rows_without_labels(tmp_path: Path, metric: str | None) -> None:
    settings = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    for rows in (UNLABELLED, {"a": UNLABELLED, "b": UNLABELLED}):
        if isinstance(rows, dict) and metric != "f1":
            continue  # (no metrics of several sets)
        with pytest.raises(
            ValueError, match=r"metric_for_best_model .* (no row of eval_dataset has a label|no labels)"
        ):
            made(tmp_path, evaluation=rows, metric_for_best_model=metric, **settings)


def test_the_best_model_by_one_of_several_sets(tmp_path: Path) -> None:
    settings = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    sets = {"a": tiny.table(8), "b": UNLABELLED}
    made(tmp_path, evaluation=sets, metric_for_best_model="a_mood_accuracy", **settings)
    with pytest.raises(
        ValueError, match="'b_mood_accuracy' is a metric of head 'mood', but eval_dataset has no labels"
    ):
        made(tmp_path, evaluation=sets, metric_for_best_model="b_mood_accuracy", **settings)


def test_an_evaluation_without_labels_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = made(tmp_path)
    assert not [key for key in trainer.evaluate(UNLABELLED) if "mood" in key or "topic" in key]
    assert r"eval: no row has a label of the heads ['topic', 'mood']" in caplog.text


def test_a_function_of_metrics_that_returns_none(tmp_path: Path) -> None:
    trainer = made(tmp_path, evaluation=tiny.table(8))
    trainer.compute_metrics = lambda prediction: None
    trainer = MultiHeadTrainer(
        tiny.model(),
        arguments(tmp_path),
        None,
        tiny.table(8),
        tiny.table(8),
        tiny.tokenizer(),
        compute_metrics=lambda prediction: None,
    )
    with pytest.raises(ValueError, match="compute_metrics returned None: it must return a dict"):
        trainer.evaluate()


@pytest.mark.parametrize("setting", ["mood", "sample_weight"])
def test_a_stream_from_which_nothing_is_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str) -> None:
    def rows() -> Any:
        for place in range(32):
            row = {"text": f"w{place}", "mood": tiny.MOODS[place % 2], "sample_weight": 1.0, "topic": ["roads"]}
            yield {**row, setting: None if setting == "mood" else 0.0}

    made(tmp_path, IterableDataset.from_generator(rows), max_steps=3, logging_steps=2).train()
    heads = "['mood']" if setting == "mood" else "['mood', 'topic']"
    assert f"had a label with a weight for the heads {heads}, so they have learned nothing" in caplog.text


@pytest.mark.parametrize("steps", [1, 2])  # the loss is logged at step 2, and the training may end before
def test_losses_that_are_not_finite(tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int) -> None:
    model = tiny.model()
    trainer = made(tmp_path, model=model, max_steps=steps, logging_steps=2)
    trainer.train()
    assert "not finite" not in caplog.text
    with torch.no_grad():
        model.heads["mood"].layers[1].weight[0, 0] = torch.nan
    trainer.train()
    heads = "['mood']" if steps == 1 else "['mood', 'topic']"  # (the first step breaks the encoder)
    assert caplog.text.count(f"the training losses of the heads {heads} are not finite (NaN or infinite)") == 1
    logs = trainer.state.log_history
    assert math.isnan(logs[-1]["train_loss"])
    assert all(math.isnan(entry["loss"]) for entry in logs if "loss" in entry)
    trainer.save_model(tmp_path / "broken")
    assert "tensors of the model to be saved hold weights that are not finite (NaN or infinite), such as" in caplog.text


def test_a_step_that_is_not_finite_is_forgotten_after_its_log(tmp_path: Path) -> None:
    """transformers resets its sum of losses by subtracting it from itself."""

    class Once(MultiHeadTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            if self.state.global_step == 1 and not isinstance(loss, tuple):
                return loss * 0 + math.inf  # (its gradient is 0)
            return loss

    settings = {"max_steps": 4, "logging_steps": 1}
    trainer = Once(tiny.model(), arguments(tmp_path, **settings), None, tiny.table(), processing_class=tiny.tokenizer())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [math.isfinite(loss) for loss in losses] == [True, False, True, True]


def test_heads_without_evaluation_rows_are_not_in_the_loss(tmp_path: Path) -> None:
    """A head that is not labelled there would count as a loss of 0."""
    rows = tiny.table(40)
    one = rows.select_columns(["text", "topic_labels"])
    trainer = made(tmp_path, rows, evaluation=one, max_steps=1, head_weighting="prior")
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_topic_loss"] / trainer.constant_losses["topic"])
    assert "eval_mood_loss" not in metrics
    settings = {"train_heads": ["mood"], "eval_strategy": "epoch", "save_strategy": "epoch"}
    trainer = made(tmp_path, rows, evaluation=one, max_steps=1, **settings)
    assert "eval_loss" not in trainer.evaluate()
    with pytest.raises(ValueError, match=r"'loss' cannot be computed: no row .* has a label of the heads \['mood'\]"):
        made(tmp_path, rows, evaluation=one, load_best_model_at_end=True, **settings)


def test_a_list_from_which_nothing_is_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row, "labels": {"mood": None, "topic": None}} for row in prepared_rows()]
    made(tmp_path, rows, max_steps=2).train()
    assert "had a label with a weight for the heads ['mood', 'topic'], so they have learned nothing" in caplog.text
    caplog.clear()
    made(tmp_path, prepared_rows(), max_steps=2).train()
    assert "learned nothing" not in caplog.text


def prepared_rows() -> list[Any]:
    return list(prepare_dataset(tiny.table(16), tiny.tokenizer(), tiny.two_heads()))


def test_labels_without_a_weight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"] * 8, "mood": ["calm", "angry"] * 8, "topic": [["roads"], []] * 8})
    own = {"problem_type": "multi_label_classification"}
    weights = {"label_weights": [0.0, 0.0, 1.0]}
    mood = HeadConfig(labels=["calm", "angry", "sad"], **weights)
    without = {"mood": mood, "topic": HeadConfig(labels=tiny.TOPICS, loss_weight=0.0, **own)}
    with pytest.raises(
        ValueError, match=r"only the heads \['mood', 'topic'\] have labelled rows, and their loss_weight"
    ):
        made(tmp_path, rows, tiny.model(heads=without))
    # of a multi-label head the 0 of a label counts too
    some = {"mood": mood, "topic": HeadConfig(labels=tiny.TOPICS, **own, **weights)}
    made(tmp_path, rows, tiny.model(heads=some))
    assert (
        "the label_weights of all labels that occur are 0 for the heads ['mood'], so they learn nothing" in caplog.text
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head_learning_rate": float("inf")}, "head_learning_rate inf: give a number"),
        ({"weight_decay": float("nan")}, "weight_decay nan: give a number"),
        ({"learning_rate": "1e-4"}, "learning_rate '1e-4': give a number"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps 0: give a whole number of 1 or more"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size 0: give a whole number of 1 or more"),
        ({"max_steps": 2.7}, "max_steps 2.7: give a whole number"),
        ({"text_columns": []}, r"text_columns \[\]: give one column"),
    ],
)
def test_settings_of_a_run_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **settings)


def test_weights_of_rows_that_float32_cannot_add_up(tmp_path: Path) -> None:
    for weight in (1e38, 1e-40):
        rows = tiny.table(8).add_column("sample_weight", [weight] * 8)
        with pytest.raises(ValueError, match=r"row 0, column 'sample_weight'.*weights are relative"):
            made(tmp_path, rows)


def test_deepspeed_with_a_model_in_pieces(tmp_path: Path) -> None:
    settings = {"zero_optimization": {"stage": 3}}
    (tmp_path / "deepspeed.json").write_text(json.dumps(settings))
    for given in (settings, str(tmp_path / "deepspeed.json")):
        with pytest.raises(ValueError, match="ZeRO stage 3 is not supported"):
            arguments(tmp_path, deepspeed=given)


def test_sets_whose_names_begin_alike(tmp_path: Path) -> None:
    settings = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    sets = {"a": tiny.table(8), "a_b": UNLABELLED}
    with pytest.raises(
        ValueError, match="'a_b_mood_accuracy' is a metric of head 'mood', but eval_dataset has no labels"
    ):
        made(tmp_path, evaluation=sets, metric_for_best_model="a_b_mood_accuracy", **settings)


def test_two_terms_of_one_name_are_logged(tmp_path: Path) -> None:
    def numerator(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits.square().sum(-1) * (targets != -100)

    def loss(head: HeadConfig, *_: Any, **__: Any) -> list[AdditiveTerm]:
        return [AdditiveTerm(name, 0.5, numerator, lambda targets: (targets != -100).float()) for name in ("loss", "b")]

    trainer = MultiHeadTrainer(
        tiny.model(),
        arguments(tmp_path, max_steps=2, logging_steps=1),
        None,
        tiny.table(16),
        None,
        tiny.tokenizer(),
        losses={"mood": loss},
    )
    trainer.train()


def test_settings_without_an_end(tmp_path: Path) -> None:
    assert arguments(tmp_path, mixing_temperature=float("inf"), max_grad_norm=-1.0).max_grad_norm == -1.0


def test_the_least_weight_that_is_allowed(tmp_path: Path) -> None:
    made(tmp_path, tiny.table(8).add_column("sample_weight", [1e-9] * 8), max_steps=1).train()


VIRTUAL = {"num_virtual_tokens": 3, "token_dim": 32, "num_layers": 2, "num_attention_heads": 2}


def test_adapters_that_the_model_cannot_be_computed_with(tmp_path: Path) -> None:
    for task in ("SEQ_CLS", "FEATURE_EXTRACTION"):
        adapted = get_peft_model(tiny.model(), PrefixTuningConfig(task_type=task, **VIRTUAL))
        for use in (
            lambda adapted=adapted: made(tmp_path, model=adapted),
            lambda adapted=adapted: MultiHeadPredictor(adapted, tiny.tokenizer()),
            lambda adapted=adapted: pipeline(TASK, model=adapted, tokenizer=tiny.tokenizer()),
            lambda adapted=adapted: tune_thresholds(adapted, tiny.table(), tokenizer=tiny.tokenizer()),
        ):
            with pytest.raises(ValueError, match="adapter 'default': PREFIX_TUNING needs a decoder"):
                use()
    prompt = PromptTuningConfig(task_type="SEQ_CLS", **VIRTUAL)
    with pytest.raises(ValueError, match="adapter 'default': PROMPT_TUNING cannot read texts in windows"):
        made(tmp_path, model=get_peft_model(tiny.model(max_length=16, truncation="windows"), prompt))
    made(tmp_path, model=get_peft_model(tiny.model(), prompt)).train()


def test_an_evaluation_dataset_that_does_not_exist(tmp_path: Path) -> None:
    trainer = made(tmp_path, evaluation={"first": tiny.table(8), "second": tiny.table(8)})
    assert "eval_f1" in trainer.evaluate("first")
    with pytest.raises(ValueError, match=r"no evaluation dataset 'frist'\. Did you mean 'first'"):
        trainer.evaluate("frist")


def test_noise_that_a_frozen_encoder_would_not_get(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neftune_noise_alpha .* which freeze_encoder=True excludes"):
        made(tmp_path, neftune_noise_alpha=5.0, freeze_encoder=True)


def test_the_default_metric_of_the_best_model_is_not_one_of_several_datasets(tmp_path: Path) -> None:
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    sets = {"a": tiny.table(), "b": tiny.table(seed=1)}
    with pytest.raises(ValueError, match=r"'loss' is not one of .* has its own: .* f1 is the mean over the datasets\."):
        made(tmp_path, evaluation=sets, **settings)
    made(tmp_path, evaluation=sets, metric_for_best_model="f1", **settings)


def test_an_order_of_rows_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"unknown train_sampling_strategy 'group_by_lenght'\. Did you mean 'group_by_"
    ):
        made(tmp_path, train_sampling_strategy="group_by_lenght")


def test_a_run_of_one_step_has_no_warm_up_at_a_rate_of_0(tmp_path: Path) -> None:
    trainer = made(tmp_path, max_steps=1, warmup_steps=0.1)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    assert any(not torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())
    assert [trainer.args.get_warmup_steps(steps) for steps in (9, 10, 11, 1000)] == [0, 1, 2, 100]
    assert made(tmp_path, warmup_steps=3).args.get_warmup_steps(2) == 3
