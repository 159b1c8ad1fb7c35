"""A dataset and a model by their hub ids, from a mirror that the test serves at HF_ENDPOINT."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Finished, Pretrain, make_documents

REVISION = "a" * 40


def handler(root: Path) -> type[BaseHTTPRequestHandler]:
    """Serves root/<models or datasets>/<owner>/<name>/ with the parts of the hub's API that loading needs."""

    class Mirror(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[0] == "api":
                self.describe(root / parts[1] / parts[2] / parts[3], parts[4:])
            else:
                kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
                self.send_file(root / kind / parts[0] / parts[1] / "/".join(parts[4:]))

        def describe(self, repository: Path, rest: list[str]) -> None:
            if not repository.is_dir() or (rest[:1] == ["tree"] and len(rest) > 2):
                return self.reply(404, b"{}", X_Error_Code="EntryNotFound")
            files = sorted(repository.iterdir())
            value: object = {
                "id": f"{repository.parent.name}/{repository.name}",
                "sha": REVISION,
                "siblings": [{"rfilename": file.name} for file in files],
                "private": False,
                "tags": [],
            }
            if rest[:1] in (["tree"], ["paths-info"]):
                value = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40} for file in files
                ]
            return self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

        def send_file(self, file: Path) -> None:
            if not file.is_file():
                return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=REVISION)
            body = file.read_bytes()
            tag = f'"{hashlib.sha1(body).hexdigest()}"'
            headers = {"ETag": tag, "X_Repo_Commit": REVISION, "Accept_Ranges": "bytes"}
            wanted = self.headers.get("Range")
            if wanted is None:
                return self.reply(200, body, **headers)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = body[int(first) : int(last) + 1 if last else None]
            place = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
            return self.reply(206, part, Content_Range=place, **headers)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815

    return Mirror


@pytest.fixture
def mirror(zero2_run: Finished, tmp_path: Path) -> Iterator[str]:
    models, corpus = tmp_path / "models" / "yard", tmp_path / "datasets" / "yard" / "corpus"
    models.mkdir(parents=True)
    corpus.mkdir(parents=True)
    (models / "tiny").symlink_to(zero2_run.run / "model")
    rows = "".join(json.dumps({"text": text}) + "\n" for text in make_documents(40, seed=1))
    (corpus / "train.jsonl").write_text(rows)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_dataset_and_a_model_from_a_mirror(
    mirror: str, pretrain: Pretrain, zero2_run: Finished, tmp_path: Path
) -> None:
    shape = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    done = pretrain(
        "from-the-hub",
        "data.sources=[{path: yard/corpus, format: hub}]",
        "model.path=yard/tiny",
        *(f"model.{name}=null" for name in [*shape, "max_position_embeddings"]),
        "trainer.max_steps=2",
        "tracking=none",
        env={"HF_ENDPOINT": mirror, "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.code == 0, done.stdout + done.stderr
    assert len(done.series("loss")) == 2
    # The run starts from the mirror's weights, so similar text has about the loss of the end of that run.
    first = done.status["final"]["first_eval_loss"]
    assert abs(first - zero2_run.series("eval_loss")[-1]) < 0.5 < zero2_run.series("eval_loss")[0] - first
