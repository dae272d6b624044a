#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is in the image: run by the Containerfile, and by `./dev image` in a bare Debian 12 without any registry.
# In /src is the checkout; wheels in /src/wheels, if there are any, are taken instead of an index.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends \
    python3-bpfcc python3-venv linux-libc-dev iproute2 iptables nftables ethtool ca-certificates
/usr/bin/python3 -m venv --without-pip /opt/overhop
site=$(/opt/overhop/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
/usr/bin/python3 -m venv /tmp/pip
set -- --no-cache-dir --no-compile --disable-pip-version-check --require-hashes
if [ -d /src/wheels ]; then set -- "$@" --no-index --find-links /src/wheels; fi
/tmp/pip/bin/python -m pip install -q "$@" --target "$site" -r /src/deploy/container/requirements.lock
for room in overhop insight agent store bpf collector dispatcher deploy sidecar-patch; do cp -R "/src/$room" "$site/"; done
cat >/usr/local/bin/overhop <<'END'
#!/bin/sh
exec /opt/overhop/bin/python -P -m overhop "$@"
END
chmod 755 /usr/local/bin/overhop
/opt/overhop/bin/python -m compileall -q -j 0 "$site"
overhop --version
# What only the build needs. The compiler stays: agents compile their program.
rm -rf /tmp/pip /src /var/lib/apt/lists /var/cache/apt /usr/share/doc /usr/share/man /usr/share/locale
apt-get clean
