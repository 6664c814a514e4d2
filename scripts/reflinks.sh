#!/usr/bin/env bash
# Conversions where the file system shares blocks between files (btrfs, XFS), beside ext4, which does not: what is
# shared, whether it comes back, what a full disk leaves, and the time beside cp. On files that are mounted as disks,
# for which it has to be root. Where that cannot be done it says so, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(cd "${TREEALIGN_VENV:-.venv}" && pwd)/bin/python
not_run() {
    echo "NOT RUN: reflinks: $1" >&2
    exit 0
}
[ "$(id -u)" = 0 ] || not_run "no loop mounts without root"
if ! command -v mkfs.btrfs >/dev/null || ! command -v mkfs.xfs >/dev/null || ! command -v filefrag >/dev/null; then
    command -v apt-get >/dev/null || not_run "no mkfs.btrfs, mkfs.xfs or filefrag, and no apt-get to install them"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y btrfs-progs xfsprogs e2fsprogs; } \
        >/dev/null 2>&1 || not_run "mkfs.btrfs and mkfs.xfs could not be installed"
fi
work=$(mktemp -d)
cleanup() {
    for kind in btrfs xfs ext4; do
        mountpoint -q "$work/$kind" && umount "$work/$kind"
    done
    rm -rf "$work"
}
trap cleanup EXIT
for kind in btrfs xfs ext4; do
    mkdir "$work/$kind"
    truncate -s 2G "$work/$kind.image"
    case $kind in
        btrfs) mkfs.btrfs -q "$work/$kind.image" >/dev/null 2>&1 ;;
        xfs) mkfs.xfs -q -m reflink=1 "$work/$kind.image" ;;
        ext4) mkfs.ext4 -q "$work/$kind.image" ;;
    esac
    mount -o loop "$work/$kind.image" "$work/$kind" 2>"$work/why" || not_run "no loop mounts: $(head -n 1 "$work/why")"
    PYTHONPATH=$PWD "$python" scripts/reflinks.py "$work/$kind" "$kind"
    umount "$work/$kind"
    rm "$work/$kind.image"
done
