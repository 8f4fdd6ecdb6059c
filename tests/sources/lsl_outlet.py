"""An eye tracker's LSL app, in a process of its own, kept to this machine.

Reads one JSON object from its arguments and commands from its input: `step SECONDS` moves the clock of its time stamps,
`stop` ends it. Says `ready`, and at the end the monotonic times just before and after each time stamp, to its output.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import pylsl

LOCAL = (
    "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\nSessionID = emert-test\n[log]\nlevel = -3\n"
)


def main() -> None:
    asked = json.loads(sys.argv[1])
    pylsl.set_config_content(LOCAL)
    channels = asked["channels"]
    info = pylsl.StreamInfo(
        asked["name"], asked.get("type", "Gaze"), len(channels), asked["rate"], pylsl.cf_double64, asked["name"] + "-id"
    )
    described = info.desc().append_child("channels")
    for channel in channels:
        child = described.append_child("channel")
        for key, value in channel.items():
            child.append_child_value(key, value)
    outlet = pylsl.StreamOutlet(info)
    step, stopped, made = [0.0], threading.Event(), []

    def listen() -> None:
        for line in sys.stdin:
            word, _, value = line.strip().partition(" ")
            if word == "step":
                step[0] += float(value)
            else:
                break
        stopped.set()

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    if asked.get("wait"):
        outlet.wait_for_consumers(30)
    begun = time.monotonic()
    count = 0
    while not stopped.is_set() and count < asked["rate"] * asked["seconds"]:
        left = begun + count / asked["rate"] - time.monotonic()
        if left > 0:
            time.sleep(left)
        count += 1
        seen = [0.25, 0.75, 1.0 + count % 1_000_000, 1.0]
        before, stamp, after = time.monotonic_ns(), pylsl.local_clock(), time.monotonic_ns()
        made.append((before, after))
        outlet.push_sample(seen[: len(channels)], stamp + step[0])
    time.sleep(0.5)
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
