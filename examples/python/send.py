#!/usr/bin/env python3
"""Sends photos over NATS and waits for their answers.

Takes    a server, the files that `dih device add` wrote, labels, photos.
Gives    one line a photo: what became of it. Exit code 0: all answered; 1: something failed; 2: wrong usage.
Crash    safe: run it again. A photo that was sent twice is answered as a repeat.
"""

import argparse
import asyncio
import collections
import hashlib
import logging
import pathlib
import ssl
import sys
import uuid

import nats
import nats.errors
import nats.js.errors
import nkeys

try:
    from dih.v1 import upload_pb2, verdict_pb2
except ImportError:
    sys.exit("send: the messages are not compiled; README.md has the command")

# It warns of each TLS connection that ends.
logging.getLogger("asyncio").setLevel(logging.ERROR)

# The broker takes messages of 8,388,608 bytes, with subject, headers and labels.
PHOTO_BYTES_MAX = 8_000_000


class Failed(Exception):
    """What a person can act on."""


class Device:
    """One connection, and the answers that came over it."""

    def __init__(self, args):
        self.args = args
        self.answers = collections.OrderedDict()  # the last 1,000, by number and by source
        self.came = asyncio.Condition()
        self.error = None
        self.denied = asyncio.get_running_loop().create_future()

    async def connect(self):
        seed = self.args.credentials / f"{self.args.device}.nk"
        if not seed.is_file():
            raise Failed(f"no file {seed}; get it with `dih device add {self.args.device}`")
        options = dict(
            servers=self.args.server,
            nkeys_seed_str=seed.read_text().strip(),
            # The permissions of a device hold no other inbox; with the default one no acknowledgement would arrive.
            inbox_prefix=f"_INBOX_{self.args.device}",
            error_cb=self._error,
        )
        try:
            if self.args.server.startswith("tls://"):
                options["tls"] = ssl.create_default_context(cafile=self.args.ca)
                # Else the client would go on without TLS where the server, or somebody on the way, offers none.
                options["tls_handshake_first"] = True
            # The first connection fails soon, to say why; the second one lives on and connects again by itself.
            probe = nats.connect(**options, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=1)
            await (await asyncio.wait_for(probe, 30)).close()
            self.nc = await nats.connect(**options, max_reconnect_attempts=-1, reconnect_time_wait=5)
        except nkeys.ErrInvalidSeed as e:
            raise Failed(f"{seed} holds no nkey seed") from e
        except FileNotFoundError as e:
            raise Failed(f"no file {self.args.ca}") from e
        except Exception as e:
            raise Failed(self._why(e, seed)) from e
        await self.nc.subscribe(f"dih.v1.answer.{self.args.device}", cb=self._answer)
        await self.nc.flush()

    def _why(self, error, seed):
        cause = self.error or error  # at the end it only says that there are no servers left
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with {self.args.server}: {getattr(cause, 'verify_message', '') or cause.reason}; see --ca"
        if "authorization" in str(error).lower():
            return f"{self.args.server} does not know the key in {seed}"
        return f"{self.args.server} does not answer: {cause or type(cause).__name__}"

    async def _error(self, error):
        self.error = error
        text = str(error)
        if "permissions violation" in text.lower() and not self.denied.done():
            self.denied.set_result(text)
        elif not isinstance(error, (OSError, nats.errors.Error)):
            print(f"send: {error!r}", file=sys.stderr)

    async def _answer(self, message):
        answer = verdict_pb2.Answer()
        try:
            answer.ParseFromString(message.data)
        except Exception:
            return
        if not answer.status:
            return
        async with self.came:
            for key in (answer.upload, answer.source):
                self.answers[key] = answer
            while len(self.answers) > 1000:
                self.answers.popitem(last=False)
            self.came.notify_all()

    async def _or_denied(self, work):
        """Waits for `work`, or for word that the device is not allowed to do it: a time-out would not say so."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self.denied}, return_when=asyncio.FIRST_COMPLETED)
        if self.denied.done() and not task.done():
            task.cancel()
            raise Failed(f"not allowed: {self.denied.result()}; is `{self.args.device}` the name these credentials are for?")
        return await task

    async def _publish(self, payload, message_id):
        """Until the broker has it. The same id again is dropped there, so asking twice takes nothing twice."""
        for wait in (1, 2, 5, 10, 30, None):
            try:
                publish = self.nc.jetstream().publish(
                    f"dih.v1.upload.{self.args.device}", payload, timeout=10, headers={"Nats-Msg-Id": message_id}
                )
                return await self._or_denied(publish)
            except nats.js.errors.NoStreamResponseError:
                reason = "nobody takes uploads there; is the hub set up?"
            except nats.js.errors.APIError as e:
                reason = e.description  # full: `maximum bytes exceeded`
            except (nats.errors.TimeoutError, nats.errors.OutboundBufferLimitError):
                reason = "no acknowledgement"
            if wait is None:
                raise Failed(f"not taken: {reason}")
            print(f"send: {reason}; again in {wait} s", file=sys.stderr)
            await asyncio.sleep(wait)

    async def send(self, path):
        photo = path.read_bytes()
        if len(photo) > PHOTO_BYTES_MAX:
            raise Failed(f"has {len(photo):,} bytes, more than {PHOTO_BYTES_MAX:,}")
        source = "sha256:" + hashlib.sha256(photo).hexdigest()
        upload = upload_pb2.Upload(
            device=self.args.device,
            labels=self.args.label,
            inline=photo,
            source=source,
            captured_at_ms=int(path.stat().st_mtime * 1000),
        )
        payload = upload.SerializeToString()
        for attempt in range(self.args.attempts):
            if attempt:
                print(f"send: {path}: no answer in {self.args.wait} s, sending again", file=sys.stderr)
            # A new id for each attempt: a retransmission gets no answer of its own, and the first one's may be lost.
            self.answers.pop(source, None)
            ack = await self._publish(payload, str(uuid.uuid4()))
            # Behind the broker of a site the number is one of its own; there the source tells whose answer it is.
            key = ack.seq if ack.stream == "UPLOADS" else source
            try:
                return await asyncio.wait_for(self._answered(key), self.args.wait)
            except asyncio.TimeoutError:
                pass
        raise Failed(f"was taken, and not answered within {self.args.attempts} times {self.args.wait} s; send it again later")

    async def _answered(self, key):
        async with self.came:
            await self.came.wait_for(lambda: key in self.answers)
            return self.answers[key]


def tell(path, answer):
    status = verdict_pb2.Status.Name(answer.status).removeprefix("STATUS_").lower()
    stage = verdict_pb2.Stage.Name(answer.stage).removeprefix("STAGE_").lower()
    of = f" of {answer.repeat.of_source or answer.repeat.of_upload}" if answer.HasField("repeat") else ""
    print(f"{path}: {status}, {answer.reason} at {stage}{of}, upload {answer.upload}", flush=True)


async def main(args):
    device = Device(args)
    try:
        await device.connect()
    except Failed as e:
        print(f"send: {e}", file=sys.stderr)
        return 1
    code = 0
    for path in args.photo:
        try:
            tell(path, await device.send(path))
        except (Failed, OSError) as e:
            print(f"send: {path}: {e}", file=sys.stderr)
            code = 1
            if device.denied.done():
                break
    await device.nc.close()
    return code


def arguments():
    parser = argparse.ArgumentParser(description="Sends photos over NATS and waits for their answers.")
    parser.add_argument("photo", type=pathlib.Path, nargs="+", help="a JPEG, PNG, WebP, GIF, BMP or TIFF of at most 8 MB")
    parser.add_argument("--server", default="tls://localhost:4222", help="`nats://…` is without TLS (default: %(default)s)")
    parser.add_argument("--ca", help="PEM file of the CA, where it is not a public one")
    parser.add_argument("--device", required=True, help="the name given to `dih device add`")
    parser.add_argument("--credentials", type=pathlib.Path, default=".", help="folder of DEVICE.nk (default: .)")
    parser.add_argument("--label", action="append", required=True, help="what the photos show; more than once for more")
    parser.add_argument("--wait", type=float, default=300, help="seconds until a photo is sent again (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=3, help="how often a photo is sent at most (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(arguments())))
    except KeyboardInterrupt:
        sys.exit(130)
