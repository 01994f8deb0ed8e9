"""The local Hub of `hub_server.py`, as the real clients see it: each test runs them in a fresh interpreter."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hub_server import LFS_THRESHOLD, HubServer
from transformers import BertConfig, BertModel, BertTokenizer

FEATURES = Features({"text": Value("string"), "tags": List(Value("string")), "kind": ClassLabel(names=["no", "yes"])})
ROWS = [{"text": "één", "tags": ["a", "b"], "kind": 1}, {"text": "two", "tags": [], "kind": 0}]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder and its tokenizer, and a file in a subfolder."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "cd"]
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}).save_pretrained(folder)
    (folder / "extra").mkdir()
    (folder / "extra" / "note é.txt").write_text("a name that a URL must quote")
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[HubServer]:
    """A server with one model and one dataset; tests add other repositories and leave these two alone.

    After the last test no client may have asked another host.
    """
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.add_model("org/tiny", tiny_model)
        server.add_dataset("org/rows", {"train": Dataset.from_list(ROWS, features=FEATURES), "test": ROWS[:1]})
        yield server
        assert server.strays == []


def run_client(hub: HubServer, home: Path, code: str, token: str | None = None) -> dict[str, Any]:
    """Run code in an interpreter that knows only this server and return the `result` that it leaves.

    `error(call)` in the code tells the class of the exception that a call raises.
    """
    before = """
        import json
        from pathlib import Path

        def error(call):
            try:
                return repr(call())
            except Exception as raised:
                return type(raised).__name__
    """
    after = "\nPath('result.json').write_text(json.dumps(result))\n"
    script = textwrap.dedent(before) + textwrap.dedent(code) + after
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=hub.env(home, token), cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((home / "result.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(hub: HubServer) -> set[str]:
    """Every file of the server: contents and snapshots."""
    return {path.as_posix() for path in hub.root.rglob("*")}


def test_downloads_are_byte_equal(hub: HubServer, tiny_model: Path, tmp_path: Path) -> None:
    code = """
        from huggingface_hub import HfApi, get_session, hf_hub_download, hf_hub_url, snapshot_download

        url = hf_hub_url("org/tiny", "config.json")
        part = get_session().get(url, headers={"Range": "bytes=2-5"})
        late = get_session().get(url, headers={"Range": "bytes=99999-"})
        sha = HfApi().model_info("org/tiny").sha
        siblings = HfApi().model_info("org/tiny", files_metadata=True).siblings
        result = {
            "sha": sha,
            "snapshot": snapshot_download("org/tiny"),
            "one": hf_hub_download("org/tiny", "extra/note é.txt", revision=sha, cache_dir="elsewhere"),
            "part": [part.status_code, part.text, part.headers["Content-Range"]],
            "late": late.status_code,
            "info": {file.rfilename: file.size for file in siblings},
            "top": [entry.path for entry in HfApi().list_repo_tree("org/tiny")],
            "checksums": HfApi().verify_repo_checksums("org/tiny").mismatches,
            "data": HfApi().list_repo_files("org/rows", repo_type="dataset"),
        }
    """
    result = run_client(hub, tmp_path, code)
    served = contents(tiny_model)
    assert contents(Path(result["snapshot"])) == served
    assert (tmp_path / result["one"]).read_bytes() == served["extra/note é.txt"]
    assert hub.commits("org/tiny") == [(result["sha"], "Add org/tiny")]
    size = len(served["config.json"])
    assert result["part"] == [206, served["config.json"][2:6].decode(), f"bytes 2-5/{size}"]
    assert result["late"] == 416
    assert result["info"] == {path: len(content) for path, content in served.items()}
    assert result["top"] == sorted({path.split("/")[0] for path in served})
    assert result["checksums"] == []
    assert result["data"] == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]


def test_what_is_missing_raises_the_errors_of_the_client(hub: HubServer, tmp_path: Path) -> None:
    code = """
        from datasets import load_dataset
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download

        result = {
            "repo": error(lambda: hf_hub_download("org/none", "config.json")),
            "snapshot": error(lambda: snapshot_download("org/none")),
            "logged in": error(lambda: HfApi(token="hf_test").model_info("org/none")),
            "kind": error(lambda: HfApi().dataset_info("org/tiny")),
            "file": error(lambda: hf_hub_download("org/tiny", "none.json")),
            "folder": error(lambda: list(HfApi().list_repo_tree("org/tiny", "none"))),
            "revision": error(lambda: hf_hub_download("org/tiny", "config.json", revision="none")),
            "token": error(lambda: HfApi(token="hf_wrong").model_info("org/tiny")),
            "dataset": error(lambda: load_dataset("org/none")),
        }
    """
    assert run_client(hub, tmp_path, code) == {
        "repo": "RepositoryNotFoundError",
        "snapshot": "RepositoryNotFoundError",
        "logged in": "RepositoryNotFoundError",
        "kind": "RepositoryNotFoundError",
        "file": "RemoteEntryNotFoundError",
        "folder": "RemoteEntryNotFoundError",
        "revision": "RevisionNotFoundError",
        "token": "HfHubHTTPError",
        "dataset": "DatasetNotFoundError",
    }


def test_a_write_without_a_valid_token_stores_nothing(hub: HubServer, tmp_path: Path) -> None:
    before, commits = stored(hub), hub.commits("org/tiny")
    code = """
        from huggingface_hub import HfApi, constants, get_session

        Path("folder").mkdir()
        Path("folder/model.safetensors").write_bytes(bytes(1000))
        oid, url = "0" * 64, constants.ENDPOINT
        header, file = {"summary": "x"}, {"path": "x", "content": "", "encoding": "base64"}
        lines = [{"key": "header", "value": header}, {"key": "file", "value": file}]
        lines = chr(10).join(map(json.dumps, lines))
        result = {
            "status": [
                get_session().post(f"{url}/api/repos/create", json={"name": "x"}).status_code,
                get_session().post(f"{url}/api/models/org/tiny/preupload/main", json={"files": []}).status_code,
                get_session().post(f"{url}/api/models/org/tiny/commit/main", content=lines).status_code,
                get_session().post(f"{url}/org/tiny.git/info/lfs/objects/batch", json={"objects": []}).status_code,
                get_session().put(f"{url}/lfs-upload/{oid}", content=b"x").status_code,
            ],
        }
        for name, token in {"anonymous": False, "wrong": "hf_wrong"}.items():
            api = HfApi(token=token)
            result[name] = [
                error(lambda: api.create_repo("tester/new")),
                error(lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="org/tiny")),
                error(lambda: api.upload_folder(folder_path="folder", repo_id="org/tiny")),
                error(lambda: api.delete_file("config.json", "org/tiny")),
            ]
    """
    result = run_client(hub, tmp_path, code)
    assert result["status"] == [401, 401, 401, 401, 403]
    assert result["anonymous"] == ["HfHubHTTPError", *["RepositoryNotFoundError"] * 3]
    assert result["wrong"] == ["HfHubHTTPError"] * 4
    assert stored(hub) == before
    assert hub.commits("org/tiny") == commits
    assert ("model", "tester/new") not in hub.repos


def test_uploads_and_deletions(hub: HubServer, tmp_path: Path) -> None:
    """A folder with an LFS file and a text file; then a file more, nothing new, a stale parent, and deletions."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.dat").write_bytes(bytes(range(256)) * (LFS_THRESHOLD // 256 + 1))
    (folder / "notes.txt").write_text("small")
    (folder / "sub").mkdir()
    (folder / "sub" / "tiny.safetensors").write_bytes(b"LFS because of its name")
    code = """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session
        from huggingface_hub import snapshot_download

        api = HfApi()
        url = api.create_repo("pushed", private=True)
        first = api.upload_folder(folder_path="folder", repo_id=url.repo_id, commit_message="first")
        add = CommitOperationAdd("more.txt", b"more")
        gone = [CommitOperationDelete("notes.txt"), CommitOperationDelete("sub/")]
        second = api.create_commit("tester/pushed", [add, *gone], commit_message="second", parent_commit=first.oid)
        again = api.upload_file(path_or_fileobj=b"more", path_in_repo="more.txt", repo_id="tester/pushed")
        upload = {"path_or_fileobj": b"x", "path_in_repo": "x", "repo_id": "tester/pushed"}
        names = ["weights.dat", "notes.txt", "sub/tiny.safetensors"]
        files = api.get_paths_info("tester/pushed", names, revision=first.oid)
        result = {
            "id": url.repo_id,
            "oids": [first.oid, second.oid, again.oid],
            "taken": error(lambda: api.create_repo("pushed")),
            "exist_ok": api.create_repo("pushed", exist_ok=True).repo_id,
            "gone": error(lambda: api.delete_file("notes.txt", "tester/pushed")),
            "stale": error(lambda: api.upload_file(**upload, parent_commit=first.oid)),
            "branch": error(lambda: api.upload_file(**upload, revision="none")),
            "hidden": error(lambda: HfApi(token=False).model_info("tester/pushed")),
            "private": api.model_info("tester/pushed").private,
            "lfs": {file.path: file.lfs is not None for file in files},
            "snapshot": snapshot_download("tester/pushed", revision=first.oid),
        }
        api.create_branch("tester/pushed", branch="side")
        for name in ("aside.txt", "later.txt"):
            api.upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id="tester/pushed", revision="side")
        result["branches"] = [ref.name for ref in api.list_repo_refs("tester/pushed").branches]
        result["side"] = api.list_repo_files("tester/pushed", revision="side")

        login, promised = {"authorization": "Bearer hf_test"}, {"objects": [{"oid": "0" * 64, "size": 1}]}
        batch = f"{constants.ENDPOINT}/tester/pushed.git/info/lfs/objects/batch"
        answer = get_session().post(batch, json=promised, headers=login).json()["objects"][0]
        result["damaged"] = get_session().put(answer["actions"]["upload"]["href"], content=b"x").status_code
    """
    result = run_client(hub, tmp_path, code, token="hf_test")
    assert result["id"] == result["exist_ok"] == "tester/pushed"
    commits = hub.commits("tester/pushed")
    assert [message for _, message in commits[:3]] == ["initial commit", "first", "second"]
    assert result["oids"] == [commits[1][0], commits[2][0], commits[2][0]], "an unchanged file must make no commit"
    assert len({sha for sha, _ in commits}) == len(commits) == 5
    assert result["taken"] == result["stale"] == "HfHubHTTPError"
    assert result["gone"] == "RemoteEntryNotFoundError"
    assert result["branch"] == "RevisionNotFoundError"
    assert result["hidden"] == "RepositoryNotFoundError"
    assert result["private"] is True
    assert result["lfs"] == {"weights.dat": True, "notes.txt": False, "sub/tiny.safetensors": True}
    snapshot = contents(Path(result["snapshot"]))
    snapshot.pop(".gitattributes")
    assert snapshot == contents(folder)
    head = hub.files("tester/pushed")
    assert set(head) == {".gitattributes", "more.txt", "weights.dat"}
    assert head["more.txt"].read_bytes() == b"more"
    assert head["weights.dat"].read_bytes() == (folder / "weights.dat").read_bytes()
    assert result["branches"] == ["main", "side"]
    assert result["side"] == sorted([*head, "aside.txt", "later.txt"])
    assert result["damaged"] == 400
    assert not (hub.root / "contents" / ("0" * 64)).exists()


@pytest.mark.slow
def test_datasets_come_back_with_their_rows_and_features(hub: HubServer, tmp_path: Path) -> None:
    Dataset.from_dict({"n": [1, 2]}).to_parquet(tmp_path / "some.parquet")
    hub.add_dataset("org/parquet", {"train": tmp_path / "some.parquet"})
    code = """
        from datasets import Dataset, load_dataset

        rows = load_dataset("org/rows")
        Dataset.from_dict({"n": [3]}).push_to_hub("tester/numbers")
        result = {
            "splits": {split: rows[split].to_list() for split in rows},
            "features": rows["train"].features.to_dict(),
            "streamed": list(load_dataset("org/rows", split="train", streaming=True)),
            "parquet": load_dataset("org/parquet", split="train")["n"][:],
            "pushed": load_dataset("tester/numbers", split="train")["n"][:],
        }
    """
    result = run_client(hub, tmp_path, code, token="hf_test")
    assert result["splits"] == {"train": ROWS, "test": ROWS[:1]}
    assert Features.from_dict(result["features"]) == FEATURES
    assert result["streamed"] == ROWS
    assert result["parquet"] == [1, 2]
    assert result["pushed"] == [3]
    assert "README.md" in hub.files("tester/numbers", "dataset")


@pytest.mark.slow
def test_transformers_load_push_and_load_back(hub: HubServer, tiny_model: Path, tmp_path: Path) -> None:
    code = """
        import torch
        from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel
        from transformers import Trainer, TrainingArguments

        def same(one, other):
            other = other.state_dict()
            return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())

        tokenizer, model = AutoTokenizer.from_pretrained("org/tiny"), AutoModel.from_pretrained("org/tiny")
        model.save_pretrained("loaded")
        result = {"ids": tokenizer("ab cd")["input_ids"]}

        sizes = {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        big = BertModel(BertConfig(vocab_size=30_000, **sizes))
        big.push_to_hub("tester/big")
        tokenizer.push_to_hub("tester/big")
        result["big"] = same(big, AutoModel.from_pretrained("tester/big"))
        result["vocabulary"] = AutoTokenizer.from_pretrained("tester/big").get_vocab() == tokenizer.get_vocab()

        rows = [{"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1], "labels": 0}] * 2
        arguments = TrainingArguments("run", hub_model_id="trained", max_steps=1, report_to="none", use_cpu=True)
        model = BertForSequenceClassification.from_pretrained("org/tiny")
        trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        trainer.push_to_hub("trained here", dataset="org/rows")
        result["trained"] = same(trainer.model, BertForSequenceClassification.from_pretrained("tester/trained"))
    """
    result = run_client(hub, tmp_path, code, token="hf_test")
    assert result["ids"] == BertTokenizer.from_pretrained(tiny_model)("ab cd")["input_ids"] == [2, 5, 6, 7, 3]
    loaded = tmp_path / "loaded" / "model.safetensors"
    assert loaded.read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    assert result["big"] is result["vocabulary"] is result["trained"] is True
    assert hub.files("tester/big")["model.safetensors"].stat().st_size > LFS_THRESHOLD
    assert {"config.json", "tokenizer.json", "README.md"} < set(hub.files("tester/big"))
    assert hub.commits("tester/trained")[-1][1] == "trained here"
    assert {"model.safetensors", "tokenizer.json", "training_args.bin"} < set(hub.files("tester/trained"))
    assert "org/tiny" in hub.files("tester/trained")["README.md"].read_text()


def test_the_environment_keeps_no_other_hub_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUGGINGFACE_HUB_CACHE", "ALL_PROXY"):
        monkeypatch.setenv(name, "from outside")
    monkeypatch.setenv("KEPT", "from outside")
    with HubServer(tmp_path) as server:
        env = server.env(tmp_path / "home")
        assert [name for name, value in env.items() if value == "from outside"] == ["KEPT"]
        assert "HF_TOKEN" not in env
        assert server.env(tmp_path, token="hf_test")["HF_TOKEN"] == "hf_test"


def test_requests_to_other_hosts_are_refused_and_noted(tmp_path: Path) -> None:
    code = """
        from huggingface_hub import get_session

        result = {
            "http": get_session().get("http://example.invalid/x").status_code,
            "https": error(lambda: get_session().get("https://example.invalid/x")),
        }
    """
    with HubServer(tmp_path / "hub") as server:
        result = run_client(server, tmp_path, code)
        assert result == {"http": 403, "https": "ProxyError"}
        assert server.strays == [("GET", "http://example.invalid/x"), ("CONNECT", "example.invalid:443")]
        assert server.requests == []
