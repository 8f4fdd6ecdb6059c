# What the scripts share that run the SDK in a Debian tree of its own: source it, after `set -euo pipefail`.
#
#   target       the make target, for messages
#   tree         the Debian tree
#   guest_path   PATH inside of it
# shellcheck shell=bash disable=SC2154

say() { echo "$target: $*"; }

need() {  # command, package
    command -v "$1" >/dev/null || { echo "make $target: $1 is missing; apt-get install $2" >&2; exit 1; }
}

need_root() { [ "$(id -u)" = 0 ] || { echo "make $target: needs root, to mount and to chroot" >&2; exit 1; }; }

mounted=()
leave_guest() { for place in "${mounted[@]}"; do umount -R -l "$tree/$place"; done; }

remove_guest() {  # what a killed run left mounted is let go first: /dev in there is this machine's
    local place
    for place in mnt dev sys proc; do
        while mountpoint -q "$tree/$place"; do umount -R -l "$tree/$place"; done
    done
    rm -rf --one-file-system "$tree"
}

enter_guest() {  # the tree $tree gets /proc, /sys and /dev, and the folder $1 at /mnt, until the script ends
    trap leave_guest EXIT
    local place
    for place in proc sys dev; do
        mount --rbind "/$place" "$tree/$place"
        mount --make-rslave "$tree/$place"
        mounted=("$place" "${mounted[@]}")
    done
    mount --bind "$1" "$tree/mnt"
    mounted=(mnt "${mounted[@]}")
}

inside() { chroot "$tree" /usr/bin/env -i PATH="$guest_path" HOME=/root LANG=C.UTF-8 "$@"; }
