"""The same model folder served by vLLM, where that is installed: its own server, told what ours would be told."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from troth.system.serve import ServeTable


def vllm_command(folder: Path, table: ServeTable, model_id: str) -> list[str]:
    """The command line of vLLM's server. Its cache takes the memory that it finds, whatever `cache_tokens` says."""
    options = {
        "--host": table.host, "--port": table.port, "--max-num-seqs": table.max_batch,
        "--max-num-batched-tokens": max(table.max_step_tokens, table.max_batch),
        "--allowed-origins": json.dumps(table.allowed_origins),
    }  # fmt: skip
    if table.kv_cache_dtype != "auto":  # vLLM's own `fp8` has one scale for all.
        options["--kv-cache-dtype"] = f"{table.kv_cache_dtype}_per_token_head"
    if table.generation_config == "none":
        options["--generation-config"] = "vllm"  # Its own defaults.
    if table.max_model_len is not None:
        options["--max-model-len"] = table.max_model_len
    if table.chat_template is not None:
        options["--chat-template"] = table.chat_template
    for name in ("uds", "ssl_certfile", "ssl_keyfile"):
        if value := getattr(table, name):
            options["--" + name.replace("_", "-")] = value
    said = [str(part) for pair in options.items() for part in pair]
    said += ["--served-model-name", model_id, *table.aliases]
    said += ["--enforce-eager"] if table.enforce_eager else []
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), *said]


def become_vllm(folder: Path, table: ServeTable, model_id: str, api_keys: list[str]) -> NoReturn:
    """Put vLLM's server in the place of this process. Raises ValueError where it is missing or would be less safe."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError("--engine vllm: vLLM is not installed here; pip install vllm, or leave --engine out")
    if table.api_keys is not None:
        raise ValueError("--engine vllm cannot check the keys of serve.api_keys: give one with --api-key")
    if len(api_keys) > 1:
        raise ValueError("--engine vllm takes one --api-key")
    # By the environment, where other users of the machine do not see it.
    environment = os.environ | ({"VLLM_API_KEY": api_keys[0]} if api_keys else {})
    command = vllm_command(folder, table, model_id)
    os.execve(command[0], command, environment)
