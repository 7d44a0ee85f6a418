"""Bad files of all kinds that unip reads, made from good ones, and what reading them must never do.

``readers.py`` has one entry for each reader and format: how a good file is made, what reads it, and an independent
check of what was read. ``mutations.py`` changes files by their structure and by their bytes. ``checking.py`` reads one
file and says how it went. The short run is a test; ``tools/fuzz.py`` is the long one.
"""
