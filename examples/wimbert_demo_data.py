"""Made-up Dutch complaints to a municipality: the data of `train_wimbert.py --demo`, without a download.

    from wimbert_demo_data import generate_messages
    messages = generate_messages(4000, seed=42)

Both targets have long tails: 96 topics (`onderwerp_labels`) and 26 experiences (`beleving_labels`). Channel, style and
emotion show in the wording most of the time. Some wording is shared by related labels, and some labels are left out or
confused, so no model is perfect. Rows are in random order, so that any slice is a fair split. Persons and places are
made up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import wimbert_demo_phrases as tables
from datasets import ClassLabel, Dataset, Features, List, Value

CHANNELS = ("phone", "email", "whatsapp", "webform", "unknown")
STYLES = ("formal", "informal", "direct", "verbose")
FEATURES = Features(
    {
        "signal_id": Value("string"),
        "text": Value("string"),
        "onderwerp_labels": List(Value("string")),
        "beleving_labels": List(Value("string")),
        "gpt41_onderwerp_labels": List(Value("string")),
        "gpt41_beleving_labels": List(Value("string")),
        "gpt41_reasoning": Value("string"),
        "channel": ClassLabel(names=list(CHANNELS)),
        "timestamp": Value("string"),
        "age": Value("int32"),
        "gender": ClassLabel(names=["male", "female"]),
        "neighborhood": Value("string"),
        "communication_style": ClassLabel(names=list(STYLES)),
        "emotional_tendency": ClassLabel(names=list(tables.EMOTIONS)),
        "place_name": Value("string"),
        "place_neighborhood": Value("string"),
        "event_type": Value("string"),
        "is_calamity": Value("bool"),
        "message_length": Value("int32"),
    }
)

MONTHS = (
    *("januari", "februari", "maart", "april", "mei", "juni"),
    *("juli", "augustus", "september", "oktober", "november", "december"),
)
GREETING_BY_HOUR = ("Goedemorgen", "Goedemiddag", "Goedenavond")  # from 6, 12 and 18 o'clock on
DAYS = ("maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag")

# Frequencies per hundred messages: channels, styles within a channel, emotions before the effect of the experience.
CHANNEL_WEIGHTS = (22, 28, 16, 27, 7)
STYLE_WEIGHTS = {
    "phone": (25, 30, 15, 30),
    "email": (40, 15, 12, 33),
    "whatsapp": (5, 55, 35, 5),
    "webform": (30, 20, 35, 15),
    "unknown": (25, 25, 25, 25),
}
EMOTION_WEIGHTS = (30, 20, 14, 11, 11, 10)
EMOTION_PULL = 45
# Number of labels of a message (from one on), per hundred messages.
ONDERWERP_COUNTS = {1: 40, 2: 40, 3: 20}
BELEVING_COUNTS = {1: 32, 2: 41, 3: 25, 4: 2}
# Minimum and maximum number of sentences of detail.
DETAIL_COUNTS = {"formal": (0, 2), "informal": (0, 2), "direct": (0, 0), "verbose": (1, 17)}


def _deck(rng: Random, weights: dict[Any, int], rows: int) -> list[Any]:
    """Return `rows` keys in random order, as often as their weights require; the largest remainders fill the rest."""
    total = sum(weights.values())
    counts = {key: weight * rows // total for key, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda key: weights[key] * rows % total, reverse=True)
    for key in by_remainder[: rows - sum(counts.values())]:
        counts[key] += 1
    deck = [key for key, count in counts.items() for _ in range(count)]
    rng.shuffle(deck)
    return deck


class _Head:
    """The labels of one head: their frequencies, themes, wording, and annotation errors."""

    def __init__(
        self,
        themes: tuple[tables.Theme, ...],
        offset: int,
        power: int,
        related: float,
        shared: float,
        alone: frozenset[str] = frozenset(),
    ) -> None:
        self.related, self.shared, self.alone = related, shared, alone
        self.theme_of = {label: theme for theme in themes for label in theme.cues}
        ranked = [(rank, label) for theme in themes for rank, label in enumerate(theme.cues)]
        self.labels = tuple(label for _, label in sorted(ranked, key=lambda pair: pair[0]))
        # Whole numbers, so that rounding does not depend on the platform.
        self.weights = {label: 10**12 // (rank + offset) ** power for rank, label in enumerate(self.labels)}
        self.common = frozenset(self.labels[: len(self.labels) // 2])

    def draw(self, rng: Random, fits: Callable[[str], bool], theme: tables.Theme | None = None) -> str | None:
        """Return a suitable label, drawn by frequency, from one theme or from all."""
        labels = [label for label in (theme.cues if theme else self.labels) if fits(label)]
        return rng.choices(labels, [self.weights[label] for label in labels])[0] if labels else None

    def extend(self, rng: Random, first: str, count: int, fits: Callable[[str], bool]) -> list[str]:
        """Return `first` and further labels up to `count`, of which `related` are from the theme of the first."""
        labels = [first]
        while len(labels) < count:
            theme = self.theme_of[first] if rng.random() < self.related else None
            label = self.draw(rng, lambda label: label not in labels and fits(label), theme)
            if label is not None:
                labels.append(label)
        return labels

    def cue(self, rng: Random, label: str) -> str:
        """Return wording for a label, sometimes shared by its whole theme."""
        theme = self.theme_of[label]
        shared = label not in self.alone and rng.random() < self.shared
        return rng.choice(theme.shared if shared else theme.cues[label])

    def annotate(self, rng: Random, labels: list[str], missing: float, confused: float) -> list[str]:
        """Return the labels of an annotator, who misses further labels and confuses common ones with related ones."""
        noted: list[str] = []
        for index, label in enumerate(labels):
            if index and rng.random() < missing:
                continue
            if label in self.common and rng.random() < confused:
                other = self.draw(rng, lambda other: other not in self.alone.union(labels), self.theme_of[label])
                label = other or label
            if label not in noted:
                noted.append(label)
        return noted


_ONDERWERP = _Head(tables.ONDERWERP, offset=29, power=3, related=0.6, shared=0.09)
# Praise is never mistaken for a complaint.
_BELEVING = _Head(
    tables.BELEVING, offset=9, power=2, related=0.3, shared=0.16, alone=frozenset({"Tevreden over medewerker"})
)
# From most to least frequent.
ONDERWERP_LABELS = _ONDERWERP.labels
BELEVING_LABELS = _BELEVING.labels
_EMOTION_OF = {label: emotion for emotion, labels in tables.EMOTION_OF.items() for label in labels}


@dataclass
class _Situation:
    """Shared context of the sentences of one message."""

    moment: datetime
    age: int
    neighborhood: str
    place: str
    where: str
    at_desk: bool

    def fill(self, rng: Random, sentence: str) -> str:
        """Replace the words in braces; every sentence gets new numbers, days and streets."""
        if "{" not in sentence:
            return sentence
        day = self.moment - timedelta(days=rng.randint(2, 60))
        hour = rng.randint(9, 16) if self.at_desk else rng.randint(7, 22)
        return sentence.format(
            n=rng.randint(2, 9),
            big=rng.randint(11, 60),
            years=rng.randint(2, max(3, self.age - 15)),
            date=f"{day.day} {MONTHS[day.month - 1]}",
            day=DAYS[day.weekday()],
            time=f"{hour}.{rng.choice(('00', '15', '30', '45'))} uur",
            greet=GREETING_BY_HOUR[self.moment.hour // 6 - 1],
            hood=self.neighborhood,
            place=self.place,
            where=self.where,
            street=_place(rng, rng.choice(list(tables.PLACES)))[1],
        )


def _place(rng: Random, neighborhood: str) -> tuple[str, str]:
    """Return a place in a neighborhood: its name with the article, and the word for "there"."""
    name, where = rng.choice(tables.PLACES[neighborhood]).split(" / ")
    return name, where


def _capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def _complaint(rng: Random, labels: list[str], style: str) -> list[str]:
    """Return a sentence per topic, sometimes with a detail in between."""
    opening = rng.choice(tables.TOPIC_FRAMES[style if rng.random() < 0.6 else "any"])
    sentences = []
    for frame, label in zip([opening, *rng.sample(tables.TOPIC_FRAMES["more"], len(labels) - 1)], labels, strict=True):
        sentences.append(frame.replace("{t}", _ONDERWERP.cue(rng, label)))
        detail = rng.choice(_ONDERWERP.theme_of[label].details)
        if detail not in sentences and rng.random() < (0.04 if style == "direct" else 0.12):
            sentences.append(detail)
    return sentences


def _experience(rng: Random, labels: list[str]) -> list[str]:
    """Return a sentence per experience."""
    sentences = []
    for frame, label in zip(rng.sample(tables.BELEVING_FRAMES["any"], len(labels)), labels, strict=True):
        cue = _BELEVING.cue(rng, label)
        if label in tables.BELEVING_FRAMES:
            frame = rng.choice(tables.BELEVING_FRAMES[label])
        sentences.append(frame.replace("{b}", cue).replace("{B}", _capital(cue)))
    return sentences


def _details(rng: Random, onderwerp: list[str], style: str, told: list[str]) -> list[str]:
    """Return sentences about dates, places and streets, and sometimes about a topic outside the complaint."""
    pool = [*tables.DETAILS, *_ONDERWERP.theme_of[onderwerp[0]].details]
    low, high = DETAIL_COUNTS[style]
    # Sum of two draws: most verbose messages are of medium length, and few are very long.
    count = min(rng.randint(low, high), rng.randint(low, high)) if style == "verbose" else rng.randint(low, high)
    sentences = rng.sample([sentence for sentence in pool if sentence not in told], count)
    if sentences and rng.random() < 0.1:
        other = _ONDERWERP.draw(rng, lambda label: label not in onderwerp)
        frame = rng.choice(tables.TOPIC_FRAMES["solved"])
        sentences.append(frame.replace("{t}", _ONDERWERP.cue(rng, str(other))))
    return sentences


def _polite_words(rng: Random, table: dict[str, tuple[str, ...]], channel: str, style: str) -> list[str]:
    """Return a greeting or closing: mostly specific to the channel, sometimes for every channel, or none."""
    chance = rng.random()
    if chance < 0.12:
        return []
    if chance < 0.3:
        return [rng.choice(table["any"])]
    casual = rng.random() < (0.9 if style in ("informal", "direct") else 0.1)
    return [rng.choice(table[f"{channel} casual" if casual else channel])]


def _misspell(rng: Random, text: str) -> str:
    """Return the text with the spelling of a hurried writer."""
    words = text.split(" ")
    for index, word in enumerate(words):
        chance = rng.random()
        if chance < 0.5 and word in tables.SLANG:
            words[index] = tables.SLANG[word]
        elif chance < 0.05 and len(word) > 4 and word.isalpha():
            at = rng.randrange(1, len(word) - 1)
            first, second, rest = word[:at], word[at], word[at + 1 :]
            words[index] = rng.choice(
                (first + rest, first + second + second + rest, first + rest[:1] + second + rest[1:])
            )
    return " ".join(words)


def _text(
    rng: Random,
    situation: _Situation,
    onderwerp: list[str],
    beleving: list[str],
    channel: str,
    style: str,
    emotion: str,
    event: str,
) -> str:
    """Return the message: greeting, complaint, experience, emotion, details, closing."""
    sentences = _complaint(rng, onderwerp, style) + _experience(rng, beleving)
    shown = emotion if rng.random() < 0.92 else rng.choice(list(tables.EMOTIONS))
    if rng.random() < (0.5 if shown == "neutral" else 0.75):
        sentences.insert(rng.choice((1, len(sentences))), rng.choice(tables.EMOTIONS[shown]))
    if not (style == "direct" and rng.random() < 0.4):
        # The wording always fits some channel, even if the channel is unlabelled.
        spoken = rng.choice(CHANNELS[:-1]) if channel == "unknown" else channel
        sentences = _polite_words(rng, tables.GREETINGS, spoken, style) + sentences
        sentences += [event] if event else []
        sentences += _details(rng, onderwerp, style, told=sentences)
        if rng.random() < 0.35:
            sentences.append(rng.choice(tables.EMOTION_CLOSINGS[shown]))
        sentences += _polite_words(rng, tables.CLOSINGS, spoken, style)
    text = " ".join(situation.fill(rng, sentence) for sentence in sentences)
    if style == "informal" and rng.random() < 0.4:
        text = _misspell(rng, text)
    if channel == "whatsapp" and rng.random() < 0.3:
        text = text.lower()
    return text


def _enumerate(labels: list[str]) -> str:
    """Return the labels in quotes: 'a', 'b' en 'c'."""
    quoted = [f"'{label}'" for label in labels]
    return " en ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _reasoning(rng: Random, onderwerp: list[str], beleving: list[str], emotion: str) -> str:
    """Return the sentence of reasoning of the second annotation."""
    return rng.choice(tables.REASONING).format(
        onderwerp=_enumerate(onderwerp),
        beleving=_enumerate(beleving),
        emotion=tables.EMOTION_WORDS[emotion],
    )


def _take(deck: list[str], fits: Callable[[str], bool]) -> str:
    """Remove and return the last suitable label, or else the last one."""
    for index in range(len(deck) - 1, max(-1, len(deck) - 30), -1):
        if fits(deck[index]):
            return deck.pop(index)
    return deck.pop()


def _emotion(rng: Random, beleving: list[str]) -> str:
    """Return an emotion, more likely one that matches the experiences."""
    weights = dict(zip(tables.EMOTIONS, EMOTION_WEIGHTS, strict=True))
    for label in beleving:
        if label in _EMOTION_OF:
            weights[_EMOTION_OF[label]] += EMOTION_PULL
    return rng.choices(list(weights), list(weights.values()))[0]


def _row(rng: Random, onderwerp: list[str], beleving_deck: list[str], beleving_count: int) -> dict[str, Any]:
    """Return one message about the given topics, without its id."""
    at_desk = _ONDERWERP.theme_of[onderwerp[0]].kind == "loket"
    misfits = tables.ALLEEN_STRAAT if at_desk else tables.ALLEEN_LOKET

    def fits(label: str) -> bool:
        return label not in misfits

    beleving = _BELEVING.extend(rng, _take(beleving_deck, fits), beleving_count, fits)
    channel = rng.choices(CHANNELS, CHANNEL_WEIGHTS)[0]
    style = rng.choices(STYLES, STYLE_WEIGHTS[channel])[0]
    emotion = _emotion(rng, beleving)
    event, _, calamity, mention = rng.choices(tables.EVENTS, [share for _, share, _, _ in tables.EVENTS])[0]

    age = rng.randint(18, 60 if channel == "whatsapp" else 90)
    neighborhood = rng.choice(list(tables.PLACES))
    place_neighborhood = neighborhood if rng.random() < 0.8 else rng.choice(list(tables.PLACES))
    place, where = _place(rng, place_neighborhood)
    moment = datetime(2024, 1, 1, 6) + timedelta(days=rng.randrange(550), minutes=rng.randrange(16 * 60))
    situation = _Situation(moment, age, neighborhood, place, where, at_desk)
    text = _text(rng, situation, onderwerp, beleving, channel, style, emotion, mention)
    second_onderwerp = _ONDERWERP.annotate(rng, onderwerp, missing=0.12, confused=0.07)
    second_beleving = _BELEVING.annotate(rng, beleving, missing=0.15, confused=0.1)
    return {
        "text": text,
        "onderwerp_labels": _ONDERWERP.annotate(rng, onderwerp, missing=0.06, confused=0.03),
        "beleving_labels": _BELEVING.annotate(rng, beleving, missing=0.08, confused=0.05),
        "gpt41_onderwerp_labels": second_onderwerp,
        "gpt41_beleving_labels": second_beleving,
        "gpt41_reasoning": _reasoning(rng, second_onderwerp, second_beleving, emotion),
        "channel": channel,
        "timestamp": moment.isoformat(),
        "age": age,
        "gender": rng.choice(("male", "female")),
        "neighborhood": neighborhood,
        "communication_style": style,
        "emotional_tendency": emotion,
        "place_name": place,
        "place_neighborhood": place_neighborhood,
        "event_type": event,
        "is_calamity": calamity,
        "message_length": len(text),
    }


def generate_messages(rows: int = 4000, seed: int = 42) -> Dataset:
    """`rows` messages with their labels; the same arguments give the same rows everywhere.

    Per 4,000 messages, the most frequent topic occurs some 400 times and the rarest at least four times.
    """
    rng = Random(seed)
    onderwerp_deck = _deck(rng, _ONDERWERP.weights, rows)
    beleving_deck = _deck(rng, _BELEVING.weights, rows)
    onderwerp_counts = _deck(rng, ONDERWERP_COUNTS, rows)
    beleving_counts = _deck(rng, BELEVING_COUNTS, rows)
    messages = []
    for index, first in enumerate(onderwerp_deck):
        onderwerp = _ONDERWERP.extend(rng, first, onderwerp_counts[index], lambda label: True)
        message = _row(rng, onderwerp, beleving_deck, beleving_counts[index])
        messages.append({"signal_id": f"SIG-{index + 1:06d}", **message})
    columns = {name: [message[name] for message in messages] for name in FEATURES}
    return Dataset.from_dict(columns, features=FEATURES)
