"""Checks that `alti pull` and `huggingface_hub` share one cache: what either fetched, the other has.

    python check_hub.py ALTI

A small repository is served on this machine in the hub's language. Exits with 1 at the first difference.
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/model"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4096,
    # No two files are alike: the cache holds contents once, so that a twin may rightly never be asked for.
    "original/params.json": b'{"dim": 64}',
}
LARGE = {"model.safetensors"}
ASKED = []


def etag(name):
    data = FILES[name]
    if name in LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(name.encode()).hexdigest()}
                | ({"lfs": {"oid": etag(name), "size": len(data), "pointerSize": 130}} if name in LARGE else {"oid": etag(name)})
                for name, data in FILES.items()
            ]
            return self.send(200, json.dumps(tree).encode(), Content_Type="application/json")
        if path.startswith(f"/api/models/{NAME}"):
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": etag(name)}
                | ({"lfs": {"sha256": etag(name), "size": len(data), "pointerSize": 130}} if name in LARGE else {})
                for name, data in FILES.items()
            ]
            body = json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
            return self.send(200, body, Content_Type="application/json")
        for revision in ("main", COMMIT):
            name = path.removeprefix(f"/{NAME}/resolve/{revision}/")
            if name in FILES:
                break
        else:
            return self.send(404, X_Error_Code="EntryNotFound")
        data, headers = FILES[name], {"X_Repo_Commit": COMMIT, "ETag": f'"{etag(name)}"'}
        if name in LARGE:
            headers |= {"X_Linked_Etag": f'"{etag(name)}"', "X_Linked_Size": len(data)}
        if self.command == "GET":
            ASKED.append(name)
        span = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        start = int(span[0] or 0)
        if "Range" in self.headers:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.send(206, data[start:], **headers)
        return self.send(200, data, **headers)

    do_HEAD = do_GET


def main():
    alti = pathlib.Path(sys.argv[1]).resolve()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_ENDPOINT"] = endpoint
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    import huggingface_hub

    def pull(cache):
        environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
        environment["HF_HUB_CACHE"] = str(cache)
        words = [alti, "pull", NAME, "--endpoint", endpoint]
        found = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
        return pathlib.Path(found.stdout.strip()), found.stderr

    patterns = ["*.json", "*.safetensors"]
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = pathlib.Path(scratch) / "ours", pathlib.Path(scratch) / "theirs"
        folder, _ = pull(ours)
        found = huggingface_hub.snapshot_download(NAME, cache_dir=ours, local_files_only=True)
        assert pathlib.Path(found) == folder, (found, folder)
        assert huggingface_hub.try_to_load_from_cache(NAME, "model.safetensors", cache_dir=ours) is not None
        ASKED.clear()
        found = huggingface_hub.snapshot_download(
            NAME, cache_dir=ours, allow_patterns=patterns, ignore_patterns=["original/*"]
        )
        assert pathlib.Path(found) == folder and not ASKED, ASKED
        print("alti pull, then huggingface_hub: ok, nothing is fetched twice")

        found = huggingface_hub.snapshot_download(NAME, cache_dir=theirs, allow_patterns=patterns)
        assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(ASKED), ASKED
        ASKED.clear()
        folder, said = pull(theirs)
        assert folder == pathlib.Path(found) and not ASKED and "all of it was there" in said, (ASKED, said)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            assert (folder / name).read_bytes() == FILES[name], name
            assert os.readlink(folder / name) == os.readlink(pathlib.Path(ours) / folder.relative_to(theirs) / name)
        print("huggingface_hub, then alti pull: ok, nothing is fetched twice")


if __name__ == "__main__":
    main()
