"""Runs a program to the end and says what its whole process tree cost."""

import ctypes
import os
import pathlib
import resource
import subprocess
import threading
import time

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMEXPR_NUM_THREADS"]
ONE_THREAD = {name: "1" for name in THREADS} | {"TQDM_DISABLE": "1"}
LOOK_EVERY = 0.5
PAGE = os.sysconf("SC_PAGE_SIZE")


def adopt_orphans():
    """What a program leaves behind, such as a database server, becomes a child of this process and is counted with it."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def measured(command, log, **env):
    """CPU seconds of the tree (`cpu_s`), and of what it left running behind it among them (`behind_s`); MiB of the
    tree when it was largest, pages that processes share counted in each; wall seconds."""
    before, begun = cpu_of_children(), time.monotonic()
    with open(log, "a") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        child = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env={**os.environ, **ONE_THREAD, **env})
    peak = Peak()
    own, code = 0, None
    while True:  # the child, and whatever it left behind
        try:
            pid, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            break
        if pid == child.pid:
            own, code = used.ru_utime + used.ru_stime, os.waitstatus_to_exitcode(status)
    child.returncode = code
    mib = peak.stop()
    if code:
        raise subprocess.CalledProcessError(code, list(map(str, command)))
    cpu = cpu_of_children() - before
    wall = round(time.monotonic() - begun, 1)
    return {"cpu_s": round(cpu, 2), "behind_s": round(cpu - own, 2), "peak_mib": round(mib), "wall_s": wall}


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Peak:
    """Looks at all descendants of this process until it is told to stop."""

    def __init__(self):
        self.bytes, self.told = 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        while not self.told.wait(LOOK_EVERY):
            self.bytes = max(self.bytes, resident(os.getpid()))

    def stop(self):
        self.told.set()
        self.thread.join()
        return self.bytes / 2**20


def resident(root):
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
            except OSError:
                pass  # it has ended meanwhile
    total, waiting = 0, children.get(root, [])
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        except OSError:
            pass
    return total
