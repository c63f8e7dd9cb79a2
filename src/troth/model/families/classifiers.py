"""A classifier as a Hugging Face folder: the family's own layout with `score.weight` in place of the head, labels in
config.json (`id2label`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from troth.model.classifier import Classifier
from troth.model.families.configs import FAMILIES, from_hf_config, to_hf_config
from troth.model.families.folder import SHARD_BYTES, TensorFolder, write_tensors
from troth.model.families.weights import Stored, empty_decoder, stored_tensors

_CAUSAL, _CLASSIFYING, _SCORE = "ForCausalLM", "ForSequenceClassification", "score.weight"


def load_classifier(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Classifier:
    """Build the classifier that a folder describes and fill it.

    Raises ValueError naming the file, key or tensor that is missing, left over, misshapen or of another type.
    """
    path = Path(folder) / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        config, labels = from_hf_config(data), _labels(data)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    with torch.device("meta"):
        model = Classifier(config, labels).to(dtype)
    model.score = model.score.to_empty(device=device)
    model.decoder = empty_decoder(model.decoder.config, dtype, device)
    with torch.no_grad():
        targets = ((part.name, part.tensor, part.shape) for part in _stored(model))
        TensorFolder(Path(folder), device).fill(targets, FAMILIES[config.model_type].unused(config))
    return model.eval()


def save_classifier(
    model: Classifier, folder: Path, eos_token_id: int, dtype: str = "float32", shard_bytes: int = SHARD_BYTES
) -> None:
    """Write config.json and the weights, in `dtype`, which may go into several files."""
    data = to_hf_config(model.decoder.config, dtype, eos_token_id)
    data |= {
        "architectures": [data["architectures"][0].replace(_CAUSAL, _CLASSIFYING)],
        "id2label": {str(i): label for i, label in enumerate(model.labels)},
        "label2id": {label: i for i, label in enumerate(model.labels)},
        "tie_word_embeddings": False,
    }

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for part in _stored(model):
            kind = part.tensor.dtype if part.buffer else getattr(torch, dtype)
            yield part.name, part.tensor.detach().to("cpu", kind, copy=True).reshape(part.shape)

    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder, tensors(), shard_bytes)
    (folder / "config.json").write_text(json.dumps(data, indent=2), encoding="utf-8")


def _stored(model: Classifier) -> Iterator[Stored]:
    yield from stored_tensors(model.decoder)
    yield Stored(_SCORE, model.score.weight, model.score.weight.shape)


def _labels(data: dict[str, Any]) -> tuple[str, ...]:
    """transformers leaves two labels out where they have the names that it gives."""
    names = data.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
        raise ValueError(f"id2label={names!r}: expected the name of each label under its number, from 0 on")
    return tuple(str(names[str(i)]) for i in range(len(names)))
