"""Predict the labels of a text with a saved multi-head model. Needs transformers and torch, not `multihead_hf`.

python examples/predict.py runs/wimbert-demo "Het grofvuil is niet opgehaald"
"""

import argparse

from transformers import pipeline


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a saved model")
    parser.add_argument("text", help="the text to classify")
    parser.add_argument("--top_k", type=int, default=3, help="labels to print of each head (default: 3)")
    arguments = parser.parse_args(argv)
    # this runs the model's code: use only models that you trust
    predict = pipeline("multi-head-text-classification", arguments.model, trust_remote_code=True)
    for head, labels in predict(arguments.text, top_k=arguments.top_k)[0].items():
        print(head)
        for entry in labels:
            print(f"  {entry['score']:.3f}  {entry['label']}")


if __name__ == "__main__":
    main()
