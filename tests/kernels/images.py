# SPDX-License-Identifier: Apache-2.0
"""What a guest boots from: Debian's kernel, its modules, an initramfs, and this machine's userland as a disk.

Nothing is installed: packages are unpacked below build/kernels/, which can be deleted at any time.
"""

import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "kernels"
SERIES = {"6.1": r"linux-image-6\.1\.0-\d+-amd64", "6.12": r"linux-image-6\.12\.\d+\+deb\d+-amd64"}
"""Kernel series, and the names that its packages have in Debian 12."""

_MODULE_PLACES = (
    "kernel/net",
    "kernel/drivers/net/vxlan",
    "kernel/drivers/net/geneve.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/tun.ko",
    "kernel/drivers/net/tap.ko",
    "kernel/drivers/net/bonding",
    "kernel/drivers/net/macvlan.ko",
    "kernel/drivers/virtio",
    "kernel/drivers/block/virtio_blk.ko",
    "kernel/fs/ext4",
    "kernel/fs/jbd2",
    "kernel/fs/mbcache.ko",
    "kernel/lib",
    "kernel/crypto",
    "kernel/arch/x86/crypto",
)
_BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
_USERLAND = (
    "usr/bin",
    "usr/sbin",
    "usr/include",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/python3",
    "usr/lib/python3.11",
)
_SETTINGS = ("alternatives", "group", "iproute2", "ld.so.cache", "passwd", "protocols", "services")
_MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "var", "mnt", "root")
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /sysroot
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox modprobe -a {modules}
tries=0
until [ -e /dev/vda ] || [ $tries = 100 ]; do tries=$((tries + 1)); /bin/busybox usleep 100000; done
/bin/busybox mount -t ext4 -o ro,noload /dev/vda /sysroot || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /sysroot/dev
/bin/busybox mount --move /proc /sysroot/proc
/bin/busybox mount --move /sys /sysroot/sys
for name in run tmp var mnt; do /bin/busybox mount -t tmpfs tmpfs /sysroot/$name; done
/bin/busybox cp -a /lib/modules /sysroot/run/modules
exec /bin/busybox switch_root /sysroot /overhop-guest
"""
_GUEST = """#!/usr/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/overhop-bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
echo /overhop-bin/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
cd {root}
steps=$(sed 's/.*overhop=\\([^ ]*\\).*/\\1/; s/,/ /g' /proc/cmdline)
.venv/bin/python -m tests.kernels.guest $steps >/dev/ttyS1
echo "guest: exit code $?"
busybox poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of Debian's kernels, ready to boot."""

    release: str
    image: Path
    initramfs: Path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Output of a command. Raises CalledProcessError."""
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def kernel(series: str) -> Kernel:
    """Debian's newest kernel of a series (a key of SERIES); downloaded once."""
    package = _newest(run("apt-cache", "pkgnames", "linux-image-").split(), SERIES[series])
    place = BUILD / package
    release = package.removeprefix("linux-image-")
    found = Kernel(release, place / "boot" / f"vmlinuz-{release}", place / "initramfs")
    if found.initramfs.exists():
        return found
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    run("apt-get", "download", "-q", package, cwd=place)
    (deb,) = place.glob("*.deb")
    run("dpkg-deb", "--extract", deb, place)
    deb.unlink()
    _make_initramfs(place, release)
    shutil.rmtree(place / "lib")
    return found


def root_disk() -> Path:
    """An image with this machine's userland and a copy of the checkout, both where they are here."""
    stage, image = BUILD / "root", BUILD / "root.img"
    shutil.rmtree(stage, ignore_errors=True)
    _stage(stage)
    binds = [Path("/", name) for name in _USERLAND] + [ROOT / ".venv"]
    steps = [f"mount --bind '{place}' '{stage}{place}'" for place in binds]
    image.unlink(missing_ok=True)
    steps.append(f"mke2fs -q -t ext4 -O ^has_journal -d '{stage}' '{image}' 3G")
    run("unshare", "--mount", "sh", "-ec", "\n".join(steps))
    shutil.rmtree(stage)
    return image


def _stage(stage: Path) -> None:
    for name in (*_USERLAND, *_MOUNT_POINTS):
        (stage / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (stage / name).symlink_to(f"usr/{name}")
    (stage / "lib64").symlink_to("usr/lib64")
    shutil.copytree("/usr/lib64", stage / "usr/lib64", symlinks=True)
    for library in Path("/usr/lib").glob("llvm-*/lib/*.so*"):
        to = Path(f"{stage}{library}")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, to, follow_symlinks=False)
    (stage / "usr/lib/modules").symlink_to("/run/modules")
    (stage / "overhop-bin").mkdir()
    (stage / "overhop-bin" / "modprobe").symlink_to("/usr/bin/busybox")
    _copy_settings(stage / "etc")
    shutil.copytree(ROOT, Path(f"{stage}{ROOT}"), symlinks=True, ignore=_NOT_COPIED)
    Path(f"{stage}{ROOT}/.venv").mkdir()
    _write_script(stage / "overhop-guest", _GUEST.format(root=ROOT))


def _copy_settings(etc: Path) -> None:
    etc.mkdir()
    (etc / "mtab").symlink_to("/proc/self/mounts")
    for source in (Path("/etc", name) for name in _SETTINGS):
        if source.is_dir():
            shutil.copytree(source, etc / source.name, symlinks=True)
        elif source.exists():
            shutil.copy(source, etc)


def _make_initramfs(place: Path, release: str) -> None:
    tree = place / "tree"
    modules = Path("lib/modules") / release
    for name in _MODULE_PLACES:
        _copy_modules(place / modules, tree / modules, name)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(place / modules / name, tree / modules)
    run("busybox", "depmod", "-b", tree, release)
    (tree / "bin").mkdir()
    shutil.copy(shutil.which("busybox") or "busybox", tree / "bin")
    _write_script(tree / "init", _INIT.format(modules=" ".join(_BOOT_MODULES)))
    names = "\n".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    archive = ["busybox", "cpio", "-o", "-H", "newc"]
    with (place / "initramfs.part").open("wb") as target:
        subprocess.run(
            archive, cwd=tree, input=names.encode(), stdout=target, stderr=subprocess.DEVNULL, check=True
        )
    (place / "initramfs.part").rename(place / "initramfs")
    shutil.rmtree(tree)


def _copy_modules(source: Path, target: Path, name: str) -> None:
    """Modules of a directory, or one; unpacked, because busybox cannot. What a kernel lacks is left out."""
    at = source / name
    if at.is_dir():
        found: Iterable[Path] = at.rglob("*.ko*")
    else:
        found = at.parent.glob(f"{at.name}*")
    for module in found:
        to = target / module.relative_to(source).with_suffix("" if module.suffix == ".xz" else module.suffix)
        to.parent.mkdir(parents=True, exist_ok=True)
        content = module.read_bytes()
        to.write_bytes(lzma.decompress(content) if module.suffix == ".xz" else content)


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    os.chmod(path, 0o755)


def _newest(names: Sequence[str], pattern: str) -> str:
    found = [name for name in names if re.fullmatch(pattern, name)]
    if not found:
        raise SystemExit(f"apt knows no package {pattern}: run apt-get update (Debian 12 has them)")
    return max(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
