"""The PyTorch EMERT: model, training, evaluation. Needs the extra `train`; nothing on the device imports it.

Importing this package loads no torch; its modules do.
"""

from __future__ import annotations
