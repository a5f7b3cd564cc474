#!/bin/bash
# Runs in a virtual machine that systemd has booted, as a service of its own, and writes
# `ok` or `FAILED` for each thing that an operator relies on. Nothing of this may run on
# a host that somebody uses.
set -u

said() { printf '%s %s\n' "$1" "$2" | tee -a /root/result; }
check() {  # check TEXT COMMAND...
    local text=$1; shift
    if "$@" >/tmp/out 2>&1; then said ok "$text"; else said FAILED "$text"; cat /tmp/out; fi
}
until_true() {  # until_true SECONDS COMMAND...
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 0.3; done
}
property() { systemctl show --property="$1" --value mountfs@data; }
is() { [ "$(property "$1")" = "$2" ] || { echo "$1 is $(property "$1")"; return 1; }; }
has_status() { property StatusText | grep -q "$1" || { property StatusText; return 1; }; }
mounted() { findmnt --types fuse.mountfs /mnt/data; }
override() {  # override NAME < TEXT
    mkdir -p /etc/systemd/system/mountfs@data.service.d
    cat > "/etc/systemd/system/mountfs@data.service.d/$1.conf"
    systemctl daemon-reload
}
fresh() {
    rm -rf /etc/systemd/system/mountfs@data.service.d
    systemctl daemon-reload
    systemctl reset-failed mountfs@data
    systemctl restart mountfs@data
}

boot() {
    check 'an enabled mount is there after boot' until_true 400 is ActiveState active
    check 'everybody sees it' mounted
    check 'its status is told' until_true 400 has_status 'mounted; the store has everything'
    echo more > /mnt/data/more
    check 'a program writes' grep -q more /srv/store/more
    check 'root has a control socket' mountfs status data
    systemctl status --no-pager mountfs@data
    systemd-analyze security --no-pager mountfs@data | tail -1
}

crash() {
    kill -9 "$(property MainPID)"
    check 'programs get an error after a crash' until_true 400 sh -c '! stat -f /mnt/data'
    ls /mnt/data 2>&1 | head -2
    check 'and the mount comes back by itself' until_true 400 grep -q text /mnt/data/file
    check 'restarted once' until_true 400 is NRestarts 1
}

watchdog() {
    override watchdog <<< $'[Service]\nWatchdogSec=90s'
    again
    kill -STOP "$(property MainPID)"
    check 'a frozen daemon is restarted by the watchdog' until_true 400 is NRestarts 1
    check 'and the mount answers again' until_true 400 grep -q text /mnt/data/file
    journalctl -u mountfs@data --no-pager -n 12 -o cat
}

again() { systemctl reset-failed mountfs@data; systemctl restart mountfs@data; }

credentials() {
    printf 'secret' > /root/token
    override credentials <<< $'[Service]\nLoadCredential=aws:/root/token\nEnvironment=AWS_SHARED_CREDENTIALS_FILE=%d/aws'
    again
    check 'with credentials of systemd the mount is still seen by all' mounted
    local environ=/proc/$(property MainPID)/environ
    local file
    file=$(tr '\0' '\n' < "$environ" | sed -n 's/^AWS_SHARED_CREDENTIALS_FILE=//p')
    check 'the credential is where %d says' grep -q secret "$file"
    ls -l "$file"
}

reload() {
    sed -i 's/^cache-size.*/cache-size = "96M"/' /etc/mountfs/data.toml
    check 'a reload is told from its beginning to its end' systemctl reload mountfs@data
    check 'and is taken' until_true 400 sh -c 'journalctl -u mountfs@data | grep -q "read the configuration again"'
}

restart() {
    local begun
    begun=$(date +%s%N)
    check 'a restart' systemctl restart mountfs@data
    said note "stop and start took $((($(date +%s%N) - begun) / 1000000)) ms"
    check 'and everything is there' grep -q text /mnt/data/file
}

stop() {
    check 'a stop' systemctl stop mountfs@data
    check 'leaves no mount' sh -c '! findmnt /mnt/data'
    check 'and is no failure' is Result success
}

mistakes() {
    cp /etc/mountfs/data.toml /root/data.toml
    echo 'cache-size = "many"' >> /etc/mountfs/data.toml
    systemctl stop mountfs@data
    systemctl start mountfs@data
    sleep 6
    check 'a mistake is not tried again' is NRestarts 0
    check 'and is a failure' is ActiveState failed
    check 'of code 2' is ExecMainStatus 2
    cp /root/data.toml /etc/mountfs/data.toml

    cat > /etc/mountfs/data.toml <<'TOML'
url = "s3://bucket"
mount-point = "/mnt/data"
[mount]
endpoint-url = "http://127.0.0.1:9"
TOML
    override keys <<< $'[Service]\nEnvironment=AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b'
    systemctl reset-failed mountfs@data
    systemctl start mountfs@data
    check 'a store that is away is tried again' until_true 400 sh -c '[ "$(systemctl show -P NRestarts mountfs@data)" -ge 2 ]'
    journalctl -u mountfs@data --no-pager -n 6 -o cat
    cp /root/data.toml /etc/mountfs/data.toml
    check 'until it is back' until_true 400 is ActiveState active
}

outsider() {
    umount /mnt/data
    check 'who unmounts by hand is not contradicted' until_true 400 is ActiveState inactive
    systemctl start mountfs@data
}

sample() {
    systemctl stop mountfs@data
    sed -e 's#s3://BUCKET/PREFIX#file:///srv/store#' -e 's#_netdev,allow-other#_netdev,allow-other,cache-size=64M#' \
        /opt/mountfs/systemd/samples/mnt-data.mount > /etc/systemd/system/mnt-data.mount
    cp /opt/mountfs/systemd/samples/mnt-data.automount /etc/systemd/system/
    systemctl daemon-reload
    check 'the sample of an automount' systemctl start mnt-data.automount
    check 'mounts at the first look' grep -q text /mnt/data/file
    check 'by the mount unit' systemctl is-active mnt-data.mount
    check 'which unmounts' systemctl stop mnt-data.automount mnt-data.mount
    check 'everything' sh -c '! pgrep -f "[m]ountfs mount"'
    rm /etc/systemd/system/mnt-data.*
    systemctl daemon-reload
    systemctl start mountfs@data
}

user() {
    useradd --create-home --shell /bin/bash ann
    loginctl enable-linger ann
    mkdir -p /home/ann/.config/mountfs /home/ann/store /home/ann/mnt
    cat > /home/ann/.config/mountfs/mine.toml <<'TOML'
url = "file:///home/ann/store"
mount-point = "~/mnt"
[mount]
cache-size = "64M"
TOML
    chown -R ann: /home/ann
    local as=(runuser -u ann -- env XDG_RUNTIME_DIR=/run/user/$(id -u ann))
    check "a user's manager" until_true 400 "${as[@]}" systemctl --user is-system-running --wait
    check "a user's mount" "${as[@]}" systemctl --user start mountfs@mine
    check 'works' "${as[@]}" sh -c 'echo mine > ~ann/mnt/file && grep mine ~ann/store/file'
    "${as[@]}" systemctl --user status --no-pager mountfs@mine
    check 'and ends' "${as[@]}" systemctl --user stop mountfs@mine
    check 'well' sh -c '! findmnt /home/ann/mnt'
}

slow_shutdown() {
    # Every file takes seconds; all take longer than TimeoutStopSec.
    override slow <<< $'[Service]\nExecStart=\nExecStart=/opt/mountfs/slow mount -f --durability journal %i\nTimeoutStopSec=15s'
    again
    mkdir /mnt/data/slow
    for number in $(seq 100); do echo "$number" > "/mnt/data/slow/$number"; done
    check 'files wait at shutdown' until_true 400 has_status 'not in the store yet'
    systemctl status --no-pager mountfs@data | grep Status
    said note "$(ls /srv/store/slow | wc -l) of 100 files are in the store when the system shuts down"
}

for part in $(cat /root/parts); do
    fresh
    "$part"
done
slow_shutdown
said done 'the rest is told by the disk'
sync
systemctl poweroff
