"""Checks that `alti curate` makes the same of S3 as of a folder, against moto's server with boto3 as the writer.

    python check_store.py ALTI

Files of every format are written to a folder and uploaded. They are curated from both, from S3 with kills in the middle as
well: what comes from S3 is the same byte for byte whatever the kills, and the same as from the folder but for the name of the
place, which `source` begins with and `id` is a hash of; so these two are compared with that name taken off and masked. Then an
object is replaced, and the output follows. Exits with 1 at the first difference.
"""

import gzip
import json
import logging
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from moto.server import ThreadedMotoServer

BUCKET = "crawl"
WORDS = (
    "the river ran past old houses and over stones that many people had seen before they came to this town with their "
    "children to live near water because of work which was there then for all who asked about it in summer or winter"
).split()


def text(rng, sentences):
    lines = []
    for _ in range(sentences):
        words = [rng.choice(WORDS) for _ in range(rng.randint(8, 20))]
        lines.append(" ".join(words).capitalize() + f" {rng.randint(0, 10**9)}.")
    return "\n".join(lines)


def warc(rng, pages):
    records = b""
    for number in range(pages):
        paragraphs = "".join(f"<p>{line}</p>" for line in text(rng, 12).splitlines())
        body = f"<html><head><title>Page {number}</title></head><body><article>{paragraphs}</article></body></html>".encode()
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://host{number}.example/{rng.random()}\r\n"
            f"WARC-Date: 2026-01-02T03:04:05Z\r\nContent-Type: application/http\r\nContent-Length: {len(block)}\r\n\r\n"
        )
        records += gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)
    return records


def write(folder):
    rng = random.Random(7)
    (folder / "deep").mkdir(parents=True)
    (folder / "pages.warc.gz").write_bytes(warc(rng, 1500))
    damaged = bytearray(warc(rng, 60))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 20] = bytes(20)
    (folder / "damaged.warc.gz").write_bytes(damaged)
    lines = "".join(json.dumps({"text": text(rng, 10), "url": f"http://a.example/{i}"}) + "\n" for i in range(800))
    (folder / "deep" / "lines.jsonl.gz").write_bytes(gzip.compress((lines + "broken\n").encode(), mtime=0))
    (folder / "notes with spaces + ä.txt").write_text("\n\n".join(text(rng, 9) for _ in range(200)))
    table = pa.table({
        "id": list(range(900)),
        "text": [text(rng, 11) for _ in range(900)],
        "vector": [rng.randbytes(2000) for _ in range(900)],
        "url": [f"http://b.example/{i}" for i in range(900)],
    })
    pq.write_table(table, folder / "rows.parquet", row_group_size=200)
    (folder / "picture.png").write_bytes(b"x")


def curate(alti, source, out, environment, kills=0):
    command = [alti, "curate", source, "--out", out, "--checkpoint", "100KB", "--seed", "3", "--set", "curate.removed.fraction=0"]
    rng = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def contents(out, source, place):
    """What each file says, without the source as it was given, the name of its place and what is a hash of that."""
    found = {}
    for path in sorted(pathlib.Path(out).rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            sources = [value.removeprefix(place) for value in table["source"].to_pylist()]
            table = table.set_column(table.schema.get_field_index("source"), "source", [sources]).drop_columns(["id"])
            found[name] = table.to_pylist()
        elif path.is_file():
            found[name] = re.sub(r"\b[0-9a-f]{32}\b", "ID", path.read_text().replace(f'"{source}"', '""').replace(place, ""))
    return found


def main(alti):
    alti = str(pathlib.Path(alti).resolve())
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1"}
    endpoint = f"http://{host}:{port}"
    environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint}
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="key"
    )
    s3.create_bucket(Bucket=BUCKET)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        folder = place / "in"
        write(folder)

        def upload():
            for path in folder.rglob("*"):
                if path.is_file():
                    s3.upload_file(str(path), BUCKET, f"in/{path.relative_to(folder).as_posix()}")

        def compare(what, under="", kills=0):
            local, remote = f"{folder}{under}", f"s3://{BUCKET}/in{under}"
            for name in ["here", "there"]:
                shutil.rmtree(place / name, ignore_errors=True)
            curate(alti, local, place / "here", environment)
            curate(alti, remote, place / "there", environment, kills)
            here = contents(place / "here", local, str(folder))
            there = contents(place / "there", remote, f"s3://{BUCKET}/in")
            if here.keys() != there.keys():
                sys.exit(f"{what}: other files: {here.keys() ^ there.keys()}")
            for name in here:
                if here[name] != there[name]:
                    sys.exit(f"{what}: {name} differs")
            if kills:
                shutil.rmtree(place / "calm", ignore_errors=True)
                curate(alti, remote, place / "calm", environment)
                for path in (place / "calm").rglob("*"):
                    if path.is_file() and path.read_bytes() != (place / "there" / path.relative_to(place / "calm")).read_bytes():
                        sys.exit(f"{what}: {path} is not the same byte for byte")
            documents = sum(len(value) for name, value in here.items() if name.endswith(".parquet"))
            print(f"{what}: {len(here)} files are the same, {documents} documents")

        upload()
        compare("a prefix")
        shutil.rmtree(place / "there.work")
        compare("with 12 kills", "/", kills=12)
        with open(folder / "deep" / "lines.jsonl.gz", "wb") as file:
            file.write(gzip.compress(b'{"text": "' + text(random.Random(1), 30).replace("\n", " ").encode() + b'"}\n'))
        upload()
        compare("after a change")
        shutil.rmtree(place / "there.work")
        compare("by a glob", "/**/*.{gz,txt,parquet,png}")
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
