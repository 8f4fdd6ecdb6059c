"""Sound as spans of a log-mel spectrogram, and where it is read from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from emert_edge.errors import EmertError
from emert_edge.reference.data.clips import even_rows

__all__ = ["HOP_S", "SAMPLE_RATE", "log_mel", "log_mel_spans", "read_sound", "read_sound_track"]

Floats = npt.NDArray[np.float32]

#: Every sound is brought to this rate (Hz) and to one channel.
SAMPLE_RATE = 16_000
#: Seconds from one spectrum to the next.
HOP_S = 0.010

_WINDOW_S = 0.025
_FFT = 512
_LOWEST_HZ, _HIGHEST_HZ = 50.0, 8000.0
_FLOOR = 1e-8  # -80 dB: about the noise of a quiet 16-bit recording


def log_mel(sound: Floats, bins: int) -> Floats:
    """Spectra in mel bands: Hann windows of 25 ms every 10 ms, 512 points, 50 to 8000 Hz, power in dB, at least -80.

    Parameters
    ----------
    sound : ndarray
        (samples,) in [-1, 1] at `SAMPLE_RATE`.
    bins : int
        Mel bands (Slaney's scale and norm, as librosa has them).

    Returns
    -------
    ndarray
        (bins, spectra) float32, dB; a spectrum is centred on its time.
    """
    import librosa

    power = librosa.feature.melspectrogram(
        y=sound, sr=SAMPLE_RATE, n_fft=_FFT, win_length=round(_WINDOW_S * SAMPLE_RATE),
        hop_length=round(HOP_S * SAMPLE_RATE), n_mels=bins, fmin=_LOWEST_HZ, fmax=_HIGHEST_HZ,
    )  # fmt: skip
    return np.asarray(10 * np.log10(np.maximum(power, _FLOOR)), np.float32)


def log_mel_spans(
    sound: Floats, spans: int, length: int, bins: int
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Spans of a log-mel spectrogram, evenly over the sound.

    A sound that is shorter than all spans together fills as few as hold it, the last one with silence after its end.

    Parameters
    ----------
    sound : ndarray
        (samples,) in [-1, 1] at `SAMPLE_RATE`.
    spans, length, bins : int
        How many spans, spectra in each, mel bands.

    Returns
    -------
    ndarray, ndarray
        (spans, bins, length) float16 dB, and (spans,) bool: which are there.
    """
    out = np.full((spans, bins, length), 10 * np.log10(_FLOOR), np.float16)
    mask = np.zeros(spans, np.bool_)
    if not len(sound):
        return out, mask
    spectra = log_mel(sound, bins)
    total = spectra.shape[1]
    needed = -(-total // length)
    if needed <= spans:
        starts = length * np.arange(needed)
    else:  # the spans' middles where the middles of as many equal parts are
        starts = np.clip(even_rows(total, spans) - length // 2, 0, total - length)
    for index, start in enumerate(starts):
        part = spectra[:, start : start + length]
        out[index, :, : part.shape[1]] = part
    mask[: len(starts)] = True
    return out, mask


def read_sound(path: Path) -> Floats:
    """The sound of a WAV (or FLAC, Ogg) file, one channel at `SAMPLE_RATE`.

    Raises
    ------
    EmertError
        If the file cannot be read as sound.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise EmertError(f"{path}: not a sound that can be read ({error})") from error
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE and len(mono):
        import librosa

        mono = librosa.resample(mono, orig_sr=rate, target_sr=SAMPLE_RATE)
    return np.asarray(mono, np.float32)


def read_sound_track(path: Path) -> Floats:
    """The first sound track of a video, one channel at `SAMPLE_RATE`.

    Raises
    ------
    EmertError
        If PyAV is not installed, the video cannot be read, or it has no sound.
    """
    try:
        import av
    except ImportError:
        raise EmertError(
            f"{path}: a video's sound track is read with PyAV, which is not installed: install av, "
            "put a .wav of the same name beside it, or train without sound"
        ) from None
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts: list[Floats] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise EmertError(f"{path}: has no sound track; put a .wav of the same name beside it")
            for frame in container.decode(audio=0):
                parts.extend(resampled.to_ndarray()[0] for resampled in resampler.resample(frame))
            parts.extend(resampled.to_ndarray()[0] for resampled in resampler.resample(None))
    except av.FFmpegError as error:
        raise EmertError(f"{path}: its sound track cannot be read ({error})") from error
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
