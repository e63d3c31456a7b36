"""Where a new audit sink is added: one module for each place that lines of the trail go to.

A sink implements `interface.Sink`. A place that may lose lines implements `interface.Copy` instead. To add one, write a
module here, give it settings in `sealgate.config`, and construct it in `sealgate.compose.audit`. `otlp` loads
OpenTelemetry, so it is imported only where it is used.
"""

from sealgate.audit.sinks.buffered import BufferedSink, Delivery
from sealgate.audit.sinks.file import File
from sealgate.audit.sinks.interface import Copy, NotDurable, NotWritten, Sink, WriteTimeout
from sealgate.audit.sinks.stdout import Stdout

__all__ = ["BufferedSink", "Copy", "Delivery", "File", "NotDurable", "NotWritten", "Sink", "Stdout", "WriteTimeout"]
