"""Secrets in a configuration are refused wherever they stand, and no message repeats them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.config import SFTConfig, load_config
from sft.config.secrets import SHAPES
from sft.errors import ConfigError

BODY = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hJ3kM6"
SECRETS = {
    "hugging face": f"hf_{BODY}",
    "github": f"ghp_{BODY}",
    "github, fine-grained": f"github_pat_{BODY}",
    "gitlab": f"glpat-{BODY[:20]}",
    "openai": f"sk-proj-{BODY}",
    "aws": "AKIAABCDEFGHIJKLMNOP",
    "google": f"AIza{BODY[:35]}",
    "slack": "xoxb-1234567890-abcdefghij",
    "wandb": f"wandb_v1_{BODY}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.{BODY}.{BODY}",
    "bearer": f"Bearer {BODY}",
    "address": f"https://me:{BODY}@example.org/data",
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
}
FILES = {"yaml": "run_name: '{}'\n", "json": '{{"run_name": "{}"}}', "toml": "run_name = '{}'\n"}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("kind", FILES)
def test_in_a_file_it_is_refused_with_its_place(name: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"run.{kind}"
    file.write_text("\n" * (kind != "toml") + FILES[kind].format(SECRETS[name]))
    with pytest.raises(ConfigError, match=rf"run_name \(.*run\.{kind}:[12]\)") as caught:
        load_config(file)
    assert SECRETS[name] not in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_on_the_command_line_and_in_python_it_is_refused(name: str) -> None:
    for give in (
        lambda secret: load_config(None, ["--run_name", secret]),
        lambda secret: load_config(None, [f"--run_name={secret}"]),
        lambda secret: SFTConfig(run_name=secret),
        lambda secret: SFTConfig(deepspeed={"deep": [{"er": secret}]}),
        lambda secret: SFTConfig(no_such_option=secret),
    ):
        with pytest.raises(ConfigError) as caught:
            give(SECRETS[name])
        assert SECRETS[name] not in str(caught.value)


@pytest.mark.parametrize("key", ["hub_token", "hf_hub_token", "api_key", "wandb_api_key", "secret", "password"])
def test_by_its_name_it_is_refused_whatever_its_shape(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        SFTConfig(**{key: "no-known-shape"})
    assert "no-known-shape" not in str(caught.value)
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({"model_name_or_path": "m", "cutoff_len": 8, key: "no-known-shape"}))
    with pytest.raises(ConfigError, match=key):
        load_config(file)


@pytest.mark.parametrize(
    "value",
    [
        "0123456789abcdef0123456789abcdef01234567",  # a commit
        "https://example.org/a:b@c",
        "hf_model",
        "sk-learn-tutorial",
        "Bearer of good news",
        "data/AKIA.jsonl",
    ],
)
def test_what_only_looks_like_one_is_taken(value: str) -> None:
    assert SFTConfig(run_name=value).training_arguments | {"run_name": value} == {"run_name": value}


def test_every_shape_has_an_example() -> None:
    assert all(any(shape.search(secret) for secret in SECRETS.values()) for shape in SHAPES.values())
