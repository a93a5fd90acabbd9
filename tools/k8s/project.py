"""What the manifests must agree with, read from where it stands.

Takes    the sources. Gives the consumers of each stage, the settings there are, and how long a stage drains.
Weak at  the table is read by its form: where the form changes, nothing is found, and that is a failure.
"""

import re
import sys
import tomllib
from dataclasses import dataclass


@dataclass(frozen=True)
class Project:
    # consumer -> (stream, stage)
    consumers: dict
    # section -> names of its settings, commented out ones too
    settings: dict
    drain_s: int

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
    return Project(consumers, read_settings(printed), seconds(tomllib.loads(printed)["runner"]["drain"]))


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
