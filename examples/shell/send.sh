#!/usr/bin/env bash
# Sends a photo as it is over MQTT, with the programs of Mosquitto, and waits for its answer.
#
# Takes   settings by the environment (below), a label, a photo: `DIH_DEVICE=cam1 ./send.sh cat photo.jpg`
# Gives   the answer as one line of JSON. Exit code 0: answered; 1: something failed; 2: wrong usage.
# Crash   safe: run it again. A photo that was sent twice is answered as a repeat.
set -euo pipefail

host=${DIH_HOST:-localhost}               # the broker
device=${DIH_DEVICE:-}                    # the name given to `dih device add`
credentials=${DIH_CREDENTIALS:-.}         # folder of DEVICE.password
tls=${DIH_TLS:-yes}                       # `no`: password and photos can be read on the way
ca=${DIH_CA:-/etc/ssl/certs/ca-certificates.crt}
port=${DIH_PORT:-$([[ $tls == no ]] && echo 1883 || echo 8883)}
wait=${DIH_WAIT:-300}                     # seconds until the photo is sent again
attempts=${DIH_ATTEMPTS:-3}               # how often it is sent at most

fail() {
    printf 'send: %s\n' "$1" >&2
    exit "${2:-1}"
}

(($# == 2)) || fail "usage: DIH_DEVICE=NAME send.sh LABEL PHOTO" 2
[[ $device =~ ^[A-Za-z0-9_-]{1,64}$ ]] || fail "set DIH_DEVICE to the name given to \`dih device add\`" 2
[[ $wait =~ ^[0-9]+$ && $attempts =~ ^[0-9]+$ ]] || fail "DIH_WAIT and DIH_ATTEMPTS are whole numbers" 2
label=$1 photo=$2 password=$credentials/$device.password
for program in mosquitto_pub mosquitto_sub sha256sum stdbuf; do
    command -v "$program" >/dev/null || fail "no \`$program\`; install it: apt-get install mosquitto-clients coreutils"
done
[[ -f $photo && -r $photo ]] || fail "no file $photo"
[[ -f $password && -r $password ]] || fail "no file $password; get it with \`dih device add $device\`"
# The broker cuts the connection of whoever sends more than 8,388,608 bytes, topic included.
bytes=$(wc -c <"$photo")
((bytes <= 8000000)) || fail "$photo has $bytes bytes, more than 8000000"

# The label as one level of a topic: a space or a dot would make it another one.
topic=dih/v1/raw/$device/
for byte in $(printf %s "$label" | od -An -v -tx1); do
    printf -v letter '%b' "\\x$byte"
    case $byte in
        3[0-9] | 4[1-9a-f] | 5[0-9a] | 6[1-9a-f] | 7[0-9a] | 2d | 5f) topic+=$letter ;;
        *) topic+=%${byte^^} ;;
    esac
done

work=$(mktemp -d)
subscriber=
# shellcheck disable=SC2329 # the trap calls it
clean() {
    [[ -z $subscriber ]] || kill "$subscriber" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# Both programs read these options from a file that nobody else can read; on the command line everybody could.
[[ $tls == no || -r $ca ]] || fail "no file $ca; set DIH_CA to the CA of the broker"
printf '%s\n' "-h $host" "-p $port" "-V mqttv311" "-u $device" "-P $(<"$password")" >"$work/mosquitto_pub"
[[ $tls == no ]] || printf '%s\n' "--cafile $ca" >>"$work/mosquitto_pub"
cp "$work/mosquitto_pub" "$work/mosquitto_sub"
export XDG_CONFIG_HOME=$work

source=sha256:$(sha256sum <"$photo" | cut -c1-64)
# It connects again by itself, until it is ended. `-d` tells when the subscription stands: an answer before that is lost.
: >"$work/answers" && : >"$work/errors"
stdbuf -oL mosquitto_sub -d -q 0 -t "dih/v1/answer/$device/json" >"$work/answers" 2>"$work/errors" &
subscriber=$!

# Whether a line of what the subscriber has printed holds the words.
has() { grep -qF -- "$1" "$work/answers" "$work/errors"; }

for ((tries = 0; tries < 200; tries++)); do
    if has "Subscribed (mid: 1): 0"; then break; fi
    if has "Not authorized" || has "not authorised"; then fail "$host knows no \`$device\` with this password"; fi
    if has "Subscribed (mid: 1): 128" || has "subscription requests were denied"; then
        fail "not allowed to get answers; is \`$device\` the name this password is for?"
    fi
    kill -0 "$subscriber" 2>/dev/null || fail "$host:$port: $(tail -n 1 "$work/errors")"
    sleep 0.1
done
has "Subscribed (mid: 1): 0" || fail "$host:$port does not speak MQTT with us; with TLS, or without (DIH_TLS=no)?"

for ((attempt = 1; attempt <= attempts; attempt++)); do
    ((attempt == 1)) || printf 'send: no answer in %s s, sending again\n' "$wait" >&2
    # Success proves nothing here: the broker takes without a word what it then drops. Never `-r`: it would keep the photo.
    mosquitto_pub -q 1 -t "$topic" -f "$photo" || printf 'send: could not send\n' >&2
    for ((tries = 0; tries < wait * 5; tries++)); do
        # One object a line, without spaces. `of` names another photo, which may be the one that we sent before.
        if awk -v source="\"source\":\"$source\"" '
            { rest = $0; sub(/"of":\{[^}]*\}/, "", rest) }
            index(rest, source) && index(rest, "\"status\":\"") { print; found = 1; exit }
            END { exit !found }' "$work/answers"; then exit 0; fi
        sleep 0.2
    done
done
fail "not answered within $attempts times $wait s. The broker drops without a word what \`$device\` may not send; else the hub
is away, full or slow: send it again later"
