"""Golden TensorBoard events for `ledger`, made by TensorBoard's own messages and writer.

    python tests/golden/tensorboard_events.py            compare with the committed bytes
    python tests/golden/tensorboard_events.py --write    make them anew
    python tests/golden/tensorboard_events.py --run DIR  compare a run's event file with its metrics.jsonl

Made with tensorboard 2.21.0, protobuf 7.36.2, Python 3.11.
"""

import argparse
import glob
import io
import json
import math
import pathlib
import struct
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

GOLDEN = pathlib.Path(__file__).parents[2] / "crates/ledger/tests/data/tensorboard_events.hex"


class Buffer(io.BytesIO):
    """Keeps its bytes readable after the record writer has closed it."""

    def close(self):
        pass


def golden() -> bytes:
    restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    values = [("pretrain/loss", 3.25), ("pretrain/rate", 6e-4)]
    scalars = [summary_pb2.Summary.Value(tag=tag, simple_value=number) for tag, number in values]
    events = [
        event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=1.5, session_log=restart),
        event_pb2.Event(wall_time=2.25, step=300, summary=summary_pb2.Summary(value=scalars)),
    ]
    buffer = Buffer()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    writer.flush()
    return buffer.getvalue()


def scalars_of(folder) -> dict:
    """Tag to [(step, wall time, value)], as TensorBoard's reader sees the folder."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.wall_time, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def check_golden():
    committed = bytes.fromhex("".join(GOLDEN.read_text().split()))
    if committed != golden():
        sys.exit(f"{GOLDEN.name} is not what TensorBoard writes")
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "events.out.tfevents.0000000001.1.0").write_bytes(committed)
        read = scalars_of(folder)
    rate = struct.unpack("f", struct.pack("f", 6e-4))[0]
    if read != {"pretrain/loss": [(300, 2.25, 3.25)], "pretrain/rate": [(300, 2.25, rate)]}:
        sys.exit(f"TensorBoard reads {GOLDEN.name} as {read}")


def check_run(run: pathlib.Path):
    expected = {}
    points = 0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        point = json.loads(line)
        points += 1
        head = [point.pop(name) for name in ("stage", "step", "time")]
        for name, value in point.items():
            value = float(value)
            if math.isfinite(value):
                value = struct.unpack("f", struct.pack("f", value))[0]
            expected.setdefault(f"{head[0]}/{name}", []).append((head[1], head[2], value))
    files = glob.glob(str(run / "tensorboard/events.out.tfevents.*"))
    if len(files) != 1:
        sys.exit(f"{len(files)} event files, not one")
    found = scalars_of(run / "tensorboard")
    # As text, so that NaN equals NaN.
    if repr(sorted(found.items())) != repr(sorted(expected.items())):
        sys.exit("TensorBoard does not read what metrics.jsonl holds")
    print(f"{points} points of {len(expected)} scalars agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--run", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.write:
        text = golden().hex()
        GOLDEN.write_text("".join(text[at : at + 96] + "\n" for at in range(0, len(text), 96)))
    check_golden()
    if arguments.run:
        check_run(arguments.run)
    print("tensorboard_events: ok")


if __name__ == "__main__":
    main()
