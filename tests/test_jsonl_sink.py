"""One message a line, each in the file at once, and whole lines only, whatever happens."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from contracts.errors import DiskFull, OutputUnwritable
from contracts.frame import Delivery
from contracts.messages import AnyMessage, parse_message
from sinks.jsonl import JsonlSink
from tests.messages import frame_failure, frame_result, source_end
from tests.resources import held, released

ROOT = Path(__file__).parents[1]
MESSAGES: list[AnyMessage] = [frame_result(0), frame_failure(1, message="Größe × 2"), source_end()]

# Writes until it fails, then says the error's code and how many lines it had written.
FILL = textwrap.dedent("""
    import sys
    from pathlib import Path
    from contracts.errors import SinkError
    from contracts.frame import Delivery
    from sinks.jsonl import JsonlSink
    from tests.messages import frame_result

    sink = JsonlSink(Path(sys.argv[1]))
    sink.open()
    delivery = Delivery(frame_result())
    payload = delivery.message.model_dump_json().encode()
    try:
        for _ in range(10_000):
            sink.write(delivery, payload)
    except SinkError as error:
        print(error.code, sink.counts()["lines"], Path(sys.argv[1]).read_bytes().count(b"}\\n"))
        sys.stdout.flush()
    sink.close()
""")


def write(sink: JsonlSink, message: AnyMessage) -> None:
    """As the sink thread does it."""
    sink.write(Delivery(message), message.model_dump_json().encode())


def test_file_has_each_message_as_one_line_of_utf8(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "results.jsonl")
    sink.open()
    for message in MESSAGES:
        write(sink, message)
    sink.close()
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [parse_message(line) for line in lines] == MESSAGES
    assert sink.counts() == {"lines": 3}


def test_line_can_be_read_before_the_next_one_is_written(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "results.jsonl")
    sink.open()
    with (tmp_path / "results.jsonl").open("rb") as reader:
        for message in MESSAGES:
            write(sink, message)
            assert parse_message(reader.readline()) == message
    sink.close()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "a" / "b" / "results.jsonl")
    sink.open()
    sink.close()
    assert (tmp_path / "a" / "b" / "results.jsonl").read_bytes() == b""


def test_older_file_is_replaced_when_the_sink_opens(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("older\n" * 1000, encoding="utf-8")
    sink = JsonlSink(path)
    assert path.stat().st_size > 0
    sink.open()
    write(sink, MESSAGES[0])
    sink.close()
    assert parse_message(path.read_bytes()) == MESSAGES[0]


def test_file_that_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, second = JsonlSink(path), JsonlSink(path)
    first.open()
    write(first, MESSAGES[0])
    with pytest.raises(OutputUnwritable, match="another run writes"):
        second.open()
    second.close()
    write(first, MESSAGES[1])
    first.close()
    assert [parse_message(line) for line in path.read_bytes().splitlines()] == MESSAGES[:2]
    second.open()
    second.close()


def test_device_can_be_shared() -> None:
    sinks = [JsonlSink(Path("/dev/null")) for _ in range(2)]
    for sink in sinks:
        sink.open()
    for sink in sinks:
        write(sink, MESSAGES[0])
        sink.close()


def test_path_that_is_a_folder_fails_at_open_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match=rf"{tmp_path}: Is a directory"):
        JsonlSink(tmp_path).open()


def test_path_below_a_file_fails_at_open_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputUnwritable, match=r"results\.jsonl: (Not a directory|File exists)"):
        JsonlSink(tmp_path / "file" / "results.jsonl").open()


def test_full_device_is_disk_full() -> None:
    sink = JsonlSink(Path("/dev/full"))
    sink.open()
    with pytest.raises(DiskFull, match="/dev/full"):
        write(sink, MESSAGES[0])
    sink.close()


def test_pipe_whose_reader_has_gone_is_unwritable(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonlSink(fifo)
    sink.open()
    write(sink, MESSAGES[0])
    os.close(reader)
    with pytest.raises(OutputUnwritable, match="Broken pipe"):
        write(sink, MESSAGES[0])
    sink.close()


def test_half_a_line_is_cut_away_where_the_file_may_not_grow(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
    path = tmp_path / "results.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", limit + FILL, path], cwd=ROOT, capture_output=True, text=True
    )
    code, counted, whole = ran.stdout.split()
    assert (code, counted) == ("output_unwritable", whole)
    check_whole_lines(path.read_bytes(), int(counted))


def test_half_a_line_is_cut_away_where_the_disk_is_full(tmp_path: Path) -> None:
    """On a file system of 64 KiB, in a mount namespace that ends with the process."""
    copy = tmp_path / "copy.jsonl"
    script = 'mount -t tmpfs -o size=64k none "$1" && "$2" -c "$3" "$1/r.jsonl" && cp "$1"/* "$4"'
    (tmp_path / "disk").mkdir()
    arguments: list[str | Path] = [tmp_path / "disk", sys.executable, FILL, copy]
    unshare = shutil.which("unshare") or pytest.skip("no unshare on this machine")
    ran = subprocess.run(
        [unshare, "--mount", "--map-root-user", "sh", "-c", script, "sh", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if not ran.stdout:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    code, counted, whole = ran.stdout.split()
    assert (code, counted) == ("disk_full", whole)
    check_whole_lines(copy.read_bytes(), int(counted))


def check_whole_lines(written: bytes, count: int) -> None:
    """More than one line, each a message, and nothing after the last."""
    assert count > 1
    assert written.endswith(b"}\n")
    assert [parse_message(line) for line in written.splitlines()] == [frame_result()] * count


def test_writing_before_open_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="not open"):
        write(JsonlSink(tmp_path / "results.jsonl"), MESSAGES[0])


def test_close_is_safe_twice_and_after_a_failed_open(tmp_path: Path) -> None:
    failed = JsonlSink(tmp_path)
    with pytest.raises(OutputUnwritable):
        failed.open()
    failed.close()
    sink = JsonlSink(tmp_path / "results.jsonl")
    sink.open()
    sink.close()
    sink.close()


def test_fifty_sinks_leave_nothing_open(tmp_path: Path) -> None:
    before = held()
    for number in range(50):
        sink = JsonlSink(tmp_path / f"{number}.jsonl")
        sink.open()
        write(sink, MESSAGES[0])
        sink.close()
    assert released(before)
