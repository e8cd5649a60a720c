"""Replays a capture of `baton load --pcap` with TRex, stateless.

    baton load --what reports --config baton.toml --count 100000 --pcap reports.pcap
    trex> start -f trex_replay.py -p 0 -m 1mpps -t --pcap reports.pcap --ipg_us 1.0

The frames bear the MACs that `--dispatch-mac` and `--interface` gave them when the capture was written, and tags if there is a secret. `loops` is how often all
of it is sent, 0 for no end; a server knows the reports of a second time already, and counts them as reports_known.
"""

import argparse
import os

from trex_stl_lib.api import STLProfile


class Replay:
    def get_streams(self, tunables=(), **_):
        parser = argparse.ArgumentParser(prog="trex_replay.py", description=__doc__.splitlines()[0])
        parser.add_argument("--pcap", required=True, help="the capture")
        parser.add_argument("--ipg_us", type=float, help="microseconds between frames; without it, as captured")
        parser.add_argument("--loops", type=int, default=1, help="times that it is sent, 0 for no end")
        how = parser.parse_args(tunables)
        if not os.path.isfile(how.pcap):
            parser.error(f"there is no capture {how.pcap}: baton load --pcap writes one")
        return STLProfile.load_pcap(how.pcap, ipg_usec=how.ipg_us, loop_count=how.loops).get_streams()


def register():
    return Replay()
