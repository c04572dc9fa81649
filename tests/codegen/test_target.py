"""Which level a CPU gets, and what it is told when it gets none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lower86.codegen.isa import ISAS
from lower86.codegen.llvm import host_cpu_name, host_features
from lower86.codegen.target import LEVELS, VARIABLE, Target, resolve_target
from lower86.errors import Lower86Error, TargetError


def features(*names: str, without: tuple[str, ...] = ()) -> Mapping[str, bool]:
    """A CPU's own list: what it has, and some that it says it lacks."""
    return {name: name not in without for name in (*names, *without, "sse4.2", "sha512")} | {"sha512": False}


def test_host_is_the_best_level_it_has() -> None:
    target = Target.host()
    assert target == Target.host(host_features())
    assert target.cpu == host_cpu_name()
    have = [level for level, needs in LEVELS.items() if all(host_features().get(need) for need in needs)]
    assert target.level == have[0]


def test_pairs_of_bf16_are_the_cpus_own() -> None:
    """Whatever the level has of them: the packed weights are the same."""
    best, *others = LEVELS
    assert Target.host(features(*LEVELS[best], "avx512bf16")).has_bf16_dots
    assert not Target.host(features(*LEVELS[best], without=("avx512bf16",))).has_bf16_dots
    for level in others:
        assert not Target.host(features(*LEVELS[best], *LEVELS[level], "avx512bf16"), level=level).has_bf16_dots


@pytest.mark.parametrize("level", LEVELS)
def test_a_cpu_with_just_what_a_level_needs_gets_it(level: str) -> None:
    assert Target.host(features(*LEVELS[level])).level == level
    assert Target.host(features(*LEVELS[level]), level=level).level == level


@pytest.mark.parametrize(("level", "missing"), [(level, need) for level, needs in LEVELS.items() for need in needs])
def test_what_is_missing_is_named(level: str, missing: str) -> None:
    with pytest.raises(TargetError) as error:
        Target.host(features(*LEVELS[level], without=(missing,)), level=level)
    assert missing in error.value.what
    assert host_cpu_name() in error.value.what
    assert not any(need in error.value.what.split() for need in LEVELS[level] if need != missing)
    assert level in error.value.where


def test_a_cpu_without_any_level() -> None:
    with pytest.raises(TargetError, match="lacks avx2, fma, f16c, bmi2") as error:
        Target.host({})
    assert "AVX2" in error.value.fix
    assert isinstance(error.value, Lower86Error)


def test_without_vnni_there_is_avx2() -> None:
    assert Target.host(features(*LEVELS["avx512_vnni"], without=("avx512vnni",))).level == "avx2"


def test_vnni_of_one_kind_is_not_that_of_the_other() -> None:
    """Ice Lake has it in 512 bits alone, Alder Lake in 256 alone, and a CPU may have wide registers without any."""
    with pytest.raises(TargetError, match="lacks avxvnni"):
        Target.host(features(*LEVELS["avx512_vnni"], without=("avxvnni",)), level="avx_vnni")
    narrow = features(*LEVELS["avx512_vnni"], *LEVELS["avx_vnni"], without=("avx512vnni",))
    assert Target.host(narrow).level == "avx_vnni"
    assert not any(name.startswith("+avx512") for name in Target.host(narrow).features.split(","))


@pytest.mark.parametrize("level", LEVELS)
def test_features_above_the_level_are_left_out(level: str) -> None:
    every = features(*(need for needs in LEVELS.values() for need in needs), "amx-int8", "avx512fp16")
    named = Target.host(every, level=level).features.split(",")
    assert all(f"+{need}" in named for need in LEVELS[level])
    assert any(name.startswith("+avx512") for name in named) == (level == "avx512_vnni")
    assert ("+avxvnni" in named) == (level != "avx2")
    assert ("-avxvnni" in named) == (level == "avx2")  # a CPU's name implies it
    assert not any("amx" in name or "sha512" in name for name in named)
    assert ("-prefer-256-bit" in named) == (level == "avx512_vnni")


def test_every_level_has_its_instructions() -> None:
    assert set(ISAS) == set(LEVELS)
    for level, isa in ISAS.items():
        target = Target(level, "", "")
        assert (target.word, target.wide) == (isa.word, isa.wide)


@pytest.fixture(autouse=True)
def _nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_environment_forces_a_level_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [level for level, needs in LEVELS.items() if all(host_features().get(need) for need in needs)]
    for level in here:
        monkeypatch.setenv(VARIABLE, level)
        assert resolve_target(None) == Target.host(level=level)
        assert resolve_target(here[-1]) == Target.host(level=here[-1])
        assert resolve_target(Target.host()) == Target.host()
    monkeypatch.setenv(VARIABLE, "")
    assert resolve_target(None) == Target.host()


@pytest.mark.parametrize("name", ["avx", "AVX2", " avx2"])
def test_the_environment_names_no_level(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(TargetError, match="unknown target") as error:
        resolve_target(None)
    assert VARIABLE in error.value.where
    assert all(level in error.value.fix for level in LEVELS)


def test_resolve_target() -> None:
    host = Target.host()
    assert resolve_target(None) == host
    assert resolve_target(host.level) == host
    other = Target("avx2", "haswell", "+avx2")
    assert resolve_target(other) is other


@pytest.mark.parametrize("name", ["", "avx512", "AVX2", "neon"])
def test_resolve_target_of_an_unknown_name(name: str) -> None:
    with pytest.raises(TargetError, match="unknown target") as error:
        resolve_target(name)
    assert all(level in error.value.fix for level in LEVELS)


def test_resolve_target_of_a_level_that_the_cpu_lacks() -> None:
    lacking = [level for level, needs in LEVELS.items() if not all(host_features().get(need) for need in needs)]
    for level in lacking:
        with pytest.raises(TargetError, match="lacks") as error:
            resolve_target(level)
        assert "target=None" in error.value.fix
