#!/bin/sh
# Prints what pins by its digest each image that docker-compose.yml takes from elsewhere: `sh docker/digests.sh >> .env`, which
# `docker compose` reads. Asks the registries, by Docker. A digest is that of all platforms together.
set -eu
compose="$(dirname "$0")/../docker-compose.yml"
sed -n 's/.*: \(docker\.io[^ $]*\)${\([A-Z]*_DIGEST\):-}.*/\2 \1/p' "$compose" | sort -u | while read -r name image; do
	digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image" < /dev/null)
	case $digest in
		sha256:*) printf '%s=@%s\n' "$name" "$digest" ;;
		*) echo "no digest of $image" >&2 && exit 1 ;;
	esac
done
