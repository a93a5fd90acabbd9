"""Files of nats-server: reads what we write of that format, and writes what the chart makes of its values.

Takes    text, or the values of the chart nats/nats. Gives nested maps and lists whose ends are strings; or text.
Weak at  what the format can do beyond our files, and a chart that changes how it writes.
"""

import json
import re

# A colon within a word, as in `0.0.0.0:4222`, belongs to it.
TOKEN = re.compile(
    r"""\s+ | (?:\#|//)[^\n]* | (?P<text>"[^"]*"|'[^']*') | (?P<mark>[{}\[\],;:=])
      | (?P<word>[^\s{}\[\],;:="'#]+(?::[^\s{}\[\],;:="'#]+)*)""",
    re.X,
)
# Where the chart mounts its own file and, by a volume of ours, the devices.
FOLDER = "/etc/nats-config"


def read(text):
    """What is included is named by the key `include`, not read."""
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise ValueError(f"no token at `{text[at : at + 20]}`")
        at = match.end()
        if match.lastgroup:
            tokens.append((match.lastgroup, match[match.lastgroup].strip("\"'")))
    # Braces around all of it, as in JSON, change nothing.
    tokens = tokens[1:] if tokens[:1] == [("mark", "{")] else [*tokens, ("mark", "}")]
    settings, rest = block(tokens)
    if rest:
        raise ValueError(f"`}}` before the end, at {rest[0]}")
    return settings


def block(tokens):
    settings = {}
    while tokens[0] != ("mark", "}"):
        (kind, key), *tokens = tokens
        if kind == "mark":
            if key not in ",;":
                raise ValueError(f"`{key}` in place of a name")
            continue
        if tokens[0] in (("mark", ":"), ("mark", "=")):
            tokens = tokens[1:]
        if key in settings:
            raise ValueError(f"`{key}` stands twice")
        settings[key], tokens = value(tokens)
    return settings, tokens[1:]


def value(tokens):
    (kind, text), *tokens = tokens
    if (kind, text) == ("mark", "{"):
        return block(tokens)
    if (kind, text) != ("mark", "["):
        return text, tokens
    items = []
    while tokens[0] != ("mark", "]"):
        if tokens[0] == ("mark", ","):
            tokens = tokens[1:]
            continue
        item, tokens = value(tokens)
        items.append(item)
    return items, tokens[1:]


def of_chart(values):
    """The settings that the chart makes of its values, as far as ours use it."""
    config = values.get("config", {})
    mqtt, nats = config.get("mqtt", {}), config.get("nats", {})
    # The servers are named by the chart, after their pods.
    made = {"server_name": "<< $SERVER_NAME >>", "port": nats.get("port", 4222), **tls(nats, "nats")}
    if mqtt.get("enabled"):
        made["mqtt"] = {"port": mqtt.get("port", 1883), **tls(mqtt, "mqtt"), **mqtt.get("merge", {})}
    jetstream = config.get("jetstream", {})
    if jetstream.get("enabled"):
        made["jetstream"] = {"store_dir": "/data", "max_memory_store": 0}
    if config.get("cluster", {}).get("enabled"):
        replicas = range(config["cluster"]["replicas"])
        routes = [f"nats://nats-{i}.nats-headless:6222" for i in replicas]
        made["cluster"] = {"name": "nats", "port": 6222, "no_advertise": True, "routes": routes}
    return merged(made, config.get("merge", {}))


def tls(protocol, name):
    settings = protocol.get("tls", {})
    if not settings.get("enabled"):
        return {}
    folder = f"/etc/nats-certs/{name}"
    return {"tls": {"cert_file": f"{folder}/tls.crt", "key_file": f"{folder}/tls.key", **settings.get("merge", {})}}


def merged(old, new):
    both = {k: merged(old[k], v) if isinstance(old.get(k), dict) and isinstance(v, dict) else v for k, v in new.items()}
    return old | both


def written(settings):
    """As the chart writes it: JSON, with includes, and without quotes where the values say `<< … >>`."""
    text = json.dumps(settings, indent=2, sort_keys=True)
    text = re.sub(r'".*\$include": "(.*)",?', r"include \1;", text)
    return re.sub(r'"<<\s+(.*)\s+>>"', r"\1", text)
