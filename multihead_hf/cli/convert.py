"""`multihead-hf convert`: convert an older checkpoint to a multi-head model."""

import json
from typing import Annotated, Any, Literal

import typer

from .expansion import library
from .options import OverwriteFolderOption


def command(
    kind: Annotated[
        Literal["wimbert", "ggu", "sequence-classification"],
        typer.Argument(
            help="wimbert: an encoder, label_names.json and dual_head_state.pt. ggu: pretrained/backbone and a *.pth "
            "file. sequence-classification: a model of AutoModelForSequenceClassification (BERT, RoBERTa, XLM-R, "
            "CamemBERT, ELECTRA, DeBERTa, DistilBERT), or several that share one encoder."
        ),
    ],
    source: Annotated[
        list[str],
        typer.Argument(help="Folder of the old checkpoint; for sequence-classification also a name on the Hub."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the new model.")],
    ggu: Annotated[
        dict[str, Any],
        library(
            "publishing.convert.convert_ggu",
            pooling={"of": "ggu", "type": Literal["cls", "mean", "max", "last"], "unset": True},
            state_file={"of": "ggu"},
        ),
    ],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="ggu: NAME=LABEL,LABEL,LABEL (or a JSON list) for each head, in the order of its logits."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="sequence-classification: name of the head, one for each folder.")
    ] = None,
    problem_type: Annotated[
        Literal["single_label_classification", "multi_label_classification"] | None,
        typer.Option(help="sequence-classification: problem type of the models whose configuration has none."),
    ] = None,
    overwrite: OverwriteFolderOption = False,
) -> None:
    """Convert an older checkpoint to a multi-head model, and compare the logits.

    Pickles are read as plain data only.
    """
    options = {"labels": labels, "name": name, "problem_type": problem_type, **ggu}
    for option, value in options.items():
        reader = "sequence-classification" if option in ("name", "problem_type") else "ggu"
        if value and kind != reader:
            hint = f"--{option.replace('_', '-')}"
            raise typer.BadParameter(f"{kind} does not use this option, only {reader} does", param_hint=hint)
    if kind != "sequence-classification" and len(source) > 1:
        raise typer.BadParameter("give one folder at a time", param_hint="SOURCE")
    if kind == "sequence-classification" and len(name or []) != len(source):
        heads = "the head" if len(source) == 1 else f"each of the {len(source)} heads, in the order of their folders"
        raise typer.BadParameter(f"give a name for {heads}, such as --name topic", param_hint="--name")
    named = label_names(labels or [])
    from ..publishing import convert

    convert.check_output(output, source, overwrite)
    if kind == "wimbert":
        converted = convert.convert_wimbert(source[0])
    elif kind == "ggu":
        converted = convert.convert_ggu(
            source[0], named, **{key: value for key, value in ggu.items() if value is not None}
        )
    else:
        pairs = zip(source, name or [], strict=True)
        converted = convert.join(
            [convert.convert_sequence_classification(folder, head, problem_type) for folder, head in pairs]
        )
    convert.save_converted(converted, output)
    print(f"{converted}\nThe model is {output}")


def label_names(options: list[str]) -> dict[str, list[str]]:
    """Return head → names of its labels, from `NAME=LABEL,LABEL` and `NAME=["LABEL","LABEL"]`.

    Raises:
        BadParameter: If an option has neither form, or a head occurs twice.
    """
    labels: dict[str, list[str]] = {}
    for option in options:
        head, equals, names = (part.strip() for part in option.partition("="))
        if not equals or head in labels:
            raise typer.BadParameter("give NAME=LABEL,LABEL once for each head", param_hint="--labels")
        if not names.startswith("["):
            labels[head] = [name.strip() for name in names.split(",")]
            continue
        try:
            labels[head] = json.loads(names)
        except ValueError as error:
            raise typer.BadParameter(
                f"{option!r} is not a JSON list of labels: {error}", param_hint="--labels"
            ) from None
    return labels
