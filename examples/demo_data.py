"""Small made-up datasets and a small encoder for the recipes' `--demo`, without a download."""

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    TrainingArguments,
    set_seed,
)

GREETINGS = (
    *(
        "hello",
        "hi",
        "hey",
        "good morning",
        "good evening",
        "hallo",
        "guten Tag",
        "guten Morgen",
        "moin",
        "goedemorgen",
    ),
    *("hoi", "bonjour", "salut", "hola", "buenos días"),
)
THANKS = (
    *("thank you", "thanks", "many thanks", "thanks a lot", "much appreciated", "danke", "vielen Dank", "danke dir"),
    *("dank je wel", "bedankt", "merci", "merci beaucoup", "gracias", "muchas gracias"),
)
REQUESTS = (
    *("what is the weather like", "show me the news", "book a table", "wie ist das Wetter", "spiele Musik"),
    *("wat kost dit", "hoe laat is het", "where is the station", "quelle heure est-il", "dónde está la estación"),
    *("generate an image of a dog", "I am not sure what you mean", "order a pizza", "turn off the light"),
)
PEOPLE = ("", "my friend", "dear", "team", "Anna", "everyone", "there", "Herr Vogel", "mevrouw", "again")
ENDINGS = ("", "!", ".", " :)", " today", " please", " so much", " now")

THINGS = ("film", "phone", "hotel", "game", "coffee", "update", "concert", "train ride", "book", "service")
OPINIONS = (
    ("I love this {}", "what a wonderful {}", "best {} ever", "the {} made my day", "really happy with the {}"),
    ("I hate this {}", "what an awful {}", "worst {} ever", "the {} ruined my day", "so disappointed by the {}"),
    (
        "the {} starts at noon",
        "a new {} was announced",
        "I have a {}",
        "they talked about the {}",
        "the {} is on Friday",
    ),
)
SENTIMENTS = ("Positive", "Negative", "Neutral")
GGU = ("Greeting", "Gratitude", "Other")

CALLS = ("Geht am Sonntag wählen", "Kommt zur Demo", "Unterschreibt die Petition", "Teilt diesen Beitrag", "Macht mit")
REPORTS = (
    *("Heute waren wir in {}", "Danke für das Gespräch in {}", "Unser Programm für {}", "Ein Bild aus {}"),
    *("Wir reden über {}", "In {} fehlen Lehrkräfte", "Was ist in {} los?", "Schönes Wochenende, {}"),
)
PLACES = ("Berlin", "Köln", "Leipzig", "Rostock", "Kassel", "Ulm", "Trier", "Jena", "Kiel", "Bremen")

DOMAINS = {
    "politics": ("elections to the parliament", "a political party", "the head of government"),
    "international relations": ("an agreement with a third country", "a peace mission", "sanctions against a state"),
    "European Union": ("the institutions of the Union", "enlargement of the Union", "the powers of the Commission"),
    "law": ("the court of justice", "criminal proceedings", "the rights of the defence"),
    "economics": ("economic growth", "a regional policy", "the structural funds"),
    "trade": ("import duties", "anti-dumping measures", "a tariff quota"),
    "finance": ("the supervision of banks", "value added tax", "the budget of the year"),
    "social questions": ("the protection of families", "public health", "social security of migrants"),
    "education and communications": ("the recognition of diplomas", "broadcasting", "personal data"),
    "science": ("a research programme", "scientific instruments", "space science"),
    "business and competition": ("state aid", "a merger of companies", "an abuse of a dominant position"),
    "employment and working conditions": ("health and safety at work", "the labour market", "working time"),
    "transport": ("rail transport", "the safety of ships", "air carriers"),
    "environment": ("the protection of habitats", "the treatment of waste", "emissions into the air"),
    "agriculture, forestry and fisheries": ("fishing quotas", "plant protection", "the market in wine"),
    "agri-foodstuffs": ("the labelling of foodstuffs", "milk products", "sugar and honey"),
    "production, technology and research": ("technical standards", "intellectual property", "a patent"),
    "energy": ("the market in electricity", "nuclear power", "energy efficiency"),
    "industry": ("the steel industry", "chemical products", "the textile industry"),
    "geography": ("the Mediterranean region", "Greece and Portugal", "the Baltic Sea"),
    "international organisations": ("the United Nations", "the World Trade Organisation", "the Council of Europe"),
}
FRAMES = ("Regulation on {}", "Council decision concerning {}", "Directive on {}", "Commission opinion about {}")


def ggu_rows(count: int = 600, seed: int = 0) -> Dataset:
    """Return the columns `sample` and `label` (0 to 2): greetings, thanks and other messages in several languages."""
    rng = Random(seed)
    kinds = (GREETINGS, THANKS, REQUESTS)
    rows = []
    for _ in range(count):
        label = rng.randrange(3)
        parts = [rng.choice(kinds[label]), rng.choice(PEOPLE)]
        rows.append({"sample": " ".join(filter(None, parts)) + rng.choice(ENDINGS), "label": label})
    return Dataset.from_list(rows)


def sentiment_rows(count: int = 600, seed: int = 0) -> Dataset:
    """Return the columns `text` and `label` (0 to 2): positive, negative and neutral messages."""
    rng = Random(seed)
    rows = []
    for _ in range(count):
        label = rng.randrange(3)
        text = rng.choice(OPINIONS[label]).format(rng.choice(THINGS)) + rng.choice(ENDINGS)
        rows.append({"text": text, "label": label})
    return Dataset.from_list(rows)


def call_to_action_csv(path: Path, count: int = 700, seed: int = 0) -> Path:
    """Write a CSV file with `Text` and `Majority Decision`; one post in six calls for action; some labels are wrong."""
    rng = Random(seed)
    rows = []
    for number in range(count):
        call = rng.random() < 1 / 6
        text = rng.choice(REPORTS).format(rng.choice(PLACES))
        if call:
            text = (
                f"{text}. {rng.choice(CALLS)}!" if rng.random() < 0.7 else f"{rng.choice(CALLS)}, {rng.choice(PLACES)}!"
            )
        rows.append({"Text": f"{text} #{number}", "Majority Decision": call != (rng.random() < 0.04)})
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows).to_pandas().to_csv(path, index=False)
    return path


def legislation(count: int = 1400, seed: int = 0) -> DatasetDict:
    """Return the splits `train`, `validation` and `test` with `text` and `labels`, lists of the ids of 21 domains."""
    rng = Random(seed)
    names = list(DOMAINS)
    rows = []
    for _ in range(count):
        labels = rng.sample(range(len(names)), rng.choice((1, 1, 2, 3)))
        topics = [rng.choice(DOMAINS[names[label]]) for label in labels]
        rows.append({"text": rng.choice(FRAMES).format(" and ".join(topics)), "labels": sorted(labels)})
    table = Dataset.from_list(
        rows, features=Features({"text": Value("string"), "labels": List(ClassLabel(names=names))})
    )
    cuts = [0, count * 8 // 10, count * 9 // 10, count]
    parts = zip(("train", "validation", "test"), itertools.pairwise(cuts), strict=True)
    return DatasetDict({name: table.select(range(*places)) for name, places in parts})


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4000) -> PreTrainedTokenizerBase:
    """Train a lower-case WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
    )


def save_encoder(args: TrainingArguments, texts: Iterable[str]) -> str:
    """Save a small BERT without pretraining and its tokenizer, in place of a pretrained encoder.

    Its folder is `_encoder` in the output directory, which is never pushed. It is created once, because training a
    tokenizer is not reproducible, and resumed runs and several processes need the same tokenizer.
    """
    return made_once(args, "_encoder", lambda folder: _make_encoder(texts, folder))


def made_once(args: TrainingArguments, name: str, make: Callable[[str], Any]) -> str:
    """Return a folder in the output directory, which the first process creates if it does not exist."""
    folder = os.path.join(args.output_dir, name)
    with args.main_process_first():
        if not os.path.isdir(folder):
            make(f"{folder}.part")
            os.replace(f"{folder}.part", folder)
    return folder


def _make_encoder(texts: Iterable[str], folder: str) -> None:
    tokenizer = train_tokenizer(texts)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.1,  # with the usual 0.02, all texts have similar vectors without pretraining
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
