#!/bin/sh
# `spinepaint` with its secrets: a variable of this list may be given as NAME_FILE, the path of a file that holds the value.
set -eu
for name in SPINEPAINT_DATABASE_URL SPINEPAINT_BROKER_URL SPINEPAINT_DEIDENTIFY_KEY SPINEPAINT_WEBHOOK__SECRET SPINEPAINT_DESTINATIONS \
	AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY PGPASSWORD; do
	eval "path=\${${name}_FILE:-}"
	[ -n "$path" ] || continue
	if [ ! -r "$path" ]; then
		echo "spinepaint: ${name}_FILE names a file that cannot be read: $path" >&2
		exit 2
	fi
	value=$(cat "$path")
	if [ -z "$value" ]; then
		echo "spinepaint: the file of ${name}_FILE is empty: $path" >&2
		exit 2
	fi
	export "$name=$value"
	unset "${name}_FILE"
done
# Large temporary files go to the data volume: /tmp is memory, and little of it.
[ -z "${TMPDIR:-}" ] || mkdir -p -m 0700 "$TMPDIR"
# A worker's volume is its alone, under whatever host name it was filled before: a container made anew has another, and would
# take what a killed worker left there, patients' images, for somebody else's.
[ "${1:-}" != worker ] || [ -z "${SPINEPAINT_DATA_DIR:-}" ] || rm -rf "$SPINEPAINT_DATA_DIR/scratch"
exec spinepaint "$@"
