"""Speaks one sentence with espeak-ng; run as a process of its own for each sentence.

``python espeak.py '{"text": ..., "voice": ..., "rate": ..., "pitch": ..., "range": ...}'`` writes
mono 16-bit native-endian samples at 22,050 Hz to stdout. espeak-ng keeps state (the phase of its
oscillator, of its flutter and of its noise) from one sentence to the next even when it is
initialised anew, and seeds its noise with the time. So only the first sentence of a process, with
the seed set again, can be repeated bit for bit.

Source: espeak-ng through the package ``espeakng-loader`` (the library inside is GPL-3; what it
says is not covered by its licence). Standard library only: a process starts in 30 ms.
"""

from __future__ import annotations

import ctypes
import json
import sys

import espeakng_loader  # type: ignore[import-untyped]

RATE = 22_050  # Hz, of every espeak-ng voice
SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS of speak_lib.h
UTF8 = 1  # espeakCHARS_UTF8
PARAMETERS = {"rate": 1, "pitch": 3, "range": 4}  # espeak_PARAMETER
ON_SAMPLES = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def speak(text: str, voice: str, **parameters: int) -> bytes:
    """Return 16-bit samples at 22,050 Hz; `rate` in words a minute, `pitch`, `range` 0 to 99."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    samples = bytearray()

    def collect(wave: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        return 0

    callback = ON_SAMPLES(collect)  # kept in a name: the library holds no reference to it
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate != RATE:
        raise SystemExit(f"espeak-ng did not start: espeak_Initialize returned {rate!r}")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SystemExit(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # espeak_Initialize took the time
    library.espeak_SetSynthCallback(callback)
    for name, value in parameters.items():
        library.espeak_SetParameter(PARAMETERS[name], value, 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, UTF8, None, None)
    return bytes(samples)


if __name__ == "__main__":
    sys.stdout.buffer.write(speak(**json.loads(sys.argv[1])))
