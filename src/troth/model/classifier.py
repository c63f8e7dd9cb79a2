"""A decoder with a linear head over its last token: what kind of text this is, as in transformers'
*ForSequenceClassification.

A natural-language-inference model is one: its text is a passage with a claim, its labels are what the one says of the
other.
"""

import torch
from torch import nn

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder


class Classifier(nn.Module):
    """Scores of `labels` for whole texts; weights start uninitialised. The decoder's own head is not part of it."""

    def __init__(self, config: ModelConfig, labels: tuple[str, ...]):
        super().__init__()
        self.labels = labels
        # A tied head takes no memory and no place in a folder.
        self.decoder = Decoder(config.model_copy(update={"tie_word_embeddings": True}))
        self.score = nn.Linear(config.hidden_size, len(labels), bias=False)

    def forward(self, tokens_BT: torch.Tensor, length_B: torch.Tensor) -> torch.Tensor:
        """Scores [batch, labels] of texts of `length_B` tokens, whatever pads them at their right."""
        h_BTD = self.decoder(tokens_BT)
        last_BD = h_BTD[torch.arange(len(tokens_BT), device=tokens_BT.device), length_B - 1]
        out_BL: torch.Tensor = self.score(last_BD)
        return out_BL
