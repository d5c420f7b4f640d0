from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mercore.errors import CheckpointError
from mercore.nn import Checkpoint, Rule, built, fill, refilled

Tensors = dict[str, torch.Tensor]


class Net(nn.Module):
    """A module with a parameter, a buffer that is saved and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("table", torch.zeros(4))
        self.register_buffer("angles", torch.arange(3.0), persistent=False)


def tensors() -> Tensors:
    numbers = torch.Generator().manual_seed(0)
    return {
        "layer.weight": torch.randn(3, 2, generator=numbers),
        "layer.bias": torch.randn(3, generator=numbers),
        "table": torch.randn(4, generator=numbers),
    }


def filled(
    path: Path,
    *rules: Rule,
    dtype: torch.dtype = torch.float32,
    zeros: str | None = None,
) -> Net:
    return fill(built(Net), Checkpoint(path), rules, dtype=dtype, device="cpu", zeros=zeros)


def saved(folder: Path, weights: Tensors) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / "w.safetensors"
    )
    return folder


def shards(folder: Path, ending: str) -> Path:
    """The tensors in two files with an index, as transformers writes them."""
    folder.mkdir()
    places = {}
    for number, (name, value) in enumerate(tensors().items()):
        file = f"part-{number % 2 + 1}-of-2{ending}"
        places[name] = file
        known = dict(Checkpoint(folder / file)) if (folder / file).exists() else {}
        write(folder / file, {**known, name: value.clone()})
    (folder / f"model{ending}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def write(file: Path, content: Tensors) -> None:
    if file.suffix == ".safetensors":
        save_file({name: value.clone() for name, value in content.items()}, file)
    else:
        torch.save({name: value.clone() for name, value in content.items()}, file)


def same(found: Checkpoint) -> bool:
    return set(found) == set(tensors()) and all(
        torch.equal(found[name], value) for name, value in tensors().items()
    )


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "net.pth", "x.pt"])
def test_a_file_is_read_alone_and_in_its_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, tensors())
    assert same(Checkpoint(tmp_path / name))
    assert same(Checkpoint(tmp_path))


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_shards_are_read_through_their_index(tmp_path: Path, ending: str) -> None:
    assert same(Checkpoint(shards(tmp_path / "a", ending)))


def test_a_shard_of_which_nothing_is_asked_is_not_opened(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a", ".safetensors")
    (folder / "part-2-of-2.safetensors").write_bytes(b"no safetensors")
    assert torch.equal(Checkpoint(folder)["layer.weight"], tensors()["layer.weight"])
    with pytest.raises(CheckpointError, match=r"part-2-of-2.safetensors: cannot be read: .*again"):
        Checkpoint(folder)["layer.bias"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a", ".bin")
    (folder / "part-1-of-2.bin").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 files .*: part-1-of-2.bin; fetch"):
        Checkpoint(folder)


def test_an_index_that_promises_too_much_is_found_out(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a", ".bin")
    index = folder / "model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"gone": "part-1-of-2.bin"}}))
    with pytest.raises(CheckpointError, match="holds no tensor 'gone'"):
        Checkpoint(folder)["gone"]


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors())
    write(tmp_path / "pytorch_model.bin", {"other": torch.zeros(1)})
    assert same(Checkpoint(tmp_path))


def test_the_usual_name_is_preferred_and_several_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.bin", {"other": torch.zeros(1)})
    write(tmp_path / "two.bin", {"other": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"2 files of weights and no index: one.bin, two.bin"):
        Checkpoint(tmp_path)
    write(tmp_path / "pytorch_model.bin", tensors())
    assert same(Checkpoint(tmp_path))


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights; expected .*\.safetensors, \.bin"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("nest", ["model", "state_dict", "module"])
def test_a_state_dict_is_found_in_what_training_code_saves(tmp_path: Path, nest: str) -> None:
    content = {nest: OrderedDict(tensors()), "epoch": 3, "meta": {"classes": ["a"]}}
    torch.save(content, tmp_path / "a.pth")
    assert same(Checkpoint(tmp_path / "a.pth"))


def test_the_prefix_of_a_parallel_training_is_taken_off(tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in tensors().items()}, tmp_path / "a.pth")
    assert same(Checkpoint(tmp_path / "a.pth"))


def test_the_format_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(Checkpoint(tmp_path / "a.pt"))


def test_a_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": tensors(), "args": re.compile("a")}, tmp_path / "a.pth")
    says = r"a.pth: holds more than weights, and .* run code: Unsupported .* re\._compile was not"
    with pytest.raises(CheckpointError, match=says):
        Checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 1}, {"model": {"epoch": 1}}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth: holds no state dict"):
        Checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, {"a": torch.zeros(1000)})
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read: .*; fetch the file again"):
        Checkpoint(tmp_path / name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_module_is_filled_and_ready_to_run(tmp_path: Path, dtype: torch.dtype) -> None:
    net = filled(saved(tmp_path / "a", tensors()), dtype=dtype)
    for name, value in tensors().items():
        assert torch.equal(net.state_dict()[name], value.to(dtype))
    assert not net.training
    assert not any(value.requires_grad for value in net.parameters())
    # What is computed rather than saved keeps its values and its type.
    assert torch.equal(net.get_buffer("angles"), torch.arange(3.0))


def test_a_module_takes_no_memory_before_it_is_filled() -> None:
    net = built(Net)
    assert all(value.is_meta for value in net.parameters())
    assert not net.get_buffer("angles").is_meta


def test_names_are_changed_by_rules(tmp_path: Path) -> None:
    foreign = {f"net.{name}": value for name, value in tensors().items()}
    net = filled(saved(tmp_path / "a", foreign), Rule(r"net\.(.*)", r"\1"))
    assert torch.equal(net.layer.weight, tensors()["layer.weight"])


def test_the_first_rule_that_matches_counts(tmp_path: Path) -> None:
    more = {**tensors(), "head.weight": torch.zeros(9)}
    net = filled(saved(tmp_path / "a", more), Rule(r"head\..*", None), Rule(r"h.*", "nowhere"))
    assert torch.equal(net.layer.bias, tensors()["layer.bias"])


def test_a_tensor_is_cut_into_several(tmp_path: Path) -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(2, 4, bias=False) for _ in range(3))

    packed = torch.arange(24.0).reshape(12, 2)
    rule = Rule("packed", ("q.weight", "k.weight", "v.weight"))
    checkpoint = Checkpoint(saved(tmp_path / "a", {"packed": packed}))
    three = fill(built(Three), checkpoint, [rule], dtype=torch.float32, device="cpu")
    assert torch.equal(three.q.weight, packed[:4])
    assert torch.equal(three.v.weight, packed[8:])


def test_trained_tensors_go_back_where_they_came_from(tmp_path: Path) -> None:
    stored = {"packed": torch.arange(8.0).bfloat16().reshape(4, 2), "other": torch.ones(3),
              "x.unused": torch.zeros(1)}  # fmt: skip
    rules = [Rule("packed", ("q", "k")), Rule("other", "o"), Rule(r"x\..*", None)]
    trained = {"q": torch.full((2, 2), 7.0), "k": torch.full((2, 2), 9.0), "new": torch.ones(1)}
    whole = refilled(Checkpoint(saved(tmp_path / "a", stored)), rules, trained)
    assert whole.keys() == stored.keys()
    assert whole["packed"].tolist() == [[7, 7], [7, 7], [9, 9], [9, 9]]
    assert whole["packed"].dtype == torch.bfloat16
    assert torch.equal(whole["other"], stored["other"])


def test_several_tensors_are_joined_in_the_order_of_their_parts(tmp_path: Path) -> None:
    bias = tensors().pop("layer.bias")
    parts = {"a": bias[2:], "b": bias[:1], "c": bias[1:2]}
    rest = {name: value for name, value in tensors().items() if name != "layer.bias"}
    rules = [Rule(name, "layer.bias", (i, 3)) for name, i in (("a", 2), ("b", 0), ("c", 1))]
    net = filled(saved(tmp_path / "a", {**rest, **parts}), *rules)
    assert torch.equal(net.layer.bias, bias)
    with pytest.raises(CheckpointError, match=r"incomplete: layer.bias: only a, b"):
        filled(saved(tmp_path / "b", {**rest, "a": bias[2:], "b": bias[:1]}), *rules)


def test_what_was_filled_is_put_back_as_it_was_found(tmp_path: Path) -> None:
    bias = tensors()["layer.bias"]
    given = {
        "packed": torch.cat([torch.ones(3, 2), tensors()["layer.weight"]]).bfloat16(),
        "a": bias[2:],
        "b": bias[:2],
        "table": torch.ones(4),
        "head": torch.ones(1),
    }
    rules = [
        Rule("packed", ("other.weight", "layer.weight")),
        Rule("a", "layer.bias", (1, 2)),
        Rule("b", "layer.bias", (0, 2)),
        Rule("head", None),
    ]
    checkpoint = Checkpoint(saved(tmp_path / "a", given))
    trained = {
        "other.weight": torch.zeros(3, 2),
        "layer.weight": torch.full((3, 2), 2.0),
        "layer.bias": torch.arange(3.0),
    }
    found = refilled(checkpoint, rules, trained, unused=False)
    assert found.keys() == {"packed", "a", "b", "table"}
    assert found["packed"].tolist() == [[0, 0]] * 3 + [[2, 2]] * 3
    assert found["packed"].dtype == torch.bfloat16
    assert (found["b"].tolist(), found["a"].tolist()) == ([0, 1], [2])
    assert torch.equal(found["table"], given["table"])  # the module has none
    del trained["other.weight"]
    found = refilled(checkpoint, rules, trained)
    assert found["packed"].tolist() == [[1, 1]] * 3 + [[2, 2]] * 3
    assert torch.equal(found["head"], given["head"])


def test_all_that_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    wrong = {"layer.weight": torch.zeros(3, 2), "extra": torch.zeros(1), "bias": torch.zeros(3)}
    with pytest.raises(CheckpointError) as caught:
        filled(saved(tmp_path / "a", wrong))
    lines = str(caught.value).splitlines()
    assert "the weights do not fit the model" in lines[0]
    assert lines[1:] == ["  missing: table, layer.bias", "  not expected: bias, extra"]


def test_another_shape_is_said_with_both_shapes(tmp_path: Path) -> None:
    wrong = {**tensors(), "table": torch.zeros(5), "layer.bias": torch.zeros(3, 1)}
    with pytest.raises(CheckpointError) as caught:
        filled(saved(tmp_path / "a", wrong))
    assert "layer.bias gives (3, 1), expected (3,)" in str(caught.value)
    assert "table gives (5,), expected (4,)" in str(caught.value)


def test_two_weights_for_one_parameter_are_refused(tmp_path: Path) -> None:
    double = {**tensors(), "old.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"given twice: layer.bias: .*old.bias"):
        filled(saved(tmp_path / "a", double), Rule(r"old\.(.*)", r"layer.\1"))


def test_what_may_be_absent_is_zero(tmp_path: Path) -> None:
    without = {name: value for name, value in tensors().items() if not name.endswith("bias")}
    net = filled(saved(tmp_path / "a", without), zeros=r".*\.bias")
    assert torch.equal(net.layer.bias, torch.zeros(3))
