"""The CRI log reader: a container's log file as ``kubectl logs`` shows it.

``options``    what the client asked for, out of the query string
``timestamp``  RFC 3339 times with nanoseconds
``record``     one record of a log file, CRI or Docker JSON
``bulk``       whole blocks of well-formed records at once
``formatter``  records to output: filters, prefixes, limits
``seek``       where in a file to begin
``files``      log files, plain and gzipped, as streams of whole records
``rotated``    the older files of the same log
``follow``     what is written from now on, through rotation and truncation
``watch``      changes in log directories
``reader``     all of these together
``failures``   the kubelet's sentences about logs
"""
