"""Search the settings of `train_imbalanced.py` with Optuna, train with the best and evaluate on the test split once.

    pip install "multihead-hf[search]"
    python examples/search.py --demo --trials 5                      # no download, some minutes on a CPU
    python examples/search.py --data posts.csv --text_columns Text --label_column "Majority Decision" \\
        --positive_label True --trials 30

The search covers epochs, learning rate, weight decay, warm-up and batch size, by F1 on the validation split. Optuna's
TPE sampler is a Bayesian search, and its pruner stops unpromising trials; with `--study sqlite:///search.db` a search
can be resumed. (In one process.)

With Weights & Biases instead (a Bayesian sweep; `pip install wandb`, `wandb login`), the call is

    trainer.hyperparameter_search(
        backend="wandb", n_trials=30, metric="eval/f1",
        hp_space=lambda trial: {"method": "bayes", "metric": {"name": "eval/f1", "goal": "maximize"},
            "parameters": {"learning_rate": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-4},
                           "num_train_epochs": {"values": [3, 4, 5, 6]}}})
"""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from recipe_arguments import parse_arguments
from train_imbalanced import DEFAULTS, DEMO, ImbalancedArguments, finish, load_parts, make_trainer

from multihead_hf import MultiHeadModel


@dataclass
class SearchArguments(ImbalancedArguments):
    """Model, data and search."""

    trials: int = field(default=20, metadata={"help": "Runs to try."})
    epochs: list[int] = field(default_factory=lambda: [2, 6], metadata={"help": "Fewest and most epochs."})
    rates: list[float] = field(default_factory=lambda: [1e-5, 1e-4], metadata={"help": "Lowest and highest rate."})
    batch_sizes: list[int] = field(default_factory=lambda: [8, 16, 32])
    study: str | None = field(default=None, metadata={"help": "Optuna storage, such as sqlite:///search.db."})


def main(argv: list[str] | None = None) -> None:
    defaults = {**DEFAULTS, "output_dir": "runs/search"}
    demo = {**DEMO, "output_dir": "runs/search-demo", "rates": [1e-4, 3e-3]}
    options, args = parse_arguments(SearchArguments, defaults, demo, __doc__, argv)
    if args.world_size > 1 or args.resume_from_checkpoint or args.metric_for_best_model != "f1":
        raise SystemExit("a search runs in one process, compares F1, and goes on with --study, not from a checkpoint")
    parts, heads = load_parts(options, args)

    def space(trial: Any) -> dict[str, Any]:
        return {
            "num_train_epochs": trial.suggest_int("num_train_epochs", *options.epochs),
            "learning_rate": trial.suggest_float("learning_rate", *options.rates, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.3),
            "warmup_steps": trial.suggest_float("warmup_steps", 0.0, 0.2),  # below 1: a fraction of the steps
            "per_device_train_batch_size": trial.suggest_categorical("batch_size", options.batch_sizes),
        }

    def new_model() -> MultiHeadModel:
        return MultiHeadModel.from_encoder(options.model_name, heads=heads, pooling=options.pooling)

    # a folder that is never pushed
    elsewhere: dict[str, Any] = {"output_dir": os.path.join(args.output_dir, "_trials"), "push_to_hub": False}
    trials = dataclasses.replace(args, **elsewhere)
    trainer = make_trainer(options, trials, parts, heads, model_init=new_model)
    resumable: dict[str, Any] = {}
    if options.study:
        resumable = {"storage": options.study, "study_name": "multihead", "load_if_exists": True}
    # by the metric of the best epoch, whose model is kept
    best = trainer.hyperparameter_search(space, n_trials=options.trials, backend="optuna", **resumable)
    print(f"\nBest trial: {best.run_id}, F1 {best.objective:.3f} with {best.hyperparameters}")

    settings = dict(best.hyperparameters)
    settings["per_device_train_batch_size"] = settings.pop("batch_size")
    # the model is created after the seed is set, as in the trials, which repeats the same run
    final = make_trainer(options, dataclasses.replace(args, **settings), parts, heads, model_init=new_model)
    final.train()
    finish(final, options, parts)


if __name__ == "__main__":
    main()
