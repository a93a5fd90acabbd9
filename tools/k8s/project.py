"""What the manifests must agree with, read from where it stands.

Takes    the sources. Gives the consumers of each stage, the settings there are, how long a stage drains, and the broker
         of a hub.
Weak at  the table is read by its form: where the form changes, nothing is found, and that is a failure.
"""

import re
import sys
import tomllib
from dataclasses import dataclass

import nats_conf


@dataclass(frozen=True)
class Project:
    # consumer -> (stream, stage)
    consumers: dict
    # section -> names of its settings, commented out ones too
    settings: dict
    drain_s: int
    # `config/nats/hub.conf`, and the account in it that our user is in
    hub: dict
    account: str
    # `config/nats/tls.conf`, less its files
    tls: dict

    @property
    def stages(self):
        return {stage for _, stage in self.consumers.values()}


def read_project(root):
    table = (root / "pipeline/core/src/topology.rs").read_text()
    streams = dict(re.findall(r'^pub const (\w+): &str = "(\w+)";', table, re.M))
    rows = re.findall(r'^\s*consumer!\("([\w-]+)", (\w+), (\w+), "', table, re.M)
    consumers = {name: (streams[stream], stage.lower()) for name, stage, stream in rows}
    printed = (root / "config/dih.toml").read_text()
    if not consumers or table.count("consumer!(") != len(consumers):
        sys.exit("k8s-check: the table of consumers in topology.rs has another form than tools/k8s/project.py reads")
    drain_s = seconds(tomllib.loads(printed)["runner"]["drain"])
    hub = nats_conf.read((root / "config/nats/hub.conf").read_text())
    tls = nats_conf.read((root / "config/nats/tls.conf").read_text())["tls"]
    tls = {key: value for key, value in tls.items() if not key.endswith("_file")}
    return Project(consumers, read_settings(printed), drain_s, hub, account_of("dih", hub), tls)


def account_of(user, hub):
    """The account that holds a user, of a broker's settings."""
    return next(name for name, a in hub["accounts"].items() for u in a.get("users", []) if u.get("user") == user)


def read_settings(printed):
    settings, section = {}, ""
    for line in printed.splitlines():
        if head := re.fullmatch(r"\[([\w.]+)\]", line):
            section = head[1]
            settings.setdefault(section, set())
        elif key := re.match(r"#?(\w+) =", line):
            settings.setdefault(section, set()).add(key[1])
    return settings


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]
