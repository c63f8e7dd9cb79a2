"""What the network thinks of all pairs' answers before it is tuned, computed once and kept in the run's folder."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from troth.model.families.folder import save_tensor_file
from troth.train.parallel.network import Network
from troth.train.parallel.ranks import Ranks
from troth.train.preference import Preferences


def reference_log_probs(
    network: Network, preferences: Preferences, file: Path, key: str, ranks: Ranks, say: Callable[[str], None]
) -> np.ndarray:
    """Log-probabilities [pairs, chosen and rejected] in float64. Pairs that `preferences` leaves out have none: -inf.

    Read from `file` where that was written with this `key`, which stands for weights, data and length of rows; else
    ranks share the work, and the first writes the file. Collective. Raises ValueError where the file is damaged.
    """
    known = ranks.once(lambda: _stored(file, key))
    if known is not None:
        return known
    if ranks.first:
        say(f"the model is asked what it thinks of both answers of {len(preferences.examples) // 2:,} pairs")
    values_P2 = torch.full((len(preferences.examples) // 2, 2), -torch.inf, dtype=torch.float64, device=network.device)
    batches = preferences.in_turn(network.micro_batch_rows)
    for at, _ in network.turns(len(batches)):
        batch = batches[at]
        found_RP2 = network.forward(batch)
        if found_RP2 is not None:
            pairs = torch.from_numpy(batch.pairs).to(network.device)
            values_P2[pairs[pairs >= 0]] = found_RP2.double()[pairs >= 0]
    if network.mesh is not None:
        dist.all_reduce(values_P2, dist.ReduceOp.MAX)
    values = values_P2.cpu()
    ranks.once(lambda: _store(values, file, key))
    return values.numpy()


def _stored(file: Path, key: str) -> np.ndarray | None:
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        return None
    try:
        with safe_open(file, framework="np") as stored:
            same = (stored.metadata() or {}).get("key") == key
            return stored.get_tensor("log_probs") if same else None
    except SafetensorError as error:
        raise ValueError(f"{file}: not readable ({error}); delete it to compute it anew") from error


def _store(values_P2: torch.Tensor, file: Path, key: str) -> None:
    partial = file.with_suffix(".partial")
    save_tensor_file({"log_probs": values_P2}, partial, metadata={"key": key})
    os.replace(partial, file)
