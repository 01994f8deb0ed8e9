"""Explain why a saved model predicts a label, by integrated gradients and by LIME with a `predict_proba` function.

pip install "multihead-hf[explain]"
python examples/explain.py runs/wimbert-demo "Het grofvuil is niet opgehaald" --head onderwerp
"""

import argparse

from lime.lime_text import LimeTextExplainer
from transformers import AutoTokenizer

from multihead_hf import MultiHeadModel, explain, predict_proba


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a saved model")
    parser.add_argument("text", help="the text to explain")
    parser.add_argument("--head", help="name of the head (default: the first)")
    parser.add_argument("--label", help="name of the label (default: that with the highest probability)")
    parser.add_argument("--html", help="write the text with coloured words here")
    parser.add_argument("--num_samples", type=int, default=1000, help="texts that LIME tries (default: 1000)")
    arguments = parser.parse_args(argv)
    model, tokenizer = MultiHeadModel.from_pretrained(arguments.model), AutoTokenizer.from_pretrained(arguments.model)
    head = arguments.head or next(iter(model.config.heads))

    # integrated gradients: each word's contribution to the label's logit
    found = explain(model, tokenizer, arguments.text, head, arguments.label)
    print(found)
    if arguments.html:
        with open(arguments.html, "w", encoding="utf-8") as file:
            file.write(found.to_html())

    # LIME with a function like scikit-learn's `predict_proba`: [1 − p, p] for a label of a multi-label head, or the
    # probabilities of all labels of a single-label head
    settings = model.config.heads[head]
    names = [f"not {found.label}", found.label] if settings.multi_label else settings.labels
    column = names.index(found.label)
    explainer = LimeTextExplainer(class_names=names, bow=False, random_state=0)
    lime = explainer.explain_instance(
        arguments.text,
        predict_proba(model, tokenizer, head, found.label),
        labels=(column,),
        num_features=6,
        num_samples=arguments.num_samples,
    )
    print(f"\nLIME, with the probability {lime.predict_proba[column]:.4f} of {names[column]}")
    for word, weight in lime.as_list(label=column):
        print(f"{weight:+.3f}  {word}")


if __name__ == "__main__":
    main()
