#!/bin/sh
# The file system of claimd's image: the program, the libraries it is linked to, certificates, two users, a folder for data.
# There is no shell in it and no package manager. The Dockerfile runs this; so do claimd's tests.
#
#   assemble.sh BINARY FOLDER
set -eu
binary=$1 image=$2

install -D -m 0755 "$binary" "$image/usr/local/bin/claimd"
# What the loader would take, at the paths where it looks; the loader itself is among them.
ldd "$binary" | grep -o '/[^ )]*' | sort -u | while read -r library; do
    install -D -m 0755 "$library" "$image$library"
done

install -d -m 0755 "$image/etc/ssl/certs" "$image/etc/claimd"
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    install -m 0644 /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
fi
printf 'root:x:0:0::/:/nologin\nclaimd:x:65532:65532::/var/lib/claimd:/nologin\n' > "$image/etc/passwd"
printf 'root:x:0:\nclaimd:x:65532:\n' > "$image/etc/group"
printf 'hosts: files dns\n' > "$image/etc/nsswitch.conf"

install -d -m 1777 "$image/tmp"
install -d -m 0700 "$image/var/lib/claimd"
if [ "$(id -u)" = 0 ]; then
    chown 65532:65532 "$image/var/lib/claimd"
fi
