"""Check intermediate representations and bytecode from unknown origin before TVM uses them.

In come files and texts that anyone may have written; out go IRModules and facts about bytecode, or
a ``StoreError`` that names the fault. ``module`` reads IRModules, ``bytecode`` checks serialised
Relax VM code, ``script`` checks TVMScript. ``calls`` lists what code may call outside itself,
``loading`` tries a load in a child process, ``names`` checks names and shortens them for messages.
"""

__all__ = ["bytecode", "calls", "loading", "module", "names", "script"]
