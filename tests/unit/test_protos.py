"""The protos are Chief of State's to the byte, and the generated code is theirs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from cos_ray.protocol.any_form import AnyForms
from cos_ray.protocol.protoset import protoset

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"

SHA_256 = {
    "common.proto": "0b71f03430d263f34c11c099bb3622685656201b9bcaefab7985f00882875c5d",
    "manager.proto": "60edc61f13f0fff5bc3e9f8d129ebea6646f7d0770434c2615db54eb3461d80e",
    "persistence.proto": "d8c912ffc469ba6d2bbcf71920af4a665556585151ced5a4929069767cb33cc4",
    "readside.proto": "885e60c3a27a06ac251667254aa6884da2fb41b00d84d554e62ca331a9b23472",
    "service.proto": "4b12d277c281448ccaeafbbdd94006070167444bf551300dbc26b32181109fc1",
    "writeside.proto": "7d0a838ab63a5c5254692513e1f5338390ee122b51a8552086e325f28cd3ceb7",
}
"""Of the compiled descriptors of CoS's own files."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """What the compiler makes of each file, by its name."""
    output = tmp_path_factory.mktemp("descriptors") / "all.binpb"
    files = [f"chief_of_state/v1/{name}" for name in SHA_256]
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"--descriptor_set_out={output}"]
    subprocess.run([*compiler, *files], check=True)
    return {Path(f.name).name: f for f in FileDescriptorSet.FromString(output.read_bytes()).file}


@pytest.mark.parametrize("name", SHA_256)
def test_a_compiled_file_is_cos_s_own(name: str, compiled: dict[str, FileDescriptorProto]) -> None:
    serialized = compiled[name].SerializeToString(deterministic=True)
    assert hashlib.sha256(serialized).hexdigest() == SHA_256[name]


def test_there_is_no_other_file_in_the_package() -> None:
    assert {path.name for path in (PROTOS / "chief_of_state/v1").glob("*.proto")} == set(SHA_256)


def test_the_generated_code_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, PROTOS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_an_application_s_own_generated_copy_lives_in_the_same_process(tmp_path: Path) -> None:
    copy = tmp_path / "generated"
    copy.mkdir()
    files = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "chief_of_state").rglob("*.proto"))
    outputs = [f"--python_out={copy}", f"--grpc_python_out={copy}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *files], check=True)
    program = """
from chief_of_state.v1 import manager_pb2_grpc, persistence_pb2, readside_pb2_grpc, writeside_pb2_grpc
from chief_of_state.v1.service_pb2 import GetStateRequest as Theirs
from cos_ray.protocol.pb.chief_of_state.v1 import manager_pb2_grpc, persistence_pb2, readside_pb2_grpc
from cos_ray.protocol.pb.chief_of_state.v1 import service_pb2_grpc, writeside_pb2_grpc
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest as Ours

assert Theirs.__module__ != Ours.__module__ or Theirs is Ours
assert Ours.FromString(Theirs(entity_id="a").SerializeToString()).entity_id == "a"
"""
    for order in (program, program.replace("from chief", "import cos_ray.protocol.codec\nfrom chief", 1)):
        ran = subprocess.run(
            [sys.executable, "-c", order],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{copy}:{ROOT}"},
        )
        assert ran.returncode == 0, ran.stderr


def test_the_protoset_is_complete_and_in_order() -> None:
    files = FileDescriptorSet.FromString(protoset()).file
    seen: set[str] = set()
    for file in files:
        assert seen.issuperset(file.dependency), file.name
        seen.add(file.name)
    sources = {str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")}
    assert seen >= sources
    AnyForms([protoset()])


def test_reflection_learns_an_application_s_types() -> None:
    file = FileDescriptorProto(name="only/here.proto", package="only.here")
    file.message_type.add(name="Told")
    forms = AnyForms([FileDescriptorSet(file=[file]).SerializeToString()])
    assert forms.publish() == []
    assert descriptor_pool.Default().FindMessageTypeByName("only.here.Told")
    file.message_type.add(name="Another")
    assert AnyForms([FileDescriptorSet(file=[file]).SerializeToString()]).publish() == ["only/here.proto"]
