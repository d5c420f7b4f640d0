"""What the store writes is read by the newest zarr-python there is, which may need a newer Python.

Those after 3.1 need Python 3.12 or newer, while mercore also runs on 3.11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mercore.store import Row, Store
from mercore.store._parts import Array

UV = Path(sys.executable).with_name("uv")
NEWER = ">=3.12"
COMPARE = """
import sys

import numpy as np
import zarr

store = zarr.open(sys.argv[1], mode="r")
arrays = {name for name, node in store.members(max_depth=None) if isinstance(node, zarr.Array)}
for name, expected in np.load(sys.argv[2]).items():
    found = np.asarray(store[name][...])
    if expected.dtype.kind != "U":  # texts come in a data type without a length
        assert found.dtype == expected.dtype, (name, found.dtype)
    np.testing.assert_array_equal(found.astype(expected.dtype), expected, name)
    arrays.remove(name)
    print(name)
assert not arrays, arrays
print(zarr.__version__)
"""


def uv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run uv, to which all Pythons that pyenv keeps are shown as well."""
    kept = ""
    if pyenv := shutil.which("pyenv"):
        kept = subprocess.check_output([pyenv, "versions", "--bare"], text=True)
    environment = os.environ | {"PYENV_VERSION": ":".join(kept.split()), "UV_HTTP_RETRIES": "0"}
    command = [str(part) for part in (UV, *arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """The Python of an empty environment in which there is the newest zarr-python."""
    made = uv("venv", "--python", NEWER, tmp_path / "newest")
    if made.returncode:
        pytest.skip(f"no Python {NEWER} on PATH or from uv: {made.stderr.strip()}")
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / "newest" / scripts / "python"
    installed = uv("pip", "install", "--python", python, "--upgrade", "zarr", "numpy")
    assert installed.returncode == 0, installed.stderr
    return python


def written(root: Path) -> dict[str, Array]:
    """Make a store of segments and bases; return what each array in it holds, by its path."""
    generator = np.random.default_rng(0)
    expected: dict[str, Array] = {}
    for group, dtype, shape in [
        ("features", "float32", (5,)),
        ("frames", "float16", (3,)),
        ("streams", "uint8", (4, 2, 3)),
    ]:
        collection = Store(root).create(group, "toy", "f", {})
        rows = [(generator.random((1 + n, *shape)) * 250).astype(dtype) for n in range(7)]
        ids = [f"样本/{n}" for n in range(7)]
        collection.commit([Row(id, values) for id, values in zip(ids, rows, strict=True)])
        collection.compact()
        collection.commit([Row("later", rows[0]), Row("bad", None, failed="no audio")])
        folder = root / group / "toy@f"
        (base,) = (path.parent for path in folder.glob("base/*/zarr.json"))
        (segment,) = (path.parent for path in folder.glob("seg/*/zarr.json"))
        expected |= {
            (base / "data").relative_to(root).as_posix(): np.concatenate(rows),
            (base / "ids").relative_to(root).as_posix(): np.array(ids),
            (base / "offsets").relative_to(root).as_posix(): np.cumsum([0, *map(len, rows)]),
            segment.relative_to(root).as_posix(): rows[0],
        }
    return expected


def test_the_newest_zarr_reads_all_arrays_of_a_store(newest: Path, tmp_path: Path) -> None:
    expected = written(tmp_path / "mer.zarr")
    np.savez(tmp_path / "expected.npz", **expected)  # type: ignore[arg-type]
    places = [str(tmp_path / name) for name in ("mer.zarr", "expected.npz")]
    command = [str(newest), "-I", "-c", COMPARE, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *compared, version = done.stdout.split()
    assert compared == list(expected)
    assert tuple(map(int, version.split(".")[:2])) >= (3, 2), version
