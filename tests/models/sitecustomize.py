"""Keeps torch from the processes that tests start: TVM would import it, which takes seconds.

A process gets it if ``RELAX_TAPML_TEST_TORCH`` is set in its environment.
"""

import os
import sys

if "RELAX_TAPML_TEST_TORCH" not in os.environ:
    sys.modules["torch"] = None
