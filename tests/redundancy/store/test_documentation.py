"""docs/store.md describes the files that are written, key by key."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from redundancy.store._schema import Manifest, Sidecar
from redundancy.store._tensors import TensorFile

PAGE = Path(__file__).parents[3] / "docs" / "store.md"


@pytest.mark.parametrize(("section", "type"), [("store.json", Manifest), ("A sidecar", Sidecar)])
def test_examples_have_exactly_the_keys_of_the_files(section, type):
    text = PAGE.read_text().split(f"### {section}\n")[1]
    example = json.loads(re.search(r"```json\n(.*?)```", text, re.S)[1])
    example.pop("seal")
    assert list(example) == [field.name for field in msgspec.structs.fields(type)]
    example.update({"sha256": "0" * 64} if type is Sidecar else {})
    msgspec.convert(example, type)


def test_every_array_is_described(filled):
    shard = min(filled.path.glob("*.safetensors"))
    page = PAGE.read_text()
    for name in TensorFile(shard).tensors:
        kind, _, rest = name.partition("/")
        known = rest.split("/")[-1] if kind in ("statistics", "tokens") else kind
        assert f"`{kind}/" in page
        assert f"{known}`" in page or f"`{known}/" in page, name
