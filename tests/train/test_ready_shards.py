"""Token shards that are there already are told from documents, and know the tokenizer that wrote them."""

import re

import fsspec
import pytest

from troth.model.tokenizer import SPECIAL, Tokenizer
from troth.train.ready_shards import bring_tokenizer, find_shards
from troth.train.shards import write_shards

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def local(tokenizer, tmp_path):
    write_shards([("prose", "Haste makes waste.")] * 3, tokenizer, tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture(params=["here", "in a bucket"])
def shards(request, local):
    if request.param == "here":
        return str(local)
    bucket = f"memory://{local.parent.name}/shards"
    for file in local.iterdir():
        MEMORY.pipe(f"{bucket}/{file.name}", file.read_bytes())
    return bucket


def test_shards_are_told_from_documents(shards, tmp_path):
    assert find_shards([shards]) == shards
    assert find_shards([f"{tmp_path}", f"{tmp_path}/documents.jsonl", "rockets://moon"]) is None
    with pytest.raises(ValueError, match=re.escape(f"{shards}: holds token shards, which a run reads alone")):
        find_shards([f"{tmp_path}/documents.jsonl", shards])


def test_their_tokenizer_comes_along(shards, tokenizer, tmp_path):
    found = bring_tokenizer(shards, tmp_path / "run" / "tokenizer")
    assert (found.ranks, found.special) == (tokenizer.ranks, tokenizer.special)
    assert Tokenizer.load(tmp_path / "run" / "tokenizer").ranks == tokenizer.ranks
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["tokenizer"]


def test_another_tokenizer_is_refused_but_not_one_with_more_special_tokens(shards, tokenizer, tmp_path):
    for name, special in (("more", [*SPECIAL, "<|call|>"]), ("others", [*SPECIAL[:-1], "<|call|>"])):
        (tmp_path / name).mkdir()
        Tokenizer(tokenizer.ranks, special).save(tmp_path / name)
    assert "<|call|>" in bring_tokenizer(shards, tmp_path / "more").special
    told = f"{shards}: was written with another tokenizer than {tmp_path / 'others'}"
    with pytest.raises(ValueError, match=re.escape(told)):
        bring_tokenizer(shards, tmp_path / "others")


def test_without_any_tokenizer_one_is_asked_for(local, tmp_path):
    (local / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json; name the folder of the one it was written with"):
        bring_tokenizer(str(local), tmp_path / "run" / "tokenizer")


def test_a_token_that_only_the_settings_name_may_end_texts(tokenizer, tmp_path):
    model, shards = tmp_path / "model", tmp_path / "shards"
    model.mkdir()
    tokenizer.save(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text((model / name).read_text().replace("<|endoftext|>", "<eos>"))
    write_shards([("prose", "Rome was not built in a day.")], Tokenizer.load(model), shards)
    assert bring_tokenizer(str(shards), model).end_of_text == tokenizer.end_of_text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "shards"]
