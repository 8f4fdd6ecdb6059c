"""Do eye features carry signal? Valence and arousal on CEAP-360VR: python benchmarks/studies/ceap360vr.py FOLDER

FOLDER holds 1_Stimuli, 2_QuestionnaireData and 4_BehaviorData of the data set: fixations of 22 people on 8 videos, and
how each person rated each video (1 to 9; high is above 5). A plain random forest, on 15 numbers about the fixations,
and on the SDK's own 39 features of gaze that rests where the fixations say (means over tokens, or of the whole video as
one token); as they are, and by each person's own mean and deviation over all videos, without their ratings. Who, or
what, is tested was never trained on: each person in turn, or each video in turn. Beside stand the accuracy of always
giving the training majority, and of a forest that knows no eyes but only which video was shown. Needs scikit-learn.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import LeaveOneGroupOut

from emert_edge.eye import GazeSamples, eye_features

S = 1_000_000_000
SEEDS = range(5)
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Viewing:
    """One person on one video."""

    person: str
    video: str
    start_s: Floats
    stop_s: Floats
    yaw: Floats
    pitch: Floats
    valence: float
    arousal: float

    def fixation_features(self) -> list[float]:
        """Number, durations, directions and steps of the fixations."""
        duration = self.stop_s - self.start_s
        step = np.hypot((np.diff(self.yaw) + 180) % 360 - 180, np.diff(self.pitch))
        turn = np.radians(self.yaw)
        return [
            len(duration), duration.mean(), duration.std(), duration.max(), duration.sum(),
            self.pitch.mean(), self.pitch.std(), self.pitch.min(), self.pitch.max(),
            self.yaw.mean(), self.yaw.std(), np.cos(turn).mean(), np.sin(turn).mean(), step.mean(), step.std(),
        ]  # fmt: skip

    def gaze(self) -> GazeSamples:
        """Gaze at 60 Hz that rests where the fixations say, with none in between."""
        t_ns = np.arange(round(60 * self.stop_s.max())) * (S // 60)
        place = np.searchsorted(self.start_s, t_ns / 1e9, "right") - 1
        inside = (place >= 0) & (t_ns / 1e9 <= self.stop_s[place])
        x = np.where(inside, self.yaw[place] / 360 + 0.5, np.nan)
        y = np.where(inside, 0.5 - self.pitch[place] / 180, np.nan)
        return GazeSamples(t_ns=t_ns, x=x, y=y)

    def own_features(self) -> list[float]:
        """The mean of the SDK's 39 features over tokens of an eighth of a second."""
        samples = self.gaze()
        tokens = int(samples.t_ns[-1] // (S // 8))
        return eye_features(samples, 0, tokens * (S // 8), tokens).mean(0).tolist()

    def whole_features(self) -> list[float]:
        """The SDK's 39 features of the whole video as one token."""
        samples = self.gaze()
        return eye_features(samples, 0, int(samples.t_ns[-1]) + 1, 1)[0].tolist()


def by_person(features: Floats, people: list[str]) -> Floats:
    """Each person's features about their own mean, over their own deviation."""
    own = np.zeros_like(features)
    for person in set(people):
        chosen = np.array(people) == person
        spread = features[chosen].std(0)
        own[chosen] = (features[chosen] - features[chosen].mean(0)) / np.where(spread > 0, spread, 1.0)
    return own


def viewings(folder: Path) -> list[Viewing]:
    rates = {
        info["VideoID"]: info["FrameRate"]
        for info in json.loads((folder / "1_Stimuli" / "VideoInfo.json").read_text())["VideoInfo"]
    }
    held = []
    for file in sorted((folder / "4_BehaviorData" / "EM_Fixation").glob("*.json")):
        seen = json.loads(file.read_text())["Behavior_FixationData"][0]
        person = seen["ParticipantID"]
        asked = json.loads((folder / "2_QuestionnaireData" / f"{person}_Questionnaire_Data.json").read_text())
        told = {one["VideoID"]: one for one in asked["QuestionnaireData"][0]["Video_SAMRating_VideoTime_Data"]}
        for shown in seen["Video_Behavior_FixationData"]:
            video, rate = shown["VideoID"], rates[shown["VideoID"]]
            rows = np.array(
                [[f["StartFrame"], f["EndFrame"] + 1, f["Yaw"], f["Pitch"]] for f in shown["Fixation"]], float
            )
            if len(rows) < 3 or video not in told:
                continue
            held.append(
                Viewing(
                    person, video, rows[:, 0] / rate, rows[:, 1] / rate, rows[:, 2], rows[:, 3],
                    float(told[video]["ValenceValue"]), float(told[video]["ArousalValue"]),
                )
            )  # fmt: skip
    return held


def accuracy(features: Floats, truth: np.ndarray[Any, Any], groups: list[str]) -> tuple[float, float, float]:
    """Mean and deviation over seeds of the share that is right, and the share for the training majority's answer."""
    right, plain = [], []
    for seed in SEEDS:
        answered = np.empty(len(truth), bool)
        majority = np.empty(len(truth), bool)
        for learnt, tested in LeaveOneGroupOut().split(features, truth, groups):
            forest = RandomForestClassifier(300, random_state=seed, n_jobs=2).fit(features[learnt], truth[learnt])
            answered[tested] = forest.predict(features[tested])
            majority[tested] = truth[learnt].mean() > 0.5
        right.append((answered == truth).mean())
        plain.append((majority == truth).mean())
    return float(np.mean(right)), float(np.std(right)), float(np.mean(plain))


def main(folder: Path) -> None:
    held = viewings(folder)
    people, videos = [one.person for one in held], [one.video for one in held]
    print(f"{len(held)} viewings of {len(set(people))} people and {len(set(videos))} videos")
    print("| features | label | unseen | right | training majority | high |\n|---|---|---|---|---|---|")
    fixations, tokens, whole = (
        np.array([getattr(one, name)() for one in held])
        for name in ("fixation_features", "own_features", "whole_features")
    )
    kinds = {
        "15 numbers about fixations": fixations,
        "15 numbers, by each person's own": by_person(fixations, people),
        "39 features, mean over tokens": tokens,
        "39 features of the whole video": whole,
        "39 features, by each person's own": by_person(whole, people),
        "no eyes: which video": (np.array(videos)[:, None] == np.unique(videos)).astype(float),
    }
    for name, features in kinds.items():
        for label in ("valence", "arousal"):
            truth = np.array([getattr(one, label) > 5 for one in held])
            for unseen, groups in (("people", people), ("videos", videos)):
                mean, spread, plain = accuracy(features, truth, groups)
                print(
                    f"| {name} | {label} | {unseen} | {100 * mean:.1f} ± {100 * spread:.1f} % "
                    f"| {100 * plain:.1f} % | {100 * truth.mean():.1f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
