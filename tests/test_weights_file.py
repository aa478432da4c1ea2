"""Weights come from plain files of tensors, and every way in which they don't has a name."""

import collections
import hashlib
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from contracts.errors import WeightsMismatch, WeightsUnavailable, WeightsUnreadable
from pipeline.weights_file import categories_of, fetch_published, load_into, read_weights

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


def test_safetensors_give_tensors_metadata_and_the_hash_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path, {"categories": '["a", "b"]'})
    weights = read_weights(path)
    assert torch.equal(weights.tensors["weight"], TENSORS["weight"])
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert categories_of(weights, ["published"]) == ["a", "b"]


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"model": t}, lambda t: {"state_dict": t}])
def test_pth_files_are_read_also_where_training_scripts_wrap_them(tmp_path, wrap) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "w.pth"
    torch.save(wrap(TENSORS), path)
    assert torch.equal(read_weights(path).tensors["weight"], TENSORS["weight"])


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "w.pth", tmp_path / "it-ran"
    torch.save({"weight": Bomb(trace)}, path)
    with pytest.raises(WeightsUnreadable, match="a pickle that runs code is refused"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Bomb(trace), protocol=2))
    with pytest.raises(WeightsUnreadable):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_unreadable(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(TENSORS, path)
    else:
        save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(WeightsUnreadable, match=path.name):
        read_weights(path)


def test_a_file_of_something_else_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsUnreadable, match="expected a state dict"):
        read_weights(path)


def test_a_missing_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="No such file"):
        read_weights(tmp_path / "none.safetensors")


def test_labels_beside_the_file_name_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(collections.OrderedDict(TENSORS), path)
    assert categories_of(read_weights(path), ["published"]) == ["published"]
    (tmp_path / "w.pth.labels.txt").write_text("cat\ndog\n")
    assert categories_of(read_weights(path), ["published"]) == ["cat", "dog"]


def test_weights_of_another_shape_are_a_mismatch_that_names_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path)
    with pytest.raises(WeightsMismatch, match=r"size mismatch for weight"):
        load_into(torch.nn.Linear(4, 2), read_weights(path), "linear")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_unreadable(value: float, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.tensor([0.0, value])}, path)
    with pytest.raises(WeightsUnreadable, match="NaN or infinity in bias"):
        load_into(torch.nn.Linear(3, 2), read_weights(path), "linear")


def test_a_download_that_fails_is_unavailable_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Port 9 of the loopback interface: nothing answers there.
    with pytest.raises(WeightsUnavailable, match="--detector-weights") as caught:
        fetch_published("http://127.0.0.1:9/models/net-0123abcd.pth")
    assert "\n" not in str(caught.value)


def test_a_published_file_is_downloaded_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served_folder: tuple[Path, str]
) -> None:
    folder, url = served_folder
    content = b"published weights"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    path = fetch_published(f"{url}/{name}")
    assert path.read_bytes() == content
    (folder / name).unlink()
    assert fetch_published(f"{url}/{name}") == path


def test_a_download_with_the_wrong_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served_folder: tuple[Path, str]
) -> None:
    folder, url = served_folder
    (folder / "net-00000000.pth").write_bytes(b"tampered with")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsUnavailable, match="invalid hash"):
        fetch_published(f"{url}/net-00000000.pth")


def test_damaged_bytes_are_unreadable_whatever_the_library_raises(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    rng = random.Random(0)
    errors: list[str] = []
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except WeightsUnreadable as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert not [text for text in errors if "\n" in text]


@pytest.mark.parametrize("said", ["", "[", '"cat"', '{"0": "cat"}', "[" * 10**5])
def test_categories_that_are_no_list_are_unreadable(tmp_path: Path, said: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path, {"categories": said})
    with pytest.raises(WeightsUnreadable, match="`categories`"):
        categories_of(read_weights(path), [])


def test_labels_in_another_encoding_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path)
    labels = tmp_path / "w.safetensors.labels.txt"
    labels.write_bytes("Schlüssel\n".encode("latin-1"))
    with pytest.raises(WeightsUnreadable, match=r"w\.safetensors\.labels\.txt: expected UTF-8"):
        categories_of(read_weights(path), [])
    labels.write_bytes("Schlüssel\nÖse\n".encode("utf-8-sig"))
    assert categories_of(read_weights(path), []) == ["Schlüssel", "Öse"]
