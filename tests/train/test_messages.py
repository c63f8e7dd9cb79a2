"""Chats and preferences in the forms that others write, and what is wrong with a line said by its place."""

import gzip
import json
import re

import fsspec
import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from troth.train.messages import ChatPair, Completion, TextPair, read_chats, read_preferences

MEMORY = fsspec.filesystem("memory")
USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "lines.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return path

    return write


def chats(path, **options):
    return [chat for _, chat in read_chats([str(path)], **options)]


def pairs(path):
    return [pair for _, pair in read_preferences([str(path)])]


def test_a_chat_as_others_write_it(write):
    """OpenAI's arguments are text, its system is a developer, and a weight of 0 leaves an answer out."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": [2]}'}}
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    given = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ASSISTANT | {"weight": 0},
        USER | {"name": "Ann"},
        ASSISTANT | {"reasoning": "Think."},
    ]
    (chat,) = chats(write({"id": 7, "messages": given, "tools": json.dumps(tools)}))
    assert chat.tools == tools
    assert chat.answers == (2, 6)
    assert chat.messages[0] == {"role": "system", "content": "Be kind."}
    assert chat.messages[2]["content"] == ""
    assert chat.messages[2]["tool_calls"] == [call | {"function": {"name": "add", "arguments": {"a": 1, "b": [2]}}}]
    assert chat.messages[6] == ASSISTANT | {"reasoning_content": "Think."}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
OTHER = {"type": "function", "function": {"name": "stop", "arguments": {"now": True}}}
CALLS = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL, OTHER]}]}


def test_chats_as_sharegpt_writes_them(write, tmp_path):
    turns = [("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"), ("gpt", "Farewell")]
    line = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    line["conversations"][2]["weight"] = 0
    (chat,) = chats(write(line))
    assert [(message["role"], message["content"]) for message in chat.messages] == [
        ({"human": "user", "gpt": "assistant"}.get(role, role), text) for role, text in turns
    ]
    assert chat.answers == (4,)
    pq.write_table(pa.Table.from_pylist([line]), tmp_path / "table.parquet")
    assert chats(tmp_path / "table.parquet") == [chat]
    assert chats(write({"conversations": [USER, ASSISTANT]})) == chats(write({"messages": [USER, ASSISTANT]}))
    with pytest.raises(ValueError, match=re.escape("conversations[0]: role='narrator'; expected one of system")):
        chats(write({"conversations": [{"from": "narrator", "value": "Once"}]}))


def test_calls_as_sharegpt_writes_them(write):
    call = {"name": "add", "arguments": {"a": 1, "b": 2}}
    turns = [("human", "1 + 2?"), ("function_call", json.dumps(call)), ("observation", "3"), ("gpt", "It is 3.")]
    line = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    (chat,) = chats(write(line))
    assert chat.answers == (1, 3)
    assert chat.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    line["conversations"][1]["value"] = json.dumps([call, call])
    assert chats(write(line))[0].messages[1]["tool_calls"] == [CALL, CALL]
    line["conversations"][1]["weight"] = 0
    assert chats(write(line))[0].answers == (3,)
    line["conversations"][1]["value"] = "add(1, 2)"
    with pytest.raises(ValueError, match=re.escape("line 1: conversations[1]: a call that is not JSON")):
        chats(write(line))


def test_a_system_message_beside_a_chat_is_its_first(write):
    system = {"role": "system", "content": "Be kind."}
    for line in ({"messages": [USER, ASSISTANT]}, {"prompt": [USER], "completion": [ASSISTANT]}):
        (chat,) = chats(write(line | {"system": "Be kind."}))
        assert (chat.messages, chat.answers) == ([system, USER, ASSISTANT], (2,))
        assert chats(write(line | {"system": ""})) == chats(write(line))
    (chat,) = chats(write({"messages": [system, USER, ASSISTANT], "system": "Be rude."}))
    assert chat.messages == [system, USER, ASSISTANT]
    (pair,) = pairs(write({"system": "Be kind.", "chosen": [USER, ASSISTANT], "rejected": [USER, USER, ASSISTANT]}))
    assert (pair.chosen.messages, pair.chosen.answers) == ([system, USER, ASSISTANT], (2,))
    assert (pair.rejected.messages, pair.rejected.answers) == ([system, USER, USER, ASSISTANT], (3,))


def test_chats_come_from_every_kind_of_file_and_from_a_bucket(tmp_path):
    """In a table each message has the keys of all messages, and each call the arguments of all calls, as nulls."""
    given = [{"messages": [USER, ASSISTANT], "id": 1}, CALLS | {"id": 2}]
    table = pa.Table.from_pylist(given)
    pq.write_table(table, tmp_path / "a.parquet")
    lance.write_dataset(table, str(tmp_path / "b.lance"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in given).encode()))
    MEMORY.pipe(f"{tmp_path.name}/chats.jsonl", json.dumps(given[0]).encode())
    found = chats(tmp_path)
    assert [chat.messages for chat in found] == [row["messages"] for row in given] * 3
    assert chats(f"memory://{tmp_path.name}") == found[:1]


def test_preferences_come_from_tables_too(tmp_path):
    given = [{"prompt": "The sky is", "chosen": " blue.", "rejected": " green.", "score": 0.5}]
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "a.parquet")
    assert pairs(tmp_path / "a.parquet") == [TextPair("The sky is", " blue.", " green.")]
    with pytest.raises(ValueError, match=r"a\.parquet: no column 'messages'; it has prompt, chosen, rejected, score"):
        chats(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([*given, {"prompt": "x", "chosen": "y"}]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: prompt, chosen and rejected are neither"):
        pairs(tmp_path / "a.parquet")


def test_reasoning_in_tags_is_reasoning(write):
    content = "<think>\nFour.\n</think>\n\n2 + 2 = 4"
    (chat,) = chats(write({"messages": [USER, {"role": "assistant", "content": content}]}))
    assert chat.messages[1] == {"role": "assistant", "content": "2 + 2 = 4", "reasoning_content": "Four."}


def test_all_answers_or_the_last_only(write):
    path = write({"messages": [USER, ASSISTANT, USER, ASSISTANT], "chat_template_kwargs": {"enable_thinking": False}})
    assert [chat.answers for chat in chats(path)] == [(1, 3)]
    assert [chat.answers for chat in chats(path, last_only=True)] == [(3,)]
    assert chats(path)[0].variables == {"enable_thinking": False}


def test_prompts_and_completions(write):
    """TRL's other form: only the completion is learned, as text or as turns."""
    (text,) = chats(write({"prompt": "The sky is", "completion": " blue."}))
    assert text == Completion("The sky is", " blue.")
    (chat,) = chats(write({"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT], "tools": None}))
    assert (chat.messages, chat.answers) == ([USER, ASSISTANT, USER, ASSISTANT], (3,))
    (plain,) = chats(write({"prompt": "Hi", "messages": [USER, ASSISTANT]}))
    assert plain.answers == (1,)


def test_instructions_as_alpaca_writes_them(write, tmp_path):
    """And LLaMA-Factory, with the turns before and a system message."""
    line = {"instruction": "Say it", "input": "in Latin", "output": "Salve"}
    (chat,) = chats(write(line))
    assert (chat.messages, chat.answers) == (
        [{"role": "user", "content": "Say it\nin Latin"}, ASSISTANT | {"content": "Salve"}], (1,)
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist([line]), tmp_path / "table.parquet")
    assert chats(tmp_path / "table.parquet") == [chat]
    before = {"instruction": "Hi", "input": "", "output": "Hello", "history": [["Bye", "Farewell"]], "system": "Be."}
    (chat,) = chats(write(before))
    assert [message["content"] for message in chat.messages] == ["Be.", "Bye", "Farewell", "Hi", "Hello"]
    assert chat.answers == (2, 4)
    (pair,) = pairs(write({"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "Go away"}))
    assert pair.chosen.messages == [USER, ASSISTANT]
    assert pair.rejected.messages == [USER, ASSISTANT | {"content": "Go away"}]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ({"messages": None}, "messages: not a list of messages"),
        ({"instruction": "Hi", "output": ""}, "output: no text"),
        ({"instruction": 5, "output": "Hello"}, "instruction: not text"),
        ({"output": "Hello"}, "instruction: missing beside an answer"),
        ({"instruction": "Hi", "output": "Hello", "history": ["Bye"]}, "history[0]: not an instruction and its answer"),
        ([1], "a list; expected an object"),
        ({"conversations": []}, "conversations: not a list of messages"),
        ({"completion": "blue"}, "prompt and completion are neither both text nor both lists of messages"),
        ({"conversation": []}, "no 'messages'; it has conversation"),
        ({"messages": []}, "messages: not a list of messages"),
        ({"messages": ["Hi"]}, "messages[0]: not an object"),
        ({"messages": [USER]}, "messages: no turn of the assistant to learn"),
        ({"messages": [USER, ASSISTANT | {"weight": 0}]}, "messages: no turn of the assistant to learn"),
        ({"messages": [{"from": "human", "value": "Hi"}]}, "messages[0]: unknown key 'from'; known are role, content"),
        ({"messages": [{"role": "bot", "content": "Hi"}]}, "messages[0]: role='bot'; expected one of system, user"),
        ({"messages": [{"role": "user"}, ASSISTANT]}, "messages[0]: a user message needs content"),
        ({"messages": [USER | {"content": 5}, ASSISTANT]}, "messages[0].content: not text"),
        ({"messages": [USER | {"content": [{"type": "image"}]}, ASSISTANT]}, "messages[0].content: not text"),
        ({"messages": [USER | {"tool_calls": [1]}, ASSISTANT]}, "messages[0]: tool_calls in a user message"),
        (
            {"messages": [USER, {"role": "assistant"}]},
            "messages[1]: an assistant message without content or tool_calls",
        ),
        ({"messages": [USER, ASSISTANT | {"content": "<think>hm"}]}, "messages[1].content: <think> without </think>"),
        ({"messages": [USER, ASSISTANT | {"weight": 2}]}, "messages[1]: weight=2; expected 0 or 1"),
        ({"messages": [USER, ASSISTANT | {"tool_calls": [{"name": 1}]}]}, "messages[1].tool_calls[0]: not a call"),
        (
            {"messages": [USER, ASSISTANT | {"tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "messages[1].tool_calls[0]: arguments are not JSON",
        ),
        ({"messages": [USER, ASSISTANT], "tools": [{"type": "function"}]}, "tools[0]: not a function with a name"),
        ({"messages": [USER, ASSISTANT], "tools": "["}, "tools: not JSON"),
    ],
)
def test_a_bad_chat_is_named_by_file_and_line(write, line, told):
    path = write({"messages": [USER, ASSISTANT]}, "", line)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 3: {told}")):
        chats(path)


def test_preferences_as_text(write):
    explicit = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    implicit = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    assert pairs(write(explicit, implicit)) == [TextPair("The sky is", " blue.", " green.")] * 2


def test_preferences_as_messages(write):
    bad = {"role": "assistant", "content": "Go away"}
    explicit = {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [bad]}
    implicit = {"chosen": [USER, ASSISTANT], "rejected": [USER, bad]}
    first, second = pairs(write(explicit, implicit))
    assert first == second
    assert isinstance(first, ChatPair)
    assert first.chosen.messages == [USER, ASSISTANT]
    assert first.rejected.messages == [USER, bad]
    assert first.chosen.answers == first.rejected.answers == (1,)


def test_a_prompt_that_whole_chats_begin_with_is_said_once(write):
    bad = {"role": "assistant", "content": "Go away"}
    whole = {"chosen": [USER, ASSISTANT], "rejected": [USER, bad]}
    found = pairs(write(whole, whole | {"prompt": [USER]}, whole | {"prompt": "Hi"}))
    assert [pair.chosen.messages for pair in found] == [[USER, ASSISTANT]] * 3
    assert [pair.rejected.messages for pair in found] == [[USER, bad]] * 3
    assert {pair.chosen.answers for pair in found} == {(1,)}


def test_answers_in_the_prompt_are_not_compared(write):
    (pair,) = pairs(write({"prompt": [USER, ASSISTANT, USER], "chosen": [ASSISTANT], "rejected": [ASSISTANT, USER]}))
    assert pair.chosen.answers == pair.rejected.answers == (3,)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"chosen": "a", "rejected": None}, "prompt, chosen and rejected are neither all text nor all"),
        ({"chosen": "a"}, "no 'rejected'; it has chosen"),
        (
            {"prompt": "a", "chosen": "b", "rejected": [USER]},
            "prompt, chosen and rejected are neither all text nor all",
        ),
        (
            {"prompt": "a", "chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "No"}]},
            "prompt: text, where chosen and rejected are messages that do not begin with it",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, "chosen and rejected are the same"),
        ({"prompt": [USER], "chosen": [ASSISTANT], "rejected": [USER]}, "rejected: no turn of the assistant behind"),
    ],
)
def test_a_bad_preference_is_named_by_file_and_line(write, line, told):
    path = write(line)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 1: {told}")):
        pairs(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'none.jsonl'}: cannot be read")):
        chats(tmp_path / "none.jsonl")
