"""CPU limits of control groups, in trees of files as systems and containers have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lower86.runtime.container import container_cpus, cpu_quota

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
OTHER = (
    "22 28 0:20 / /proc rw shared:12 - proc proc rw\n32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)


def tree(root: Path, groups: str, mounts: str, limits: dict[str, str]) -> Path:
    """A system's root: what the process is told of its groups and of mounts, and limits: "quota period", by folder."""
    for name, text in (("proc/self/cgroup", groups), ("proc/self/mountinfo", f"{OTHER}\n{mounts}\n")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for folder, text in limits.items():
        place = root / folder
        place.mkdir(parents=True, exist_ok=True)
        if "cpu,cpuacct" in folder:
            for word, value in zip(("quota", "period"), text.split(), strict=True):
                (place / f"cpu.cfs_{word}_us").write_text(f"{value}\n")
        else:
            (place / "cpu.max").write_text(f"{text}\n")
    return root


def test_cpu_quota() -> None:
    assert cpu_quota("max 100000\n") is None
    assert cpu_quota("-1\n 100000\n") is None
    assert cpu_quota("200000 100000\n") == 2.0
    assert cpu_quota("50000 100000") == 0.5
    with pytest.raises(ValueError, match="unpack"):
        cpu_quota("")


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        ({"a.slice/b": "200000 100000"}, 2),
        ({"a.slice/b": "400000 100000", "a.slice": "max 100000", "": "300000 100000"}, 3),
        ({"a.slice/b": "max 100000", "a.slice": "150000 50000"}, 3),
        ({"a.slice/b": "399999 100000"}, 3),  # a fraction of a CPU is left unused
        ({"a.slice/b": "50000 100000"}, 1),
        ({"a.slice/b": "max 100000"}, None),
        ({"a.slice/b": "?", "a.slice": "500000 100000"}, 5),
        ({"other.slice": "100000 100000"}, None),
        ({}, None),
    ],
)
def test_the_least_limit_of_a_group_and_those_above_it(
    tmp_path: Path, limits: dict[str, str], cpus: int | None
) -> None:
    places = {f"sys/fs/cgroup/{folder}": text for folder, text in limits.items()}
    assert container_cpus(tree(tmp_path, "0::/a.slice/b\n", V2, places)) == cpus


def test_the_first_version_has_two_files(tmp_path: Path) -> None:
    groups = "9:name=systemd:/x\n4:memory:/x\n3:cpuset:/x\n2:cpu,cpuacct:/docker/1\n"
    places = {f"sys/fs/cgroup/cpu,cpuacct{folder}": text for folder, text in
              (("/docker/1", "250000 100000"), ("/docker", "-1 100000"), ("", "-1 100000"))}  # fmt: skip
    assert container_cpus(tree(tmp_path, groups, V1, places)) == 2


def test_both_versions_at_once(tmp_path: Path) -> None:
    unified = V2.replace("/sys/fs/cgroup rw", "/sys/fs/cgroup/unified rw")
    groups = "2:cpu,cpuacct:/docker/1\n0::/docker/1\n"
    places = {"sys/fs/cgroup/cpu,cpuacct/docker/1": "600000 100000", "sys/fs/cgroup/unified/docker/1": "max 100000"}
    assert container_cpus(tree(tmp_path, groups, f"{V1}\n{unified}", places)) == 6
    places = {"sys/fs/cgroup/unified/docker": "400000 100000"}
    assert container_cpus(tree(tmp_path, groups, f"{V1}\n{unified}", places)) == 4


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    """What is mounted begins at the container's group, by which the host still calls it."""
    mount = V1.replace("0:27 / ", "0:27 /docker/1 ")
    top = {"sys/fs/cgroup/cpu,cpuacct": "200000 100000"}
    assert container_cpus(tree(tmp_path, "2:cpu,cpuacct:/docker/1\n", mount, top)) == 2
    within = {**top, "sys/fs/cgroup/cpu,cpuacct/job": "100000 100000"}
    assert container_cpus(tree(tmp_path, "2:cpu,cpuacct:/docker/1/job\n", mount, within)) == 1


@pytest.mark.parametrize("group", ["/../../system.slice/x", "/kubepods/pod1"])
def test_a_group_that_only_the_host_can_name(tmp_path: Path, group: str) -> None:
    mount = V2.replace("0:26 / ", "0:26 /docker/1 ")
    assert container_cpus(tree(tmp_path, f"0::{group}\n", mount, {"sys/fs/cgroup": "200000 100000"})) == 2


def test_mounted_elsewhere_with_a_space_in_the_name(tmp_path: Path) -> None:
    mount = V2.replace("/sys/fs/cgroup", r"/run/control\040groups")
    assert container_cpus(tree(tmp_path, "0::/a\n", mount, {"run/control groups/a": "700000 100000"})) == 7


def test_without_a_list_of_mounts_the_usual_places_are_looked_at(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a\n", "", {"sys/fs/cgroup/a": "300000 100000"})
    (root / "proc/self/mountinfo").unlink()
    assert container_cpus(root) == 3


def test_no_groups_at_all(tmp_path: Path) -> None:
    assert container_cpus(tmp_path) is None
