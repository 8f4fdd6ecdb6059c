"""The shared recordings in vendors' formats, below ../shared/data."""

from __future__ import annotations

RECORDINGS = (
    "tobii_prolab_ivt/I-VT-normal Data export_short.tsv",
    "tobii_studio_d2lab/data.tsv",
    "pupil_core_export",
    "neon_native_demo",
    "eyelink_asc_pymovements/eyelink_monocular_example.asc",
    "eyelink_asc_pymovements/eyelink_monocular_no_dummy_example.asc",
    "eyelink_asc_pymovements/eyelink_binocular_example.asc",
    "eyelink_asc_pymovements/eyelink_monocular_2khz_example.asc",
    "eyelink_asc_pymovements/raccoons.asc",
)
