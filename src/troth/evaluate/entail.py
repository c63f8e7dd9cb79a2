"""A natural-language-inference model folder, read and asked: what a passage says of a claim."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from troth.model.classifier import Classifier
from troth.model.families.classifiers import load_classifier
from troth.model.tokenizer import Tokenizer

_BATCH_TOKENS = 8192


class EntailmentModel:
    """A classifier and its tokenizer (a `Classifier` for curation's verifiers).

    A pair is read as passage, line break, claim; a passage too long for the model loses its end.
    """

    def __init__(self, model: Classifier, tokenizer: Tokenizer, model_hash: str):
        self.model, self.tokenizer, self.model_hash = model.eval(), tokenizer, model_hash

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "EntailmentModel":
        """Read a folder with a classification head. Raises ValueError naming what is wrong with it."""
        digest = hashlib.sha256()
        for file in sorted(Path(folder).glob("*.safetensors")):
            with file.open("rb") as part:
                while block := part.read(1 << 22):
                    digest.update(block)
        return cls(load_classifier(folder, device=device), Tokenizer.load(folder), digest.hexdigest()[:16])

    def pair(self, passage: str, claim: str) -> list[int]:
        """The tokens of a pair."""
        room = self.model.decoder.config.max_position_embeddings
        end = self.tokenizer.encode(f"\n{claim}")[: room - 1]
        return [self.tokenizer.begin_of_text, *self.tokenizer.encode(passage)[: room - 1 - len(end)], *end]

    @torch.no_grad()
    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[Mapping[str, float]]:
        """For each (passage, claim) the probability of each label."""
        rows = [self.pair(passage, claim) for passage, claim in pairs]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[Mapping[str, float]] = [{} for _ in rows]
        while order:
            size = max(1, _BATCH_TOKENS // len(rows[order[0]]))
            while size > 1 and size * len(rows[order[min(size, len(order)) - 1]]) > _BATCH_TOKENS:
                size -= 1
            batch, order = order[:size], order[size:]
            device = self.model.score.weight.device
            tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[i]) for i in batch], batch_first=True)
            lengths = torch.tensor([len(rows[i]) for i in batch])
            p_BL = self.model(tokens.to(device), lengths.to(device)).float().softmax(-1)
            for i, p_L in zip(batch, p_BL.tolist(), strict=True):
                found[i] = dict(zip(self.model.labels, p_L, strict=True))
        return found
