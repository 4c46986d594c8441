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
exec spinepaint "$@"
