"""A folder that looks like a phone from inside: its commands, sensors and properties.

Commands are small scripts that read and write files of the folder: `properties/NAME` (getprop),
`stay_on` (settings), `battery` (dumpsys). What happens is logged in `log` (svc, input) and
`masks` (taskset). The rest of the commands are this machine's.
"""

import shutil
import sys
from pathlib import Path

PIXEL = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel",
    "ro.product.device": "sailfish",
    "ro.board.platform": "msm8996",
    "ro.build.version.release": "10",
    "ro.build.fingerprint": "google/sailfish/sailfish:10/QP1A/1:user/release-keys",
    "ro.build.id": "QP1A",
    "ro.product.cpu.abi": "arm64-v8a",
}
PIXEL_KHZ = (1593600, 1593600, 2150400, 2150400)
ZONES = {"battery": "31000", "tsens_tz_sensor1": "42", "cpu1": "431", "pa_therm0": "99000"}

_SCRIPTS = {
    "getprop": 'cat "$PHONE/properties/$1" 2>/dev/null',
    "svc": 'echo "svc $*" >> "$PHONE/log"',
    "input": 'echo "input $*" >> "$PHONE/log"',
    "settings": '[ "$1" = get ] && exec cat "$PHONE/stay_on"\necho "$4" > "$PHONE/stay_on"',
    "dumpsys": 'cat "$PHONE/battery" 2>/dev/null',
    "taskset": 'echo "$1" >> "$PHONE/masks"\nshift\nexec "$@"',
    "python3": f'exec "{sys.executable}" "$@"',
}
_THIS_MACHINES = ("cat", "chmod", "env", "grep", "ls", "mkdir", "mv", "pkill", "rm", "touch", "wc")


def make_phone(root: Path) -> Path:
    """Lay the folder out as the first Pixel; returns it."""
    for name in ("bin", "properties", "data/local/tmp"):
        (root / name).mkdir(parents=True)
    for name, value in PIXEL.items():
        (root / "properties" / name).write_text(value + "\n")
    for name, text in _SCRIPTS.items():
        write_command(root, name, text)
    for name in _THIS_MACHINES:
        if found := shutil.which(name):
            (root / "bin" / name).symlink_to(found)
    for number, khz in enumerate(PIXEL_KHZ):
        folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
        (folder / "scaling_cur_freq").write_text(f"{khz - 100_000 * number}\n")
    for number, (kind, value) in enumerate(ZONES.items()):
        zone = root / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    (root / "stay_on").write_text("0\n")
    return root


def write_command(root: Path, name: str, text: str) -> None:
    """Give the phone a command."""
    path = root / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
