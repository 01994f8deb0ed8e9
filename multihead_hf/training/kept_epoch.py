"""Sentences on the epoch that a run has kept."""

from typing import TYPE_CHECKING

from ..publishing.card_callback import kept_checkpoint

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer

_CLEARLY_HIGHER = 0.02  # mean F1


def _last_epoch_is_kept(log: list[dict[str, float]]) -> str:
    """Return a sentence on the kept epoch, with the best one if its mean F1 was clearly higher."""
    scores = [(entry["eval_f1"], entry["epoch"]) for entry in log if "eval_f1" in entry and "epoch" in entry]
    sentence = "The model of the last epoch is kept."
    if not scores or max(scores)[0] - scores[-1][0] < _CLEARLY_HIGHER:
        return sentence
    (best, epoch), (last, _) = max(scores), scores[-1]
    return (
        f"{sentence} Its mean F1 on the validation rows is {last:.3f}, and that of epoch {epoch:g} was {best:.3f}. "
        "With fewer than 200 validation rows such a difference is mostly chance; with more, "
        "training.load_best_model_at_end and training.metric_for_best_model f1 keep the best epoch."
    )


def kept_epoch(trainer: "MultiHeadTrainer") -> list[str]:
    """Return a sentence on which checkpoint is kept, if there was a choice."""
    state, kept = trainer.state, kept_checkpoint(trainer.args, trainer.state)
    if kept is None:
        return [] if trainer.args.eval_strategy == "no" else [_last_epoch_is_kept(state.log_history)]
    metric = f"eval_{str(trainer.args.metric_for_best_model).removeprefix('eval_')}"
    epoch = f"step {kept[0]:,}" if kept[1] is None else f"epoch {kept[1]:g} (step {kept[0]:,})"
    return [f"The model of {epoch} is kept: {metric} {state.best_metric:.4f} is the best of {state.epoch:g} epochs."]
