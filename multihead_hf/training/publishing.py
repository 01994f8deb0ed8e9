"""Saving and publishing of a Trainer's model."""

import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils import PushInProgress

from ..evaluation.report import EvaluationReport
from ..model.storage_multihead import heads_with_decisions, warn_of_lost_decisions
from ..model.unwrapping import multi_head_model
from ..model.weights_multihead import without_bars
from ..publishing.card import CARD
from ..publishing.card_callback import ModelCardCallback
from ..publishing.card_facts import CardFacts
from ..utils.files import holds_model, write_files_whole
from .arguments import MultiHeadTrainingArguments
from .checkpoints import (
    is_checkpoint,
    push_from_checkpoint,
    save_head_weighting,
    trained_parameters,
)
from .checks import check_token
from .head_weights import HeadWeights
from .resuming import ResumingHooks, rows_digest, save_trained_names


class PublishingHooks(ResumingHooks):
    """Methods of `MultiHeadTrainer` that save and publish."""

    args: MultiHeadTrainingArguments
    push_in_progress: PushInProgress | None
    head_weights: HeadWeights | None
    _card: ModelCardCallback

    @property
    def chosen_head_rates(self) -> list[float]:
        """The different peak learning rates of the heads where the argument leaves them open, in ascending order."""
        if self.args.head_learning_rate is not None or self.optimizer is None:
            return []
        groups = getattr(self.optimizer, "param_groups", [])  # (DeepSpeed's placeholder has none)
        groups = [group for group in groups if str(group.get("name", "")).startswith("heads")]
        rates = {float(group.get("initial_lr", group["lr"])) for group in groups}
        return [] if rates == {self.args.learning_rate} else sorted(rates)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model and its card, as `Trainer.save_model`; the Trainer's pickle is kept only in checkpoints.

        Args:
            output_dir: Folder to save into; `None` means the arguments' `output_dir`.
            _internal_call: As for the base class.

        Raises:
            ValueError: The model could not be loaded again; nothing has been written.
        """
        multi_head_model(self.model).config.check_saveable()  # before the folder is created
        # progress bars of written weights would interrupt the progress bar of the training
        secrets = [field.name for field in fields(self.args) if field.name.endswith("token")]
        # (a checkpoint pickles the arguments, which need the token for a push)
        with self._with_arguments(**dict.fromkeys(secrets if _internal_call else ())):
            without_bars(super().save_model, output_dir, _internal_call)
        folder = output_dir if output_dir is not None else self.args.output_dir
        pickle = os.path.join(folder, TRAINING_ARGS_NAME)
        if not self.args.should_save or not os.path.isdir(folder):
            return
        if is_checkpoint(folder):
            rows = rows_digest(self.train_dataset)
            save_trained_names(folder, trained_parameters(self.model), self.args, rows)
            if self.head_weights is not None:
                save_head_weighting(folder, self.head_weights.log_variances)
        elif os.path.isfile(pickle):
            # the Trainer needs it in a checkpoint; a published folder must not contain a pickle
            os.remove(pickle)
        if multi_head_model(self.model) is self.model:  # otherwise PEFT writes the card of its adapter
            self._card.write(folder)
        elif not is_checkpoint(folder):
            warn_of_lost_decisions(heads_with_decisions(multi_head_model(self.model).config))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        if not self.args.should_save or not holds_model(folder):
            super()._save(output_dir, state_dict)
            return
        base = multi_head_model(self.model)
        if base is self.model:
            base.check_no_adapter(folder)

        def save(fresh: str) -> None:
            if base is not self.model and (folder / CARD).is_file():
                shutil.copy(folder / CARD, fresh)  # PEFT extends an existing card
            super(PublishingHooks, self)._save(fresh, state_dict)

        write_files_whole(folder, save)

    def card_facts(self) -> CardFacts:
        """Return the facts for the model card.

        Returns:
            Facts on the arguments, the training rows and the run, with its last evaluation or the report on it
            (`write_report`).
        """
        return self._card.facts()

    def note_report(self, report: EvaluationReport) -> None:
        """Include a report on the current model in the model card that is written next.

        Args:
            report: The report.
        """
        self._card.note_report(report)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card into `output_dir`, as every save does, with additional facts.

        PEFT writes the card of an adapter, with all these arguments.

        Args:
            language: Language of the texts.
            license: License of the model.
            tags: Additional tags.
            model_name: For adapters only.
            finetuned_from: Name of the base model on the Hub.
            tasks: For adapters only.
            dataset_tags: Names of the datasets on the Hub.
            dataset: For adapters only.
            dataset_args: For adapters only.
        """
        if not self.is_world_process_zero():
            return
        if multi_head_model(self.model) is not self.model:
            super().create_model_card(
                language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args
            )
            return
        facts = {"language": language, "license": license, "tags": tags}
        self._card.write(self.args.output_dir, {**facts, "base_model": finetuned_from, "datasets": dataset_tags})

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        push_from_checkpoint(self, checkpoint_folder)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> CommitInfo:
        """Push the model to the Hub, as `Trainer.push_to_hub`.

        Args:
            commit_message: Message of the commit.
            blocking: Whether to wait until everything is uploaded.
            token: Token of the Hub; `None` means that of the arguments, else the stored one.
            *args: As for the base class.
            **kwargs: As for the base class.

        Returns:
            The result of the base class.

        Raises:
            ValueError: There is no token to push with.
        """
        check_token(token or self.args.hub_token)
        return super().push_to_hub(commit_message, blocking, token, *args, **kwargs)
