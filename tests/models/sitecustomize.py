"""Keeps torch from the processes that tests start: TVM would import it, which takes seconds.

A process gets it if ``RELAX_TAPML_TEST_TORCH`` is set in its environment. What macOS lacks is taken
away from it if ``without_linux.VARIABLE`` is.
"""

import os
import sys

if "RELAX_TAPML_TEST_TORCH" not in os.environ:
    sys.modules["torch"] = None
if "RELAX_TAPML_TEST_WITHOUT_LINUX" in os.environ:
    import without_linux

    without_linux.take_away()
