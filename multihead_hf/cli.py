"""The command line `multihead-hf`: reads options, calls the library, and says errors in one line."""

import json
import os
import sys
from enum import Enum
from typing import Annotated, Any

try:
    import typer
except ImportError:
    raise SystemExit('the command line needs typer: pip install "multihead-hf[cli]"') from None

from transformers import AutoConfig, AutoTokenizer

from .data.heads import infer_heads
from .data.inspection import inspect_dataset
from .data.sources import DEFAULT_PARTS, one_part, read_dataset
from .model.configuration_multihead import MultiHeadConfig
from .model.modeling_multihead import MultiHeadModel
from .publishing.card import CARD, add_report_folder, check_given, read_facts, write_card

NAME = "multihead-hf"
app = typer.Typer(name=NAME, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error came from.")] = False,
) -> None:
    """One pretrained encoder, any number of named classification heads.

    Exit codes: 0, 1 for an error (in one line, with what to type), 2 for wrong usage.
    """


DataArgument = Annotated[
    list[str],
    typer.Argument(help="Files (CSV, TSV, JSON, JSON Lines, Parquet), a glob, a folder, or a data set on the Hub."),
]
ModelArgument = Annotated[str, typer.Argument(help="A saved multi-head model: a folder, or a name on the Hub.")]
LabelColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of labels; for each head one. NAME=COLUMN for another name of the head, "
        "NAME=COLUMN,COLUMN for one column for each label."
    ),
]
TextColumnOption = Annotated[
    list[str] | None, typer.Option(help="Column of the text, twice for text pairs. Default: the model's, else text.")
]
SepOption = Annotated[
    list[str] | None,
    typer.Option(help="What joins the labels in strings, such as '|'; for one head only NAME=|."),
]
EmptyOption = Annotated[str, typer.Option(help="What an empty joined string is: missing, or none of the labels.")]
MultiHotOption = Annotated[bool, typer.Option("--multi-hot", help="Lists of integers are 0/1 for each label.")]
DelimiterOption = Annotated[str | None, typer.Option(help="Between the columns of CSV files. Default: a comma.")]
SplitOption = Annotated[
    str | None, typer.Option(help="Which part of a folder or Hub data set. Default: test, else validation.")
]
BatchSizeOption = Annotated[int, typer.Option(help="Texts that are read at a time.", min=1)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")]


@app.command("inspect")
def inspect_command(
    data: DataArgument,
    label_column: LabelColumnOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="A saved multi-head model: its heads, tokenizer and text settings. Or name --label-column."),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Counts tokens; without it (and --model) words count.")] = None,
    text_column: TextColumnOption = None,
    max_length: Annotated[int | None, typer.Option(help="Length after which texts are cut.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch, for labels without a positive in it.", min=1)] = 16,
    rare_below: Annotated[int, typer.Option(help="A label with fewer rows than this is rare.", min=1)] = 10,
    sep: SepOption = None,
    empty: EmptyOption = "missing",
    multi_hot: MultiHotOption = False,
    delimiter: DelimiterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a data set before training: lengths, label counts, rare labels, duplicates and empty texts."""
    columns = label_columns(label_column or [])
    if model is None and not columns:
        raise typer.BadParameter("name the labels' columns, --label-column topic --label-column mood, or a --model")
    rows = read_dataset(data[0] if len(data) == 1 else data, delimiter=delimiter)
    reading: dict[str, Any] = {"multi_hot": multi_hot, "sep": separators(sep or [], list(columns)), "empty": empty}
    heads: Any = infer_heads(rows, columns, **reading) if model is None else saved_config(model)
    counter = tokenizer if tokenizer is not None else model
    report = inspect_dataset(
        rows,
        heads,
        None if counter is None else AutoTokenizer.from_pretrained(counter),
        max_length=max_length,
        batch_size=batch_size,
        rare_below=rare_below,
        text_columns=text_column,
        label_columns=columns or None,
        **reading,
    )
    show(report, as_json)


@app.command("report")
def report_command(
    model: ModelArgument,
    data: DataArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the report; made where it does not exist.")],
    split: SplitOption = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = "missing",
    multi_hot: MultiHotOption = False,
    delimiter: DelimiterOption = None,
    title: Annotated[str | None, typer.Option(help="Of the page. Default: the model's name.")] = None,
    most: Annotated[int, typer.Option(help="Mistakes of a head on the page; the tables have all.", min=0)] = 500,
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap intervals.", min=2)] = 1000,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Judge a saved model on labelled rows: figures with intervals, labels, pictures and mistakes as a web page."""
    from .training.reporting import saved_history, write_report

    reading = reading_options(saved_config(model), label_column, text_column, sep, empty, multi_hot, batch_size)
    report = write_report(
        MultiHeadModel.from_pretrained(model),
        rows_of(data, delimiter, split, DEFAULT_PARTS),
        output,
        tokenizer=AutoTokenizer.from_pretrained(model),
        title=title,
        history=saved_history(model),
        most=most,
        draws=draws,
        **reading,
    )
    show(report, as_json)


@app.command("evaluate")
def evaluate_command(
    model: ModelArgument,
    data: DataArgument,
    split: SplitOption = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = "missing",
    multi_hot: MultiHotOption = False,
    delimiter: DelimiterOption = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Bootstrap intervals of accuracy, precision, recall and F1 instead.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws of the intervals.", min=2)] = 1000,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Print the figures of each head of a saved model on labelled rows."""
    from .training.comparison import confidence_intervals
    from .training.predictions import evaluated

    reading = reading_options(saved_config(model), label_column, text_column, sep, empty, multi_hot, batch_size)
    loaded, tokenizer = MultiHeadModel.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    rows = rows_of(data, delimiter, split, DEFAULT_PARTS)
    if intervals:
        report = confidence_intervals(loaded, rows, tokenizer=tokenizer, draws=draws, **reading)
        show(report, as_json)
        return
    found = evaluated(loaded, rows, tokenizer, **reading)
    if as_json:
        print(as_text(found))
        return
    width = max(map(len, found))
    print("\n".join(f"{key:{width}}  {value:.4f}" for key, value in found.items()))


@app.command("tune-thresholds")
def tune_thresholds_command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model; its config.json is changed.")],
    data: DataArgument,
    split: Annotated[
        str | None, typer.Option(help="Which part of a folder or Hub data set. Default: validation.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What is best: f1, recall_at_precision (with --precision) or cost (with --costs).")
    ] = "f1",
    per: Annotated[str, typer.Option(help="A threshold for each label, or one for the whole head.")] = "label",
    min_support: Annotated[
        int, typer.Option(help="Labels with fewer positives have the common threshold of their head.", min=1)
    ] = 10,
    head: Annotated[list[str] | None, typer.Option(help="Name of a head; also several. Default: all.")] = None,
    precision: Annotated[float, typer.Option(help="The least precision, for recall_at_precision.")] = 0.9,
    costs: Annotated[
        tuple[float, float], typer.Option(help="Of a false positive and of a false negative, for cost.")
    ] = (1.0, 1.0),
    calibrate_too: Annotated[
        bool, typer.Option("--calibrate", help="First fit a temperature to each head, on the same rows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found, and change nothing.")] = False,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = "missing",
    multi_hot: MultiHotOption = False,
    delimiter: DelimiterOption = None,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Choose the thresholds of a saved model's multi-label heads on validation rows, and keep them in its folder."""
    from .training.tuning import calibrate, save_decisions, tune_thresholds

    reading = reading_options(saved_config(model), label_column, text_column, sep, empty, multi_hot, batch_size)
    check_folder(model)
    loaded, tokenizer = MultiHeadModel.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    rows = rows_of(data, delimiter, split, ("validation",))
    found: dict[str, Any] = {}
    if calibrate_too:
        found["calibration"] = calibrate(loaded, rows, heads=head or None, tokenizer=tokenizer, **reading)
    several = [name for name, own in loaded.config.heads.items() if own.multi_label and (not head or name in head)]
    if several or not calibrate_too:
        found["thresholds"] = tune_thresholds(
            loaded,
            rows,
            metric,
            per,
            min_support,
            heads=several if head and calibrate_too else head or None,
            precision=precision,
            costs=costs,
            tokenizer=tokenizer,
            **reading,
        )
    if not dry_run:
        save_decisions(model, loaded)
    if as_json:
        print(as_text({key: own.to_dict() for key, own in found.items()}))
    else:
        print("\n\n".join(str(own) for own in found.values()))
        print("\nNothing was changed" if dry_run else f"\nThe thresholds are in {os.path.join(model, 'config.json')}")


def show(report: Any, as_json: bool) -> None:
    """Print a report as its tables, or its plain values."""
    print(as_text(report.to_dict()) if as_json else report)


def as_text(values: Any) -> str:
    """Plain values as JSON to read."""
    return json.dumps(values, ensure_ascii=False, indent=2)


def check_folder(model: str) -> None:
    """
    Raises:
        ValueError: a model on the Hub, in which nothing can be changed from here.
    """
    if not os.path.isdir(model):
        raise ValueError(f"{model} is no folder here: download the model, or save it to one, and change it there")


def rows_of(data: list[str], delimiter: str | None, split: str | None, parts: tuple[str, ...]) -> Any:
    """The rows of files or of a data set on the Hub; of several parts that of `split`, else the first of `parts`.

    Raises:
        ValueError: they cannot be read, there is no such part, or it is not clear which.
    """
    return one_part(read_dataset(data[0] if len(data) == 1 else data, delimiter=delimiter), split, parts)


def reading_options(
    config: MultiHeadConfig,
    label_column: list[str] | None,
    text_column: list[str] | None,
    sep: list[str] | None,
    empty: str,
    multi_hot: bool,
    batch_size: int,
) -> dict[str, Any]:
    """How rows are read, as `MultiHeadTrainingArguments`.

    Raises:
        BadParameter: columns of a head that the model does not have.
    """
    columns = label_columns(label_column or [])
    unknown = [name for name in columns if name not in config.heads]
    if unknown:
        raise typer.BadParameter(
            f"the model has no heads {unknown}; it has {list(config.heads)}", param_hint="--label-column"
        )
    return {
        "text_columns": text_column,
        "label_columns": columns or None,
        "label_sep": separators(sep or [], list(config.heads)),
        "empty_labels": empty,
        "multi_hot": multi_hot,
        "per_device_eval_batch_size": batch_size,
    }


@app.command("card")
def card_command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model.")],
    report: Annotated[
        str | None, typer.Option(help="Folder of a report: its figures, intervals and pictures go into the card.")
    ] = None,
    rows_name: Annotated[str | None, typer.Option(help="What to call the rows of the report.")] = None,
    model_id: Annotated[str | None, typer.Option(help="Repository on the Hub, for the code in the card.")] = None,
    base_model: Annotated[str | None, typer.Option(help="The pretrained encoder on the Hub.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Code of a language, such as nl; also several.")] = None,
    license_id: Annotated[str | None, typer.Option("--license", help="Identifier, such as apache-2.0.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="On the Hub, that was trained on; also several.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A further tag; also several.")] = None,
    widget_text: Annotated[
        list[str] | None, typer.Option(help="A text to try the model with; it is published. Also several.")
    ] = None,
    limits: Annotated[str | None, typer.Option(help="What the model is not for, in your words.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a card that somebody changed.")] = False,
) -> None:
    """Write the model card anew (README.md, model_card.json): what was known when the model was saved, and more."""
    config = saved_config(model)
    check_folder(model)
    facts = read_facts(model)
    said = {
        "base_model": base_model,
        "language": language,
        "license": license_id,
        "datasets": dataset,
        "tags": tag,
        "widget_texts": widget_text,
        "limits": limits,
    }
    said = {name: value for name, value in said.items() if value}
    if tag:
        said["tags"] = [*facts.tags, *(each for each in tag if each not in facts.tags)]
    for name, value in check_given(said).items():
        setattr(facts, name, value)
    facts.model_id = model_id or facts.model_id or os.path.basename(os.path.abspath(model))
    pictures = {} if report is None else add_report_folder(facts, config, report, rows_name)
    if not write_card(model, config, facts, pictures, replace):
        raise ValueError(f"{os.path.join(model, CARD)} was written or changed by somebody: --replace writes it anew")
    print(f"The card is {os.path.join(model, CARD)}")


class Kind(str, Enum):
    """What `convert` reads."""

    wimbert = "wimbert"
    ggu = "ggu"
    sequence_classification = "sequence-classification"


@app.command("convert")
def convert_command(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="wimbert: encoder, label_names.json and dual_head_state.pt. ggu: pretrained/backbone and a *.pth. "
            "sequence-classification: of AutoModelForSequenceClassification (BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, "
            "DeBERTa, DistilBERT), several if on one encoder."
        ),
    ],
    source: Annotated[
        list[str],
        typer.Argument(help="Folder of the old checkpoint; for sequence-classification also a name on the Hub."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the new model.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="ggu: NAME=LABEL,LABEL,LABEL for each head, in the order of its logits."),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="ggu: cls (the default), mean, max or last, as the old model read the encoder.")
    ] = None,
    state_file: Annotated[str | None, typer.Option(help="ggu: name of the *.pth, where there are several.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="sequence-classification: name of the head, one for each folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write into a folder that holds something.")
    ] = False,
) -> None:
    """Make a multi-head model of an older checkpoint, and compare the logits. Pickles are read as plain data only."""
    from .publishing import convert

    convert.check_output(output, source, overwrite)
    for option, value, reader in (
        ("--labels", labels, Kind.ggu),
        ("--pooling", pooling, Kind.ggu),
        ("--state-file", state_file, Kind.ggu),
        ("--name", name, Kind.sequence_classification),
    ):
        if value and kind is not reader:
            raise typer.BadParameter(f"{kind.value} does not read it, {reader.value} does", param_hint=option)
    if kind is not Kind.sequence_classification and len(source) > 1:
        raise typer.BadParameter("one folder at a time", param_hint="SOURCE")
    if kind is Kind.wimbert:
        found = convert.convert_wimbert(source[0])
    elif kind is Kind.ggu:
        given = dict(each.split("=", 1) for each in labels or [] if "=" in each)
        if len(given) != len(labels or []):
            raise typer.BadParameter("give NAME=LABEL,LABEL once for each head", param_hint="--labels")
        names = {head: own.split(",") for head, own in given.items()}
        found = convert.convert_ggu(source[0], names, pooling or "cls", state_file)
    else:
        if len(name or []) != len(source):
            raise typer.BadParameter(f"give a name for each of {len(source)} heads", param_hint="--name")
        pairs = zip(source, name or [], strict=True)
        found = convert.join([convert.convert_sequence_classification(each, head) for each, head in pairs])
    convert.save_converted(found, output)
    print(f"{found}\nThe model is {output}")


def label_columns(options: list[str]) -> dict[str, str | list[str]]:
    """Head → column or columns, of `NAME`, `NAME=COLUMN` and `NAME=COLUMN,COLUMN`."""
    columns: dict[str, str | list[str]] = {}
    for option in options:
        name, equals, column = option.partition("=")
        if not name or (equals and not column):
            raise typer.BadParameter(
                f"{option!r}: give COLUMN, NAME=COLUMN or NAME=COLUMN,COLUMN", param_hint="--label-column"
            )
        columns[name] = column.split(",") if "," in column else column or name
    return columns


def separators(options: list[str], heads: list[str]) -> str | dict[str, str] | None:
    """One separator for all heads, or head → separator, of `SEP` or several `NAME=SEP`."""
    named = {name: sep for name, equals, sep in (option.partition("=") for option in options) if equals and sep}
    if len(named) == len(options) and (not heads or set(named) <= set(heads)):
        return named or None
    if len(options) > 1:
        raise typer.BadParameter("give one separator, or NAME=SEP for each head", param_hint="--sep")
    return options[0]


def saved_config(model: str) -> MultiHeadConfig:
    """
    Raises:
        ValueError: a folder that holds no multi-head model, or a name that leads to none.
    """
    if os.path.isdir(model) and not os.path.isfile(os.path.join(model, "config.json")):
        raise ValueError(f"{model} is no saved model: it has no config.json")
    try:
        config = AutoConfig.from_pretrained(model)
    except OSError as error:
        raise ValueError(f"{model} is no folder here, and cannot be had from the Hub: {error}") from error
    if not isinstance(config, MultiHeadConfig):
        raise ValueError(f"{model} is a model of the type {config.model_type!r}, without named heads")
    return config


def main() -> None:
    """The program."""
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("start it as one process; with several GPUs show it one, CUDA_VISIBLE_DEVICES=0")
        app()
    except (ValueError, OSError, ImportError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"{NAME}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
