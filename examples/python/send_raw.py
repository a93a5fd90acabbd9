#!/usr/bin/env python3
"""Sends a photo as it is over MQTT and waits for its answer. For devices that know no protobuf.

Takes    a server, the password file that `dih device add` wrote, one label, photos.
Gives    one line a photo: what became of it. Exit code 0: all answered; 1: something failed; 2: wrong usage.
Crash    safe: run it again. A photo that was sent twice is answered as a repeat.
"""

import argparse
import hashlib
import json
import pathlib
import queue
import ssl
import string
import sys
import time

import paho.mqtt.client as mqtt

# The broker cuts the connection of whoever sends more than 8,388,608 bytes, topic included.
PHOTO_BYTES_MAX = 8_000_000
PLAIN = (string.ascii_letters + string.digits + "-_").encode()
REFUSED = {"Not authorized", "Bad user name or password"}


class Failed(Exception):
    """What a person can act on."""


def encoded(label):
    """The label as one level of a topic: a space or a dot would make it another one."""
    return "".join(chr(b) if b in PLAIN else f"%{b:02X}" for b in label.encode())


class Device:
    def __init__(self, args):
        self.args = args
        self.topic = f"dih/v1/raw/{args.device}/{encoded(args.label)}"
        self.events = queue.Queue()
        # A clean session and QoS 0 for answers: the broker keeps no answers for who is away, whatever one asks for.
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=args.device, clean_session=True, protocol=mqtt.MQTTv311
        )
        self.client.on_connect = self._connected
        self.client.on_connect_fail = lambda *_: self.events.put(("away", "no connection"))
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.events.put(("away", str(reason)))
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.events.put(("subscribed", codes[0]))
        self.client.on_message = lambda _c, _u, message: self.events.put(("answer", message.payload))
        self.client.reconnect_delay_set(1, 60)

    def _connected(self, client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            self.events.put(("refused" if str(reason) in REFUSED else "away", str(reason)))
        else:
            # After every connection, as a clean session forgets.
            client.subscribe(f"dih/v1/answer/{self.args.device}/json", qos=0)

    def connect(self):
        password = self.args.credentials / f"{self.args.device}.password"
        if not password.is_file():
            raise Failed(f"no file {password}; get it with `dih device add {self.args.device}`")
        self.client.username_pw_set(self.args.device, password.read_text().strip())
        if not self.args.plain:
            try:
                self.client.tls_set(ca_certs=self.args.ca)
            except FileNotFoundError as e:
                raise Failed(f"no file {self.args.ca}") from e
        try:
            self.client.connect(self.args.host, self.args.port, keepalive=30)
        except ssl.SSLError as e:
            why = getattr(e, "verify_message", "") or e.reason
            raise Failed(f"no TLS with {self.args.host}:{self.args.port}: {why}; see --ca") from e
        except OSError as e:
            raise Failed(f"{self.args.host}:{self.args.port} does not answer: {e}") from e
        self.client.loop_start()
        self._subscribed(time.monotonic() + 20)

    def _subscribed(self, until):
        """Waits for the subscription: an answer that comes before it is lost."""
        while True:
            kind, value = self._next(until)
            if kind == "subscribed":
                if value.is_failure:
                    raise Failed(f"not allowed to get answers; is `{self.args.device}` the name this password is for?")
                return
            if kind == "refused":
                raise Failed(f"{self.args.host} knows no `{self.args.device}` with this password")
            if kind == "away" and not self.args.plain:
                print(f"send_raw: {value}", file=sys.stderr)
            if kind == "late":
                raise Failed(f"{self.args.host}:{self.args.port} does not speak MQTT with us; with TLS, or without (--plain)?")

    def _next(self, until):
        try:
            return self.events.get(timeout=max(0, until - time.monotonic()))
        except queue.Empty:
            return "late", None

    def send(self, path):
        photo = path.read_bytes()
        if len(photo) > PHOTO_BYTES_MAX:
            raise Failed(f"has {len(photo):,} bytes, more than {PHOTO_BYTES_MAX:,}")
        source = "sha256:" + hashlib.sha256(photo).hexdigest()
        for attempt in range(self.args.attempts):
            if attempt:
                print(f"send_raw: {path}: no answer in {self.args.wait} s, sending again", file=sys.stderr)
            # Nothing is learnt from the PUBACK; QoS 1 only lets the client send again by itself after a lost connection.
            # Never retained: the broker would keep the photo.
            self.client.publish(self.topic, photo, qos=1, retain=False)
            answer = self._answered(source, time.monotonic() + self.args.wait)
            if answer:
                return answer
        raise Failed(
            f"not answered within {self.args.attempts} times {self.args.wait} s. The broker drops without a word what"
            f" `{self.args.device}` may not send; else the hub is away, full or slow: send it again later"
        )

    def _answered(self, source, until):
        while True:
            kind, value = self._next(until)
            if kind == "late":
                return None
            if kind == "refused":
                raise Failed(f"{self.args.host} no longer knows `{self.args.device}` with this password")
            if kind == "away":
                print(f"send_raw: connection lost ({value}), trying again", file=sys.stderr)
            if kind == "answer":
                try:
                    answer = json.loads(value)
                    if answer["source"] == source and answer["status"]:
                        return answer
                except (ValueError, KeyError, TypeError):
                    pass  # no answer


def tell(path, answer):
    of = answer.get("of") or {}
    of = f" of {of.get('source') or of.get('upload')}" if of else ""
    what = f"{answer['status']}, {answer.get('reason')} at {answer.get('stage')}{of}"
    print(f"{path}: {what}, upload {answer.get('upload')}", flush=True)


def main(args):
    device = Device(args)
    try:
        device.connect()
    except Failed as e:
        print(f"send_raw: {e}", file=sys.stderr)
        return 1
    code = 0
    for path in args.photo:
        try:
            tell(path, device.send(path))
        except (Failed, OSError) as e:
            print(f"send_raw: {path}: {e}", file=sys.stderr)
            code = 1
    device.client.disconnect()
    device.client.loop_stop()
    return code


def arguments():
    parser = argparse.ArgumentParser(description="Sends photos as they are over MQTT and waits for their answers.")
    parser.add_argument("photo", type=pathlib.Path, nargs="+", help="a JPEG, PNG, WebP, GIF, BMP or TIFF of at most 8 MB")
    parser.add_argument("--host", default="localhost", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, help="(default: 8883, with --plain 1883)")
    parser.add_argument("--ca", help="PEM file of the CA, where it is not a public one")
    parser.add_argument("--plain", action="store_true", help="no TLS: password and photos can be read on the way")
    parser.add_argument("--device", required=True, help="the name given to `dih device add`")
    parser.add_argument("--credentials", type=pathlib.Path, default=".", help="folder of DEVICE.password (default: .)")
    parser.add_argument("--label", required=True, help="what the photos show")
    parser.add_argument("--wait", type=float, default=300, help="seconds until a photo is sent again (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=3, help="how often a photo is sent at most (default: %(default)s)")
    args = parser.parse_args()
    args.port = args.port or (1883 if args.plain else 8883)
    return args


if __name__ == "__main__":
    try:
        sys.exit(main(arguments()))
    except KeyboardInterrupt:
        sys.exit(130)
