"""How work runs on this machine: shared among cores, compiled, ended in time.

Useful for: threads, deadlines, machine code. Not useful for: what is computed (``app.scoring``, ``app.codes``).
"""
