#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# rootfs.sh CHECKOUT PYTHON DIR: the image as a directory, by the steps of the Containerfile, without a registry.
# Debian comes from where this machine's apt has it, Python packages from where PYTHON's pip has them. Needs root.
set -euo pipefail
checkout=$1 python=$2 directory=$3
[ ! -e "$directory" ] || {
    echo "image: $directory is there already" >&2
    exit 2
}
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
[ -n "$mirror" ] || {
    echo "image: apt of this machine knows no Debian 12 (bookworm)" >&2
    exit 1
}
part=$directory.part
trap 'rm -rf --one-file-system "$part"' EXIT
debootstrap --variant=minbase bookworm "$part" "$mirror" >/dev/null
mkdir "$part/src"
(cd "$checkout" && git ls-files -coz --exclude-standard -- overhop insight agent store bpf collector dispatcher deploy sidecar-patch pyproject.toml LICENSE LICENSES.md |
    xargs -0 cp --parents -t "$part/src")
"$python" -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    -d "$part/src/wheels" -r "$checkout/deploy/container/requirements.lock"
# apt in there reaches what apt out here does.
for each in sources.list sources.list.d auth.conf.d trusted.gpg.d keyrings trusted.gpg apt.conf.d; do
    [ ! -e "/etc/apt/$each" ] || { mkdir -p "$part/outside/$(dirname "$each")" && cp -a "/etc/apt/$each" "$part/outside/$each"; }
done
rm -f "$part"/outside/sources.list.d/*.disabled*
cp -a "$part/etc/apt" "$part/etc/apt.kept"
cp -a "$part/outside/." "$part/etc/apt/"
cp -L /etc/resolv.conf "$part/etc/resolv.conf"
chroot "$part" sh /src/deploy/container/build.sh
rm -rf "$part/outside" "$part/etc/apt" "$part/etc/resolv.conf"
mv "$part/etc/apt.kept" "$part/etc/apt"
mv "$part" "$directory"
