#!/bin/sh
# Draws this deployment's secrets into a folder, docker/secrets by default: `sh docker/secrets.sh [FOLDER]`.
# What is there already is kept. To renew one, delete its files, run this again, and see docs/10-runbook.md.
set -eu
umask 077
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p "$folder"
chmod 0700 "$folder"

draw() { # 256 bits as hex, which needs no escaping in a URL, in JSON or in a configuration
	od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # NAME, content from stdin
	# The files must be readable to the containers' users; the folder lets nobody else reach them on this machine.
	cat > "$folder/$1.new"
	chmod 0444 "$folder/$1.new"
	mv "$folder/$1.new" "$folder/$1"
}

[ -e "$folder/postgres_password" ] || draw | keep postgres_password
[ -e "$folder/deidentify_key" ] || draw | keep deidentify_key
# Standard Webhooks: whsec_ and base64.
[ -e "$folder/webhook_secret" ] || printf 'whsec_%s' "$(head -c 32 /dev/urandom | base64 | tr -d '\n')" | keep webhook_secret

if [ ! -e "$folder/valkey_conf" ] || [ ! -e "$folder/broker_url" ]; then
	password=$(draw)
	# The ledger is the truth and the broker only wakes workers, so it keeps nothing on disk.
	printf '%s\n' "requirepass $password" 'save ""' 'appendonly no' 'maxmemory 256mb' 'maxmemory-policy noeviction' \
		'dir /tmp' | keep valkey_conf
	printf 'redis://:%s@valkey:6379/0' "$password" | keep broker_url
fi

if [ ! -e "$folder/s3_access_key" ] || [ ! -e "$folder/s3_secret_key" ] || [ ! -e "$folder/s3_config" ]; then
	access=$(draw | cut -c 1-20)
	secret=$(draw)
	printf '%s' "$access" | keep s3_access_key
	printf '%s' "$secret" | keep s3_secret_key
	# Only this bucket, and nothing of its administration.
	printf '{"identities": [{"name": "spinepaint", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Read:spinepaint", "Write:spinepaint", "List:spinepaint", "Tagging:spinepaint"]}]}\n' \
		"$access" "$secret" | keep s3_config
fi
echo "secrets in $folder" >&2
