"""What this machine must have, and what is said if it has not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pants.engine.internals.scheduler import ExecutionError
from pants.testutil.rule_runner import RuleRunner

from opam_oci.host import checks as host
from opam_oci.host.checks import Host, problems_of
from opam_oci.layers.build_plan import BuildPlan, BuildPlanRequest
from tests.backend.backend_runner import OPTIONS
from tests.backend.locktext import Pkg, project


def machine(root: Path, *programs: str, uid: int = 0, **settings: int) -> Host:
    (root / "etc").mkdir()
    for name, value in settings.items():
        path = root / "proc/sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return Host(user="me", uid=uid, which=lambda name: f"/usr/bin/{name}" if name in programs else None, root=root)


ROOTS = ("python3", "mmdebstrap", "apt-get", "dpkg-deb")
ALL = (*ROOTS, "newuidmap", "newgidmap")


def test_root_with_all_tools(tmp_path: Path) -> None:
    assert problems_of(machine(tmp_path, *ROOTS), base=True) == ()


def test_missing_programs_come_with_the_command(tmp_path: Path) -> None:
    [problem] = problems_of(machine(tmp_path), base=True)
    assert problem.startswith("no python3 and no mmdebstrap and no apt-get and no dpkg-deb in /usr/local/sbin:")
    assert "`apt-get install apt dpkg mmdebstrap python3`" in problem


def test_locks_need_more(tmp_path: Path) -> None:
    [problem] = problems_of(machine(tmp_path, *ROOTS), base=True, lock=True)
    assert problem.startswith("no gpgv in ") and "`apt-get install gpgv`" in problem


def test_without_a_base(tmp_path: Path) -> None:
    assert problems_of(machine(tmp_path, "python3"), base=False) == ()


def test_a_normal_user_needs_subordinate_ids(tmp_path: Path) -> None:
    user = machine(tmp_path, *ROOTS, uid=1000)
    (tmp_path / "etc/subuid").write_text("other:1:1\n")
    programs, subuid, subgid = problems_of(user, base=True)
    assert "no newuidmap and no newgidmap" in programs and "`apt-get install uidmap`" in programs
    assert "/etc/subuid" in subuid and "`usermod --add-subuids 100000-165535 me`" in subuid
    assert "/etc/subgid" in subgid


def test_a_normal_user_who_has_all(tmp_path: Path) -> None:
    user = machine(tmp_path, *ALL, uid=1000, kernel__unprivileged_userns_clone=1, user__max_user_namespaces=9)
    (tmp_path / "etc/subuid").write_text("me:100000:65536\n")
    (tmp_path / "etc/subgid").write_text("1000:100000:65536\n")
    assert problems_of(user, base=True) == ()


@pytest.mark.parametrize("setting", ["kernel__unprivileged_userns_clone", "user__max_user_namespaces"])
def test_no_user_namespaces(tmp_path: Path, setting: str) -> None:
    user = machine(tmp_path, *ALL, uid=1000, **{setting: 0})
    [problem] = problems_of(user, base=False)
    assert "no user namespaces" in problem and f"sysctl -w {setting.replace('__', '.')}=" in problem


def test_root_needs_no_user_namespaces(tmp_path: Path) -> None:
    assert problems_of(machine(tmp_path, *ALL, user__max_user_namespaces=0), base=True) == ()


def test_named_before_any_work_and_looked_for_again_in_the_next_run(
    rule_runner: RuleRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = [option for option in OPTIONS if "check-host" not in option]
    bare = machine(tmp_path, "python3", "apt-get", "dpkg-deb")
    monkeypatch.setattr(host, "this_host", lambda: bare)
    rule_runner.write_files(project(Pkg("a")))
    rule_runner.set_options(options)
    with pytest.raises(ExecutionError) as raised:
        rule_runner.request(BuildPlan, [BuildPlanRequest("default")])
    message = str(raised.value.wrapped_exceptions[0])
    assert "no mmdebstrap" in message and "`apt-get install mmdebstrap`" in message
    assert "Nothing was downloaded or built" in message

    installed = Host(user="root", uid=0, which=lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(host, "this_host", lambda: installed)
    rule_runner.set_options(options)
    assert rule_runner.request(BuildPlan, [BuildPlanRequest("default")])
