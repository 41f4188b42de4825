"""A model in transformers' format from a folder on this machine: nothing is fetched, and no code of the folder is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from compress.read_tensors import read_tensors
from compress.ready import ReadyContext
from export.clean import count_not_finite
from export.errors import EnvironmentFailure, InputError, QualityError, SecurityError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where transformers keeps weights, whole or in shards; the first that is there is read."""

ENDINGS = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForConditionalGeneration": "seq2seq",
    "EncoderDecoderModel": "seq2seq",
    "MTModel": "seq2seq",
    "ForImageClassification": "image-classification",
}
"""How the names of transformers' classes end, and the task that such a class does."""

AUTO = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "image-classification": "AutoModelForImageClassification",
}

SHOWN = 3
"""How many names of weights an error lists."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a config.json, which says what lies beside it."""

    path: Path
    config: Mapping[str, Any]

    @property
    def task(self) -> str | None:
        """What the model was saved for; None where `architectures` of its config.json does not say it."""
        names = [str(name) for name in self.config.get("architectures") or ()]
        return next((task for ending, task in ENDINGS.items() if names and names[0].endswith(ending)), None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; empty where transformers made them up (LABEL_0)."""
        named = {int(number): str(name) for number, name in (self.config.get("id2label") or {}).items()}
        names = tuple(named[number] for number in sorted(named))
        made_up = all(name == f"LABEL_{number}" for number, name in enumerate(names))
        return () if made_up or sorted(named) != list(range(len(named))) else names

    @property
    def licence(self) -> str | None:
        """What the head of its README.md says, as on the Hugging Face hub; None where it says nothing."""
        readme = self.path / "README.md"
        text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
        lines = text.split("\n---", 1)[0].splitlines() if text.startswith("---") else []
        found = [line.partition(":")[2].strip(" '\"") for line in lines if line.startswith("license:")]
        return found[0] if found and found[0] else None

    def positions(self) -> int | None:
        """How many tokens the model can tell apart by their place; None where any number goes."""
        known = [self.config.get(name) for name in ("max_position_embeddings", "n_positions")]
        places = next((int(value) for value in known if value), None)
        behind_padding = str(self.config.get("model_type")) in ("roberta", "xlm-roberta", "camembert", "mpnet")
        return places if places is None or not behind_padding else places - int(self.config.get("pad_token_id", 1)) - 1


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping; empty where the file is missing.

    Raises:
        InputError: if it holds something else.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON file ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}; a mapping is needed")
    return value


def open_folder(context: ReadyContext, option: str, value: str) -> ModelFolder:
    """The folder that an option names.

    Raises:
        InputError: if there is none, or it is not in transformers' format.
    """
    path = context.folder / value
    if not path.is_dir():
        raise context.refusal(
            option,
            f"'{value}' is no folder; name one in transformers' format on this machine: nothing is fetched from a hub",
        )
    config = read_json(path / CONFIG)
    if "model_type" not in config:
        raise context.refusal(
            option, f"'{value}' has no {CONFIG} with a model_type; save the model there with save_pretrained"
        )
    return ModelFolder(path, config)


def load_network(folder: ModelFolder, task: str, context: ReadyContext, option: str) -> nn.Module:
    """The folder's model for a task, with all its weights, in float32 and in eval mode.

    Raises:
        InputError: if its kind of network does not do the task, or weights are missing or have other shapes.
        SecurityError: if code of the folder, or of its weights file, would have to be run.
        QualityError: if a weight is NaN or Inf.
        EnvironmentFailure: if transformers is not installed.
    """
    config = _configuration(folder, context, option)
    tensors = _read_weights(folder, context, option)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (count := count_not_finite(tensor.float().numpy())):
            raise QualityError(
                f"{context.where(option)}: weight '{name}': {count} of {tensor.numel()} values are NaN or Inf; use a "
                "checkpoint from before the training diverged"
            )
    kind = _class_for(task, config, folder, context, option)
    try:
        model, told = kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise context.refusal(option, f"the weights do not fit {kind.__name__}: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        more = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
        raise context.refusal(
            option,
            f"the folder has no weights for {', '.join(missing[:SHOWN])}{more} of {kind.__name__}; name a folder that was "
            f"saved after training for {task}, or another task",
        )
    return cast(nn.Module, model.float().eval())


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EnvironmentFailure(
            "a folder in transformers' format needs that package, which is not installed; pip install 'edge-compress[nlp]'"
        ) from error
    transformers.utils.logging.set_verbosity_error()  # what it would report is told in our own sentences
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _configuration(folder: ModelFolder, context: ReadyContext, option: str) -> Any:
    known, kind = _transformers().CONFIG_MAPPING, str(folder.config["model_type"])
    if kind in known:
        try:
            return known[kind].from_dict(dict(folder.config))
        except Exception as error:  # the library checks what it reads by many kinds of exception
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise context.refusal(option, f"transformers cannot use {CONFIG}: {reason}") from error
    if "auto_map" in folder.config:
        raise SecurityError(
            f"{context.where(option)}: '{kind}' is code of the folder's own (auto_map in {CONFIG}), which is never run; "
            "write a workload in Python with code that you trust"
        )
    raise context.refusal(option, f"this version of transformers does not know the model_type '{kind}' of {CONFIG}")


def _class_for(task: str, config: Any, folder: ModelFolder, context: ReadyContext, option: str) -> Any:
    """The class of transformers that does a task with this kind of network."""
    auto = getattr(_transformers(), AUTO[task])
    try:
        with torch.device("meta"):
            return type(auto.from_config(config, trust_remote_code=False))
    except ValueError as error:
        able = folder.task
        raise context.refusal(
            option,
            f"a {folder.config['model_type']} model does not do {task} in transformers"
            + (f"; {CONFIG} says {able}" if able and able != task else ""),
        ) from error


def _read_weights(folder: ModelFolder, context: ReadyContext, option: str) -> dict[str, Tensor]:
    found = next((folder.path / name for name in WEIGHTS if (folder.path / name).is_file()), None)
    if found is None:
        raise context.refusal(option, f"the folder has no weights; one of {', '.join(WEIGHTS)} is needed")
    if found.suffix != ".json":
        return read_tensors(found)
    shards = sorted({str(name) for name in (read_json(found).get("weight_map") or {}).values()})
    if any(Path(name).name != name for name in shards) or not shards:
        raise context.refusal(option, f"{found.name} must name the shards that lie beside it")
    return {name: tensor for shard in shards for name, tensor in read_tensors(folder.path / shard).items()}
