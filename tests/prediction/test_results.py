"""Predictions: short to print, a dict, and a table."""

import pickle

import pandas as pd
import pytest
import tiny

from multihead_hf import HeadConfig, MultiHeadPredictions, MultiHeadPredictor
from multihead_hf.model.decoding_multihead import HeadPrediction


@pytest.fixture(scope="module")
def predictor() -> MultiHeadPredictor:
    return MultiHeadPredictor(tiny.model(), tiny.tokenizer())


TEXTS = ["w1 w2", "w3", "w4 w5 w6", "w7"]


def test_a_row_for_each_text(predictor: MultiHeadPredictor) -> None:
    predictions = predictor.predict(TEXTS)
    assert list(predictions) == ["topic", "mood"]
    assert isinstance(predictions, dict)
    frame = predictions.to_pandas()
    expected = {
        "topic": predictions["topic"].labels,
        "topic_score": predictions["topic"].scores,
        "mood": [labels[0] for labels in predictions["mood"].labels],
        "mood_score": [scores[0] for scores in predictions["mood"].scores],
    }
    pd.testing.assert_frame_equal(frame, pd.DataFrame(expected))
    assert {type(label) for label in frame["mood"]} == {str}
    best = predictor.predict(TEXTS, top_k=2).to_pandas()
    assert [len(labels) for labels in best["mood"]] == [2] * 4  # of several labels asked for each cell is a list
    assert predictor.predict([]).to_pandas().shape == (0, 4)
    with pytest.raises(KeyError, match=r"there is no head 0; the heads are \['topic', 'mood'\]"):
        predictions[0]


def test_short_to_print(predictor: MultiHeadPredictor) -> None:
    predictions = predictor.predict(TEXTS * 100, threshold=0.99)
    lines = str(predictions).splitlines()
    assert lines[0] == "MultiHeadPredictions of 400 texts"
    assert lines[1] == "  topic: HeadPrediction(400 rows, 3 labels: [], [], [], ...)"
    mood = ", ".join(f"[{labels[0]!r}]" for labels in predictions["mood"].labels[:3])
    assert lines[2:] == [f"  mood: HeadPrediction(400 rows, 2 labels: {mood}, ...)"]
    labels = [f"label {i}" for i in range(9)]
    model = tiny.model(heads={"many": HeadConfig(labels=labels, problem_type="multi_label_classification")})
    (one,) = MultiHeadPredictor(model, tiny.tokenizer()).predict(["w1"], top_k=9).values()
    shown = ", ".join(repr(label) for label in one.labels[0][:3])
    assert repr(one) == f"HeadPrediction(1 rows, 9 labels: [{shown}, ...])"
    assert str(MultiHeadPredictions({})) == "MultiHeadPredictions of 0 texts"


def test_it_travels_between_processes(predictor: MultiHeadPredictor) -> None:
    predictions = predictor.predict(TEXTS)
    again = pickle.loads(pickle.dumps(predictions))
    assert isinstance(again, MultiHeadPredictions)
    assert again.one_label == {"mood"}
    pd.testing.assert_frame_equal(again.to_pandas(), predictions.to_pandas())
    assert predictions == dict(predictions)


def test_heads_whose_columns_would_have_one_name(predictor: MultiHeadPredictor) -> None:
    own = predictor.predict(["w1"])["mood"]
    assert isinstance(own, HeadPrediction)
    with pytest.raises(ValueError, match="two columns would be called 'mood_score': take the heads one by one"):
        MultiHeadPredictions({"mood": own, "mood_score": own}).to_pandas()
