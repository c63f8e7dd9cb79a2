"""The end of a run: its model as a folder, and the adapters that were learned as one of their own."""

from collections.abc import Iterable
from pathlib import Path

import torch

from troth.model.decoder import Decoder
from troth.model.mtp import MTP
from troth.train.adapters import save_adapters
from troth.train.export import export
from troth.train.job import Job
from troth.train.lora import adapt, adapters, lora_names, merged
from troth.train.parallel.network import Network
from troth.train.parallel.start import folder_tensors
from troth.train.state import saved_tensors

_Tensors = Iterable[tuple[str, torch.Tensor]]


@torch.no_grad()
def finish(job: Job, run: Path, network: Network) -> None:
    """Write `run/model`, and `run/adapters` where adapters were learned. What other ranks have of the network is read
    from the last checkpoint."""
    checkpoint = run / "checkpoints" / f"step-{job.train.steps:09d}"
    with torch.device("meta"):
        decoder, mtp = Decoder(job.model), MTP(job.model, job.train.mtp_depth)

    def learned(part: Decoder | MTP | None, expected: dict[str, torch.Tensor]) -> _Tensors:
        """The tensors of these names: of this process's network, or what all ranks saved."""
        if network.mesh is not None:
            return saved_tensors(checkpoint, expected.items())
        assert part is not None
        return ((name, tensor) for name, tensor in part.state_dict().items() if name in expected)

    tensors: _Tensors
    if job.train.lora is not None:
        assert job.start is not None
        lora = job.train.lora
        adapt(decoder, lora_names(job.model, lora.patterns), lora.rank, lora.alpha, device="cpu")
        own = dict(adapters(decoder))
        for name, tensor in learned(network.decoders[0], dict(own)):
            own[name].copy_(tensor)
        save_adapters(decoder, run / "adapters", str(job.start))
        tensors = merged(decoder, folder_tensors(job.start, job.model))
    else:
        expected = decoder.state_dict()
        if job.model.tie_word_embeddings:
            del expected["lm_head.weight"]
        tensors = learned(network.decoders[0], expected)
    ahead = None if network.mtp is None else learned(network.mtp, mtp.state_dict())
    export(job.model, tensors, job.tokenizer, run / "model", chat_template=job.chat_template, mtp=ahead)
