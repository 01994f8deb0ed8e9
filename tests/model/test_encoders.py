"""What differs between encoders is asked of each when a model is made, and holds for families that nobody listed."""

import pytest
import tiny
import torch
from transformers import (
    CLIPTextConfig,
    DPRConfig,
    FNetConfig,
    IBertConfig,
    LEDConfig,
    LongformerConfig,
    LukeConfig,
    MPNetConfig,
    MraConfig,
    PreTrainedConfig,
)

from multihead_hf import MultiHeadConfig, MultiHeadModel, MultiHeadPredictor, prepare_dataset
from multihead_hf.model.encoder_multihead import RightPadding, position_table

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
FROM_PADDING = {**SMALL, "max_position_embeddings": 66, "pad_token_id": 1}
LED = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "attention_window": 8,
    "max_encoder_position_embeddings": 66,
}


def made(encoder: PreTrainedConfig, **settings: object) -> MultiHeadModel:
    torch.manual_seed(0)
    return MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=tiny.two_heads(), **settings)).eval()


@pytest.mark.parametrize(
    "encoder",
    [
        MPNetConfig(**FROM_PADDING),
        IBertConfig(**FROM_PADDING),
        LukeConfig(**FROM_PADDING, entity_vocab_size=10, entity_emb_size=32),
        LEDConfig(**LED),
    ],
    ids=lambda each: each.model_type,
)
def test_a_long_text_is_cut_where_the_table_of_positions_ends(encoder: PreTrainedConfig) -> None:
    assert position_table(encoder) == 64
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 10**30
    assert MultiHeadPredictor(made(encoder), tokenizer).predict(["w1 " * 300])["mood"].probabilities.isfinite().all()
    with pytest.raises(ValueError, match=r"max_length 66 is more than the encoder's 64 positions"):
        MultiHeadPredictor(made(encoder, max_length=66), tokenizer)


@pytest.mark.parametrize(
    "encoder", [MPNetConfig(**FROM_PADDING), LukeConfig(**FROM_PADDING), tiny.encoder_config("gpt2")]
)
def test_padding_may_stand_on_either_side(encoder: PreTrainedConfig) -> None:
    model = made(encoder)
    batch = tiny.batch()
    pad = encoder.pad_token_id or 0
    ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, pad)
    right = model(input_ids=ids, attention_mask=batch["attention_mask"], output_hidden_states=True)
    gaps = (batch["attention_mask"] == 0).sum(1).tolist()
    turned = {
        name: torch.stack([row.roll(n) for row, n in zip(own, gaps, strict=True)])
        for name, own in {"input_ids": ids, "attention_mask": batch["attention_mask"]}.items()
    }
    left = model(**turned, output_hidden_states=True)
    for name, logits in right.logits.items():
        torch.testing.assert_close(left.logits[name], logits)
    for one, other in zip(left.hidden_states, right.hidden_states, strict=True):
        torch.testing.assert_close(one[2, gaps[2] :], other[2, : len(other[2]) - gaps[2]])


def test_moved_and_back() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    values = torch.arange(12).view(3, 4)
    padding = RightPadding(mask)
    assert padding.moved(values).tolist() == [[2, 3, 0, 1], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert padding.back(padding.moved(values), (1,)).tolist() == values.tolist()


def test_an_encoder_that_reads_padding_is_refused() -> None:
    config = FNetConfig(**{key: value for key, value in SMALL.items() if key != "num_attention_heads"})
    for _ in range(2):  # what was tried once is not taken the second time
        with pytest.raises(ValueError, match=r"FNetConfig reads padding as if it were text"):
            made(config)


def test_a_longformer_sees_the_whole_text_from_its_first_token() -> None:
    model = made(LongformerConfig(**SMALL, attention_window=8, max_position_embeddings=130))
    one = torch.randint(4, 64, (1, 100), generator=torch.Generator().manual_seed(0))
    other = one.clone()
    other[:, 20:] = 7
    assert (model(input_ids=one).logits["mood"] - model(input_ids=other).logits["mood"]).abs().max() > 0


def test_tokens_beyond_the_vocabulary_are_refused() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["unheard"])
    model = tiny.model()
    message = r"token ids up to 64, but the encoder has embeddings for only 64 tokens.*resize_token_embeddings"
    with pytest.raises(ValueError, match=message):
        MultiHeadPredictor(model, tokenizer)
    with pytest.raises(ValueError, match=message):
        prepare_dataset(tiny.table(8), tokenizer, model)
    model.resize_token_embeddings(len(tokenizer))
    assert MultiHeadPredictor(model, tokenizer).predict(["unheard"])["mood"].labels


@pytest.mark.parametrize(
    "encoder",
    [
        tiny.encoder_config("gpt2"),
        CLIPTextConfig(**{**SMALL, "vocab_size": 64}, eos_token_id=3, bos_token_id=2, projection_dim=16),
        MraConfig(**SMALL),
    ],
)
def test_a_vector_that_does_not_depend_on_the_text(encoder: PreTrainedConfig) -> None:
    with pytest.raises(ValueError, match="pooling='cls' gives one vector for all texts"):
        made(encoder, pooling="cls")


def test_an_encoder_without_vectors_of_tokens() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="a DPRConfig gives no vectors of tokens"):
            made(DPRConfig(**SMALL))
