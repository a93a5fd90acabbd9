#!/usr/bin/env python3
"""Makes an nkey user, with which the broker of a site logs in at the hub: `nkey.py site1.nk`.

Gives the seed in that file, which it never overwrites, and prints the public half for `hub.conf`.
"""

import os
import sys

import nkeys

if len(sys.argv) != 2:
    print("usage: nkey.py FILE", file=sys.stderr)
    sys.exit(2)
seed = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
try:
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
except OSError as error:
    sys.exit(f"nkey: {error}")
with open(file, "wb") as file:
    file.write(seed + b"\n")
print(nkeys.from_seed(seed).public_key.decode())
