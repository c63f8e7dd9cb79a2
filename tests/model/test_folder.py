"""Weights in several files: read as one, written where they are large, and named where something is wrong."""

import json
import re
import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from troth.model.families.configs import to_hf_config
from troth.model.families.folder import TensorFolder, write_tensors
from troth.model.families.weights import load_weights, save_weights


@pytest.fixture
def sharded(shape, random_network, tmp_path):
    """A network and its folder, in files of at most 20 kB."""
    config = shape()
    model = random_network(config)
    save_weights(model, to_hf_config(config, "float32", eos_token_id=7), tmp_path, shard_bytes=20_000)
    return model, tmp_path


def test_what_cannot_be_written_is_named(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"shard-00000.partial: cannot be written \(.*File too large"):
            write_tensors(tmp_path, [("weight", torch.zeros(100_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_shards_are_loaded_as_one_network(sharded):
    model, folder = sharded
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 3
    assert not (folder / "model.safetensors").exists()
    assert not list(folder.glob("*.partial"))
    loaded = load_weights(folder).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_transformers_reads_the_shards(sharded):
    transformers = pytest.importorskip("transformers")
    model, folder = sharded
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(tokens).logits, model.eval().logits(model(tokens)), atol=1e-4)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 400))
def test_files_stay_below_the_limit_unless_one_tensor_is_larger(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shards")
    tensors = {f"t{i}": torch.full((size,), float(i)) for i, size in enumerate(sizes)}
    write_tensors(folder, tensors.items(), limit)
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        held = load_file(file)
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= limit
    read = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
    TensorFolder(folder).fill((name, tensor, tensor.shape) for name, tensor in read.items())
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_what_is_wrong_with_shards_is_named(sharded):
    _, folder = sharded
    index = folder / "model.safetensors.index.json"
    place = json.loads(index.read_text())["weight_map"]
    name, file = next(iter(place.items()))

    held = load_file(folder / file)
    save_file({other: tensor for other, tensor in held.items() if other != name}, folder / file)
    with pytest.raises(ValueError, match=re.escape(f"{folder / file}: tensor {name} is missing")):
        load_weights(folder)

    save_file(held | {name: held[name].int()}, folder / file)
    told = f"{folder / file}: tensor {name} is of type int32, expected floating point numbers"
    with pytest.raises(ValueError, match=re.escape(told)):
        load_weights(folder)

    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(str(folder / file))):
        load_weights(folder)

    (folder / file).unlink()
    with pytest.raises(ValueError, match=re.escape(str(folder / file))):
        load_weights(folder)


def test_shards_without_their_index_are_told_of(sharded):
    _, folder = sharded
    (folder / "model.safetensors.index.json").unlink()
    told = f"{folder / 'model.safetensors'}: no such file, nor model.safetensors.index.json beside it; in the folder: "
    with pytest.raises(ValueError, match=re.escape(f"{told}model-00001-of-")):
        load_weights(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "../../etc/passwd"}}', '{"weight_map": {"a": 1}}'],
)
def test_an_index_that_is_none_is_named(sharded, text):
    _, folder = sharded
    index = folder / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(index))):
        load_weights(folder)
