"""The end of a run: its model as a folder, and the adapters that were learned as one of their own."""

from collections.abc import Iterable
from pathlib import Path

import torch

from troth.model.decoder import Decoder
from troth.train.adapters import save_adapters
from troth.train.export import export
from troth.train.job import Job
from troth.train.lora import adapt, adapters, lora_names, merged
from troth.train.parallel.network import Network
from troth.train.parallel.start import folder_tensors
from troth.train.state import saved_network, saved_tensors


@torch.no_grad()
def finish(job: Job, run: Path, network: Network) -> None:
    """Write `run/model`, and `run/adapters` where adapters were learned. What other ranks have of the network is read
    from the last checkpoint."""
    checkpoint = run / "checkpoints" / f"step-{job.train.steps:09d}"
    tensors: Iterable[tuple[str, torch.Tensor]]
    if job.train.lora is not None:
        assert job.start is not None
        with torch.device("meta"):
            model = Decoder(job.model)
        lora = job.train.lora
        adapt(model, lora_names(job.model, lora.patterns), lora.rank, lora.alpha, device="cpu")
        learned = dict(adapters(model))
        held = adapters(network.decoders[0]) if network.mesh is None else saved_tensors(checkpoint, learned.items())
        for name, tensor in held:
            learned[name].copy_(tensor)
        save_adapters(model, run / "adapters", str(job.start))
        tensors = merged(model, folder_tensors(job.start, job.model))
    elif network.mesh is None:
        tensors = network.decoders[0].state_dict().items()
    else:
        tensors = saved_network(checkpoint, job.model)
    export(job.model, tensors, job.tokenizer, run / "model", chat_template=job.chat_template)
