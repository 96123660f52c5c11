"""What the node, its pods and its containers use: read from cgroups, /proc and the runtime.

Byte counts are bytes, times of day are nanoseconds since 1970, spans of time are nanoseconds. What
can't be known is None and never a guess, so that whoever shows it can leave it out.
"""
