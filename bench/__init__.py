"""Side-by-side measurements: ours against a plain TLS relay, in one run.

``scripted``   the edge process, its answers scripted so that no container runtime is measured
``origin``     the TLS server behind the plain relay
``client``     the load: downloads, uploads, echoes, short requests, idle tunnels
``services``   starts and ends the processes that are measured, and reads their CPU and memory
``cases``      what is measured
``logs``       the log reader by itself, on a log of 1 GB
``figure``     what a measurement yields
``report``     the table, the JSON file, the figure
``page``       the published page and its picture
"""
