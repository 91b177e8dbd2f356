"""Compares the records of WARC files with those that the package warcio reads from them.

    python3 bench/curate/warc.py FILE...

For each file the documents must be the same, in the same order: the URL, the date, the byte where the record begins in the
file, and the text of the page, decoded by its charset. What warcio reads and curation leaves out (requests, other types,
other statuses) must be counted as ignored. Needs `warcio` (pip install warcio).
"""

import json
import subprocess
import sys
from pathlib import Path

from warcio.archiveiterator import ArchiveIterator

ROOT = Path(__file__).resolve().parents[2]


def expected(path):
    documents, others = [], 0
    with open(path, "rb") as stream:
        iterator = ArchiveIterator(stream)
        for record in iterator:
            body = record.content_stream().read()
            kind = record.rec_headers.get_header("Content-Type") or ""
            if record.rec_type == "response" and record.http_headers:
                kind = record.http_headers.get_header("Content-Type") or ""
                fine = record.http_headers.get_statuscode() == "200"
            else:
                fine = record.rec_type in ("resource", "conversion")
            media, _, rest = kind.partition(";")
            if not fine or media.strip() not in ("text/html", "application/xhtml+xml", "text/plain"):
                others += 1
                continue
            charset = rest.partition("charset=")[2].strip().strip('"') or "utf-8"
            documents.append(
                {
                    "offset": iterator.get_record_offset(),
                    "url": record.rec_headers.get_header("WARC-Target-URI"),
                    "date": record.rec_headers.get_header("WARC-Date"),
                    "text": body.decode(charset, "replace").lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n"),
                }
            )
    return documents, others


def main():
    failed = False
    for path in sys.argv[1:]:
        command = ["cargo", "run", "-q", "-p", "corpus", "--example", "records", "--", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        documents = [
            {"offset": int(f["place"].rpartition(":byte ")[2].split("+")[0]), "url": f["url"], "date": f["date"], "text": f["text"]}
            for f in found
            if "text" in f
        ]
        wanted, others = expected(path)
        ignored = sum("ignored" in f for f in found)
        skipped = [f for f in found if "skipped" in f]
        same = documents == wanted and ignored == others and not skipped
        failed |= not same
        print(f"{'same' if same else 'DIFFERENT'}: {path}: {len(wanted)} documents, {others} other records")
        if not same:
            print(f"  ours {len(documents)} documents, {ignored} ignored, skipped {skipped}")
            for ours, theirs in zip(documents, wanted):
                for key in ours:
                    if ours[key] != theirs[key]:
                        print(f"  {key}: {str(ours[key])[:200]!r} is not {str(theirs[key])[:200]!r}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
