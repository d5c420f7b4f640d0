"""What FFmpeg would read beside the file it is given, it does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from toy_clips import write_wav

from mercore.decode import decode
from mercore.errors import InputError
from mercore.media import Audio, Frames, Video

CONCAT = "ffconcat version 1.0\nfile secret.wav\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio {port} RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
)
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="audio/mp4">'
    '<Representation id="0" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A server that nobody must call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):  # nobody has
            server.accept()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """What a playlist beside it must not reach."""
    return write_wav(tmp_path / "secret.wav")


def refused(path: Path | str, spec: Audio | Video | None = None) -> str:
    with pytest.raises(InputError) as caught:
        decode(str(path), spec or Audio(16_000))
    return str(caught.value)


def test_a_list_of_files_is_no_clip(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text(CONCAT)
    with av.open(str(path)) as container:  # left to itself, FFmpeg reads what it names
        assert container.format.name == "concat"
        assert next(container.decode(audio=0)).samples
    assert "not in a format that is read: a playlist or another list" in refused(path)


@pytest.mark.parametrize("playlist", [HLS, DASH], ids=["hls", "dash"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.mpd"])
def test_a_playlist_is_no_clip(
    clip: Path, tmp_path: Path, playlist: str, name: str, listening: socket.socket
) -> None:
    path = tmp_path / name
    host, port = listening.getsockname()
    for target in (str(clip), clip.name, f"file:{clip}", f"http://{host}:{port}/a.ts"):
        path.write_text(playlist.format(target=target))
        assert "cannot be read as media" in refused(path)


def test_a_description_of_a_session_opens_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("clip.mp4", "clip.sdp"):
        (tmp_path / name).write_text(SDP.format(port=port))
        assert "cannot be read as media" in refused(tmp_path / name)


def test_a_name_is_never_an_address(clip: Path, listening: socket.socket) -> None:
    host, port = listening.getsockname()
    for name in (
        f"http://{host}:{port}/a.wav", f"tcp://{host}:{port}", f"concat:{clip}|{clip}",
        f"subfile,,start,0,end,0,,:{clip}", "data:audio/wav;base64,AAAA", "pipe:0",
    ):  # fmt: skip
        assert "cannot be read as media" in refused(name)


def test_the_name_of_a_picture_is_no_pattern(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "a%d.png"):
        with av.open(str(tmp_path / "one.mp4"), "w", format="image2pipe") as container:
            track = container.add_stream("png", rate=1)
            track.width, track.height, track.pix_fmt = 8, 8, "rgb24"
            container.mux(track.encode(av.VideoFrame(8, 8, "rgb24")))
        (tmp_path / name).write_bytes((tmp_path / "one.mp4").read_bytes())
    frames = decode(str(tmp_path / "a%d.png"), Video())
    assert isinstance(frames, Frames)
    assert len(frames.times) == 1


@pytest.mark.parametrize(
    "name", ["mp4", "mov", "mkv", "webm", "avi", "wav", "mp3", "flac", "ogg", "opus", "m4a", "aac",
             "ts", "mpg", "flv", "wv", "aiff", "au", "caf", "w64", "ac3", "wma"]
)  # fmt: skip
def test_what_clips_come_in_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"clip.{name}"
    with av.open(str(path), "w") as container:
        codec = "libopus" if name in ("webm", "opus") else container.default_audio_codec
        rate = 48_000
        track = container.add_stream(codec, rate=rate, layout="stereo", bit_rate=128_000)
        assert isinstance(track, av.AudioStream)
        resampler = av.AudioResampler(track.codec_context.format, "stereo", rate)
        with av.open(str(write_wav(tmp_path / "tone.wav", 1.0, rate=rate))) as tone:
            for frame in tone.decode(audio=0):
                for part in resampler.resample(frame):
                    container.mux(track.encode(part))
        container.mux(track.encode(None))
    assert decode(str(path), Audio(16_000))


def test_video_is_read_from_what_it_comes_in(tmp_path: Path) -> None:
    for name in ("a.mov", "a.mkv", "a.avi", "a.mpg", "a.flv", "a.mxf", "a.wmv", "a.gif"):
        with av.open(str(tmp_path / name), "w") as container:
            codec = container.default_video_codec
            track = container.add_stream(codec, rate=25)
            assert isinstance(track, av.VideoStream)
            track.width, track.height = 64, 48
            track.pix_fmt = "rgb8" if name == "a.gif" else "yuv420p"
            for shade in range(5):
                picture = np.full((48, 64, 3), 40 * shade, np.uint8)
                container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(track.encode(None))
        frames = decode(str(tmp_path / name), Video())
        assert isinstance(frames, Frames)
        assert len(frames.times) == 5, name
