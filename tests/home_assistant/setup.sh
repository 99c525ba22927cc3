#!/usr/bin/env bash
# Installs real Home Assistants for the tests, each in a Debian root of its own that has the Python it needs:
#
#   setup.sh DIR [2026.11 | 2026.2]...        DIR/2026.11/root, DIR/2026.2/root; without a version, both
#
# Needs root on Debian, apt and pip as the machine has them set up, and 2 GB for each. What is there is kept; remove
# DIR to build anew. The versions at once, since most of the time is spent waiting for one download or the other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: setup.sh DIR [2026.11 | 2026.2]..."
mkdir -p "${1:?$usage}"
base=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- 2026.11 2026.2
# What the tests use beyond what every start loads; nothing is installed while Home Assistant runs.
domains="mqtt frontend recorder history logbook mobile_app"

say() { echo "setup: $* (${SECONDS} s)"; }

# The mirror of this machine's own apt.
mirror() {
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk -v c="$codename" '$1 == c { print $2; exit }'
}

packages=()
command -v debootstrap >/dev/null || packages+=(debootstrap)
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || packages+=(mosquitto)
if [ ${#packages[@]} -gt 0 ]; then
  say "installing ${packages[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
    "${packages[@]}" >"$base/apt.log" 2>&1 || { tail -5 "$base/apt.log"; exit 1; }
fi

install() {
  local name=$1 version suite python root log index uv=()
  case $name in
    2026.11) version=2026.11.0 suite=forky python=python3.14 ;;
    2026.2) version=2026.2.3 suite=trixie python=python3.13 ;;  # the last one for Python 3.13
    *) echo "$usage" >&2; return 2 ;;
  esac
  root=$base/$name/root log=$base/$name.log
  mkdir -p "$base/$name"
  in_root() { ONLINE=1 "$here/in_root.sh" "$base/$name" "" "$@"; }
  attempt() { "$@" >>"$log" 2>&1 || { tail -5 "$log"; return 1; }; }

  if [ ! -x "$root/usr/bin/$python" ]; then
    say "$name: Debian $suite"
    rm -rf "$root"
    # A debootstrap older than the suite has no script for it: all take sid's. g++ is for the packages without a wheel
    # for this Python; Home Assistant's cameras import libturbojpeg.
    attempt debootstrap --variant=minbase \
      --include="$python,$python-venv,$python-dev,g++,ca-certificates,libturbojpeg0" "$suite" "$root" "$(mirror)" sid \
      || { rm -rf "$root"; return 1; }
    rm -rf "$root"/var/cache/apt/archives/*.deb
  fi

  # Registries are reached as this machine reaches them: the same names, authorities and index.
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp -L "${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
  : >"$root/etc/pip.conf"
  index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
  index=${PIP_INDEX_URL:-$index}
  if [ -n "$index" ]; then
    printf '[global]\nindex-url = %s\n' "$index" >"$root/etc/pip.conf"
    uv=(--default-index "$index")
  fi
  # The integration tts, always loaded, only asks ffmpeg for its version here.
  printf '#!/bin/sh\necho "ffmpeg version 7.1 (none: stands in for tests)"\n' >"$root/usr/local/bin/ffmpeg"
  chmod +x "$root/usr/local/bin/ffmpeg"

  if [ "$(in_root /opt/ha/bin/hass --version 2>/dev/null)" != "$version" ]; then
    say "$name: Home Assistant $version"
    [ -x "$root/opt/ha/bin/pip" ] || attempt in_root "$python" -m venv /opt/ha
    attempt in_root /opt/ha/bin/pip install --disable-pip-version-check uv
    attempt in_root /opt/ha/bin/uv pip install --python /opt/ha/bin/python "${uv[@]}" "homeassistant==$version"
  fi
  cp "$here/requirements.py" "$root/opt/ha/"
  in_root /opt/ha/bin/python /opt/ha/requirements.py $domains >"$root/opt/ha/requirements.txt"
  attempt in_root /opt/ha/bin/uv pip install --python /opt/ha/bin/python "${uv[@]}" \
    -c "/opt/ha/lib/$python/site-packages/homeassistant/package_constraints.txt" -r /opt/ha/requirements.txt
  rm -f "$log"
  say "$name: Home Assistant $(in_root /opt/ha/bin/hass --version) is installed"
}

jobs=()
for name in "$@"; do
  install "$name" &
  jobs+=($!)
done
failed=0
for job in "${jobs[@]}"; do
  wait "$job" || failed=1
done
exit $failed
