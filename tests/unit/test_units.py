"""The units of systemd: they are valid, hardened, and do not hide the mount."""

import re
import subprocess
from pathlib import Path

import pytest

from mountfs.cli import build_parser
from tests.fakes.service_manager import CHECKOUT, settings_of

SYSTEMD = CHECKOUT / "systemd"
SERVICES = (SYSTEMD / "mountfs@.service", SYSTEMD / "user" / "mountfs@.service")
EXPOSURE = 50
"""`systemd-analyze security` of the unit of the system, times ten."""

# systemd.exec(5): what gives a service a mount namespace of its own. A mount that is
# made there, nobody else sees.
NAMESPACES = (
    *("BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionImages"),
    *("InaccessiblePaths", "IPCNamespacePath", "LogNamespace", "MountAPIVFS"),
    *("MountImages", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts"),
    *("PrivateNetwork", "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectHome"),
    *("ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules"),
    *("ProtectKernelTunables", "ProtectProc", "ProtectSystem", "ReadOnlyPaths"),
    *("ReadWritePaths", "RootDirectory", "RootImage", "TemporaryFileSystem"),
)

# systemd.exec(5): what implies NoNewPrivileges= for users, and so no fusermount3.
NO_NEW_PRIVILEGES = (
    *("DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges"),
    *("PrivateDevices", "ProtectClock", "ProtectHostname", "ProtectKernelLogs"),
    *("ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies"),
    *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallFilter", "SystemCallLog"),
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a host that has /usr/bin/mountfs."""
    for path in SYSTEMD.rglob("*.*"):
        copy = tmp_path / path.relative_to(SYSTEMD)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text().replace("/usr/bin/mountfs", "/usr/bin/true"))
    return tmp_path


def analyze(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("manager", "names"),
    [
        (
            "--system",
            [
                "mountfs@.service",
                "samples/mnt-data.mount",
                "samples/mnt-data.automount",
            ],
        ),
        ("--user", ["user/mountfs@.service"]),
    ],
)
def test_systemd_takes_the_units(
    installed: Path, monkeypatch: pytest.MonkeyPatch, manager: str, names: list[str]
) -> None:
    """Without a warning."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(installed))

    done = analyze(manager, "verify", "--man=no", *[installed / each for each in names])

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def drop_ins() -> list[str]:
    """Return the drop-ins for a mount that the page about services shows."""
    page = (CHECKOUT / "docs" / "how-to" / "systemd.md").read_text()
    found = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    return [each for each in found if "[Service]" in each]


@pytest.mark.parametrize("text", drop_ins())
def test_systemd_takes_the_drop_ins_of_the_page(installed: Path, text: str) -> None:
    """As they stand there, for the mount NAME."""
    drop_in = installed / "mountfs@NAME.service.d" / "override.conf"
    drop_in.parent.mkdir()
    text = re.sub(r"/(?:opt/mountfs|usr)/bin/mountfs", "/usr/bin/true", text)
    drop_in.write_text(text)
    (installed / "mountfs@NAME.service").symlink_to("mountfs@.service")

    done = analyze("verify", "--man=no", installed / "mountfs@NAME.service")

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_service_is_not_exposed_more_than_needed(installed: Path) -> None:
    """The page about it names the number, which may only fall."""
    unit = installed / "mountfs@.service"
    page = (CHECKOUT / "docs" / "how-to" / "systemd.md").read_text()

    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", unit)

    assert done.returncode == 0, done.stdout
    assert f"exposure level {EXPOSURE / 10:.1f}" in page
    assert f"{EXPOSURE / 10:.1f} MEDIUM" in done.stdout


@pytest.mark.parametrize("unit", SERVICES, ids=["system", "user"])
def test_a_service_does_not_hide_its_mount(unit: Path) -> None:
    """Nothing makes a mount namespace that only the daemon would see."""
    used = {name for name, _ in settings_of(unit)}

    assert used.isdisjoint(NAMESPACES)


def test_a_user_can_mount() -> None:
    """fusermount3 keeps its privileges."""
    used = {name for name, _ in settings_of(SERVICES[1])}

    assert used.isdisjoint(NO_NEW_PRIVILEGES)


@pytest.mark.parametrize("unit", SERVICES, ids=["system", "user"])
def test_a_service_runs_commands_that_exist(unit: Path) -> None:
    """As the command takes them."""
    parser, _ = build_parser()
    settings = dict(settings_of(unit))

    for name in ("ExecStart", "ExecStopPost"):
        program, *words = settings[name].removeprefix("-").replace("%i", "n").split()
        assert program == "/usr/bin/mountfs"
        parser.parse_args(words)


@pytest.mark.parametrize("unit", SERVICES, ids=["system", "user"])
def test_a_mistake_and_a_wish_are_no_reason_to_start_again(unit: Path) -> None:
    """2: somebody must mend it; 75: somebody has unmounted, and something waits."""
    settings = dict(settings_of(unit))

    assert settings["Restart"] == "on-failure"
    assert settings["RestartPreventExitStatus"] == "2 75"
    assert settings["KillMode"] == "mixed"
