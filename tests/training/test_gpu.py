"""On a CUDA device: mixed precision, and the pipeline on the device. Run by `make test-gpu`."""

from pathlib import Path

import pytest
import tiny
import torch
from transformers import pipeline

from multihead_hf import MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_training_on_the_device(tmp_path: Path, precision: str) -> None:
    args = MultiHeadTrainingArguments(
        str(tmp_path),
        max_steps=12,
        logging_steps=1,
        save_steps=12,
        learning_rate=5e-3,
        gradient_accumulation_steps=2,
        disable_tqdm=True,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
    )
    assert args.device.type == "cuda", "make test-gpu needs a CUDA device"
    model = tiny.model("modernbert", heads=tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565))
    trainer = MultiHeadTrainer(model, args, None, tiny.table(64), tiny.table(32), tiny.tokenizer())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "topic_loss" in entry]
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert trainer.evaluate()["eval_f1"] > 0

    again = MultiHeadModel.from_pretrained(tmp_path / "checkpoint-12", device_map="auto")
    assert next(again.parameters()).is_cuda
    on_device = pipeline("multi-head-text-classification", model=again, tokenizer=tiny.tokenizer())
    on_cpu = pipeline("multi-head-text-classification", model=model.cpu(), tokenizer=tiny.tokenizer(), device="cpu")
    texts = ["w1 w2", "w3", "w4 w5 w6"]
    for one, other in zip(on_device(texts, top_k=1), on_cpu(texts, top_k=1), strict=True):
        assert one["mood"][0]["score"] == pytest.approx(other["mood"][0]["score"], abs=1e-3)
