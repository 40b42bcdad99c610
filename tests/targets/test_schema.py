"""Target files: the built-in ones hold what they promise, and every kind of mistake gets its own words."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from edgecc.errors import EdgeccError
from edgecc.targets import schema
from edgecc.targets.schema import FEATURES, list_targets, load_target, parse_target, target_table

BUILT_IN = ("cortex-a53", "cortex-a55", "cortex-a710", "cortex-a72", "cortex-a76", "cortex-a78", "cortex-m4", "cortex-m55", "cortex-m7", "esp32-s3", "ethos-u55-128", "ethos-u55-256", "ethos-u55-32",
            "ethos-u55-64", "ethos-u65-256", "ethos-u65-512", "ethos-u85-1024", "ethos-u85-256", "ethos-u85-512", "generic-aarch64", "generic-c",
            "hexagon-v68", "hexagon-v73", "hexagon-v79", "jetson-orin-nano", "neoverse-n1",
            "rk3562-npu", "rk3566-npu", "rk3568-npu", "rk3576-npu", "rk3588", "rk3588-npu", "rpi4", "rpi5", "rv1106-npu", "x86-64-v3", "x86-64-v4", "x86-64-v4-bf16")
FOLDER = Path(schema.__file__).parent


def test_every_promised_target_is_listed():
    assert list_targets() == ("host", *BUILT_IN)


@pytest.mark.parametrize("name", ["host", *BUILT_IN])
def test_built_in_targets_load_and_are_consistent(name):
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert set(target.isa.features) <= set(FEATURES[target.architecture])
    sizes = [cache.size for cache in target.caches]
    assert sizes == sorted(sizes)
    assert target.alignment % max(1, target.vector.bits // 8) == 0
    if target.vector.bits:
        assert target.vector.lanes(4) * 32 == target.vector.bits
    else:
        assert target.vector.lanes(4) == 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_files_name_themselves_and_their_sources(name):
    text = (FOLDER / f"{name}.toml").read_text()
    assert tomllib.loads(text)["name"] == name
    assert text.startswith("#")


@pytest.mark.parametrize("name", ["host", *BUILT_IN])
def test_the_table_of_a_target_gives_it_back(name):
    table = json.loads(json.dumps(target_table(load_target(name))))
    assert parse_target(table, "again") == load_target(name)


def test_boards_take_the_core_they_inherit():
    board, core = load_target("rpi5"), load_target("cortex-a76")
    assert (board.isa, board.vector, board.core, board.emulator) == (core.isa, core.vector, core.core, core.emulator)
    assert load_target("rk3588").cache(3).size == 3 * 1024 * 1024
    assert load_target("rk3588").cache(2) == core.cache(2)
    assert load_target("rk3588").cache(4) is None


def test_vector_features_follow_the_architecture():
    assert load_target("cortex-a76").has("neon", "dotprod")
    assert not load_target("cortex-a72").has("dotprod")
    assert load_target("x86-64-v4").has("avx512f", "fma")
    assert load_target("generic-c").vector.bits == 0


WHOLE = """
schema = 1
name = "mine"
description = "a test"
architecture = "aarch64"
cores = 2
[isa]
base = "armv8-a"
features = ["neon"]
[vector]
bits = 128
registers = 32
fma_by_lane = true
widths = [64, 128]
[core]
in_order = false
issue_width = 3
fma_latency = 4
fma_per_cycle = 1
load_latency = 5
loads_per_cycle = 0.5
stores_per_cycle = 1
[[cache]]
level = 1
size = 32768
line = 64
ways = 4
[[memory]]
name = "dram"
align = 64
"""


def write(tmp_path: Path, text: str, name: str = "mine.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_of_the_user_works_without_installing(tmp_path):
    target = load_target(str(write(tmp_path, WHOLE)))
    assert target.name == "mine"
    assert target.core.loads_per_cycle == 0.5
    assert target.emulator is None
    assert load_target(tmp_path / "mine.toml") == target


def test_a_file_may_inherit_from_a_built_in_target_and_from_a_file(tmp_path):
    write(tmp_path, 'inherits = "cortex-a76"\nname = "base"\n[core]\nissue_width = 7\n', "base.toml")
    child = write(tmp_path, 'inherits = "base.toml"\nname = "child"\n[[memory]]\nname = "tcm"\nalign = 32\nlimit = 1024\n')
    target = load_target(child)
    assert (target.name, target.core.issue_width, target.core.fma_latency) == ("child", 7, 2)
    assert [(m.name, m.limit) for m in target.memories] == [("tcm", 1024)]


@pytest.mark.parametrize(("old", "new", "words"), [
    ("ways = 4", "wayz = 4", ["[[cache]] #0", "unknown key 'wayz'", "did you mean 'ways'?"]),
    ("ways = 4\n", "", ["[[cache]] #0", "missing key 'ways'"]),
    ("registers = 32", 'registers = "32"', ["[vector]", "'registers' wants an integer, got a string"]),
    ("registers = 32", "registers = true", ["[vector]", "'registers' wants an integer, got true or false"]),
    ("registers = 32", "registers = 0", ["[vector]", "'registers' must be positive"]),
    ("fma_per_cycle = 1", "fma_per_cycle = -1", ["[core]", "'fma_per_cycle' must be positive"]),
    ("[[memory]]", "[rates]\nshuffles = 0\n[[memory]]", ["[rates]", "'shuffles' must be positive"]),
    ("in_order = false", "in_order = 0", ["[core]", "'in_order' wants true or false"]),
    ("cores = 2", "cores = 2.5", ["'cores' wants an integer, got a number (2.5)"]),
    ('features = ["neon"]', 'features = "neon"', ["[isa]", "'features' wants a list"]),
    ('features = ["neon"]', 'features = ["neno"]', ["[isa]", "'neno' is no feature of aarch64", "did you mean 'neon'?"]),
    ('features = ["neon"]', "features = [1]", ["[isa]", "'features[0]' wants a string"]),
    ('"aarch64"', '"arm64"', ["architecture 'arm64' is not one of"]),
    ("[[memory]]", "[memory]", ["'memory' wants a list, got a table"]),
    ("align = 64", "align = 48", ["[[memory]] #0", "power of two"]),
    ("align = 64", "align = 64\nlimit = -1", ["[[memory]] #0", "'limit' must not be negative"]),
    ("level = 1", "level = 2", ["[[cache]]", "'level' must count 1, 2"]),
    ("widths = [64, 128]", "widths = [128, 64]", ["[vector]", "must ascend"]),
    ("widths = [64, 128]", "widths = [8, 128]", ["[vector]", "powers of two, from 32 on"]),
    ("bits = 128\nregisters = 32\nfma_by_lane = true\nwidths = [64, 128]", "bits = 256\nregisters = 32\nfma_by_lane = true\nwidths = [256]", ["[vector]", "at most is 128"]),
    ("schema = 1\n", "", ["missing key 'schema'"]),
    ("schema = 1", "schema = 2", ["schema 2 is not supported"]),
    ("schema = 1", 'schema = 1\ninherits = "cortexa76"', ["unknown target 'cortexa76'", "did you mean 'cortex-a76'?"]),
    ("schema = 1", "schema = 1\ninherits = 3", ["'inherits' wants a string"]),
    ("schema = 1", 'schema = 1\ninherits = "mine.toml"', ["comes back to this file"]),
    ("schema = 1", "schema = = 1", ["not a TOML file"]),
    pytest.param("schema = 1", "schema = " + "[" * 50_000, ["not a TOML file"], id="deep"),
    pytest.param("schema = 1", "schema = " + "9" * 5000, ["not a TOML file"], id="digits"),
    ('features = ["neon"]', "features = []", ["[vector]", "no feature in [isa]"]),
    ('name = "mine"', 'name = "\\u001b[2J"', ["'name'", "printable"]),
    ('[isa]\nbase = "armv8-a"\nfeatures = ["neon"]', "isa = 1", ["'isa' wants a table, got an integer"]),
])
def test_mistakes_name_file_table_and_key(tmp_path, old, new, words):
    assert old in WHOLE
    with pytest.raises(EdgeccError) as caught:
        load_target(write(tmp_path, WHOLE.replace(old, new, 1)))
    assert caught.value.code == "E003"
    text = str(caught.value)
    assert "mine.toml" in text
    for word in words:
        assert word in text


def test_an_empty_memory_list_is_refused(tmp_path):
    text = WHOLE.replace('[[memory]]\nname = "dram"\nalign = 64\n', "").replace("cores = 2", "cores = 2\nmemory = []")
    with pytest.raises(EdgeccError, match="at least one memory"):
        load_target(write(tmp_path, text))


@pytest.mark.parametrize(("name", "hint"), [("cortexa76", "did you mean 'cortex-a76'?"), ("zzz", "edgecc targets"),
                                            ("missing.toml", "edgecc targets"), ("no/such/file", "edgecc targets")])
def test_an_unknown_target_is_e002_with_a_suggestion(name, hint):
    with pytest.raises(EdgeccError) as caught:
        load_target(name)
    assert caught.value.code == "E002"
    assert caught.value.exit_status == 2
    assert hint in str(caught.value)
