"""The end of a run: its model as a folder, and the adapters that were learned as one of their own, which may also be
had before."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from troth.model.adapters import save_adapters
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.lora import adapt
from troth.model.mtp import MTP
from troth.system import LoRATable, TrainTable
from troth.train.checkpoints import Checkpoints
from troth.train.export import export
from troth.train.job import Job
from troth.train.lora import adapters, lora_names, merged
from troth.train.parallel.network import Network
from troth.train.parallel.start import folder_tensors
from troth.train.run import checkpoints_of, read_record
from troth.train.state import saved_tensors

_Tensors = Iterable[tuple[str, torch.Tensor]]


@torch.no_grad()
def finish(job: Job, run: Path, network: Network) -> None:
    """Write `run/model`, and `run/adapters` where adapters were learned. What other ranks have of the network is read
    from the last checkpoint."""
    at = checkpoints_of(run, job.train)
    with torch.device("meta"):
        decoder, mtp = Decoder(job.model), MTP(job.model, job.train.mtp_depth)

    def learned(part: Decoder | MTP | None, expected: dict[str, torch.Tensor]) -> _Tensors:
        """The tensors of these names: of this process's network, or what all ranks saved."""
        if network.mesh is not None:
            return saved_tensors(at, job.train.steps, expected.items())
        assert part is not None
        return ((name, tensor) for name, tensor in part.state_dict().items() if name in expected)

    tensors: _Tensors
    if job.train.lora is not None:
        assert job.start is not None
        own = _adapt(decoder, job.train.lora)
        for name, tensor in learned(network.decoders[0], dict(own)):
            own[name].copy_(tensor)
        save_adapters(decoder, run / "adapters", str(job.start))
        tensors = merged(decoder, folder_tensors(job.start, job.model))
    else:
        expected = decoder.state_dict()
        if job.model.tie_word_embeddings:
            del expected["lm_head.weight"]
        tensors = learned(network.decoders[0], expected)
    ahead = learned(network.mtp, mtp.state_dict()) if job.train.mtp_weight else None
    export(
        job.model, tensors, job.tokenizer, run / "model", job.train.export_dtype, job.chat_template, ahead, job.start
    )


@torch.no_grad()
def export_adapters(run: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write the adapters that a run has learned so far into `folder`, as PEFT has them, and return how many steps these
    are from; before the run has ended, those of its newest checkpoint.

    Raises ValueError where the run has no adapters or no whole checkpoint yet; `say` is told of checkpoints that are
    passed over.
    """
    path = run / "run.json"
    settings = read_record(path)["settings"]
    try:
        model, train = ModelConfig.model_validate(settings["model"]), TrainTable.model_validate(settings["train"])
    except ValueError as error:
        raise ValueError(f"{path}: not of a run of this version ({str(error).splitlines()[0]})") from error
    if train.lora is None:
        raise ValueError(f"{run}: learns whole weights, not adapters (train.lora)")
    if (run / "model").exists():
        shutil.copytree(run / "adapters", folder, dirs_exist_ok=True)
        return train.steps
    with torch.device("meta"):
        decoder = Decoder(model)
    own = _adapt(decoder, train.lora)
    checkpoints = Checkpoints(checkpoints_of(run, train), keep=train.keep_checkpoints)
    try:
        step = checkpoints.load({f"model.{name}": tensor.detach() for name, tensor in own.items()}, say)
    finally:
        checkpoints.close()
    if not step:
        raise ValueError(f"{run}: has no checkpoint yet")
    save_adapters(decoder, folder, settings["data"]["start"])
    return step


def _adapt(decoder: Decoder, lora: LoRATable) -> dict[str, torch.nn.Parameter]:
    """Give a decoder on the meta device the adapters of a run, and return them; they are not filled."""
    adapt(decoder, lora_names(decoder.config, lora.patterns), lora.rank, lora.alpha, device="cpu")
    return dict(adapters(decoder))
