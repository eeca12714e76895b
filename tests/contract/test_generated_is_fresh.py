"""generated/ is what `make generate` makes of the protos, byte for byte."""

import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from service_kit.contract.descriptors import ContractImage
from tests.contract.proto_copy import ROOT


def generate(folder: Path) -> dict[str, bytes]:
    """Run `make generate` into a folder and return what it wrote, by path."""
    # -o: the environment that runs the tests is the one to generate with, whatever its age.
    subprocess.run(
        ["make", "-o", ".venv/.installed", "generate", f"OUT={folder}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


class TestGenerated:
    def test_is_made_of_the_protos_as_they_are(self, tmp_path: Path) -> None:
        fresh = generate(tmp_path / "with a space")
        committed = content(ROOT / "generated")
        assert sorted(committed) == sorted(fresh)
        assert [path for path in fresh if committed[path] != fresh[path]] == []

    def test_comes_out_the_same_twice(self, tmp_path: Path) -> None:
        assert generate(tmp_path / "once") == generate(tmp_path / "twice")


INSTALLED = ContractImage.installed()


@pytest.mark.parametrize("file", INSTALLED.files, ids=lambda file: file.name)
def test_the_descriptor_set_and_the_modules_say_the_same(file: FileDescriptorProto) -> None:
    module = import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    imported = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(imported)
    described = descriptor_pb2.FileDescriptorProto()
    described.CopyFrom(file)
    # The modules carry no comments, and what JSON calls a field follows from its name.
    described.ClearField("source_code_info")
    for message in described.message_type:
        for field in message.field:
            field.ClearField("json_name")
    for extension in described.extension:
        extension.ClearField("json_name")
    assert imported == described
