"""Disturbs a cluster of key servers while it watches that there is one key set.

Four times a second every server and every member is asked for the SPIs it has. At the end, each answer must be a run of
neighbours in the one sequence in which the keys of the group followed each other: two servers that made keys apart would
have made a fork.

A leading server that is cut off may make one more key before it notices. It hands it to nobody, for it cannot write it to etcd,
but it shows it: so a key that nobody else has ever shown, and this server only while it was cut off or asleep, is no part of the
sequence. The server is cut off just before a key is due.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

SHARED = sys.argv[1]
# A key is made so many seconds after the one before, at the lifetimes of ks1.conf.
PERIOD = 44
SERVERS = ["ks1", "ks2", "ks3"]
MEMBERS = ["black", "white", "rainbow"]
STORES = ["etcd1", "etcd2", "etcd3"]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=2)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(2)
        self.sock.connect(self.path)


def ask(host, path):
    """The reply of a daemon; None if it does not answer."""
    try:
        connection = UnixConnection(f"{SHARED}/{host}/gvpnd.sock")
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        return json.loads(body) if reply.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def keys(host):
    role = "server" if host in SERVERS else "member"
    reply = ask(host, f"/v1/{role}/ipsec-security-associations")
    if reply is None:
        return None
    spis = []
    for entry in reply:
        for sa in entry["security-associations"]:
            if sa["spi"] not in spis:
                spis.append(sa["spi"])
    return spis


def state(host):
    reply = ask(host, "/v1/server/server-cluster?detail")
    return reply[0] if reply else None


samples = []
# Server, and from when to when it was cut off or asleep.
apart = []
stopped = threading.Event()


def watch():
    while not stopped.is_set():
        for host in SERVERS + MEMBERS:
            asked = time.monotonic()
            spis = keys(host)
            if spis:
                samples.append((asked, host, spis))
        stopped.wait(0.25)


def until(what, condition, limit=60):
    started = time.monotonic()
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() - started > limit:
            sys.exit(f"not within {limit} s: {what}")
        time.sleep(0.02)


def leader(but=None):
    for host in SERVERS:
        if host != but:
            known = state(host)
            if known and known["state"] == "leading":
                return host
    return None


def all_agree():
    states = [state(host) for host in SERVERS]
    if any(known is None or known["state"] not in ("leading", "following") for known in states):
        return False
    # A follower that waits for a leader names none.
    leaders = {known.get("leader") for known in states}
    return len(leaders) == 1 and leaders != {None}


def pid(host):
    with open(f"{SHARED}/{host}/pid") as file:
        return int(file.read())


def send(host, number):
    os.kill(pid(host), number)


def say(text):
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def sequence():
    known = state(leader() or "") if leader() else None
    return known["detail"].get("sequence-number") if known else None


def kek(host):
    reply = ask(host, "/v1/server/kek-security-associations")
    return [entry["initiator-cookie"] for entry in reply] if reply else []


def newest_keys():
    return {spi for _, host, spis in samples if host in MEMBERS for spi in spis}


def last_made():
    """When the newest key was first seen."""
    return max(min(at for at, _, spis in samples if key in spis) for key in newest_keys())


def failed_over(lost, how):
    """Prints how long it took until another server led, and until it made the next key."""
    at, before, held = time.monotonic(), newest_keys(), kek(next(host for host in SERVERS if host != lost))
    other = until("another server leads", lambda: leader(but=lost))
    say(f"{how}: {other} leads after {time.monotonic() - at:.2f} s")
    if not set(kek(other)) & set(held):
        sys.exit(f"{other} does not go on with the KEK: {held} before, {kek(other)} now")
    return at, before


def next_key(since):
    at, before = since
    until("the next key", lambda: newest_keys() - before, 60)
    say(f"first new key {time.monotonic() - at:.2f} s after it")


def etcd_leader():
    for index, host in enumerate(STORES, 1):
        try:
            request = urllib.request.Request(
                f"http://10.2.{index}.2:2379/v3/maintenance/status", data=b"{}", method="POST"
            )
            reply = json.load(urllib.request.urlopen(request, timeout=1))
            if reply.get("leader") and reply["leader"] == reply["header"]["member_id"]:
                return host
        except (OSError, ValueError):
            pass
    return None


began = time.monotonic()
watcher = threading.Thread(target=watch)
watcher.start()
try:
    until("all servers agree who leads", all_agree)
    time.sleep(5)

    lost = leader()
    say(f"{lost}, which leads, is killed")
    send(lost, signal.SIGKILL)
    since = failed_over(lost, "killed")
    next_key(since)
    until("it is back", all_agree)

    store = until("etcd has a leader", etcd_leader)
    say(f"{store}, which leads etcd, is killed")
    at = time.monotonic()
    send(store, signal.SIGKILL)
    until("another leads etcd", lambda: etcd_leader() not in (None, store))
    say(f"another leads etcd after {time.monotonic() - at:.2f} s")
    until("all servers agree who leads", all_agree)
    say(f"and the servers agree about theirs after {time.monotonic() - at:.2f} s")
    time.sleep(max(0, last_made() + PERIOD - 0.5 - time.monotonic()))

    lost = leader()
    say(f"{lost}, which leads, is cut off from everybody")
    at = time.monotonic()
    subprocess.run(["ip", "link", "set", f"to-{lost}", "down"], check=True)
    since = failed_over(lost, "cut off")
    cut_off = until("it says that it is cut off", lambda: (state(lost) or {}).get("state") == "cut-off" and state(lost))
    say(f"{lost} says: {cut_off['state']}, {cut_off['reason']}")
    next_key(since)
    subprocess.run(["ip", "link", "set", f"to-{lost}", "up"], check=True)
    until("it is back", all_agree)
    apart.append((lost, at, time.monotonic()))
    say(f"{lost} is back")

    lost = leader()
    say(f"{lost}, which leads, sleeps for 12 s, its lease being 3 s")
    asleep = time.monotonic()
    send(lost, signal.SIGSTOP)
    since = failed_over(lost, "asleep")
    time.sleep(max(0, 12 - (time.monotonic() - asleep)))
    send(lost, signal.SIGCONT)
    say(f"{lost} wakes")
    until("it follows", all_agree)
    apart.append((lost, asleep, time.monotonic()))
    next_key(since)

    for host in SERVERS:
        say(f"{host} is restarted")
        send(host, signal.SIGTERM)
        time.sleep(1)
        until("it is back", all_agree)
    for host in STORES:
        say(f"{host} is restarted")
        send(host, signal.SIGTERM)
        time.sleep(5)
        until("etcd has a leader", etcd_leader)
        until("all servers agree who leads", all_agree)
    before = newest_keys()
    until("a key after all that", lambda: newest_keys() - before, 60)
    time.sleep(8)
finally:
    stopped.set()
    watcher.join()

holders = {}
for at, host, spis in samples:
    for spi in spis:
        holders.setdefault(spi, []).append((at, host))


def is_kept_back(shown):
    return any(all(host == lost and down <= at <= up for at, host in shown) for lost, down, up in apart)


kept_back = [spi for spi, shown in holders.items() if is_kept_back(shown)]
order = [spi for spi in holders if spi not in kept_back]
for at, host, spis in samples:
    positions = sorted(order.index(spi) for spi in spis if spi not in kept_back)
    if positions and positions != list(range(positions[0], positions[0] + len(positions))):
        sys.exit(f"{at - began:.2f} s: {host} has {spis}, which do not follow each other in {order}")
for spi in kept_back:
    print(f"{spi} was made by {holders[spi][0][1]}, apart from the others, and handed to nobody")
print(f"{len(samples)} answers, {len(order)} keys: one key set at every moment")
