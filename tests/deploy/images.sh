#!/usr/bin/env bash
# The images that tests/deploy needs and that an engine without a registry cannot pull:  images.sh WORKDIR
# Of eclipse-mosquitto:2, which must be there and be a Debian: the same under the name in docker-compose.yml, a Python on
# top of it as the base of ours, and a catcher with Mailpit's API. DOCKER_HOST names the engine; prints the base.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${1:?usage: images.sh WORKDIR}
base=${HARDWIRE_BASE_IMAGE:-hardwire-test/python:3}
mkdir -p "$work"

named() { sed -n "s/^ *image: \(.*$1.*\)$/\1/p" "$root/docker-compose.yml"; }

build() { DOCKER_BUILDKIT=0 docker build -q "$@" 2>/dev/null || { DOCKER_BUILDKIT=0 docker build "$@"; exit 1; }; }

if ! docker image inspect "$base" >/dev/null 2>&1; then
  mkdir -p "$work/python"
  # What this machine trusts beside Debian's authorities, and how it reaches packages, holds in a build as well.
  cp -L /etc/ssl/certs/ca-certificates.crt "$work/python/"
  cp -L /etc/pip.conf "$work/python/" 2>/dev/null || : >"$work/python/pip.conf"
  cat >"$work/python/Dockerfile" <<'END'
FROM eclipse-mosquitto:2
RUN apt-get -q update && apt-get -q install -y --no-install-recommends python3-venv ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
COPY ca-certificates.crt /etc/ssl/certs/
COPY pip.conf /etc/
END
  build -t "$base" "$work/python" >/dev/null
fi
docker tag eclipse-mosquitto:2 "$(named eclipse-mosquitto)"

mkdir -p "$work/mailpit"
cp "$here/mailpit/Dockerfile" "$here/mailpit/catcher.py" "$work/mailpit/"
awk '/^[a-z]/ { wanted = /^(aiosmtpd|atpublic|attrs)==/ } wanted' "$root/requirements/demo.lock" >"$work/mailpit/wanted.lock"
build -t "$(named mailpit)" --build-arg BASE_IMAGE="$base" "$work/mailpit" >/dev/null
echo "$base"
