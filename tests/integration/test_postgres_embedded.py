"""The embedded server: its data stay, its life is ours, and what it cannot work with it names."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import psycopg
import pytest

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded import launcher
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from tests.support.journal import until

linux_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can change the user"
)

# A process of its own that runs a server until its standard input ends.
CHILD = """
import sys
from pathlib import Path
from cos_ray.postgres.embedded.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
database = server.start()
print(database.port, (Path(sys.argv[1]) / "data" / "postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.read()
server.stop()
"""


class Owner:
    """A process that runs `CHILD`."""

    def __init__(self, folder: Path, code: str = CHILD, *, under: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, "-c", code, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        assert line, "the server did not start"
        self.server = psutil.Process(int(line[1]))

    def let_end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder)
    yield server
    server.stop()


def run(database: Database, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(**database.connect_arguments()) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))


async def is_over(process: psutil.Process) -> None:
    async def over() -> bool:
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(over)


def test_data_and_password_stay_when_the_server_comes_and_goes(folder: Path) -> None:
    passwords = set()
    for start in range(3):
        server = EmbeddedPostgres(folder)
        told: list[str] = []
        database = server.start(told.append)
        passwords.add(database.password)
        run(database, "create table if not exists kept (n int)")
        assert run(database, "select count(*) from kept") == [(start,)]
        run(database, "insert into kept values (1)")
        process = postmaster(folder)
        server.stop()
        assert not process.is_running()
        assert any("making a database" in line for line in told) is (start == 0)
    assert len(passwords) == 1


def test_it_is_a_plain_utf8_server_for_this_machine_and_those_with_the_password(
    server: EmbeddedPostgres, folder: Path
) -> None:
    database = server.start()
    assert (
        run(database, "select current_setting('server_encoding'), datcollate from pg_database")
        == [("UTF8", "C")] * 3
    )
    for name, value in {"listen_addresses": "127.0.0.1", "fsync": "on", "synchronous_commit": "on"}.items():
        assert run(database, f"show {name}") == [(value,)]
    arguments = database.connect_arguments() | {"password": "guessed"}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**arguments)
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    assert (folder / "postgres.log").stat().st_mode & 0o777 == 0o600
    assert len({c.laddr for c in postmaster(folder).net_connections() if c.status == psutil.CONN_LISTEN}) == 1


def test_a_second_server_on_the_same_data_is_refused(server: EmbeddedPostgres, folder: Path) -> None:
    database = server.start()
    with pytest.raises(StartFailed, match=f"is in use by process {os.getpid()}"):
        EmbeddedPostgres(folder).start()
    assert run(database, "select 1") == [(1,)]


def test_a_fixed_port_that_is_taken_is_named(server: EmbeddedPostgres, tmp_path: Path) -> None:
    port = server.start().port
    with pytest.raises(StartFailed) as caught:
        EmbeddedPostgres(tmp_path / "other", port=port).start()
    assert "\n" not in str(caught.value)
    assert "could not create any TCP/IP sockets" in str(caught.value)


async def test_a_server_that_crashed_comes_back_on_its_port(server: EmbeddedPostgres, folder: Path) -> None:
    database = server.start()
    process = postmaster(folder)
    process.kill()
    await is_over(process)

    async def is_back() -> bool:
        try:
            return run(database, "select 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    await until(is_back)


async def test_the_server_goes_with_a_parent_that_is_killed_and_the_next_one_starts(folder: Path) -> None:
    owner = Owner(folder)
    owner.process.kill()
    owner.process.wait()
    server = EmbeddedPostgres(folder)
    # At once: it waits for its predecessor to finish.
    database = await asyncio.to_thread(server.start)
    await is_over(owner.server)
    assert run(database, "select 1") == [(1,)]
    server.stop()


async def test_the_server_does_not_get_the_terminals_ctrl_c(folder: Path) -> None:
    owner = Owner(folder)
    assert os.getpgid(owner.server.pid) != os.getpgid(owner.process.pid)
    assert os.getsid(owner.server.pid) != os.getsid(owner.process.pid)
    os.killpg(owner.process.pid, signal.SIGINT)
    owner.process.wait()
    await is_over(owner.server)


async def test_a_server_started_by_a_thread_that_ends_stays(server: EmbeddedPostgres, folder: Path) -> None:
    started: list[Database] = []
    thread = threading.Thread(target=lambda: started.append(server.start()))
    thread.start()
    thread.join()
    process = postmaster(folder)
    # Had the kernel sent the signal, a connection would meet a server that shuts down.
    assert run(started[0], "select pg_sleep(0.05) is not null") == [(True,)]
    assert process.is_running()


def test_the_pid_file_of_a_crash_does_not_stand_in_the_way(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    text = (folder / "data" / "postmaster.pid").read_text()
    server.stop()
    # After a restart of a container, the number is another's: ours, here.
    lines = [str(os.getpid()), *text.splitlines()[1:]]
    (folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    again = EmbeddedPostgres(folder)
    assert run(again.start(), "select 1") == [(1,)]
    again.stop()


def test_a_first_start_that_broke_off_is_begun_anew(folder: Path) -> None:
    (folder / "data.unfinished").mkdir(parents=True)
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")
    (folder / "password").write_text("old")
    server = EmbeddedPostgres(folder)
    assert run(server.start(), "select 1") == [(1,)]
    server.stop()
    assert not (folder / "data.unfinished").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"photo.jpg": ""}, r"holds other files \(photo.jpg\)"),
        ({"PG_VERSION": "18"}, r"holds other files \(PG_VERSION\)"),
        ({"data/PG_VERSION": "15\n"}, "was written by PostgreSQL 15, this one is 18"),
        ({"data/notes": ""}, "holds no PostgreSQL data"),
    ],
)
def test_a_folder_that_is_something_else_is_refused_and_left_alone(
    folder: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(StartFailed, match=said) as caught:
        EmbeddedPostgres(folder).start()
    assert "\n" not in str(caught.value)
    assert all((folder / name).read_text() == text for name, text in files.items())


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFailed, match="is a file"):
        EmbeddedPostgres(tmp_path / "file").start()


@linux_root
def test_as_root_the_server_runs_as_another_user_even_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "data dir" / "postgres")
    database = server.start()
    process = postmaster(closed / "data dir" / "postgres")
    assert process.uids().effective != 0
    status = dict(line.split(":\t") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    # CAP_DAC_READ_SEARCH, and nothing beside it.
    assert {status[name] for name in ("CapPrm", "CapEff", "CapAmb")} == {f"{1 << 2:016x}"}
    assert status["NoNewPrivs"] == "1"
    assert run(database, "select 1") == [(1,)]
    server.stop()
    again = EmbeddedPostgres(closed / "data dir" / "postgres")
    assert run(again.start(), "select 1") == [(1,)]
    again.stop()


@linux_root
def test_without_the_capability_it_says_what_to_do(tmp_path: Path) -> None:
    if (setpriv := shutil.which("setpriv")) is None:
        pytest.skip("setpriv is not installed")
    script = (
        "import sys; from pathlib import Path; from cos_ray.domain.errors import StartFailed\n"
        "from cos_ray.postgres.embedded.server import EmbeddedPostgres\n"
        "try: EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "except StartFailed as error: print(error)\n"
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    weak = [setpriv, "--bounding-set", "-dac_read_search", "--inh-caps", "-all"]
    result = subprocess.run(
        [*weak, sys.executable, "-c", script, str(closed / "postgres")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "PostgreSQL cannot run as root" in result.stdout
    assert "COS_DB_HOST" in result.stdout
    assert result.stdout.count("\n") == 1


@linux_root
async def test_as_a_normal_user_it_is_that_users_server(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    # The user needs the capability for this test's interpreter, which may lie in a closed folder.
    nobody = [sys.executable, "-I", "-S", launcher.__file__, "0", "65534", "65534", "1"]
    owner = Owner(folder, f"import sys; sys.path[:0] = {sys.path!r}\n{CHILD}", under=nobody)
    assert owner.server.uids().effective == psutil.Process(owner.process.pid).uids().effective == 65534
    assert owner.let_end() == 0
    await is_over(owner.server)
