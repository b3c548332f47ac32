"""A real RTSP server for the demo, the tests and benchmarks: GStreamer's, one camera for each mount.

Run with Debian's own Python, which has GStreamer's bindings:

    /usr/bin/python3 tests/rtsp_server.py --port 8554 --mount door=/path/door.mp4 --mount yard=/path/yard.mp4

Prints "ready rtsp://127.0.0.1:8554" when it listens. Every client gets the file from its beginning, at its own pace;
at the file's end the stream ends, and whoever connects again gets it anew. With --shared all clients of a mount see
the same moment. With --report a line "playing NAME SECONDS" says when a client's stream began, on the machine's
monotonic clock: the picture with PTS t is sent at SECONDS + t; and each line that comes in is answered by a line
"sent NAME=TICKS ...": the RTP time, 90,000 a second, of the picture that each stream sent last. It ends with its input.
"""

import argparse
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

VIDEO = '( filesrc location="{path}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
AUDIO_ONLY = "( audiotestsrc is-live=true ! audioconvert ! alawenc ! rtppcmapay name=pay0 pt=8 )"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mount", action="append", default=[], metavar="NAME=FILE", help="an H.264 MP4; repeatable")
    parser.add_argument("--audio-mount", action="append", default=[], metavar="NAME", help="a stream without video")
    parser.add_argument("--shared", action="store_true", help="all clients of a mount see the same moment")
    parser.add_argument("--report", action="store_true", help="say when each stream began")
    parser.add_argument("--user", help="ask for this user and --password (basic authentication)")
    parser.add_argument("--password", default="")
    return parser.parse_args()


def make_factory(launch, shared, user):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(shared)
    if user:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    return factory


def report_beginnings(name, factory, payloaders):
    def say(pipeline):
        began_ns = pipeline.get_base_time()
        if began_ns:
            print(f"playing {name} {began_ns / 1e9:.6f}", flush=True)
        return not began_ns  # the state may be told a moment before the time is set: ask again

    def changed(media, state):
        if state == Gst.State.PLAYING:
            GLib.timeout_add(20, say, media.get_element().get_parent())

    def configured(_factory, media):
        payloaders[name] = media.get_element().get_by_name("pay0")
        media.connect("new-state", changed)

    factory.connect("media-configure", configured)


def answer_what_was_sent(payloaders, end):
    def asked(source, condition):
        if condition & GLib.IO_IN and sys.stdin.readline():
            words = (f"{name}={pay.get_property('timestamp')}" for name, pay in payloaders.items())
            print("sent", *words, flush=True)
            return True
        end()  # whoever started this is gone, however it ended
        return False

    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP | GLib.IO_ERR, asked)


def ask_for_password(server, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def main():
    arguments = parse_arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(arguments.host)
    server.set_service(str(arguments.port))
    if arguments.user:
        ask_for_password(server, arguments.user, arguments.password)
    mounts, payloaders = server.get_mount_points(), {}
    for mount in arguments.mount:
        name, _, path = mount.partition("=")
        factory = make_factory(VIDEO.format(path=path), arguments.shared, arguments.user)
        if arguments.report:
            report_beginnings(name, factory, payloaders)
        mounts.add_factory(f"/{name}", factory)
    for name in arguments.audio_mount:
        mounts.add_factory(f"/{name}", make_factory(AUDIO_ONLY, arguments.shared, arguments.user))
    if not server.attach(None):
        sys.exit(f"port {arguments.port} on {arguments.host} is taken; choose another with --port")
    loop = GLib.MainLoop()
    if arguments.report:
        answer_what_was_sent(payloaders, loop.quit)
    for number in (signal.SIGINT, signal.SIGTERM):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    print(f"ready rtsp://{arguments.host}:{server.get_bound_port()}", flush=True)
    loop.run()


if __name__ == "__main__":
    main()
