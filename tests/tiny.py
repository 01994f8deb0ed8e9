"""Tiny encoders, a tokenizer, heads and data for the tests; nothing is downloaded."""

import random
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModel,
    BartConfig,
    BertConfig,
    CanineConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    MPNetConfig,
    NomicBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
    XLMRobertaConfig,
    set_seed,
)

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel

WORDS = [f"w{i}" for i in range(60)]
VOCAB = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
TOPICS = ["roads", "waste", "noise"]
MOODS = ["calm", "angry"]

_SMALL = {"vocab_size": len(VOCAB), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_BERT = {**_SMALL, "intermediate_size": 64}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def encoder_config(family: str = "bert") -> PreTrainedConfig:
    """A fresh config of a tiny encoder."""
    makers: dict[str, Any] = {
        "bert": lambda: BertConfig(**_BERT),
        "xlm-roberta": lambda: XLMRobertaConfig(**_BERT, **_SPECIAL, max_position_embeddings=66),
        "distilbert": lambda: DistilBertConfig(vocab_size=len(VOCAB), dim=32, n_layers=2, n_heads=2, hidden_dim=64),
        "deberta-v2": lambda: DebertaV2Config(
            **_BERT, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"]
        ),
        "modernbert": lambda: ModernBertConfig(**_BERT, **_SPECIAL, cls_token_id=2, sep_token_id=3),
        "nomic_bert": lambda: NomicBertConfig(**_BERT),
        "electra": lambda: ElectraConfig(**_BERT, embedding_size=16),
        "albert": lambda: AlbertConfig(**_BERT, embedding_size=16),
        "mpnet": lambda: MPNetConfig(**_BERT),
        "canine": lambda: CanineConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_hash_buckets=64,
            local_transformer_stride=8,
        ),
        "t5": lambda: T5Config(vocab_size=len(VOCAB), d_model=32, num_layers=2, num_heads=2, d_ff=64, d_kv=16),
        "bart": lambda: BartConfig(
            vocab_size=len(VOCAB),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            decoder_start_token_id=3,
            **_SPECIAL,
        ),
        "llama": lambda: LlamaConfig(**_BERT, **_SPECIAL, num_key_value_heads=2),
        "gpt2": lambda: GPT2Config(
            vocab_size=len(VOCAB), n_embd=32, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3
        ),
        "mixtral": lambda: MixtralConfig(**_BERT, **_SPECIAL, num_key_value_heads=2, num_local_experts=2),
    }
    return makers[family]()


def bert_config(dropout: float) -> BertConfig:
    """A tiny BERT with a dropout of one's own."""
    return BertConfig(**_BERT, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)


FAMILIES = (
    "bert",
    "xlm-roberta",
    "distilbert",
    "deberta-v2",
    "modernbert",
    "nomic_bert",
    "electra",
    "albert",
    "mpnet",
    "canine",
    "t5",
    "bart",
    "llama",
    "gpt2",
    "mixtral",
)


def two_heads(**topic: Any) -> dict[str, HeadConfig]:
    """A multi-label head `topic` and a single-label head `mood`."""
    return {
        "topic": HeadConfig(labels=TOPICS, problem_type="multi_label_classification", **topic),
        "mood": HeadConfig(labels=MOODS),
    }


def model(family: str = "bert", heads: Any = None, seed: int = 0, **settings: Any) -> MultiHeadModel:
    """A tiny model with fresh weights, in evaluation mode."""
    set_seed(seed)
    config = MultiHeadConfig(encoder=encoder_config(family), heads=heads or two_heads(), **settings)
    return MultiHeadModel(config).eval()


def tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A word tokenizer over `WORDS` with [CLS] … [SEP]."""
    backend = Tokenizer(models.WordLevel(VOCAB, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", VOCAB["[CLS]"]), ("[SEP]", VOCAB["[SEP]"])],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names, **options)


def save_encoder(folder: Path, family: str = "bert", seed: int = 0) -> Path:
    """A plain encoder checkpoint with its tokenizer."""
    set_seed(seed)
    AutoModel.from_config(encoder_config(family)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def batch(rows: int = 3, length: int = 12, seed: int = 0) -> dict[str, torch.Tensor]:
    """Token ids with right padding; the first row is full."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, len(VOCAB), (rows, length), generator=generator)
    ids[:, 0] = VOCAB["[CLS]"]
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, length - 2 * row :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def labels(rows: int = 3) -> dict[str, torch.Tensor]:
    """Targets for `two_heads`, with a missing row and a missing cell."""
    topic = torch.zeros(rows, len(TOPICS))
    topic[0, 0] = topic[0, 2] = 1.0
    topic[1, 1] = -100.0
    mood = torch.zeros(rows, dtype=torch.long)
    mood[0], mood[1] = 1, -100
    return {"topic": topic, "mood": mood}


def table(rows: int = 64, seed: int = 0) -> Dataset:
    """Raw rows whose labels can be read off their words: column `text`, `topic_labels` (lists), `mood` (ClassLabel)."""
    rng = random.Random(seed)
    data = []
    for row in range(rows):
        words = rng.choices(WORDS, k=rng.randint(3, 12))
        digits = {word[-1] for word in words}
        data.append(
            {
                "text": " ".join(words),
                "topic_labels": None if row % 11 == 7 else [t for i, t in enumerate(TOPICS) if str(i) in digits],
                "mood": None if row % 13 == 5 else int("5" in digits),
            }
        )
    features = {"text": Value("string"), "topic_labels": List(Value("string")), "mood": ClassLabel(names=MOODS)}
    return Dataset.from_list(data, features=Features(features))
