#!/usr/bin/env bash
# Runs a command inside a root that setup.sh made:   in_root.sh DIR CONFIG COMMAND...
#
# CONFIG, a directory of this machine or "", is /config there, and CONFIG/media is /media. The mounts live in a
# namespace of their own and end with the command, which keeps this script's process id. Names resolve to nothing but
# this machine unless ONLINE=1: a Home Assistant under test reaches nobody outside.
set -euo pipefail
ROOT=$(cd "${1:?usage: in_root.sh DIR CONFIG COMMAND...}" && pwd)/root
CONFIG=${2:+$(cd "$2" && pwd)}
shift 2
export ROOT CONFIG
exec unshare --mount --propagation private bash -euc '
  mount -t proc proc "$ROOT/proc"
  mount --rbind /dev "$ROOT/dev"
  mount --bind /sys "$ROOT/sys"
  if [ -n "$CONFIG" ]; then
    mkdir -p "$ROOT/config" "$CONFIG/media"
    mount --bind "$CONFIG" "$ROOT/config"
    mount --bind "$CONFIG/media" "$ROOT/media"
  fi
  if [ "${ONLINE:-0}" != 1 ]; then mount --bind /dev/null "$ROOT/etc/resolv.conf"; fi
  # No setting of this machine leaks in but how long a registry may take.
  exec env -i PATH=/opt/ha/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DEFAULT_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-60}" UV_HTTP_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-60}" \
    chroot "$ROOT" "$@"' in_root "$@"
