#!/bin/sh
# Installs the Debian packages that are named and missing, or says which to install.
set -eu
missing=""
for package in "$@"; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	apt-get update -q
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
else
	echo "These Debian packages are missing:$missing" >&2
	echo "Install them with: sudo apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
