// The types in Breakwater's own signatures come with it: connections and their errors, loggers, services, tracers, dates.
@_exported public import struct Foundation.Date
@_exported public import Libpq
@_exported public import Logging
@_exported public import ServiceLifecycle
@_exported public import Tracing
